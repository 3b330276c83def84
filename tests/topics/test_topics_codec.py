"""What goes into a record comes out of it, and what can't is refused."""

from dataclasses import replace
from datetime import UTC, datetime

import orjson
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from streamflow.base.errors import CorruptionError, DataError
from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics import codec
from streamflow.topics.frames import write_stream
from streamflow.topics.protocol import Kind

times = st.integers(MIN_US, MAX_US)
attributes = st.none() | st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
json_rows = st.lists(
    st.tuples(st.binary(max_size=80), times, st.none() | st.binary(max_size=8), attributes), min_size=1, max_size=80
)
frame_rows = st.lists(
    st.tuples(
        times, st.none() | st.text(max_size=40), st.none() | st.floats(), st.lists(st.integers(0, 9), max_size=3)
    ),
    min_size=1,
    max_size=80,
)
FRAME_SCHEMA: dict[str, pl.DataType] = {
    "_time": pl.Int64(),
    "text": pl.String(),
    "number": pl.Float64(),
    "list": pl.List(pl.Int64),
}


@given(json_rows)
@settings(max_examples=150, deadline=None)
def test_json_events_come_back_byte_for_byte(
    rows: list[tuple[bytes, int, bytes | None, dict[str, str] | None]],
) -> None:
    events, times_us, keys, attributes = (list(column) for column in zip(*rows, strict=True))
    record = codec.encode_json("t", 3, events, times_us, keys, attributes)
    assert (record.kind, record.count, record.partition) == (Kind.JSON, len(rows), 3)
    assert (record.time_min_us, record.time_max_us) == (min(times_us), max(times_us))
    frame = codec.decode(record)
    assert frame["_json"].to_list() == events
    assert frame["_time"].to_list() == times_us
    if any(key is not None for key in keys):
        assert frame["_key"].to_list() == keys
    else:
        assert "_key" not in frame.columns
    if any(attributes):
        decoded = [None if each is None else orjson.loads(each) for each in frame["_attributes"].to_list()]
        assert decoded == [each or None for each in attributes]
    else:
        assert "_attributes" not in frame.columns


@given(frame_rows)
@settings(max_examples=150, deadline=None)
def test_frames_come_back_equal(rows: list[tuple[object, ...]]) -> None:
    frame = pl.DataFrame(rows, schema=FRAME_SCHEMA, orient="row")
    record = codec.encode_frame("t", 0, frame)
    assert (record.kind, record.count) == (Kind.ARROW, len(rows))
    assert_frame_equal(codec.decode(record), frame)


def test_every_kind_of_column_comes_back() -> None:
    frame = pl.DataFrame(
        {
            "_time": [1, 2],
            "when": [datetime(2024, 1, 1, tzinfo=UTC), None],
            "who": pl.Series(["a", "b"], dtype=pl.Categorical),
            "kind": pl.Series(["x", None], dtype=pl.Enum(["x", "y"])),
            "blob": [b"\xff", None],
            "nested": [{"a": [1], "b": {"c": "d"}}, None],
            "price": pl.Series(["1.25", None]).cast(pl.Decimal(10, 2)),
            "nothing": [None, None],
        }
    )
    assert_frame_equal(codec.decode(codec.encode_frame("t", 0, frame)), frame)


def test_frame_in_pieces_and_slices_is_encoded_as_one() -> None:
    whole = pl.DataFrame({"_time": range(100), "text": [f"a rather long text {n}" for n in range(100)]})
    pieces = pl.concat([whole[:10], whole[10:40], whole[40:]], rechunk=False)
    assert_frame_equal(codec.decode(codec.encode_frame("t", 0, pieces)), whole)
    assert len(codec.encode_frame("t", 0, whole[50:51]).payload) < 1_000


