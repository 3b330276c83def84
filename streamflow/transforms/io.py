"""Sources and sinks, by name: ReadFromTopic, WriteToTopic, WriteToTable, WriteToRows. Where the names lead is decided
by `run`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.graph import PCollection, Primitive, Shape
from streamflow.model.schema import Schema, SchemaLike, schema_of
from streamflow.model.time import DurationTypes, duration_us
from streamflow.model.window import AccumulationMode
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
    `event_time`: a field that holds the event time (datetime, or Int64 µs); by default the time given by the publisher.
    `with_attributes`: elements are `Message`s, with the event's key and attributes; not together with a schema.
    `disorder`: the watermark trails the newest event time by this many seconds.
    `bounded`: the topic will be ended by its publisher, so windows may wait for that.
    """

    arity = 0

    def __init__(
        self,
        topic: str,
        *,
        schema: SchemaLike | None = None,
        event_time: str | None = None,
        with_attributes: bool = False,
        disorder: DurationTypes = 0,
        bounded: bool = False,
    ) -> None:
        self.topic, self.event_time, self.bounded = topic, event_time, bounded
        self.with_attributes = with_attributes
        self.schema: Schema | None = None if schema is None else schema_of(schema)
        self.disorder_us = duration_us(disorder)
        if self.disorder_us < 0:
            raise PipelineError(f"disorder can't be negative, got {disorder!r}.")
        if with_attributes and (self.schema or event_time):
            raise PipelineError("with_attributes gives whole messages: take schema or event_time away, and use Map.")
        if self.schema and event_time is not None and event_time not in self.schema.names:
            raise PipelineError(f"event_time '{event_time}' is not in the schema ({', '.join(self.schema.names)}).")

    def default_label(self) -> str:
        return self.label or f"Read-{self.topic}"

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        return Shape(columns=self.schema.polars() if self.schema else None, bounded=self.bounded)


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

    store: str
    terminal = True

    def prepare(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The frame as the store wants it; row by row."""
        return frame

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (pcoll,) = inputs
        if pcoll.shape.columns is not None:
            resolve_columns({**pcoll.shape.columns}, self.prepare)
        return pcoll.shape


class WriteToTable(StoreSink):
    """Appends rows to a Delta Lake table, exactly once.

    `partition_by`: columns whose values become folders. `key`: columns that identify a row; readers see the newest
    row of each key, which is what windows with late panes need."""

    store = "table"

    def __init__(self, table: str, *, partition_by: Sequence[str] = (), key: Sequence[str] = ()) -> None:
        self.table, self.partition_by, self.key = table, tuple(partition_by), tuple(key)

    def default_label(self) -> str:
        return self.label or f"Table-{self.table}"

    def prepare(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.with_columns([pl.col(name) for name in {*self.partition_by, *self.key}])

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        windowing = inputs[0].windowing
        grouped = windowing.assigned and windowing.allowed_lateness_us > 0
        accumulating = windowing.accumulation_mode is AccumulationMode.ACCUMULATING
        if grouped and accumulating and not self.key:
            raise PipelineError(
                f"late panes would stand beside the panes they correct in table '{self.table}'. Give key=[…], the "
                "columns that identify a row, so that readers see the newest pane."
            )
        if grouped and not accumulating and self.key:
            raise PipelineError(
                f"a late pane holds only what is new, and would replace the whole in keyed table '{self.table}'. Use "
                "WindowInto(…, accumulation_mode=AccumulationMode.ACCUMULATING)."
            )
        return super().output(inputs)


class WriteToRows(StoreSink):
    """Writes rows to a wide-row store: a cell for each column, under the row key, in one column family.

    `row_key`: an expression giving a string, e.g. `pl.format("{}#{}", "carrier", "date")`. `columns`: which become
    qualifiers (default: all). A cell's timestamp is the start of the window, else the event time: writing again is
    writing the same."""

    store = "rows"

    def __init__(self, name: str, *, row_key: pl.Expr | str, family: str, columns: Sequence[str] | None = None) -> None:
        self.name, self.family = name, family
        self.row_key = pl.col(row_key) if isinstance(row_key, str) else row_key
        self.columns = None if columns is None else list(columns)

    def default_label(self) -> str:
        return self.label or f"Rows-{self.name}"

    def prepare(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        keyed = frame.with_columns(self.row_key.cast(pl.String).alias("_row_key"))
        return keyed if self.columns is None else keyed.select(pl.col("^_.*$"), *self.columns)
