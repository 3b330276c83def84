"""How the pipeline is found that a command names, and what is said of a module that can't be loaded."""

import importlib
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from cli.command import refused, told

import streamflow as sf
from streamflow.runtime.target import load_pipeline

pytestmark = pytest.mark.usefixtures("folder")
ONE = "import streamflow as sf\n{name} = sf.Pipeline('{name}')\n{name} | sf.Create([1]) | sf.Map(str)\n"


def write(name: str, text: str) -> str:
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text(text)
    return name


def test_the_only_pipeline_of_a_module_needs_no_name() -> None:
    assert load_pipeline(write("one_p.py", ONE.format(name="p"))).name == "p"


def test_pipeline_is_taken_where_there_are_several() -> None:
    assert load_pipeline(write("both.py", ONE.format(name="p") + ONE.format(name="pipeline"))).name == "pipeline"


def test_a_function_that_returns_a_pipeline_can_be_named() -> None:
    write("made.py", ONE.format(name="p") + "def make():\n    return p\n")
    assert load_pipeline("made.py:make").name == "p"


def test_a_file_can_import_its_neighbours_wherever_it_is() -> None:
    write("jobs/prices.py", "RATE = 3\n")
    write("jobs/shop.py", "from prices import RATE\n" + ONE.format(name="p"))
    assert load_pipeline("jobs/shop.py").name == "p"


@pytest.mark.parametrize(
    ("target", "text", "said"),
    [
        ("two.py", ONE.format(name="a") + ONE.format(name="b"), "several pipelines: a, b. Name one: try two.py:a."),
        ("misspelt.py:q", ONE.format(name="p"), "It has: p; try misspelt.py:p."),
        ("none.py", "x = 1\n", "'none.py' has no 'pipeline'. Define `pipeline = sf.Pipeline(…)` there."),
        ("other.py:x", "x = 1\n", "'x' of 'other.py' is int, not a Pipeline"),
        ("json.py", "", "would hide the module 'json'"),
        ("wrong.py", "def f(:\n", "SyntaxError"),
        ("asks.py", "import nosuchmodule\n", "ModuleNotFoundError: No module named 'nosuchmodule'"),
    ],
)
def test_a_module_without_the_pipeline_is_told_with_what_to_try(target: str, text: str, said: str) -> None:
    write(target.partition(":")[0], text)
    assert said in refused("explain", target)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("nowhere.py", "no file 'nowhere.py'"),
        ("no.such.module", "no module 'no'"),
        ("here", "no module 'here'. Try here.py."),
        ("streamflow.examples.flights:pipelin", "It has: pipeline; try streamflow.examples.flights:pipeline."),
        ("streamflow.examples", "Define `pipeline"),
        (":p", "names no module"),
    ],
)
def test_a_target_that_is_not_there_is_told(target: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write("here.py", ONE.format(name="p"))
    if target == "here":
        monkeypatch.setattr("sys.path", [entry for entry in __import__("sys").path if entry != ""])
        monkeypatch.setattr("importlib.import_module", _without_here)
    assert said in refused("explain", target)


_import_module = importlib.import_module


def _without_here(name: str, package: str | None = None) -> ModuleType:
    # Libraries import what they need when they need it, and may keep this function.
    if name == "here":
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)
    return _import_module(name, package)


def test_an_error_in_the_users_module_shows_the_users_frames_only() -> None:
    write("divides.py", "def share():\n    return 1 / 0\n\nshare()\n")
    said = refused("explain", "divides.py")
    assert "'divides.py' can't be loaded:" in said
    assert "line 4, in <module>" in said
    assert "line 2, in share" in said
    assert "ZeroDivisionError" in said
    assert "importlib" not in said
    assert "target.py" not in said


def test_an_error_of_ours_keeps_its_class_and_gains_its_place() -> None:
    write("refused.py", "import streamflow as sf\n\nsf.FixedWindows(-1)\n")
    with pytest.raises(sf.PipelineError, match=r"refused\.py, line 3$"):
        load_pipeline("refused.py")


def test_explain_prints_the_plan() -> None:
    write("shown.py", ONE.format(name="p"))
    assert "stage create [create]" in told("explain", "shown.py")


def test_explain_draws_into_the_file_that_is_named() -> None:
    write("shown.py", ONE.format(name="p"))
    assert told("explain", "shown.py", "--svg", "plan.svg") == "wrote 'plan.svg'\n"
    assert ElementTree.parse("plan.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_explain_says_that_a_file_cannot_be_written() -> None:
    write("shown.py", ONE.format(name="p"))
    assert "'no/plan.svg' can't be used: No such file or directory" in refused(
        "explain", "shown.py", "--svg", "no/plan.svg"
    )
