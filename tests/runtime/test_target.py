"""How a command line names a pipeline: a module or a file, and an attribute that is one or makes one."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamflow.base.errors import PipelineError
from streamflow.runtime.target import load_pipeline

CODE = """
import streamflow as sf

pipeline = sf.Pipeline("default")
other = sf.Pipeline("other")
number = 5

def made():
    return sf.Pipeline("made")

def wrong():
    return "no pipeline"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "flows_of_test.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    known, path = set(sys.modules), list(sys.path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("flows_of_test.py", "default"),
        ("flows_of_test.py:other", "other"),
        ("flows_of_test.py:made", "made"),
        ("flows_of_test", "default"),
        ("flows_of_test:made", "made"),
    ],
)
def test_pipeline_is_found_by_module_or_file(folder: Path, target: str, name: str) -> None:
    assert load_pipeline(target).name == name


def test_file_elsewhere_is_found_by_its_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert load_pipeline(f"{folder / 'flows_of_test.py'}:other").name == "other"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("flows_of_test:missing", "'flows_of_test' has no 'missing'. It has: pipeline, other"),
        ("flows_of_test:number", "'flows_of_test:number' is int, not a Pipeline"),
        ("flows_of_test:wrong", "'flows_of_test:wrong' is str, not a Pipeline"),
        ("no_such_module", "no module 'no_such_module'. Name the pipeline as package.module:attribute"),
        ("no_such_file.py", "no file 'no_such_file.py'"),
        ("streamflow.base.clock", "Define `pipeline = sf.Pipeline"),
    ],
)
def test_what_is_no_pipeline_is_refused_with_what_there_is(folder: Path, target: str, words: str) -> None:
    with pytest.raises(PipelineError) as refusal:
        load_pipeline(target)
    assert words in str(refusal.value)


def test_error_inside_the_module_is_not_hidden(folder: Path) -> None:
    (folder / "broken_of_test.py").write_text("1 / 0")
    with pytest.raises(ZeroDivisionError):
        load_pipeline("broken_of_test")
