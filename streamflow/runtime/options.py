"""What Apache Beam's `runner` and `options` say to a pipeline that runs here."""

import logging
from collections.abc import Sequence
from typing import Any

from streamflow.base.errors import PipelineError
from streamflow.options.pipeline_options import PipelineOptions, StandardOptions

logger = logging.getLogger(__name__)

_HERE = ("Direct", "Prism", "FnApi", "Test")
"""Beginnings of the names of runners that run a pipeline where it is built."""


def options_of(runner: Any, options: Any, argv: Sequence[str] | None) -> PipelineOptions:
    """The options of a pipeline, as it was given them. `runner`: a name, a class or an object; one that stands for
    another service is told of in the log, for the pipeline runs here. PipelineError for options of another type."""
    if options is not None and not isinstance(options, PipelineOptions):
        raise PipelineError(f"options must be PipelineOptions, not {options!r}. Write PipelineOptions([…]).")
    chosen = options if options is not None else PipelineOptions(argv or [])
    asked = runner if runner is not None else chosen.view_as(StandardOptions).runner
    if asked is not None:
        kind = asked if isinstance(asked, str) else getattr(asked, "__name__", type(asked).__name__)
        name = kind.rsplit(".", 1)[-1]
        if not name.startswith(_HERE):
            logger.warning("runner %s is not here: the pipeline runs in this process, or by `streamflow run`.", name)
    return chosen
