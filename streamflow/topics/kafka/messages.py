"""What a Kafka message looks like: records in, messages out, and back. Pure.

JSON events are plain messages: the document as value, the key as key, the attributes as headers, the time of
publication as timestamp (by it Kafka keeps and finds messages). The event time stands in the header `streamflow-time`
(decimal µs); without one, as in messages of other clients, the timestamp is the event time. Envelopes and marks are one
message each, which the header `streamflow-kind` marks.

Offsets: a message at Kafka's offset k has the offsets from `k * SPAN` on, one for each event in it.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Protocol

import orjson

from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics import codec
from streamflow.topics.codec import ATTRIBUTES, KEY, TIME, Attributes
from streamflow.topics.protocol import Kind, Record
from streamflow.topics.subscriptions.running import StoredMessage

SPAN = 1 << 16
"""More than the events of any envelope."""

PREFIX = "streamflow-"
"""Of headers that are no attributes."""
TIME_HEADER = f"{PREFIX}time"
KIND_HEADER = f"{PREFIX}kind"
_ENVELOPE = struct.Struct("<BIqq")
"""Of the kind header: kind, events, the range of their times."""

_DIGITS_MAX = 20
"""Longer numbers are no times, and take long to read."""

Headers = Sequence[tuple[str, bytes | None]]
"""Other clients may send a header without a value."""


class Received(Protocol):
    """A message as aiokafka gives it (see `unwrapped.py`)."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


@dataclass(frozen=True, slots=True)
class Messages:
    """Those of a record, to be sent, in order: `keys`, `values` and `headers` have one entry for each."""

    topic: str
    partition: int
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers]


def messages(record: Record) -> Messages:
    """One for each JSON event, one for an envelope."""
    topic, partition = record.topic, record.partition
    if record.kind is not Kind.JSON:
        kind = _ENVELOPE.pack(record.kind, record.count, record.time_min_us, record.time_max_us)
        return Messages(topic, partition, [None], [bytes(record.payload)], [[(KIND_HEADER, kind)]])
    frame = codec.json_surroundings(record)
    keys = frame[KEY].to_list() if KEY in frame.columns else [None] * record.count
    headers = [[(TIME_HEADER, b"%d" % time_us)] for time_us in frame[TIME].to_list()]
    if ATTRIBUTES in frame.columns:
        for of_event, attributes in zip(headers, frame[ATTRIBUTES].to_list(), strict=True):
            if attributes is not None:
                of_event += [(name, value.encode()) for name, value in orjson.loads(attributes).items()]
    return Messages(topic, partition, keys, codec.json_documents(record), headers)


def records(topic: str, partition: int, received: Sequence[Received], bytes_max: int) -> Iterator[Record]:
    """Messages as records, in order. Plain ones that follow each other without a gap become one record, as long as it
    has no more than `bytes_max` bytes of documents; each that is an envelope is one."""
    for run in _runs(received):
        alone = envelope(topic, partition, run[0])
        if alone is not None:
            yield alone
        else:
            for piece in _pieces(run, bytes_max):
                yield _plain(topic, partition, piece)


def _runs(received: Sequence[Received]) -> Iterator[Sequence[Received]]:
    """Plain messages without a gap between them, or an envelope."""
    if are_plain(received):
        first = 0
        while first < len(received):
            # Offsets grow by one within a run, and by more only from one to the next.
            lag = received[first].offset - first
            stop = bisect_right(range(len(received)), lag, lo=first, key=lambda n: received[n].offset - n)
            yield received[first:stop]
            first = stop
        return
    run: list[Received] = []
    for message in received:
        alone = _kind(message) is not None
        if run and (alone or message.offset != run[-1].offset + 1):
            yield run
            run = []
        run.append(message)
        if alone:
            yield run
            run = []
    if run:
        yield run


def _pieces(run: Sequence[Received], bytes_max: int) -> Iterator[Sequence[Received]]:
    """Each ends with the message that goes over `bytes_max`, or with the one before `SPAN` would be."""
    sums = list(accumulate(len(message.value or b"") for message in run))
    first = 0
    while first < len(run):
        before = sums[first - 1] if first else 0
        stop = min(bisect_right(sums, before + bytes_max) + 1, first + SPAN, len(run))
        yield run[first:stop]
        first = stop


def fitting(
    received: Sequence[Received], stop: int, max_events: int, max_bytes: int, *, some: bool
) -> tuple[int, int, int]:
    """How many of the messages, from the first on, lie before Kafka's offset `stop` and hold no more than that; how
    many events and bytes these hold. `some`: the first one fits, however much it holds."""
    sizes = [len(message.value or b"") for message in received]
    if not received:
        return 0, 0, 0
    all_fit = len(received) <= max_events and sum(sizes) <= max_bytes and received[-1].offset < stop
    if all_fit and are_plain(received):
        return len(received), len(received), sum(sizes)
    count = events = size = 0
    for message, more in zip(received, sizes, strict=True):
        all_events = events + events_in(message)
        over = all_events > max_events or size + more > max_bytes
        if message.offset >= stop or (over and (count or not some)):
            break
        count, events, size = count + 1, all_events, size + more
    return count, events, size


