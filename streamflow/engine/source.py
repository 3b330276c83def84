"""From records to batches: the decoding of a user's topic, by schema where there is one. Bad events are told, never
raised.

With a schema, JSON is decoded straight into the wanted columns: natively where a record is plainly fine (see `kernel`),
else the whole record at once, and only if that fails event by event to find the bad ones. Batch envelopes are projected
and cast to the same columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import Any

import msgspec
import orjson
import polars as pl

from streamflow.base.errors import DataError
from streamflow.engine.bisection import fitted
from streamflow.engine.kernel import plain_decoder
from streamflow.model.batch import OFFSET, Batch, Elements, OnBad, tell, to_elements
from streamflow.model.schema import Schema
from streamflow.model.time import EVENT_MAX_US, EVENT_MIN_US, timestamp_us
from streamflow.model.window import TIME
from streamflow.topics import codec
from streamflow.topics.protocol import Kind, Record
from streamflow.transforms.columns import missing_column
from streamflow.transforms.files import ReadFromFiles
from streamflow.transforms.io import Message, ReadFromTopic, can_be_event_time

_NO_COLUMN = (TypeError, OverflowError, pl.exceptions.PolarsError)
"""What Polars raises for values that do not fit a column's type."""
_EVENTS_AT_ONCE = 8_000
"""Decoded events become columns before they leave the processor's cache: with sixteen times as many it takes 1.4
times as long."""
_Bad = tuple[bytes, int, Exception]
"""An event as it was, its offset, and what is wrong with it."""


