"""Finds the pipeline that a command line names: `package.module:attribute` or `path/file.py:attribute`."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from streamflow.base.errors import PipelineError, StreamFlowError
from streamflow.runtime.hints import sentence, shown
from streamflow.runtime.pipeline import Pipeline

ATTRIBUTE = "pipeline"
_OURS = Path(__file__).parents[1]
_EXAMPLES = _OURS / "examples"


def load_pipeline(target: str) -> Pipeline:
    """The Pipeline, or what a function without arguments returns.

    If no attribute is named: `pipeline`, else the only Pipeline of the module. PipelineError if there is none, or if
    the module can't be imported; then with the frames of the user's code. An error of ours keeps its class."""
    place, _, attribute = target.partition(":")
    if not place:
        raise PipelineError(f"'{target}' names no module. Name the pipeline as package.module:attribute or file.py.")
    if place.endswith(".py"):
        _check_file(Path(place))
    with _told_at_its_place(place):
        module = _load_file(Path(place)) if place.endswith(".py") else _import(place)
    name = attribute or _only_pipeline(place, module)
    if not hasattr(module, name):
        raise PipelineError(f"'{place}' has no '{name}'. {_hint(place, module)}")
    pipeline = getattr(module, name)
    if not isinstance(pipeline, Pipeline) and callable(pipeline):
        with _told_at_its_place(place):
            pipeline = pipeline()
    if not isinstance(pipeline, Pipeline):
        raise PipelineError(
            f"'{name}' of '{place}' is {type(pipeline).__name__}, not a Pipeline or a function that returns one. "
            f"{_hint(place, module)}"
        )
    if pipeline.players:
        raise PipelineError(f"'{name}' of '{place}' reads a TestStream, which is for tests. Run it with `.run()`.")
    return pipeline


def _only_pipeline(place: str, module: ModuleType) -> str:
    found = _pipelines(module)
    if len({id(getattr(module, name)) for name in found}) == 1 and ATTRIBUTE not in found:
        return found[0]
    if ATTRIBUTE not in found and len(found) > 1:
        raise PipelineError(f"'{place}' has several pipelines: {', '.join(found)}. Name one: try {place}:{found[0]}.")
    return ATTRIBUTE


def _pipelines(module: ModuleType) -> list[str]:
    return [name for name, value in vars(module).items() if isinstance(value, Pipeline)]


def _hint(place: str, module: ModuleType) -> str:
    found = _pipelines(module)
    if not found:
        return "Define `pipeline = sf.Pipeline(…)` there."
    return f"It has: {', '.join(found)}; try {place}:{found[0]}."


def _import(place: str) -> ModuleType:
    # A console script does not see the folder it is run in; `python -m` does. Both are to find the user's module.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise
        missing = error.name
    suggested = f"{place.replace('.', '/')}.py"
    hint = f"Try {suggested}." if Path(suggested).is_file() else "Name it as package.module:attribute or file.py."
    raise PipelineError(f"no module '{missing}'. {hint}")


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise PipelineError(f"no file '{path}'. Name the pipeline as package.module:attribute or file.py:attribute.")
    if path.stem in sys.stdlib_module_names or path.stem in ("streamflow", "polars"):
        raise PipelineError(f"'{path}' would hide the module '{path.stem}' that others import. Rename the file.")


def _load_file(path: Path) -> ModuleType:
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Pickled values name their module, so it must be importable under that name.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@contextmanager
def _told_at_its_place(place: str) -> Iterator[None]:
    """What the user's code raises, with where in that code, and without the frames that led there."""
    try:
        yield
    except StreamFlowError as error:
        frames = _user_frames(error)
        if not frames:
            raise
        raise type(error)(f"{sentence(error)}\n  in {shown(frames[-1].filename)}, line {frames[-1].lineno}") from error
    except Exception as error:
        lines = traceback.format_list(_user_frames(error)) + traceback.format_exception_only(error)
        raise PipelineError(f"'{place}' can't be loaded:\n{''.join(lines).rstrip()}") from error


def _user_frames(error: BaseException) -> list[traceback.FrameSummary]:
    return [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_machinery(frame.filename)]


def _is_machinery(filename: str) -> bool:
    path = Path(filename)
    ours = path.is_relative_to(_OURS) and not path.is_relative_to(_EXAMPLES)
    return ours or filename.startswith("<frozen importlib") or filename == importlib.__file__
