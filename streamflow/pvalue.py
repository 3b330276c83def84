"""Apache Beam's module of this name: what stands between transforms, and what functions give."""

from streamflow.model.graph import PCollection
from streamflow.transforms.outputs import DoOutputsTuple, TaggedOutput

__all__ = ["DoOutputsTuple", "PCollection", "TaggedOutput"]
