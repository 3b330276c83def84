"""Sources and sinks, by name: ReadFromTopic, WriteToTopic, WriteToTable, WriteToRows. Where the names lead is decided
by `run`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.expressions import row_expression
from streamflow.model.graph import Node, PCollection, Primitive, Shape
from streamflow.model.schema import Schema, SchemaLike, schema_of
from streamflow.model.time import DurationTypes
from streamflow.model.watermark import BoundedDisorder, MarkerColumn, WatermarkPolicy
from streamflow.model.window import TIME
from streamflow.model.windowing import AccumulationMode, Windowing
from streamflow.transforms.columns import resolve_columns


@dataclass(frozen=True, slots=True)
class Message:
    """An event with what surrounds it. `data`: the parsed JSON, or a dict of an envelope's columns."""

    data: Any
    key: bytes | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


class ReadFromTopic(Primitive):
    """The events of a topic, from its first kept one.

    `schema`: the fields wanted (class with annotations, or name → Polars type); only these are decoded, and an event
    that lacks one or has another type goes to the dead-letter topic. Without a schema, events are dicts.
    `event_time`: a field that holds the event time (datetime, date, ISO 8601 text, or Int64 µs; without zone it is
    UTC); by default the time given by the publisher. Years 1 to 9999; an event beyond goes to the dead-letter topic.
    `with_attributes`: elements are `Message`s, with the event's key and attributes; not together with a schema.
    `watermark`: what the watermark goes by: `BoundedDisorder(seconds)`, or markers of the source's own:
    `PublishedMarkers()`, `MarkerColumn(field)`. `disorder`: short for `BoundedDisorder`, the watermark trails the
    newest event time by this many seconds.
    `bounded`: the topic will be ended by its publisher, so windows may wait for that.
    """

    arity = 0
    behind: Node | None = None
    from_offset: int | Mapping[int, int] = 0
    from_time_us: int | None = None
    """Set by Backfill: the source that is read before, and which events are not in it."""

    def __init__(
        self,
        topic: str,
        *,
        schema: SchemaLike | None = None,
        event_time: str | None = None,
        with_attributes: bool = False,
        disorder: DurationTypes = 0,
        watermark: WatermarkPolicy | None = None,
        bounded: bool = False,
    ) -> None:
        self.topic, self.event_time, self.bounded = topic, event_time, bounded
        self.with_attributes = with_attributes
        self.schema: Schema | None = None if schema is None else schema_of(schema)
        if watermark is not None and disorder:
            raise PipelineError(
                "the watermark can't go by `disorder` and by `watermark` at once. Take one of them away."
            )
        self.watermark = BoundedDisorder(disorder) if watermark is None else watermark
        if with_attributes and (self.schema or event_time):
            raise PipelineError("with_attributes gives whole messages: take schema or event_time away, and use Map.")
        if self.schema and event_time is not None:
            check_time_field("event_time", event_time, self.schema)
        if isinstance(self.watermark, MarkerColumn):
            if with_attributes:
                raise PipelineError("with_attributes gives whole messages, without fields. Use PublishedMarkers().")
            if self.schema:
                check_time_field("MarkerColumn", self.watermark.name, self.schema)

    def first_offset(self, partition: int) -> int:
        """Where reading begins."""
        return self.from_offset if isinstance(self.from_offset, int) else self.from_offset.get(partition, 0)

    def default_label(self) -> str:
        return self.label or f"Read-{self.topic}"

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        return Shape(columns=self.schema.polars() if self.schema else None, bounded=self.bounded)


def check_time_field(what: str, name: str, schema: Schema) -> None:
    """PipelineError unless the schema has such a field, of a type that can hold a time. `what` asks for it."""
    dtype = schema.polars().get(name)
    if dtype is None:
        raise PipelineError(f"{what} '{name}' is not in the schema ({', '.join(schema.names)}).")
    if not can_be_event_time(dtype):
        raise PipelineError(f"{what} '{name}' is {dtype}. Make it a datetime, ISO 8601 text, or Int64 µs.")


def can_be_event_time(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype in (pl.Datetime, pl.Date, pl.String)


class WriteToTopic(Primitive):
    """Publishes each element to a topic in the same transaction as the step that made it.

    Columns are published as batch envelopes; Python values as JSON events (dict, list, str, number; bytes as they
    are)."""

    terminal = True

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def default_label(self) -> str:
        return self.label or f"Write-{self.topic}"


class StoreSink(Primitive):
    """What the store sinks share: their input is a log of its own, so that every row has an offset to be deduplicated
    by."""

    terminal = True

    @property
    def newest_wins(self) -> bool:
        """Whether a row replaces an earlier one of the same key."""
        return True

    def prepare(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The frame as the store wants it; row by row."""
        return frame

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (pcoll,) = inputs
        self.check_panes(pcoll.windowing)
        if pcoll.shape.columns is not None:
            resolve_columns({**pcoll.shape.columns}, self.prepare)
        return pcoll.shape

    def check_panes(self, windowing: Windowing) -> None:
        """PipelineError if further panes would make what readers see wrong: a sink that keeps the newest pane of a
        window needs whole ones."""
        late = windowing.grouped and not windowing.ends_once
        accumulating = windowing.accumulation_mode is AccumulationMode.ACCUMULATING
        if late and self.newest_wins and not accumulating:
            raise PipelineError(
                "a further pane holds only what is new, and would replace the whole. Use "
                "WindowInto(…, accumulation_mode=AccumulationMode.ACCUMULATING) before the grouping."
            )
        if late and accumulating and not self.newest_wins:
            raise PipelineError(
                "further panes would stand beside the panes they correct. Give key=[…], the columns that identify a "
                "row, so that readers see the newest pane."
            )


class WriteToTable(StoreSink):
    """Appends rows to a Delta Lake table, exactly once.

    `partition_by`: columns whose values become folders. `key`: columns that identify a row; readers see the newest
    row of each key, which is what windows with late panes need."""

    def __init__(self, table: str, *, partition_by: Sequence[str] = (), key: Sequence[str] = ()) -> None:
        self.table, self.partition_by, self.key = table, tuple(partition_by), tuple(key)

    @property
    def newest_wins(self) -> bool:
        return bool(self.key)

    def default_label(self) -> str:
        return self.label or f"Table-{self.table}"

    def prepare(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        named = frame.with_columns([pl.col(name) for name in {*self.partition_by, *self.key}])
        # A table has no use for the windows of its rows, and they would cross a log.
        return named.select(TIME, pl.exclude("^_.*$"))


class WriteToRows(StoreSink):
    """Writes rows to a wide-row store: a cell for each column, under the row key, in one column family.

    `row_key`: an expression giving a string, e.g. `pl.format("{}#{}", "carrier", "date")`. `columns`: which become
    qualifiers (default: all). A cell's timestamp is the start of the window, else the event time: writing again is
    writing the same."""

    def __init__(self, name: str, *, row_key: pl.Expr | str, family: str, columns: Sequence[str] | None = None) -> None:
        self.name, self.family = name, family
        self.row_key = row_expression(row_key)
        self.columns = None if columns is None else list(columns)

    def default_label(self) -> str:
        return self.label or f"Rows-{self.name}"

    def prepare(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        keyed = frame.with_columns(self.row_key.cast(pl.String).alias("_row_key"))
        return keyed if self.columns is None else keyed.select(pl.col("^_.*$"), *self.columns)
