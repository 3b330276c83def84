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
        ("flows_of_test:number", "'number' of 'flows_of_test' is int, not a Pipeline"),
        ("flows_of_test:wrong", "'wrong' of 'flows_of_test' is str, not a Pipeline"),
        ("no_such_module", "no module 'no_such_module'. Name it as package.module:attribute"),
        (":other", "':other' names no module"),
        ("no_such_file.py", "no file 'no_such_file.py'"),
        ("streamflow.base.clock", "Define `pipeline = sf.Pipeline"),
    ],
)
def test_what_is_no_pipeline_is_refused_with_what_there_is(folder: Path, target: str, words: str) -> None:
    with pytest.raises(PipelineError) as refusal:
        load_pipeline(target)
    assert words in str(refusal.value)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("x = 5\n1 / 0", ["broken_of_test.py", "line 2", "ZeroDivisionError"]),
        ("import no_such_library", ["ModuleNotFoundError", "no_such_library"]),
        ("def pipeline():\n    return {}['k']", ["line 2", "KeyError: 'k'"]),
        ("import streamflow as sf\nsf.Pipeline('a b')", ["pipeline name 'a b'", "line 2"]),
    ],
)
def test_error_inside_the_module_is_told_with_its_place(folder: Path, code: str, words: list[str]) -> None:
    (folder / "broken_of_test.py").write_text(code)
    with pytest.raises(PipelineError) as refusal:
        load_pipeline("broken_of_test")
    assert all(word in str(refusal.value) for word in words)


def test_only_pipeline_of_a_module_need_not_be_named(folder: Path) -> None:
    (folder / "single_of_test.py").write_text("import streamflow as sf\nflights = sf.Pipeline('flights')")
    assert load_pipeline("single_of_test").name == "flights"
    (folder / "double_of_test.py").write_text("import streamflow as sf\na, b = sf.Pipeline('a'), sf.Pipeline('b')")
    with pytest.raises(PipelineError, match="has several pipelines: a, b"):
        load_pipeline("double_of_test")


def test_pipeline_of_a_test_stream_is_refused(folder: Path) -> None:
    """It would wait in other processes for what only the test gives."""
    (folder / "of_a_test.py").write_text(
        "import streamflow as sf\nfrom streamflow.testing import TestStream\n"
        "pipeline = sf.Pipeline()\npipeline | TestStream().add_elements([1])\n"
    )
    with pytest.raises(PipelineError, match="TestStream, which is for tests"):
        load_pipeline("of_a_test")
