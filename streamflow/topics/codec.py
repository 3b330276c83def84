"""What a record's payload looks like, and nothing else: frame or JSON events in, `Record` out, and back.

    Kind.ARROW   one Arrow IPC stream, LZ4-compressed where that gains anything: the user's columns and `_time` Int64
    Kind.FRAME   the same rows in the compact form of `frames.py`: what crosses the engine's own logs
    Kind.JSON    flags u8 | 3 zero bytes | size u32 | the documents, `size` bytes | an Arrow IPC stream
    Kind.MARK    a watermark, i64: takes an offset, and has no rows

The documents are the bytes as the publisher sent them, malformed ones included, each followed by a newline; not
compressed, for inflating them would cost half of what parsing costs. The stream has a row for each: `_time` Int64,
`_size` UInt32 (bytes of the document), and, only if any event has one, `_key` Binary and `_attributes` Binary (a JSON
object of strings).
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from operator import itemgetter

import orjson
import polars as pl

from streamflow.base.errors import CorruptionError, DataError
from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics.frames import read_compact, read_stream, write_compact, write_stream
from streamflow.topics.protocol import Kind, Record

TIME = "_time"
JSON = "_json"
KEY = "_key"
ATTRIBUTES = "_attributes"
_SIZE = "_size"

EVENT_BYTES_MAX = 10_000_000
"""Google Pub/Sub's bound on one message."""
ATTRIBUTES_MAX = 100
"""Google Pub/Sub's bound on the attributes of one message."""

_DOCUMENTS = struct.Struct("<B3xI")
_MARK = struct.Struct("<q")
_OBJECTS = 1
"""Every document begins and ends with a brace. Then no value can reach from one into the next, each gives at least one,
and so a decoder that finds as many values as there are documents has found just these."""
_FIRST, _LAST, _OPEN, _CLOSE = itemgetter(0), itemgetter(-1), ord("{"), ord("}")

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
    sizes = _sizes(topic, events)
    columns = [column(topic, TIME, times_us, pl.Int64()), pl.Series(_SIZE, sizes, dtype=pl.UInt32)]
    if keys is not None:
        columns.append(column(topic, KEY, keys, pl.Binary()))
    if attributes is not None:
        encoded = [_encode_attributes(topic, of_event) for of_event in attributes]
        columns.append(column(topic, ATTRIBUTES, encoded, pl.Binary()))
    for each in columns:
        if len(each) != len(events):
            raise DataError(
                f"a batch for topic '{topic}' has {len(events)} events but {len(each)} values for '{each.name}'. "
                "Give one per event"
            )
    around = pl.DataFrame([each for each in columns if each.name == TIME or each.null_count() < len(each)])
    time_min_us, time_max_us = _time_range(topic, around)
    header = _DOCUMENTS.pack(_OBJECTS if _are_objects(events) else 0, sum(sizes) + len(events))
    # One join of everything: a second copy of megabytes would cost more than all the rest, in page faults.
    payload = b"\n".join((header + events[0], *events[1:], write_stream(around)))
    return Record(topic, partition, Kind.JSON, len(events), payload, time_min_us, time_max_us)


def encode_frame(topic: str, partition: int, frame: pl.DataFrame, *, internal: bool = False) -> Record:
    """One record of a frame's rows; `frame` has `_time` Int64 (µs) without nulls. `internal`: only the engine reads it,
    once and soon, so it is not compressed: LZ4 would halve the bytes, double what writing costs and treble what
    reading does.

    DataError: no rows, no usable `_time`, a column of a type that Arrow can't carry.
    """
    if frame.schema.get(TIME) != pl.Int64:
        raise DataError(
            f"a frame for topic '{topic}' needs a column '{TIME}' of Int64 microseconds, but has "
            f"{frame.schema.get(TIME) or 'none'}. Name the event-time column with `event_time=`"
        )
    time_min_us, time_max_us = _time_range(topic, frame)
    try:
        payload = write_compact(frame) if internal else write_stream(frame)
    except DataError as error:
        raise DataError(f"a batch for topic '{topic}': {error}") from error
    kind = Kind.FRAME if internal else Kind.ARROW
    return Record(topic, partition, kind, frame.height, payload, time_min_us, time_max_us)


def encode_mark(topic: str, partition: int, watermark_us: int) -> Record:
    """The promise that no event before `watermark_us` follows in the partition. DataError if that is no time."""
    if not isinstance(watermark_us, int) or not MIN_US <= watermark_us <= MAX_US:
        raise _bad_time(topic, watermark_us)
    return Record(topic, partition, Kind.MARK, 1, _MARK.pack(watermark_us), watermark_us, watermark_us)


def marked_us(record: Record) -> int:
    """What `encode_mark` was given. CorruptionError if the payload is another."""
    if len(record.payload) != _MARK.size:
        raise CorruptionError(f"{_where(record)} holds no watermark. Move the reader past it")
    return int(_MARK.unpack(record.payload)[0])


