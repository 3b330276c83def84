"""What a record's payload looks like, and nothing else: frame or JSON events in, `Record` out, and back.

Every payload is one Arrow IPC stream, LZ4-compressed where that gains anything.

    Kind.ARROW   the user's columns and `_time` Int64
    Kind.JSON    `_time` Int64, `_json` Binary (one document's bytes per event, as the publisher sent them,
                 malformed ones included), and, only if any event has one, `_key` Binary and `_attributes`
                 Binary (a JSON object of strings)
"""

import io
from collections.abc import Mapping, Sequence

import orjson
import polars as pl

from streamflow.base.errors import CorruptionError, DataError
from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics.protocol import Kind, Record

TIME = "_time"
JSON = "_json"
KEY = "_key"
ATTRIBUTES = "_attributes"

EVENT_BYTES_MAX = 10_000_000
"""Google Pub/Sub's bound on one message."""
ATTRIBUTES_MAX = 100
"""Google Pub/Sub's bound on the attributes of one message."""

_COMPRESS_MIN_BYTES = 2_048
"""Below this LZ4's block headers eat what it saves (measured: 50 events of 40 bytes break even)."""

Attributes = Mapping[str, str]


def encode_json(
    topic: str,
    partition: int,
    events: Sequence[bytes],
    times_us: Sequence[int],
    keys: Sequence[bytes | None] | None = None,
    attributes: Sequence[Attributes | None] | None = None,
) -> Record:
    """One record of `len(events)` unparsed JSON documents; all sequences have one entry per event.

    DataError: no events, lengths that differ, an event over 10 MB, over 100 attributes, wrong types.
    """
    return encode_json_frame(topic, partition, json_frame(topic, events, times_us, keys, attributes))


def json_frame(
    topic: str,
    events: Sequence[bytes],
    times_us: Sequence[int],
    keys: Sequence[bytes | None] | None = None,
    attributes: Sequence[Attributes | None] | None = None,
) -> pl.DataFrame:
    """The columns of Kind.JSON for any number of events; DataError as `encode_json`."""
    columns = [_series(topic, TIME, times_us, pl.Int64()), _series(topic, JSON, events, pl.Binary())]
    if keys is not None:
        columns.append(_series(topic, KEY, keys, pl.Binary()))
    if attributes is not None:
        encoded = [_encode_attributes(topic, of_event) for of_event in attributes]
        columns.append(_series(topic, ATTRIBUTES, encoded, pl.Binary()))
    for column in columns:
        if len(column) != len(events):
            raise DataError(
                f"a batch for topic '{topic}' has {len(events)} events but {len(column)} values for "
                f"'{column.name}'. Give one per event"
            )
    if columns[1].null_count():
        raise DataError(f"a batch for topic '{topic}' has an event that is None. Give bytes, b'null' for a JSON null")
    longest = max(map(len, events), default=0)
    if longest > EVENT_BYTES_MAX:
        raise _too_long(topic, longest)
    return pl.DataFrame(columns)


def encode_json_frame(topic: str, partition: int, frame: pl.DataFrame) -> Record:
    """One record of a `json_frame` or of some of its rows."""
    empty = [name for name in (KEY, ATTRIBUTES) if name in frame.columns and frame[name].null_count() == frame.height]
    return _record(topic, partition, Kind.JSON, frame.drop(empty) if empty else frame)


def encode_frame(topic: str, partition: int, frame: pl.DataFrame) -> Record:
    """One record of a frame's rows; `frame` has `_time` Int64 (µs) without nulls.

    DataError: no rows, no usable `_time`, a column of a type that Arrow can't carry.
    """
    if frame.schema.get(TIME) != pl.Int64:
        raise DataError(
            f"a frame for topic '{topic}' needs a column '{TIME}' of Int64 microseconds, but has "
            f"{frame.schema.get(TIME) or 'none'}. Name the event-time column with `event_time=`"
        )
    return _record(topic, partition, Kind.ARROW, frame)


