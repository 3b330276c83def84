"""From records to batches: the decoding of a user's topic, by schema where there is one. Bad events are told, never
raised.

With a schema, JSON is decoded straight into the wanted columns: the whole batch at once, and only if that fails event
by event to find the bad ones. Batch envelopes are projected and cast to the same columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any

import msgspec
import orjson
import polars as pl

from streamflow.base.errors import DataError
from streamflow.engine.operators import guarded
from streamflow.model.batch import OFFSET, Batch, Elements, OnBad, tell, to_elements
from streamflow.model.schema import Schema
from streamflow.model.time import MAX_US, MIN_US, timestamp_us
from streamflow.model.window import TIME
from streamflow.topics import codec
from streamflow.topics.protocol import Kind, Record
from streamflow.transforms.columns import missing_column
from streamflow.transforms.io import Message, ReadFromTopic


class SourceDecoder:
    """Decodes what a source task has read in one step."""

    def __init__(self, transform: ReadFromTopic) -> None:
        self.transform = transform
        self.schema = transform.schema
        if self.schema is not None:
            self._columns = _Columns(self.schema)

    def decode(self, records: Sequence[Record], on_bad: OnBad) -> list[Batch]:
        """Batches in offset order; frames of equal columns are one batch."""
        if self.schema is None:
            batches: list[Batch] = [self._free(record, on_bad) for record in records]
            return [self._timed(batch, on_bad) for batch in batches if len(batch)]
        runs = (self._typed(kind, list(run), on_bad) for kind, run in groupby(records, lambda record: record.kind))
        frames = [frame for run in runs for frame in run if frame.height]
        return [self._timed(pl.concat(frames, how="vertical"), on_bad)] if frames else []

    def _typed(self, kind: Kind, records: Sequence[Record], on_bad: OnBad) -> list[pl.DataFrame]:
        """Of a run of records of one kind. JSON is decoded as one, for its records may be small."""
        if kind is Kind.ARROW:
            return [self._columns.of_envelope(with_offsets(r, self._columns.names), on_bad) for r in records]
        whole = pl.concat([with_offsets(record, [codec.JSON]) for record in records], how="vertical")
        return [self._columns.of_json(whole, on_bad)]

    def _free(self, record: Record, on_bad: OnBad) -> Batch:
        frame = with_offsets(record)
        if record.kind is Kind.ARROW:
            return _as_messages(to_elements(frame)) if self.transform.with_attributes else frame
        out = Elements()
        columns = (frame[codec.JSON].to_list(), frame[TIME].to_list(), frame[OFFSET].to_list())
        around = _surroundings(frame) if self.transform.with_attributes else None
        for i, (raw, time_us, offset) in enumerate(zip(*columns, strict=True)):
            try:
                value = orjson.loads(raw)
            except orjson.JSONDecodeError as error:
                on_bad(raw, offset, DataError(f"malformed JSON: {error}"))
            else:
                out.append(value if around is None else Message(value, *around[i]), time_us, offset, None)
        return out

    def _timed(self, batch: Batch, on_bad: OnBad) -> Batch:
        """With the event time taken from the field that holds it."""
        name = self.transform.event_time
        if name is None:
            return batch
        if isinstance(batch, Elements):
            return _timed_elements(batch, name, on_bad)
        if name not in batch.columns:
            error = DataError(missing_column(Exception(f'"{name}"'), batch.schema))
            tell(batch, on_bad, error)
            return batch.clear()
        usable = (pl.col(TIME) > MIN_US) & (pl.col(TIME) < MAX_US)
        timed = batch.with_columns(_time_column(name, batch.schema[name]))
        bad = timed.filter(~usable.fill_null(False))
        if bad.height:
            tell(bad, on_bad, DataError(f"event time '{name}' is null, or beyond what can be a time."))
        return timed.filter(usable)


class _Columns:
    """The columns of a schema, from JSON or from an envelope."""

    def __init__(self, schema: Schema) -> None:
        self.names = schema.names
        self._dtypes = schema.polars()
        self._required = [f.name for f in schema.fields if f.required]
        self._not_null = [f.name for f in schema.fields if not f.nullable]
        self._getters = [(name, attrgetter(attribute)) for name, attribute in schema.attribute_order()]
        struct: Any = schema.struct()
        self._decode_lines = msgspec.json.Decoder(struct).decode_lines
        self._decode = msgspec.json.Decoder(struct).decode

    def of_json(self, frame: pl.DataFrame, on_bad: OnBad) -> pl.DataFrame:
        raws = frame[codec.JSON].to_list()
        try:
            events = self._decode_lines(b"\n".join(raws))
            whole = len(events) == len(raws)
        except (msgspec.DecodeError, ValueError):
            whole = False
        if not whole:
            events, keep = self._one_by_one(raws, frame[OFFSET], on_bad)
            frame = frame[keep]
        columns: list[pl.Series] = [
            _series(name, list(map(get, events)), self._dtypes[name]) for name, get in self._getters
        ]
        return pl.DataFrame([*columns, frame[TIME], frame[OFFSET]])

    def _one_by_one(self, raws: list[bytes], offsets: pl.Series, on_bad: OnBad) -> tuple[list[Any], list[int]]:
        events: list[Any] = []
        keep: list[int] = []
        for i, raw in enumerate(raws):
            try:
                events.append(self._decode(raw))
                keep.append(i)
            except (msgspec.DecodeError, ValueError) as error:
                on_bad(raw, offsets[i], error)
        return events, keep

    def of_envelope(self, frame: pl.DataFrame, on_bad: OnBad) -> pl.DataFrame:
        missing = [name for name in self._required if name not in frame.columns]
        if missing:
            tell(frame, on_bad, DataError(missing_column(Exception(f'"{missing[0]}"'), frame.schema)))
            return frame.clear()
        absent = [pl.lit(None, self._dtypes[name]).alias(name) for name in self.names if name not in frame.columns]
        wanted = frame.with_columns(absent).select(*self.names, TIME, OFFSET)
        if any(wanted.schema[name] != dtype for name, dtype in self._dtypes.items()):
            casts = [pl.col(name).cast(dtype, strict=True) for name, dtype in self._dtypes.items()]
            wanted = guarded(wanted, lambda lazy: lazy.with_columns(casts), on_bad)
        if any(wanted[name].null_count() for name in self._not_null if wanted.width):
            null = pl.any_horizontal(pl.col(name).is_null() for name in self._not_null)
            tell(wanted.filter(null), on_bad, DataError(f"a field of {self._not_null} is null."))
            wanted = wanted.filter(~null)
        return wanted


def with_offsets(record: Record, names: Sequence[str] | None = None) -> pl.DataFrame:
    """The record's events with their offsets; only the columns `names`, where given."""
    frame = codec.decode(record, columns=names)
    return frame.with_columns(pl.int_range(record.offset, record.end, dtype=pl.Int64).alias(OFFSET))


