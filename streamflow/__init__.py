"""StreamFlow: topics, Beam-style pipelines on elastic workers, columnar tables and wide rows.

    import streamflow as sf

Names that are Apache Beam's mean what they mean there; `Select`, `Where`, `WithColumns`, `Aggregate` work on columns.
"""

from importlib.metadata import version

from polars import col, lit

from streamflow.base.errors import (
    ConflictError,
    CorruptionError,
    DataError,
    FencedError,
    NotFoundError,
    PipelineError,
    StreamFlowError,
)
from streamflow.base.settings import Settings
from streamflow.model.aggregates import AggregateFn, Count, Max, Mean, Min, Sum
from streamflow.model.combiner import CombineFn
from streamflow.model.graph import PCollection, PTransform
from streamflow.model.time import MAX_TIMESTAMP, MIN_TIMESTAMP, Duration, Timestamp
from streamflow.model.window import (
    AccumulationMode,
    FixedWindows,
    GlobalWindows,
    IntervalWindow,
    SlidingWindows,
    TimestampedValue,
)
from streamflow.runtime.pipeline import Pipeline, PipelineResult
from streamflow.topics import Publisher, connect
from streamflow.topics.protocol import TopicConfig
from streamflow.transforms.columns import AsColumns, Select, Where, WithColumns
from streamflow.transforms.combine import Aggregate, CombineGlobally, CombinePerKey, GroupByKey
from streamflow.transforms.core import Create, DoFn, Filter, FlatMap, Flatten, Map, MapTuple, ParDo, WindowInto
from streamflow.transforms.files import (
    Backfill,
    ReadFromCsv,
    ReadFromJson,
    ReadFromParquet,
    ReadFromText,
    WriteToCsv,
    WriteToJson,
    WriteToParquet,
    WriteToText,
)
from streamflow.transforms.io import Message, ReadFromTopic, WriteToRows, WriteToTable, WriteToTopic

__version__ = version("streamflow")

__all__ = [
    "MAX_TIMESTAMP",
    "MIN_TIMESTAMP",
    "AccumulationMode",
    "Aggregate",
    "AggregateFn",
    "AsColumns",
    "Backfill",
    "CombineFn",
    "CombineGlobally",
    "CombinePerKey",
    "ConflictError",
    "CorruptionError",
    "Count",
    "Create",
    "DataError",
    "DoFn",
    "Duration",
    "FencedError",
    "Filter",
    "FixedWindows",
    "FlatMap",
    "Flatten",
    "GlobalWindows",
    "GroupByKey",
    "IntervalWindow",
    "Map",
    "MapTuple",
    "Max",
    "Mean",
    "Message",
    "Min",
    "NotFoundError",
    "PCollection",
    "PTransform",
    "ParDo",
    "Pipeline",
    "PipelineError",
    "PipelineResult",
    "Publisher",
    "ReadFromCsv",
    "ReadFromJson",
    "ReadFromParquet",
    "ReadFromText",
    "ReadFromTopic",
    "Select",
    "Settings",
    "SlidingWindows",
    "StreamFlowError",
    "Sum",
    "Timestamp",
    "TimestampedValue",
    "TopicConfig",
    "Where",
    "WindowInto",
    "WithColumns",
    "WriteToCsv",
    "WriteToJson",
    "WriteToParquet",
    "WriteToRows",
    "WriteToTable",
    "WriteToText",
    "WriteToTopic",
    "col",
    "connect",
    "lit",
]