class SourceDecoder:
    """Decodes what a source task has read in one step."""

    def __init__(self, transform: ReadFromTopic | ReadFromFiles) -> None:
        self.transform = transform
        self.schema = transform.schema
        if self.schema is not None:
            self._columns = _Columns(self.schema, timed=transform.event_time is not None)

    def decode(self, records: Sequence[Record], on_bad: OnBad) -> list[Batch]:
        """Batches in offset order; frames of equal columns are one batch."""
        if self.schema is None:
            batches: list[Batch] = [self._free(record, on_bad) for record in records]
            return [self.timed(batch, on_bad) for batch in batches if len(batch)]
        runs = [self._typed(kind, list(run), on_bad) for kind, run in groupby(records, attrgetter("kind"))]
        frames = [frame for run in runs for frame in run if frame.height]
        return [self.timed(pl.concat(frames, how="vertical"), on_bad)] if frames else []

    def _typed(self, kind: Kind, records: Sequence[Record], on_bad: OnBad) -> list[pl.DataFrame]:
        """Of a run of records of one kind."""
        if kind is Kind.JSON:
            return [self._columns.of_json(records, on_bad)]
        decoded = [codec.decode(record, self._columns.names) for record in records]
        alike = groupby(zip(records, decoded, strict=True), key=lambda pair: (pair[1].columns, pair[1].dtypes))
        return [self._envelopes(list(group), on_bad) for _, group in alike]

    def _envelopes(self, group: Sequence[tuple[Record, pl.DataFrame]], on_bad: OnBad) -> pl.DataFrame:
        """Of records whose columns are alike."""
        records = [record for record, _ in group]
        frame = pl.concat([frame for _, frame in group], how="vertical").with_columns(offsets_of(records))
        bad: dict[int, Exception] = {}
        good = self._columns.of_envelope(frame, lambda _, offset, error: bad.update({offset: error}))
        for record in records if bad else ():
            if offsets := [offset for offset in range(record.offset, record.end, record.stride) if offset in bad]:
                # A dead letter holds the event as it was, not only the columns that are wanted of it.
                whole = to_elements(with_offsets(record)).values
                for offset in offsets:
                    on_bad(whole[(offset - record.offset) // record.stride], offset, bad[offset])
        return good

    def _free(self, record: Record, on_bad: OnBad) -> Batch:
        frame = with_offsets(record)
        if record.kind is not Kind.JSON:
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

    def timed(self, batch: Batch, on_bad: OnBad) -> Batch:
        """With the event time taken from the field that holds it."""
        name = self.transform.event_time
        if isinstance(batch, Elements):
            return _timed_elements(batch, name, on_bad)
        timed = batch
        if name is not None:
            error = _unusable(name, batch)
            if error is not None:
                tell(batch, on_bad, error)
                return batch.clear()
            timed = batch.with_columns(event_times(batch[name]).alias(TIME))
        usable = timed[TIME].is_between(EVENT_MIN_US, EVENT_MAX_US).fill_null(False)
        if usable.all():
            return timed
        tell(timed.filter(~usable), on_bad, _no_time(name))
        return timed.filter(usable)


class _Columns:
    """The columns of a schema, from JSON or from an envelope. `timed`: an event's time is one of them, so that the time
    of its publication is not decoded."""

    def __init__(self, schema: Schema, *, timed: bool) -> None:
        self.schema, self.names, self.timed = schema, schema.names, timed
        self._dtypes = schema.polars()
        self._getters = [(name, attrgetter(attribute)) for name, attribute in schema.attribute_order()]
        struct: Any = schema.struct()
        self._plain = plain_decoder(schema)
        self._decode_lines = msgspec.json.Decoder(struct).decode_lines
        self._decode = msgspec.json.Decoder(struct).decode

    def of_json(self, records: Sequence[Record], on_bad: OnBad) -> pl.DataFrame:
        """Decoder and columns agree on nearly everything; where a column can't hold what was decoded, each event is
        tried alone."""
        try:
            frame, bad = self._decoded(records)
        except _NO_COLUMN:
            frame, bad = self._decoded(records, each_alone=True)
        for raw, offset, error in bad:
            on_bad(raw, offset, error)
        return frame

    def _decoded(self, records: Sequence[Record], *, each_alone: bool = False) -> tuple[pl.DataFrame, list[_Bad]]:
        """The good events of all records as columns, and the bad ones. `each_alone`: try for each event of a record
        that is not plainly fine whether columns can hold it, which is slow; without it, what Polars raises for one of
        them is raised."""
        bad: list[_Bad] = []
        parts: list[list[pl.Series]] = []
        plain, taken = ([], [False] * len(records)) if self._plain is None else self._plain.decode(records)
        done = 0
        for is_plain, run in groupby(zip(taken, records, strict=True), key=itemgetter(0)):
            of_run = [record for _, record in run]
            if is_plain:
                height = sum(record.count for record in of_run)
                parts.append([series.slice(done, height) for series in plain])
                done += height
            else:
                parts += self._parts(of_run, bad, each_alone=each_alone)
        columns = [pl.concat(of_one) for of_one in zip(*parts, strict=True)]
        columns += [*([] if self.timed else [_times(records)]), offsets_of(records)]
        if bad:
            gone = {offset for _, offset, _ in bad}
            kept = [i for i, offset in enumerate(offsets_of(records).to_list()) if offset not in gone]
            columns[len(self.names) :] = [series.gather(kept) for series in columns[len(self.names) :]]
        return pl.DataFrame(columns), bad

    def _parts(self, records: Sequence[Record], bad: list[_Bad], *, each_alone: bool) -> list[list[pl.Series]]:
        """The good events of the records, by way of Python objects."""
        parts: list[list[pl.Series]] = []
        events: list[Any] = []
        for record in records:
            found = None if each_alone else self._whole(record)
            events += self._one_by_one(record, bad, check=each_alone) if found is None else found
            if len(events) >= _EVENTS_AT_ONCE:
                parts.append(self._series_of(events))
                events = []
        return [*parts, self._series_of(events)]

    def _series_of(self, events: Sequence[Any]) -> list[pl.Series]:
        return [_series(name, list(map(get, events)), self._dtypes[name]) for name, get in self._getters]

    def _whole(self, record: Record) -> list[Any] | None:
        """None if any event of the record is bad, or may be."""
        lines = codec.json_lines(record)
        if lines is None:
            return None
        try:
            events: list[Any] = self._decode_lines(lines)
        except (msgspec.DecodeError, ValueError):
            return None
        return events if len(events) == record.count else None

    def _one_by_one(self, record: Record, bad: list[_Bad], *, check: bool) -> list[Any]:
        """The events that can be decoded and, with `check`, be held by columns."""
        events: list[Any] = []
        offsets = range(record.offset, record.end, record.stride)
        for offset, raw in zip(offsets, codec.json_documents(record), strict=True):
            try:
                event = self._decode(raw)
                if check:
                    self._series_of([event])
            except (msgspec.DecodeError, ValueError, *_NO_COLUMN) as error:
                bad.append((raw, offset, error))
            else:
                events.append(event)
        return events

    def of_envelope(self, frame: pl.DataFrame, on_bad: OnBad) -> pl.DataFrame:
        good = fitted(frame, self.schema, on_bad)
        return good.drop(TIME) if self.timed else good


def offsets_of(records: Sequence[Record]) -> pl.Series:
    """The offset of each event of the records."""
    ranges: list[tuple[int, int, int]] = []
    for record in records:
        if ranges and ranges[-1][1:] == (record.offset, record.stride):
            ranges[-1] = (ranges[-1][0], record.end, record.stride)
        else:
            ranges.append((record.offset, record.end, record.stride))
    return pl.concat(
        [pl.int_range(begin, end, stride, dtype=pl.Int64, eager=True) for begin, end, stride in ranges]
    ).alias(OFFSET)


def _times(records: Sequence[Record]) -> pl.Series:
    return pl.concat([codec.json_surroundings(record).get_column(TIME) for record in records])


def with_offsets(record: Record, names: Sequence[str] | None = None) -> pl.DataFrame:
    """The record's events with their offsets; only the columns `names`, where given."""
    return codec.decode(record, columns=names).with_columns(offsets_of([record]))


def _as_messages(elements: Elements) -> Elements:
    return replace(elements, values=[Message(value) for value in elements.values])


def _surroundings(frame: pl.DataFrame) -> list[tuple[bytes | None, Mapping[str, str]]]:
    """Key and attributes of each event; a record without any has no such columns."""
    none = [None] * frame.height
    keys, attributes = (frame[n].to_list() if n in frame.columns else none for n in (codec.KEY, codec.ATTRIBUTES))
    return [(key, orjson.loads(text) if text else {}) for key, text in zip(keys, attributes, strict=True)]


def _series(name: str, values: list[Any], dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, (pl.Struct, pl.List)):
        values = msgspec.to_builtins(values, builtin_types=(datetime, date))
    return pl.Series(name, values, dtype=dtype, strict=True)


def _unusable(name: str, frame: pl.DataFrame) -> DataError | None:
    if name not in frame.columns:
        return DataError(missing_column(Exception(f'"{name}"'), frame.schema))
    if not can_be_event_time(frame.schema[name]):
        return DataError(f"event time '{name}' is {frame.schema[name]}, not a datetime, ISO 8601 text, or Int64 µs.")
    return None


def _no_time(name: str | None) -> DataError:
    what = "event time" if name is None else f"event time '{name}'"
    return DataError(f"{what} is null, no time, or beyond the years 1 to 9999.")


def event_times(column: pl.Series) -> pl.Series:
    """Microseconds; null for what is no time. Texts are ISO 8601, without zone they are UTC."""
    if column.dtype in (pl.Datetime, pl.Date):
        return column.cast(pl.Datetime("us")).to_physical()
    if column.dtype != pl.String:
        return column.cast(pl.Int64, strict=False)
    # A fixed format, for Polars would guess one from the first value, and the answer must not depend on the batch.
    parsed = column.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False).to_physical()
    if parsed.null_count() == column.null_count():
        return parsed
    pairs = zip(parsed.to_list(), column.to_list(), strict=True)
    times = [_iso_us(text) if time_us is None else time_us for time_us, text in pairs]
    return pl.Series(column.name, times, dtype=pl.Int64)


def newest_marker(batch: Batch, name: str) -> int | None:
    """The greatest of the times that the events say in that field; None if none says any."""
    if isinstance(batch, Elements):
        said = [value[name] for value in batch.values if isinstance(value, Mapping) and value.get(name) is not None]
        times = [time_us for each in said if (time_us := _marker_us(each)) is not None]
    else:
        usable = name in batch.columns and can_be_event_time(batch.schema[name])
        times = event_times(batch[name]).drop_nulls().to_list() if usable else []
    return max((time_us for time_us in times if EVENT_MIN_US <= time_us <= EVENT_MAX_US), default=None)


def _marker_us(value: Any) -> int | None:
    try:
        return _time_of(value)
    except (TypeError, ValueError):
        return None


def _iso_us(text: str | None) -> int | None:
    try:
        return None if text is None else _time_of(text)
    except ValueError:
        return None


def _timed_elements(batch: Elements, name: str | None, on_bad: OnBad) -> Elements:
    if name is None and all(EVENT_MIN_US <= time_us <= EVENT_MAX_US for time_us in batch.times):
        return batch
    out = Elements()
    for i, value in enumerate(batch.values):
        try:
            time_us = batch.times[i] if name is None else _time_of(value[name])
            if not EVENT_MIN_US <= time_us <= EVENT_MAX_US:
                raise _no_time(name)
        except (KeyError, TypeError, ValueError, DataError) as error:
            on_bad(value, batch.offsets[i], error)
        else:
            out.append(value, time_us, batch.offsets[i], None)
    return out


def _time_of(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    return timestamp_us(value if isinstance(value, datetime) else datetime.fromisoformat(value))
