"""Apache Beam's module of this name: what stands between transforms, and what functions are given and give."""

from streamflow.model.graph import Graph, PCollection
from streamflow.model.row import Row
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
    "PBegin",
    "PCollection",
    "PDone",
    "Row",
    "TaggedOutput",
]

PBegin = Graph
"""What stands left of a source: the pipeline."""


class PDone:
    """What a sink of your own gives in its `expand`: nothing can follow it."""

    def __init__(self, pipeline: Graph) -> None:
        self.pipeline = pipeline
