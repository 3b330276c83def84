"""Apache Beam's module of this name."""

from streamflow.options.pipeline_options import PipelineOptions
from streamflow.runtime.pipeline import Pipeline, PipelineResult

__all__ = ["Pipeline", "PipelineOptions", "PipelineResult"]