def test_projection_decodes_the_named_columns_that_are_there() -> None:
    record = codec.encode_frame("t", 0, pl.DataFrame({"a": [1], "_time": [2], "b": ["x"]}))
    assert codec.decode(record, ["b"]).to_dict(as_series=False) == {"b": ["x"], "_time": [2]}
    assert codec.decode(record, ["b", "_time", "missing"]).to_dict(as_series=False) == {"b": ["x"], "_time": [2]}
    assert codec.decode(record, []).columns == ["_time"]


def test_big_payloads_are_compressed_and_small_ones_not() -> None:
    big = codec.encode_frame("t", 0, pl.DataFrame({"_time": [0] * 1_000, "name": ["somebody"] * 1_000}))
    assert len(big.payload) < 10_000
    small = codec.encode_frame("t", 0, pl.DataFrame({"_time": [0, 0], "name": ["somebody"] * 2}))
    assert small.payload.count(b"somebody") == 2


@pytest.mark.parametrize(
    ("events", "times_us", "keys", "attributes", "says"),
    [
        ([], [], None, None, "no events"),
        ([b"a"], [1, 2], None, None, "1 events but 2 values for '_time'"),
        ([b"a", b"b"], [1, 2], [b"k"], None, "2 events but 1 values for '_key'"),
        ([b"a"], [1], None, [None, None], "1 events but 2 values for '_attributes'"),
        (["text"], [1], None, None, "'_json' .* not all Binary"),
        ([None], [1], None, None, "is None"),
        ([b"a"], [1.5], None, None, "'_time' .* not all Int64"),
        ([b"a"], [None], None, None, "nulls"),
        ([b"a"], [MAX_US + 1], None, None, "out of range"),
        ([b"a"], [MIN_US - 1], None, None, "out of range"),
        ([b"a"], [1 << 80], None, None, "not all Int64"),
        ([b"a"], [1], [7], None, "'_key' .* not all Binary"),
        ([b"a"], [1], None, [{"n": 1}], "not text"),
        ([b"a"], [1], None, [{str(n): "" for n in range(101)}], "101 attributes, at most 100"),
        ([b"a" * 10_000_001], [1], None, None, "10,000,001 bytes, at most 10,000,000"),
    ],
)
def test_unusable_json_batches_are_refused(
    events: list[bytes],
    times_us: list[int],
    keys: list[bytes | None] | None,
    attributes: list[dict[str, str] | None] | None,
    says: str,
) -> None:
    with pytest.raises(DataError, match=says):
        codec.encode_json("t", 0, events, times_us, keys, attributes)


def test_events_and_attributes_up_to_the_limits_are_taken() -> None:
    record = codec.encode_json("t", 0, [b"a" * 10_000_000], [MIN_US], None, [{str(n): "" for n in range(100)}])
    assert codec.decode(record)["_json"].bin.size().to_list() == [10_000_000]


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (pl.DataFrame({"a": [1]}), "'_time'"),
        (pl.DataFrame({"_time": [1.0]}), "'_time'"),
        (pl.DataFrame({"_time": [1, None]}), "nulls"),
        (pl.DataFrame({"_time": []}, schema={"_time": pl.Int64}), "no events"),
        (pl.DataFrame({"_time": [1], "o": pl.Series([object()], dtype=pl.Object)}), "'o' holds Python objects"),
    ],
)
def test_unusable_frames_are_refused(frame: pl.DataFrame, says: str) -> None:
    with pytest.raises(DataError, match=says):
        codec.encode_frame("t", 0, frame)


def test_unreadable_payloads_are_corruption() -> None:
    good = codec.encode_json("t", 0, [b"{}"] * 3, [1, 2, 3])
    other = write_stream(pl.DataFrame({"a": [1, 2, 3]}))
    for payload in (b"", b"rubbish", good.payload[:100], good.payload[: len(good.payload) // 2], other):
        with pytest.raises(CorruptionError, match="topic 't' partition 0"):
            codec.decode(replace(good, payload=payload))
    with pytest.raises(CorruptionError, match=r"3 rows .* says 4 rows"):
        codec.decode(replace(good, count=4))
