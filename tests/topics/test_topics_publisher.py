"""The publisher on the memory log: partitioning, cutting, buffering and idempotence."""

from collections import Counter
from datetime import UTC, date, datetime

import orjson
import polars as pl
import pytest
import topic_making as make

from streamflow.base.clock import ManualClock
from streamflow.base.errors import ConflictError, DataError, NotFoundError, PipelineError
from streamflow.model.time import MAX_US
from streamflow.topics import Publisher, codec, protocol, publisher
from streamflow.topics.memory import MemoryLog
from streamflow.topics.partition import partition_of
from streamflow.topics.protocol import Record, TopicConfig


@pytest.fixture
def log(clock: ManualClock) -> MemoryLog:
    log = MemoryLog(clock=clock)
    log.create_topic("t", TopicConfig(partitions=4))
    return log


def records(log: MemoryLog, partition: int | None = None) -> list[Record]:
    partitions = range(4) if partition is None else [partition]
    return [record for each in partitions for record in log.read("t", each, 0)]


def events(log: MemoryLog, partition: int | None = None) -> list[bytes]:
    return [event for record in records(log, partition) for event in codec.decode(record)["_json"].to_list()]


def documents(count: int) -> list[bytes]:
    return [b'{"n":%d}' % n for n in range(count)]


def test_publisher_needs_an_existing_topic(log: MemoryLog) -> None:
    with pytest.raises(NotFoundError, match=r"'flights' does not exist.*create_topic\('flights'\)"):
        Publisher(log, "flights")


def test_keyless_batch_is_one_record_and_the_next_one_goes_elsewhere(log: MemoryLog, clock: ManualClock) -> None:
    publisher = Publisher(log, "t", clock=clock)
    for _ in range(8):
        assert publisher.publish_batch(documents(3)) == 3
    assert [len(records(log, partition)) for partition in range(4)] == [2, 2, 2, 2]
    assert records(log)[0].time_min_us == records(log)[0].time_max_us == make.NOW_US


def test_publishers_begin_at_different_partitions(log: MemoryLog) -> None:
    for n in range(40):
        Publisher(log, "t", name=f"p{n}").publish_batch(documents(1))
    assert all(log.end("t", partition) >= 4 for partition in range(4))


def test_events_of_a_key_meet_in_its_partition_in_order(log: MemoryLog) -> None:
    keys: list[bytes | str | None] = [f"user{n % 10}" if n % 2 else f"user{n % 10}".encode() for n in range(100)]
    assert Publisher(log, "t").publish_batch(documents(100), keys=keys) == 100
    for partition in range(4):
        expected = [n for n in range(100) if partition_of(f"user{n % 10}", 4) == partition]
        assert [orjson.loads(event)["n"] for event in events(log, partition)] == expected
        for record in records(log, partition):
            stored = codec.decode(record)["_key"].to_list()
            assert stored == [f"user{n % 10}".encode() for n in expected]


def test_times_keys_and_attributes_stay_with_their_event(log: MemoryLog) -> None:
    Publisher(log, "t").publish_batch(
        documents(3), [30, 10, 20], ["a", None, "c"], [{"x": "0"}, None, {"x": "2"}], sequence=None
    )
    rows = {row["_json"]: row for record in records(log) for row in codec.decode(record).iter_rows(named=True)}
    assert [rows[b'{"n":%d}' % n]["_time"] for n in range(3)] == [30, 10, 20]
    assert [rows[b'{"n":%d}' % n].get("_key") for n in range(3)] == [b"a", None, b"c"]
    assert [rows[b'{"n":%d}' % n].get("_attributes") for n in range(3)] == [b'{"x":"0"}', None, b'{"x":"2"}']


def test_repeated_sequence_writes_nothing_also_from_another_publisher(log: MemoryLog) -> None:
    first = Publisher(log, "t", name="p")
    assert first.last_sequence == -1
    assert first.publish_batch(documents(3), sequence=0) == 3
    assert first.publish_batch(documents(3), sequence=1) == 3
    again = Publisher(log, "t", name="p")
    assert again.last_sequence == 1
    assert again.publish_batch(documents(3), sequence=1) == 0
    assert again.publish_frame(pl.DataFrame({"a": [1]}), sequence=0) == 0
    assert len(events(log)) == 6


