"""Finds the pipeline that a command line names: `package.module:attribute` or `path/file.py:attribute`."""

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from streamflow.base.errors import PipelineError
from streamflow.runtime.pipeline import Pipeline


def load_pipeline(target: str) -> Pipeline:
    """The Pipeline, or what a function without arguments returns. The attribute is `pipeline` if none is named."""
    place, _, attribute = target.partition(":")
    module = _load_file(Path(place)) if place.endswith(".py") else _import(place)
    name = attribute or "pipeline"
    if not hasattr(module, name):
        found = [key for key, value in vars(module).items() if isinstance(value, Pipeline)]
        hint = f" It has: {', '.join(found)}." if found else " Define `pipeline = sf.Pipeline(…)` there."
        raise PipelineError(f"'{place}' has no '{name}'.{hint}")
    pipeline = getattr(module, name)
    if not isinstance(pipeline, Pipeline) and callable(pipeline):
        pipeline = pipeline()
    if not isinstance(pipeline, Pipeline):
        raise PipelineError(f"'{target}' is {type(pipeline).__name__}, not a Pipeline or a function that returns one.")
    return pipeline


def _import(place: str) -> ModuleType:
    # A console script does not see the folder it is run in; `python -m` does. Both are to find the user's module.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise PipelineError(
            f"no module '{error.name}'. Name the pipeline as package.module:attribute or file.py."
        ) from error


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise PipelineError(f"no file '{path}'. Name the pipeline as package.module:attribute or file.py:attribute.")
    module = importlib.util.module_from_spec(spec)
    # Pickled values name their module, so it must be importable under that name.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module
