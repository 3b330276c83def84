"""The events of a topic as people look at them: parsed JSON or the columns of an envelope, each with its place."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from streamflow.topics import codec
from streamflow.topics.protocol import Kind, Record, TopicLog


@dataclass(frozen=True, slots=True)
class Event:
    """`key`: None if it has none; envelopes have neither keys nor attributes."""

    time_us: int
    partition: int
    offset: int
    value: Any
    key: bytes | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


def events_of(record: Record, start: int) -> Iterator[Event]:
    """Those of the record from offset `start` on."""
    if record.kind is Kind.MARK:
        told = "(marker: no earlier event follows here)"
        yield Event(codec.marked_us(record), record.partition, record.offset, told)
        return
    skipped = max(0, -(-(start - record.offset) // record.stride))
    frame = codec.decode(record)[skipped:]
    offset = record.offset + skipped * record.stride
    if record.kind is not Kind.JSON:
        rows = frame.drop(codec.TIME).iter_rows(named=True)
        for nth, (time_us, value) in enumerate(zip(frame[codec.TIME], rows, strict=True)):
            yield Event(time_us, record.partition, offset + nth * record.stride, value)
        return
    for nth, row in enumerate(frame.iter_rows(named=True)):
        attributes = orjson.loads(row.get(codec.ATTRIBUTES) or b"{}")
        place = offset + nth * record.stride
        yield Event(row[codec.TIME], record.partition, place, _parsed(row[codec.JSON]), row.get(codec.KEY), attributes)


def event_at(log: TopicLog, topic: str, partition: int, offset: int) -> Event | None:
    """None if it is not kept any more."""
    for record in log.read(topic, partition, offset, end=offset + 1, max_events=1):
        if record.offset <= offset < record.end:
            return next(events_of(record, offset))
    return None


def offset_published_at(log: TopicLog, topic: str, partition: int, time_us: int) -> int:
    """Of the first record that was published at or after that time; the end of the partition if there is none. Reads
    as many records as a bisection takes."""
    low, high = 0, log.end(topic, partition)
    while low < high:
        middle = (low + high) // 2 // log.offset_span * log.offset_span
        found = next(iter(log.read(topic, partition, middle, max_events=1)), None)
        if found is not None and found.published_us < time_us:
            # Kafka's next message begins at the next multiple of the span.
            low = -(-found.end // log.offset_span) * log.offset_span
        else:
            high = middle if found is None else min(middle, found.offset)
    kept = next(iter(log.read(topic, partition, low, max_events=1)), None)
    return low if kept is None else max(low, kept.offset)


def _parsed(raw: bytes) -> object:
    try:
        parsed: object = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", errors="backslashreplace")
    return parsed
