"""Marks: the publisher's promise about a partition, as a record and as a message of Kafka."""

from dataclasses import dataclass

import pytest

from streamflow.base.errors import CorruptionError, DataError
from streamflow.model.time import MAX_US
from streamflow.topics import codec
from streamflow.topics.kafka.messages import SPAN, Headers, messages, records
from streamflow.topics.protocol import Kind, Record


@dataclass
class Received:
    offset: int
    value: bytes | None
    headers: Headers
    timestamp: int = 7
    key: bytes | None = None


@pytest.mark.parametrize("watermark_us", [-5, 0, 1_000_000, MAX_US])
def test_mark_takes_an_offset_and_has_no_rows(watermark_us: int) -> None:
    mark = codec.encode_mark("t", 1, watermark_us)
    assert (mark.kind, mark.count, codec.marked_us(mark)) == (Kind.MARK, 1, watermark_us)
    assert codec.decode(mark).height == 0


def test_mark_stays_a_mark_between_events_on_kafka() -> None:
    event, mark = codec.encode_json("t", 0, [b"{}"], [3]), codec.encode_mark("t", 0, 12)
    sent = [messages(record) for record in (event, mark, event)]
    received = [Received(n, *each.values, *each.headers) for n, each in enumerate(sent)]
    read = list(records("t", 0, received, bytes_max=1_000))
    assert [(record.kind, record.offset) for record in read] == [
        (Kind.JSON, 0),
        (Kind.MARK, SPAN),
        (Kind.JSON, 2 * SPAN),
    ]
    assert codec.marked_us(read[1]) == 12


def test_what_is_no_time_is_no_mark() -> None:
    with pytest.raises(DataError, match="out of range"):
        codec.encode_mark("t", 0, MAX_US + 1)
    with pytest.raises(CorruptionError, match="holds no watermark"):
        codec.marked_us(Record("t", 0, Kind.MARK, 1, b"", 0, 0))
