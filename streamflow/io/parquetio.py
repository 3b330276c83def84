"""Apache Beam's module of this name."""

from streamflow.transforms.files import ReadFromParquet, WriteToParquet

__all__ = ["ReadFromParquet", "WriteToParquet"]