def decode(record: Record, columns: Sequence[str] | None = None) -> pl.DataFrame:
    """The record's events, one row each, in offset order; CorruptionError if the payload is not readable.

    JSON events have `_time`, `_json` Binary, and `_key` and `_attributes` if any event has one. With `columns` only
    those and `_time` of an envelope are decoded (several times faster for a few of many); missing ones are left out.
    A mark has no rows.
    """
    if record.kind is Kind.MARK:
        return pl.DataFrame(schema={TIME: pl.Int64})
    if record.kind is Kind.JSON:
        around = json_surroundings(record)
        texts = pl.Series(JSON, json_documents(record), dtype=pl.Binary)
        return around.insert_column(1, texts)
    wanted = None if columns is None else [*(name for name in columns if name != TIME), TIME]
    if record.kind is Kind.FRAME:
        frame = _checked(record, lambda: read_compact(record.payload))
        return frame if wanted is None else frame[[name for name in wanted if name in frame.columns]]
    return _checked(record, lambda: read_stream(record.payload, wanted))


def json_lines(record: Record) -> bytes | memoryview | None:
    """All documents of a JSON record, one after the other, for a decoder of lines; without a copy. It must find
    `record.count` values in them, or else look at `json_documents`. None if even that would prove nothing.
    CorruptionError as `decode`."""
    flags, documents, _ = _parts(record)
    return documents if flags & _OBJECTS else None


def json_documents(record: Record) -> list[bytes]:
    """The documents of a JSON record, one by one. CorruptionError as `decode`."""
    _, documents, stream = _parts(record)
    index = _checked(record, lambda: read_stream(stream, [_SIZE, TIME]))
    if index.schema.get(_SIZE) != pl.UInt32 or index[_SIZE].null_count():
        raise CorruptionError(
            f"{_where(record)} has no index of its documents. Republish it or move the reader past it"
        )
    sizes = index[_SIZE].to_list()
    if sum(sizes) + len(sizes) != len(documents):
        raise CorruptionError(
            f"{_where(record)} holds {len(documents)} bytes of documents, but its index says {sum(sizes)}. "
            "Republish it or move the reader past it"
        )
    whole = bytes(documents)
    bounds = accumulate((size + 1 for size in sizes), initial=0)
    return [whole[begin : end - 1] for begin, end in pairwise(bounds)]


def json_surroundings(record: Record) -> pl.DataFrame:
    """What a JSON record knows of each event besides the document: `_time`, and `_key` and `_attributes` if any event
    has one. CorruptionError as `decode`."""
    _, _, stream = _parts(record)
    return _checked(record, lambda: read_stream(stream)).drop(_SIZE, strict=False)


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


def column(topic: str, name: str, values: Sequence[object], dtype: pl.DataType) -> pl.Series:
    """The values as a column; DataError, which names the topic, if they are not all of that type."""
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


def _sizes(topic: str, events: Sequence[bytes]) -> list[int]:
    """Of each event. DataError if one is no bytes, or too long, or there are none."""
    if not events:
        raise DataError(f"a record for topic '{topic}' has no events. Leave empty batches out")
    kinds = {*map(type, events)}
    if type(None) in kinds:
        raise DataError(f"a batch for topic '{topic}' has an event that is None. Give bytes, b'null' for a JSON null")
    if kinds != {bytes}:
        kind = next(kind.__name__ for kind in kinds if kind is not bytes)
        raise DataError(f"'{JSON}' of a batch for topic '{topic}' is not all Binary, but has {kind}. Encode it first")
    sizes = list(map(len, events))
    if (longest := max(sizes)) > EVENT_BYTES_MAX:
        raise _too_long(topic, longest)
    return sizes


def _are_objects(events: Sequence[bytes]) -> bool:
    return all(events) and {*map(_FIRST, events)} == {_OPEN} and {*map(_LAST, events)} == {_CLOSE}


def _parts(record: Record) -> tuple[int, bytes | memoryview, bytes | memoryview]:
    """Flags, documents and stream of a JSON record."""
    payload = memoryview(record.payload)
    begin = _DOCUMENTS.size
    flags, size = _DOCUMENTS.unpack_from(payload) if len(payload) >= begin else (0, len(payload))
    if begin + size > len(payload) or (size and payload[begin + size - 1] != ord("\n")):
        raise CorruptionError(f"{_where(record)} does not hold JSON documents. Republish it or move the reader past it")
    return flags, payload[begin : begin + size], payload[begin + size :]


def _checked(record: Record, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    """What `read` gives, which must be as many rows as the index says."""
    try:
        frame = read()
    except (Exception, pl.exceptions.PanicException) as error:
        raise CorruptionError(
            f"{_where(record)} holds no rows that can be read: {error}. Republish it or move the reader past it"
        ) from error
    if frame.height != record.count or frame.schema.get(TIME) != pl.Int64:
        raise CorruptionError(
            f"{_where(record)} holds {frame.height} rows with '{TIME}' {frame.schema.get(TIME)}, but its "
            f"index says {record.count} rows. Republish it or move the reader past it"
        )
    if frame[TIME].null_count():
        raise CorruptionError(f"{_where(record)} has rows without '{TIME}'. Republish it or move the reader past it")
    return frame


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


def _where(record: Record) -> str:
    return f"record at offset {record.offset} of topic '{record.topic}' partition {record.partition}"
