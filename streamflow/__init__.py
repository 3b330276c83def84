"""StreamFlow: topics, Beam-style pipelines on elastic workers, columnar tables and wide rows.

    import streamflow as sf

Names that are Apache Beam's mean what they mean there; `Select`, `Where`, `WithColumns`, `Aggregate` work on columns.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from polars import col, lit

from streamflow import coders, io, metrics, options, pvalue, runners, typehints, utils
from streamflow.base.errors import (
    AssertionFailedError,
    ConflictError,
    CorruptionError,
    DataError,
    FencedError,
    FlowControlError,
    NotFoundError,
    PipelineError,
    StreamFlowError,
)
from streamflow.base.settings import Settings
from streamflow.model.aggregates import AggregateFn, Count, Max, Mean, Min, Sum
from streamflow.model.calendar_windows import CalendarWindows
from streamflow.model.collecting import CollectList, CollectMap, CollectSet, First, Last, TopK
from streamflow.model.combiner import CombineFn
from streamflow.model.graph import PCollection, PTransform
from streamflow.model.row import Row
from streamflow.model.sampling import Sample
from streamflow.model.statistics import ApproxDistinct, Quantiles, StdDev, Variance
from streamflow.model.time import MAX_TIMESTAMP, MIN_TIMESTAMP, Duration, Timestamp
from streamflow.model.watermark import BoundedDisorder, MarkerColumn, PublishedMarkers
from streamflow.model.window import (
    FixedWindows,
    GlobalWindows,
    IntervalWindow,
    Sessions,
    SlidingWindows,
    TimestampedValue,
)
from streamflow.model.windowing import AccumulationMode, TimestampCombiner
from streamflow.runtime.pipeline import Pipeline, PipelineResult
from streamflow.runtime.values import on_values
from streamflow.topics import Publisher, open_log
from streamflow.topics.protocol import TopicConfig
from streamflow.topics.subscriptions import (
    AckStatus,
    DeadLetterPolicy,
    Oidc,
    PushConfig,
    RetryPolicy,
    SubscriptionSettings,
)
from streamflow.transforms import combiners, core, trigger, window
from streamflow.transforms.batching import BatchElements, GroupIntoBatches
from streamflow.transforms.collections import Create, Flatten, Impulse, Reshuffle
from streamflow.transforms.columns import AsColumns, Where, WithColumns
from streamflow.transforms.combine import Aggregate, CombineGlobally, CombinePerKey, CombineValues, GroupByKey
from streamflow.transforms.elementwise import DoFn, Filter, FlatMap, FlatMapTuple, Map, MapTuple, ParDo
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
from streamflow.transforms.join import Join
from streamflow.transforms.outputs import TaggedOutput, WindowedValue
from streamflow.transforms.partition import Partition, PartitionFn
from streamflow.transforms.ptransform import ptransform_fn
from streamflow.transforms.rows import GroupBy, Select
from streamflow.transforms.stats import ApproximateQuantiles, ApproximateUnique
from streamflow.transforms.time_joins import AsOfJoin, IntervalJoin, TableJoin
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.util import (
    CoGroupByKey,
    Distinct,
    FlattenWith,
    Keys,
    KvSwap,
    LogElements,
    Regex,
    Reify,
    Tee,
    ToString,
    Values,
    WaitOn,
    WithKeys,
)
from streamflow.transforms.window import WindowInto

__version__ = version("streamflow")

PTransform.on_values = on_values

if TYPE_CHECKING:
    from streamflow.topics.client import Flow, PublishFlow, connect, connect_sync

__all__ = [
    "MAX_TIMESTAMP",
    "MIN_TIMESTAMP",
    "AccumulationMode",
    "AckStatus",
    "Aggregate",
    "AggregateFn",
    "ApproxDistinct",
    "ApproximateQuantiles",
    "ApproximateUnique",
    "AsColumns",
    "AsOfJoin",
    "AssertionFailedError",
    "Backfill",
    "BatchElements",
    "BoundedDisorder",
    "CalendarWindows",
    "CoGroupByKey",
    "CollectList",
    "CollectMap",
    "CollectSet",
    "CombineFn",
    "CombineGlobally",
    "CombinePerKey",
    "CombineValues",
    "ConflictError",
    "CorruptionError",
    "Count",
    "Create",
    "DataError",
    "DeadLetterPolicy",
    "Distinct",
    "DoFn",
    "Duration",
    "FencedError",
    "Filter",
    "First",
    "FixedWindows",
    "FlatMap",
    "FlatMapTuple",
    "Flatten",
    "FlattenWith",
    "Flow",
    "FlowControlError",
    "GlobalWindows",
    "GroupBy",
    "GroupByKey",
    "GroupIntoBatches",
    "Impulse",
    "IntervalJoin",
    "IntervalWindow",
    "Join",
    "Keys",
    "KvSwap",
    "Last",
    "LogElements",
    "Map",
    "MapTuple",
    "MarkerColumn",
    "Max",
    "Mean",
    "Message",
    "Min",
    "NotFoundError",
    "Oidc",
    "PCollection",
    "PTransform",
    "ParDo",
    "Partition",
    "PartitionFn",
    "Pipeline",
    "PipelineError",
    "PipelineResult",
    "PublishFlow",
    "PublishedMarkers",
    "Publisher",
    "PushConfig",
    "Quantiles",
    "ReadFromCsv",
    "ReadFromJson",
    "ReadFromParquet",
    "ReadFromText",
    "ReadFromTopic",
    "Regex",
    "Reify",
    "Reshuffle",
    "RetryPolicy",
    "Row",
    "Sample",
    "Select",
    "Sessions",
    "Settings",
    "SlidingWindows",
    "StdDev",
    "StreamFlowError",
    "SubscriptionSettings",
    "Sum",
    "TableJoin",
    "TaggedOutput",
    "Tee",
    "TimeDomain",
    "Timestamp",
    "TimestampCombiner",
    "TimestampedValue",
    "ToString",
    "TopK",
    "TopicConfig",
    "Values",
    "Variance",
    "WaitOn",
    "Where",
    "WindowInto",
    "WindowedValue",
    "WithColumns",
    "WithKeys",
    "WriteToCsv",
    "WriteToJson",
    "WriteToParquet",
    "WriteToRows",
    "WriteToTable",
    "WriteToText",
    "WriteToTopic",
    "coders",
    "col",
    "combiners",
    "connect",
    "connect_sync",
    "core",
    "io",
    "lit",
    "metrics",
    "open_log",
    "options",
    "ptransform_fn",
    "pvalue",
    "runners",
    "trigger",
    "typehints",
    "utils",
    "window",
]

_OF_CLIENT = ("Flow", "PublishFlow", "connect", "connect_sync")


def __getattr__(name: str) -> Any:
    """The client, when it is asked for: a worker has no use for it, nor for the asyncio that it brings."""
    if name in _OF_CLIENT:
        return getattr(import_module("streamflow.topics.client"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
