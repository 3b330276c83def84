"""What users compose pipelines of. Transforms say what is to be done; no execution and no I/O happens here.

Those of Apache Beam's package of this name can be had from here too: `from streamflow.transforms import Map`.
"""

from importlib import import_module
from typing import Any

_HERE = ("core", "util", "window", "ptransform")
"""Modules whose names are this package's too."""


def __getattr__(name: str) -> Any:
    """When it is asked for: the modules of this package need one another while they are loaded."""
    if not name.startswith("_"):
        for module in _HERE:
            loaded = import_module(f"{__name__}.{module}")
            if name in loaded.__all__:
                return getattr(loaded, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