def test_replay_of_a_sequence_goes_to_the_same_partition(clock: ManualClock) -> None:
    ends = []
    for skip in (0, 3):
        log = MemoryLog(clock=clock)
        log.create_topic("t", TopicConfig(partitions=4))
        publisher = Publisher(log, "t", name="p")
        for sequence in range(skip, 6):
            publisher.publish_batch([b"%d" % sequence], sequence=sequence)
        ends.append({event: n for n in range(4) for event in events(log, n)})
    assert {event: ends[0][event] for event in ends[1]} == ends[1]


def test_sequences_need_a_name_and_begin_at_zero(log: MemoryLog) -> None:
    with pytest.raises(PipelineError, match="named publisher"):
        Publisher(log, "t").publish_batch(documents(1), sequence=0)
    with pytest.raises(DataError, match="negative"):
        Publisher(log, "t", name="p").publish_batch(documents(1), sequence=-1)


def test_empty_batches_write_nothing_and_keep_their_sequence_free(log: MemoryLog) -> None:
    publisher = Publisher(log, "t", name="p")
    assert publisher.publish_batch([], sequence=0) == 0
    assert publisher.publish_frame(pl.DataFrame({"a": []}, schema={"a": pl.Int64}), sequence=0) == 0
    assert publisher.publish_batch(documents(1), sequence=0) == 1


def test_large_batches_are_cut_within_both_bounds(log: MemoryLog) -> None:
    Publisher(log, "t").publish_batch([b"1"] * 120_000)
    Publisher(log, "t").publish_batch([b"x" * 1_000_000] * 20, keys=["k"] * 20)
    Publisher(log, "t").publish_batch([b"y" * 9_000_000, b"z"])
    Publisher(log, "t").publish_frame(pl.DataFrame({"a": range(200_000)}))
    assert sum(record.count for record in records(log)) == 120_000 + 20 + 2 + 200_000
    for record in records(log):
        assert record.count <= publisher.RECORD_EVENTS_MAX
        assert record.count == 1 or codec.decode(record).estimated_size() <= protocol.RECORD_BYTES_MAX


def test_batch_is_atomic_over_all_its_records(log: MemoryLog) -> None:
    with pytest.raises(DataError):
        Publisher(log, "t").publish_batch([*documents(50), b"x" * 10_000_001], keys=[str(n) for n in range(51)])
    assert events(log) == []


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("at", [datetime(2024, 1, 2, tzinfo=UTC)]),
        pl.Series("at", [datetime(2024, 1, 2)], dtype=pl.Datetime("ns")),
        pl.Series("at", [datetime(2024, 1, 2)], dtype=pl.Datetime("ms")),
        pl.Series("at", [datetime(2024, 1, 2, tzinfo=UTC)]).dt.convert_time_zone("Asia/Tokyo"),
        pl.Series("at", [date(2024, 1, 2)]),
        pl.Series("at", [1_704_153_600_000_000]),
    ],
)
def test_event_time_column_is_copied_as_utc_microseconds(log: MemoryLog, column: pl.Series) -> None:
    Publisher(log, "t").publish_frame(column.to_frame(), event_time="at")
    frame = codec.decode(records(log)[0])
    assert frame["_time"].to_list() == [1_704_153_600_000_000]
    assert frame["at"].dtype == column.dtype


def test_frame_without_event_time_gets_its_time_column_or_now(log: MemoryLog, clock: ManualClock) -> None:
    publisher = Publisher(log, "t", name="p", clock=clock)
    publisher.publish_frame(pl.DataFrame({"a": [1]}), sequence=0)
    publisher.publish_frame(pl.DataFrame({"a": [1], "_time": [5]}), sequence=1)
    assert [codec.decode(records(log, n)[0])["_time"].item() for n in (0, 1)] == [make.NOW_US, 5]


def test_frame_rows_go_to_the_partition_of_their_key(log: MemoryLog) -> None:
    frame = pl.DataFrame({"user": [n % 10 for n in range(100)], "n": range(100)})
    assert Publisher(log, "t").publish_frame(frame, key="user") == 100
    for partition in range(4):
        found = [row for record in records(log, partition) for row in codec.decode(record).iter_rows(named=True)]
        assert [row["n"] for row in found] == [n for n in range(100) if partition_of(str(n % 10), 4) == partition]
        assert all(set(row) == {"user", "n", "_time"} for row in found)


