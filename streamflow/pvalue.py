"""Apache Beam's module of this name: what stands between transforms, and what functions are given and give."""

from streamflow.model.graph import PCollection
from streamflow.transforms.outputs import DoOutputsTuple, TaggedOutput
from streamflow.transforms.sides import AsDict, AsIter, AsList, AsMultiMap, AsSideInput, AsSingleton, EmptySideInput

__all__ = [
    "AsDict",
    "AsIter",
    "AsList",
    "AsMultiMap",
    "AsSideInput",
    "AsSingleton",
    "DoOutputsTuple",
    "EmptySideInput",
    "PCollection",
    "TaggedOutput",
]
