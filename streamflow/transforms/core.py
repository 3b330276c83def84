"""Apache Beam's module of this name: the transforms that all others are made of."""

from streamflow.model.combiner import CombineFn
from streamflow.model.graph import PTransform
from streamflow.model.windowing import Windowing
from streamflow.transforms.collections import Create, Flatten, Impulse, Reshuffle
from streamflow.transforms.combine import CombineGlobally, CombinePerKey, CombineValues, GroupByKey
from streamflow.transforms.elementwise import DoFn, Filter, FlatMap, FlatMapTuple, Map, MapTuple, ParDo
from streamflow.transforms.partition import Partition, PartitionFn
from streamflow.transforms.rows import GroupBy, Select
from streamflow.transforms.window import WindowInto

__all__ = [
    "CombineFn",
    "CombineGlobally",
    "CombinePerKey",
    "CombineValues",
    "Create",
    "DoFn",
    "Filter",
    "FlatMap",
    "FlatMapTuple",
    "Flatten",
    "GroupBy",
    "GroupByKey",
    "Impulse",
    "Map",
    "MapTuple",
    "PTransform",
    "ParDo",
    "Partition",
    "PartitionFn",
    "Reshuffle",
    "Select",
    "WindowInto",
    "Windowing",
]
