"""The events of a topic as people look at them: parsed JSON or the columns of an envelope, each with its place."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from streamflow.topics import codec
from streamflow.topics.protocol import Kind, Record, TopicLog


@dataclass(frozen=True, slots=True)
class Event:
    time_us: int
    partition: int
    offset: int
    value: Any


def events_of(record: Record, start: int) -> Iterator[Event]:
    """Those of the record from offset `start` on."""
    if record.kind is Kind.MARK:
        told = "(marker: no earlier event follows here)"
        yield Event(codec.marked_us(record), record.partition, record.offset, told)
        return
    skipped = max(0, -(-(start - record.offset) // record.stride))
    frame = codec.decode(record)[skipped:]
    is_json = record.kind is Kind.JSON
    values = map(_parsed, frame[codec.JSON]) if is_json else frame.drop(codec.TIME).iter_rows(named=True)
    offset = record.offset + skipped * record.stride
    for nth, (time_us, value) in enumerate(zip(frame[codec.TIME], values, strict=True)):
        yield Event(time_us, record.partition, offset + nth * record.stride, value)


def event_at(log: TopicLog, topic: str, partition: int, offset: int) -> Event | None:
    """None if it is not kept any more."""
    for record in log.read(topic, partition, offset, end=offset + 1, max_events=1):
        if record.offset <= offset < record.end:
            return next(events_of(record, offset))
    return None


def _parsed(raw: bytes) -> object:
    try:
        parsed: object = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode("utf-8", errors="backslashreplace")
    return parsed
