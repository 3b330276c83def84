"""Apache Beam's module of this name."""

from streamflow.transforms.outputs import WindowedValue

__all__ = ["WindowedValue"]