def _as_messages(elements: Elements) -> Elements:
    return replace(elements, values=[Message(value) for value in elements.values])


def _surroundings(frame: pl.DataFrame) -> list[tuple[bytes | None, Mapping[str, str]]]:
    """Key and attributes of each event; a record without any has no such columns."""
    none = [None] * frame.height
    keys, attributes = (frame[n].to_list() if n in frame.columns else none for n in (codec.KEY, codec.ATTRIBUTES))
    return [(key, orjson.loads(text) if text else {}) for key, text in zip(keys, attributes, strict=True)]


def _series(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    if values and isinstance(dtype, pl.Struct):
        values = [None if value is None else msgspec.to_builtins(value) for value in values]
    return pl.Series(name, values, dtype=dtype, strict=True)


def _time_column(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if isinstance(dtype, pl.Datetime):
        return column.dt.epoch("us").alias(TIME)
    if dtype == pl.String:
        return column.str.to_datetime(time_unit="us", time_zone="UTC", strict=False).dt.epoch("us").alias(TIME)
    return column.cast(pl.Int64).alias(TIME)


def _timed_elements(batch: Elements, name: str, on_bad: OnBad) -> Elements:
    out = Elements()
    for i, value in enumerate(batch.values):
        try:
            time_us = _time_of(value[name])
            if not MIN_US < time_us < MAX_US:
                raise DataError(f"event time '{name}' is beyond what can be a time: {value[name]!r}.")
        except (KeyError, TypeError, ValueError, DataError) as error:
            on_bad(value, batch.offsets[i], error)
        else:
            out.append(value, time_us, batch.offsets[i], None)
    return out


def _time_of(value: Any) -> int:
    if isinstance(value, int):
        return value
    return timestamp_us(value if isinstance(value, datetime) else datetime.fromisoformat(value))