def are_plain(received: Sequence[Received]) -> bool:
    """True only if each is a plain message, which holds one event. Quick for those that have a time or nothing as
    headers; False may be wrong for others."""
    headers = [message.headers for message in received]
    return max(map(len, headers), default=0) <= 1 and KIND_HEADER not in {each[0][0] for each in headers if each}


def events_in(message: Received) -> int:
    """How many events it holds: more than one only in an envelope."""
    kind = _kind(message)
    return 1 if kind is None else kind[1]


def event_time_us(message: Received) -> int:
    """Its header's time; the timestamp of a message without one, or with one that is no time."""
    for name, value in message.headers:
        if name == TIME_HEADER and value and len(value) <= _DIGITS_MAX and value.removeprefix(b"-").isdigit():
            return max(MIN_US, min(int(value), MAX_US))
    return max(MIN_US, min(message.timestamp * 1000, MAX_US))


def _plain(topic: str, partition: int, run: Sequence[Received]) -> Record:
    times_us, attributes = _times_alone(run), None
    if times_us is None:
        times_us = [event_time_us(message) for message in run]
        attributes = [_attributes(message) for message in run]
    keys = [message.key for message in run]
    record = codec.encode_json(
        topic,
        partition,
        # A message without a value marks its key as deleted: a JSON null.
        [b"null" if message.value is None else message.value for message in run],
        times_us,
        keys if keys.count(None) < len(keys) else None,
        attributes if attributes is not None and any(attributes) else None,
    )
    return replace(
        record, offset=run[0].offset * SPAN, published_us=run[0].timestamp * 1000, stride=SPAN if len(run) > 1 else 1
    )


def _times_alone(run: Sequence[Received]) -> list[int] | None:
    """The times of messages of which each has its time as only header, or none of which has any; None for others. It
    gives what `event_time_us` gives, in a third of the time."""
    headers = [message.headers for message in run]
    counts = {*map(len, headers)}
    if counts == {0}:
        times_us = [message.timestamp * 1000 for message in run]
    elif counts != {1} or {each[0][0] for each in headers} != {TIME_HEADER}:
        return None
    else:
        texts = [each[0][1] or b"" for each in headers]
        if max(map(len, texts)) > _DIGITS_MAX or not b"".join(texts).replace(b"-", b"").isdigit():
            return None
        try:
            times_us = list(map(int, texts))
        except ValueError:  # none, or a sign where it does not belong
            return None
    return times_us if min(times_us) >= MIN_US and max(times_us) <= MAX_US else None


def _attributes(message: Received) -> Attributes | None:
    headers = [(name, value) for name, value in message.headers if not name.startswith(PREFIX)]
    # Other clients may send more than an event can have here.
    return {name: (value or b"").decode(errors="replace") for name, value in headers[: codec.ATTRIBUTES_MAX]} or None


def stored(partition: int, message: Received) -> StoredMessage:
    """A plain message as subscribers get it."""
    value, key = message.value, message.key
    return StoredMessage(
        partition,
        message.offset * SPAN,
        b"null" if value is None else value,
        _attributes(message) or {},
        key.decode(errors="replace") if key else "",
        message.timestamp * 1000,
        event_time_us(message),
    )


def is_mark(message: Received) -> bool:
    """It holds no event."""
    kind = _kind(message)
    return kind is not None and kind[0] is Kind.MARK


def envelope(topic: str, partition: int, message: Received) -> Record | None:
    """The record of a message that is no plain one; None for those."""
    kind = _kind(message)
    if kind is None or message.value is None:
        return None
    which, count, low_us, high_us = kind
    at, published_us = message.offset * SPAN, message.timestamp * 1000
    return Record(topic, partition, which, count, message.value, low_us, high_us, at, published_us)


def _kind(message: Received) -> tuple[Kind, int, int, int] | None:
    """Of an envelope: its kind, its events, the range of their times. None for a plain message."""
    for name, value in message.headers:
        if name == KIND_HEADER and value and len(value) == _ENVELOPE.size and message.value is not None:
            kind, count, low_us, high_us = _ENVELOPE.unpack(value)
            sensible = kind in (Kind.ARROW, Kind.FRAME, Kind.MARK) and 0 < count <= SPAN
            # The times of a mark are no times of events.
            if sensible and (kind == Kind.MARK or MIN_US <= low_us <= high_us <= MAX_US):
                return Kind(kind), count, low_us, high_us
    return None
