"""Apache Beam's module of this name."""

from streamflow.runners import DirectRunner

__all__ = ["DirectRunner"]