@pytest.mark.parametrize(
    ("frame", "options", "says"),
    [
        (pl.DataFrame({"_x": [1]}), {}, "'_x' .* reserved"),
        (pl.DataFrame({"a": [1]}), {"event_time": "b"}, "'b' is not in the frame"),
        (pl.DataFrame({"a": [1]}), {"key": "b"}, "'b' is not in the frame"),
        (pl.DataFrame({"a": ["x"]}), {"event_time": "a"}, "'a' .* has type String"),
        (pl.DataFrame({"a": [1, None]}), {"event_time": "a"}, "nulls"),
        (pl.DataFrame({"a": [1.5]}), {"key": "a"}, "'a' has type Float64"),
        (pl.DataFrame({"_time": ["x"]}), {}, "'_time'"),
    ],
)
def test_unusable_frames_are_refused(log: MemoryLog, frame: pl.DataFrame, options: dict[str, str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Publisher(log, "t").publish_frame(frame, **options)  # type: ignore[arg-type]


def test_single_events_are_buffered_until_flushed(log: MemoryLog, clock: ManualClock) -> None:
    with Publisher(log, "t", clock=clock) as publisher:
        publisher.publish({"a": 1}, key="k", event_time_us=7, attributes={"x": "y"})
        publisher.publish(b'{"a":2}', key=b"k")
        publisher.publish('{"a":"é"}', key="k")
        assert events(log) == []
    assert events(log) == [b'{"a":1}', b'{"a":2}', '{"a":"é"}'.encode()]
    frame = codec.decode(records(log, partition_of("k", 4))[0])
    assert frame["_time"].to_list() == [7, make.NOW_US, make.NOW_US]


def test_buffer_flushes_itself_at_its_bounds(log: MemoryLog) -> None:
    publisher = Publisher(log, "t")
    for _ in range(999):
        publisher.publish(b"1")
    assert events(log) == []
    publisher.publish(b"1")
    assert len(events(log)) == 1_000
    publisher.publish(b" " * 999_998 + b"1")
    assert len(events(log)) == 1_000
    publisher.publish(b"1")
    assert len(events(log)) == 1_002


def test_refused_event_does_not_spoil_the_buffer(log: MemoryLog) -> None:
    publisher = Publisher(log, "t")
    publisher.publish({"good": 1})
    bad: list[tuple[object, dict[str, object]]] = [
        ({"bad": object()}, {}),
        (b" " * 10_000_000 + b"1", {}),
        ("plain text", {}),
        (b"\xff", {}),
        (b"", {}),
        (b'{"a": NaN}', {}),
        (b"1", {"event_time_us": MAX_US + 1}),
        (b"1", {"event_time_us": 1.5}),
        (b"1", {"key": 5}),
        (b"1", {"attributes": {"a": 1}}),
    ]
    for event, options in bad:
        with pytest.raises(DataError):
            publisher.publish(event, **options)  # type: ignore[arg-type]
    publisher.flush()
    assert events(log) == [b'{"good":1}']


def test_failed_flush_keeps_the_buffer(log: MemoryLog) -> None:
    publisher = Publisher(log, "t")
    publisher.publish(b"1")
    log.delete_topic("t")
    with pytest.raises(NotFoundError):
        publisher.flush()
    log.create_topic("t", TopicConfig(partitions=4))
    publisher.flush()
    assert events(log) == [b"1"]


def test_watermark_follows_all_that_was_published_before(log: MemoryLog) -> None:
    publisher = Publisher(log, "t")
    publisher.publish(b"1")
    publisher.advance_watermark(9)
    assert events(log) == [b"1"]
    assert log.topic("t").watermark_us == 9
    publisher.end()
    assert log.topic("t").watermark_us == MAX_US


def test_keyless_events_in_a_keyed_batch_share_a_rotating_partition(log: MemoryLog) -> None:
    publisher = Publisher(log, "t", name="p")
    for sequence in range(4):
        publisher.publish_batch(documents(5), keys=[None] * 5, sequence=sequence)
    assert Counter(record.partition for record in records(log)) == {0: 1, 1: 1, 2: 1, 3: 1}


def test_an_ended_topic_takes_no_more_events_but_a_repetition_is_still_nothing(log: MemoryLog) -> None:
    publisher = Publisher(log, "t", name="p")
    assert publisher.publish_batch(documents(3), sequence=0) == 3
    publisher.end()
    assert publisher.publish_batch(documents(3), sequence=0) == 0
    with pytest.raises(ConflictError, match="'t' was ended"):
        publisher.publish_batch(documents(3), sequence=1)
    assert len(events(log)) == 3


def test_the_internal_topics_of_a_pipeline_are_not_published_to(log: MemoryLog) -> None:
    log.create_topic("p.aggregate", TopicConfig(partitions=1, internal=True))
    with pytest.raises(ConflictError, match="belongs to a pipeline"):
        Publisher(log, "p.aggregate")
