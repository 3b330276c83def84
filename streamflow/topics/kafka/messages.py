"""What a Kafka message looks like: records in, messages out, and back. Pure.

JSON events are plain messages: the document as value, the key as key, the attributes as headers, the time of
publication as timestamp (by it Kafka keeps and finds messages). The event time stands in the header `streamflow-time`
(decimal µs); without one, as in messages of other clients, the timestamp is the event time. Envelopes and marks are one
message each, which the header `streamflow-kind` marks.

Offsets: a message at Kafka's offset k has the offsets from `k * SPAN` on, one for each event in it.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import orjson

from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics import codec
from streamflow.topics.codec import ATTRIBUTES, KEY, TIME, Attributes
from streamflow.topics.protocol import Kind, Record

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
    """A message as aiokafka gives it."""

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
class Message:
    """To be sent; `events` of the record that it is part of."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes
    headers: Headers
    events: int


def messages(record: Record) -> Iterator[Message]:
    """The messages of a record, in order: one for each JSON event, one for an envelope."""
    topic, partition = record.topic, record.partition
    if record.kind is not Kind.JSON:
        kind = _ENVELOPE.pack(record.kind, record.count, record.time_min_us, record.time_max_us)
        yield Message(topic, partition, None, bytes(record.payload), [(KIND_HEADER, kind)], record.count)
        return
    frame = codec.json_surroundings(record)
    nothing = [None] * record.count
    keys = frame[KEY].to_list() if KEY in frame.columns else nothing
    attributes = frame[ATTRIBUTES].to_list() if ATTRIBUTES in frame.columns else nothing
    for document, time_us, key, of_event in zip(
        codec.json_documents(record), frame[TIME].to_list(), keys, attributes, strict=True
    ):
        headers = [(TIME_HEADER, b"%d" % time_us)]
        if of_event is not None:
            headers += [(name, value.encode()) for name, value in orjson.loads(of_event).items()]
        yield Message(topic, partition, key, document, headers, 1)


def records(topic: str, partition: int, received: Iterable[Received], bytes_max: int) -> Iterator[Record]:
    """Messages as records, in order. Plain ones that follow each other without a gap become one record, as long as it
    has no more than `bytes_max` bytes of documents; each that is an envelope is one."""
    run: list[Received] = []
    size = 0
    for message in received:
        envelope = _envelope(topic, partition, message)
        gap = bool(run) and message.offset != run[-1].offset + 1
        if run and (envelope is not None or gap or size > bytes_max or len(run) == SPAN):
            yield _plain(topic, partition, run)
            run, size = [], 0
        if envelope is not None:
            yield envelope
        else:
            run.append(message)
            size += len(message.value or b"")
    if run:
        yield _plain(topic, partition, run)


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
    attributes = [_attributes(message) for message in run]
    record = codec.encode_json(
        topic,
        partition,
        # A message without a value marks its key as deleted: a JSON null.
        [b"null" if message.value is None else message.value for message in run],
        [event_time_us(message) for message in run],
        [message.key for message in run],
        attributes if any(attributes) else None,
    )
    return replace(
        record, offset=run[0].offset * SPAN, published_us=run[0].timestamp * 1000, stride=SPAN if len(run) > 1 else 1
    )


def _attributes(message: Received) -> Attributes | None:
    headers = [(name, value) for name, value in message.headers if not name.startswith(PREFIX)]
    # Other clients may send more than an event can have here.
    return {name: (value or b"").decode(errors="replace") for name, value in headers[: codec.ATTRIBUTES_MAX]} or None


def _envelope(topic: str, partition: int, message: Received) -> Record | None:
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
            envelope = kind in (Kind.ARROW, Kind.FRAME, Kind.MARK) and 0 < count <= SPAN
            # The times of a mark are no times of events.
            if envelope and (kind == Kind.MARK or MIN_US <= low_us <= high_us <= MAX_US):
                return Kind(kind), count, low_us, high_us
    return None