def decode(record: Record, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The record's events, one row each, in offset order; CorruptionError if the payload is not readable.

    With `columns` only those and `_time` are decoded (several times faster for a few of many); missing ones
    are left out.
    """
    wanted = None if columns is None else [*(name for name in columns if name != TIME), TIME]
    try:
        frame = _project(record.payload, wanted)
    except (Exception, pl.exceptions.PanicException) as error:
        raise CorruptionError(
            f"{_where(record)} is not an Arrow stream: {error}. Republish it or move the reader past it"
        ) from error
    if frame.height != record.count or frame.schema.get(TIME) != pl.Int64:
        raise CorruptionError(
            f"{_where(record)} holds {frame.height} rows with '{TIME}' {frame.schema.get(TIME)}, but its "
            f"index says {record.count} rows. Republish it or move the reader past it"
        )
    return frame


def write_frame(frame: pl.DataFrame) -> bytes:
    """Any frame as an Arrow IPC stream, LZ4 if that gains anything. DataError for columns of Python objects."""
    for name, dtype in frame.schema.items():
        if _has_objects(dtype):
            raise DataError(
                f"column '{name}' holds Python objects, which only this process could read back. Cast it to a real type"
            )
    buffer = io.BytesIO()
    try:
        frame.rechunk().write_ipc_stream(
            buffer,
            compression="lz4" if frame.estimated_size() >= _COMPRESS_MIN_BYTES else "uncompressed",
            compat_level=pl.CompatLevel.newest(),
        )
    except (Exception, pl.exceptions.PanicException) as error:
        raise DataError(
            f"a frame can't be written as Arrow: {error}. Cast the odd column of {dict(frame.schema)}"
        ) from error
    return buffer.getvalue()


def read_frame(payload: bytes) -> pl.DataFrame:
    """What `write_frame` wrote. CorruptionError if these are other bytes."""
    try:
        return _project(payload, None)
    except (Exception, pl.exceptions.PanicException) as error:
        raise CorruptionError(
            f"{len(payload):,} bytes are not an Arrow stream: {error}. Restore them, or reset what needs them"
        ) from error


def check_event(topic: str, event: bytes, time_us: int, key: bytes | None, attributes: Attributes | None) -> None:
    """DataError if `encode_json` would refuse this one event: lets a buffer refuse it before it spoils a batch."""
    if len(event) > EVENT_BYTES_MAX:
        raise _too_long(topic, len(event))
    _encode_attributes(topic, attributes)
    if not isinstance(time_us, int) or not MIN_US <= time_us <= MAX_US:
        raise _bad_time(topic, time_us)
    if not isinstance(key, bytes | None):
        raise DataError(f"key {key!r} of an event for topic '{topic}' is not bytes or text. Use str() on it")


def _encode_attributes(topic: str, attributes: Attributes | None) -> bytes | None:
    """A JSON object, or None for an event without attributes."""
    if not attributes:
        return None
    if len(attributes) > ATTRIBUTES_MAX:
        raise DataError(
            f"an event for topic '{topic}' has {len(attributes)} attributes, at most {ATTRIBUTES_MAX} are "
            "allowed. Move some of them into the event"
        )
    for name, value in attributes.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise DataError(
                f"attribute {name!r} of an event for topic '{topic}' is not text: {value!r}. Use str() on it"
            )
    return orjson.dumps(attributes)


def _series(topic: str, name: str, values: Sequence[object], dtype: pl.DataType) -> pl.Series:
    try:
        return pl.Series(name, values, dtype=dtype)
    except (TypeError, OverflowError, pl.exceptions.PolarsError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"'{name}' of a batch for topic '{topic}' is not all {dtype}: {reason}") from error


def _too_long(topic: str, size_bytes: int) -> DataError:
    return DataError(
        f"an event for topic '{topic}' has {size_bytes:,} bytes, at most {EVENT_BYTES_MAX:,} are allowed. "
        "Store the bulk elsewhere and publish a reference"
    )


def _project(payload: bytes, columns: list[str] | None) -> pl.DataFrame:
    try:
        return pl.read_ipc_stream(payload, columns=columns)
    except pl.exceptions.ColumnNotFoundError:
        frame = pl.read_ipc_stream(payload)
        return frame[[name for name in columns or () if name in frame.columns]]


def _record(topic: str, partition: int, kind: Kind, frame: pl.DataFrame) -> Record:
    time_min_us, time_max_us = _time_range(topic, frame)
    try:
        payload = write_frame(frame)
    except DataError as error:
        raise DataError(f"a batch for topic '{topic}': {error}") from error
    return Record(topic, partition, kind, frame.height, payload, time_min_us, time_max_us)


def _time_range(topic: str, frame: pl.DataFrame) -> tuple[int, int]:
    times = frame.get_column(TIME)
    if not len(times):
        raise DataError(f"a record for topic '{topic}' has no events. Leave empty batches out")
    low, high = times.min(), times.max()
    if times.null_count() or not isinstance(low, int) or not isinstance(high, int):
        raise DataError(f"'{TIME}' of a batch for topic '{topic}' has nulls. Drop these rows or fill in a time")
    if low < MIN_US or high > MAX_US:
        raise _bad_time(topic, low if low < MIN_US else high)
    return low, high


def _bad_time(topic: str, time_us: object) -> DataError:
    return DataError(
        f"event time {time_us!r} of a batch for topic '{topic}' is out of range. Give whole microseconds since 1970"
    )


def _has_objects(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.Struct):
        return any(_has_objects(field.dtype) for field in dtype.fields if isinstance(field.dtype, pl.DataType))
    if isinstance(dtype, (pl.List, pl.Array)):
        return isinstance(dtype.inner, pl.DataType) and _has_objects(dtype.inner)
    return dtype == pl.Object


def _where(record: Record) -> str:
    return f"record at offset {record.offset} of topic '{record.topic}' partition {record.partition}"
