"""Apache Beam's module of this name: what a run gives back."""

from streamflow.runtime.pipeline import PipelineResult, PipelineState

__all__ = ["PipelineResult", "PipelineState"]
