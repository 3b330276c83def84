"""Bytes that nobody wrote, or that were changed on their way: refused with an error of ours, or read as something.

No checksum protects a payload that comes from Kafka (in segments one does), so changed values may be read as such.
`STREAMFLOW_FUZZ_EXAMPLES` makes these tests as long as one likes.
"""

import os
import resource
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from streamflow.base.errors import CorruptionError
from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics import codec
from streamflow.topics.frames import read_compact, write_stream
from streamflow.topics.kafka.messages import KIND_HEADER, TIME_HEADER, event_time_us, events_in, records
from streamflow.topics.protocol import Kind, Record

EXAMPLES = int(os.environ.get("STREAMFLOW_FUZZ_EXAMPLES", "100"))
ROWS = 520
"""Enough for a compact frame to have its two streams, and for compression."""

FRAME = pl.DataFrame(
    {
        "_time": range(ROWS),
        "text": [f"text {n}" for n in range(ROWS)],
        "list": [[1, None]] * ROWS,
        "flag": [True, None] * (ROWS // 2),
        "same": [7] * ROWS,
        "nested": [{"a": "x", "b": [1.5]}] * ROWS,
        "kind": pl.Series(["u", "v"] * (ROWS // 2), dtype=pl.Categorical),
        "price": pl.Series(["1.25"] * ROWS).cast(pl.Decimal(10, 2)),
        "blob": [b"\xff\0"] * ROWS,
    }
)
RECORDS = [
    *(codec.encode_frame("t", 0, frame, internal=own) for frame in (FRAME, FRAME[:3]) for own in (True, False)),
    codec.encode_json("t", 0, [b'{"a":1}', b"[]"] * 9, list(range(18)), [b"k", None] * 9, [{"a": "b"}, None] * 9),
]
NUMBERS = [0, 1, 0xFF, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 46, 1 << 62, (1 << 63) - 1, (1 << 64) - 1]


@st.composite
def changed(draw: st.DrawFn) -> Record:
    """A record whose payload was flipped, overwritten, spliced, cut, or is noise."""
    record = draw(st.sampled_from(RECORDS))
    payload = bytearray(record.payload)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(payload) - 1)) | st.integers(0, min(600, len(payload))))
        match draw(st.sampled_from(["flip", "number", "splice", "remove", "cut", "noise"])):
            case "flip" if at < len(payload):
                payload[at] ^= 1 << draw(st.integers(0, 7))
            case "number":
                payload[at : at + 8] = struct.pack("<Q", draw(st.sampled_from(NUMBERS)))
            case "splice":
                other = draw(st.sampled_from(RECORDS)).payload
                start = draw(st.integers(0, len(other)))
                payload[at : at + draw(st.integers(0, 64))] = other[start : start + draw(st.integers(0, 500))]
            case "remove":
                del payload[at : at + draw(st.integers(1, 20))]
            case "cut":
                del payload[at:]
            case _:
                payload[at:] = draw(st.binary(max_size=200))
    return replace(record, payload=bytes(payload))


@settings(max_examples=EXAMPLES)
@given(changed())
def test_changed_payload_is_read_or_refused(record: Record) -> None:
    for columns in (None, ["text", "nested"]):
        with suppress(CorruptionError):
            frame = codec.decode(record, columns)
            assert (frame.height, frame.schema["_time"], frame["_time"].null_count()) == (record.count, pl.Int64, 0)
            frame.rows()
    with suppress(CorruptionError):
        read_compact(record.payload)
    if record.kind is Kind.JSON:
        with suppress(CorruptionError):
            assert len(codec.json_documents(record)) == record.count
        with suppress(CorruptionError):
            codec.json_lines(record)


@pytest.mark.parametrize("record", RECORDS[2:], ids=["compact", "arrow", "json"])
def test_length_of_terabytes_takes_no_memory(record: Record) -> None:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for at in range(0, len(record.payload) - 8, 4):
        for length in (1 << 32, 1 << 46):
            payload = record.payload[:at] + struct.pack("<Q", length) + record.payload[at + 8 :]
            with suppress(CorruptionError):
                codec.decode(replace(record, payload=payload))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 100_000


@pytest.mark.parametrize(
    "index",
    [
        {"_time": [1, 2]},
        {"_time": [1, 2], "_size": [2, None]},
        {"_time": [1, 2], "_size": ["a", "b"]},
        {"_time": [1, None], "_size": pl.Series([2, 2], dtype=pl.UInt32)},
    ],
)
def test_json_record_without_a_usable_index_is_corruption(index: dict[str, Sequence[object]]) -> None:
    good = codec.encode_json("t", 0, [b"{}", b"{}"], [1, 2])
    documents = b"\x01\0\0\0" + struct.pack("<I", 6) + b"{}\n{}\n"
    with pytest.raises(CorruptionError, match="offset -1 of topic 't' partition 0"):
        codec.decode(replace(good, payload=documents + write_stream(pl.DataFrame(index))))


@dataclass(frozen=True)
class Received:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


ENVELOPE = struct.Struct("<BIqq")
longs = st.integers(-(1 << 63), (1 << 63) - 1) | st.sampled_from([MIN_US, MAX_US, 0])
kinds = st.builds(ENVELOPE.pack, st.integers(0, 5), st.sampled_from([0, 1, 3, 1 << 16, (1 << 32) - 1]), longs, longs)
header_values = st.none() | st.binary(max_size=24) | kinds | st.from_regex(rb"\A-?[0-9]{0,22}\Z")
headers = st.lists(
    st.tuples(st.sampled_from([KIND_HEADER, TIME_HEADER, "streamflow-x", "a"]) | st.text(max_size=3), header_values),
    max_size=4,
)
bodies = st.none() | st.binary(max_size=30) | st.sampled_from([record.payload for record in RECORDS])
received = st.lists(
    st.builds(Received, st.just(0), longs | st.just(-1), st.none() | st.binary(max_size=3), bodies, headers), max_size=5
).map(lambda found: [replace(message, offset=offset) for offset, message in enumerate(found)])


@settings(max_examples=EXAMPLES)
@given(received)
@example([Received(0, 5, None, b"{}", [("a", None)])])
@example([Received(0, 5, None, b"{}", [(TIME_HEADER, None), (KIND_HEADER, None)])])
@example([Received(0, (1 << 63) - 1, None, b"{}", [])])
@example([Received(0, 5, None, b"{}", [(KIND_HEADER, ENVELOPE.pack(Kind.ARROW, 1, 7, 6))])])
def test_any_kafka_message_is_an_event_or_an_envelope(found: list[Received]) -> None:
    made = list(records("t", 0, found, 50))
    assert sum(record.count for record in made) == sum(map(events_in, found))
    for record in made:
        assert record.kind is Kind.MARK or MIN_US <= record.time_min_us <= record.time_max_us <= MAX_US
        if record.kind is Kind.JSON:
            first = record.offset >> 16
            run = found[first : first + record.count]
            assert codec.decode(record)["_json"].to_list() == [m.value if m.value is not None else b"null" for m in run]
            assert codec.decode(record)["_time"].to_list() == list(map(event_time_us, run))
        else:
            with suppress(CorruptionError):
                codec.decode(record)
