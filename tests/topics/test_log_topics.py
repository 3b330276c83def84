"""The contract of `TopicLog`: every promise of the protocol, on every backend."""

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import topic_making as make

from streamflow.base.clock import ManualClock
from streamflow.base.errors import ConflictError, DataError, NotFoundError
from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics.protocol import Backlog, Log, Producer, Record, StageInput, TopicConfig
from streamflow.topics.subscriptions import SubscriptionSettings

pytestmark = pytest.mark.contract


def test_created_topic_is_found_with_its_settings(log: Log) -> None:
    config = TopicConfig(partitions=3, retention_s=90.0, internal=True)
    created = log.create_topic("t", config)
    assert created == log.topic("t")
    assert (created.name, created.config, created.watermark_us) == ("t", config, MIN_US)


def test_creating_a_topic_again_returns_the_existing_one(log: Log) -> None:
    created = log.create_topic("t", TopicConfig(partitions=3))
    assert log.create_topic("t") == created
    assert log.create_topic("t", TopicConfig(partitions=3, retention_s=1.0)) == created


def test_creating_a_topic_with_another_partition_count_conflicts(log: Log) -> None:
    log.create_topic("t", TopicConfig(partitions=3))
    with pytest.raises(ConflictError, match="'t' exists with 3 partitions, not 4"):
        log.create_topic("t", TopicConfig(partitions=4))


@pytest.mark.parametrize("name", ["", ".hidden", "-t", "a/b", "a b", "é", "x" * 201, "..", "t\n"])
def test_bad_topic_names_are_refused(log: Log, name: str) -> None:
    with pytest.raises(DataError, match="not allowed"):
        log.create_topic(name)


@pytest.mark.parametrize("name", ["a", "0", "A.b_c-d", "x" * 200])
def test_good_topic_names_are_taken(log: Log, name: str) -> None:
    log.create_topic(name, TopicConfig(partitions=1))
    assert log.publish([make.record(name)]) == [0]


@pytest.mark.parametrize(
    "config", [TopicConfig(partitions=0), TopicConfig(partitions=4097), TopicConfig(retention_s=0)]
)
def test_impossible_topic_settings_are_refused(log: Log, config: TopicConfig) -> None:
    with pytest.raises(DataError):
        log.create_topic("t", config)
    assert log.topics() == []


def test_topics_are_listed_by_name_with_internal_ones(log: Log) -> None:
    for name in ("b", "a", "c"):
        log.create_topic(name, TopicConfig(internal=name == "a"))
    assert [info.name for info in log.topics()] == ["a", "b", "c"]


def test_unknown_topic_error_names_the_closest(log: Log) -> None:
    log.create_topic("flights")
    for use in (
        lambda: log.topic("flihgts"),
        lambda: log.end("flihgts", 0),
        lambda: log.read("flihgts", 0, 0),
        lambda: log.backlog("flihgts", 0, 0),
        lambda: log.publish([make.record("flihgts")]),
        lambda: log.last_sequence("flihgts", "p"),
        lambda: log.advance_watermark("flihgts", 1),
        lambda: log.delete_topic("flihgts"),
    ):
        with pytest.raises(NotFoundError, match=r"'flihgts' does not exist\. Did you mean 'flights'"):
            use()


def test_partitions_outside_the_topic_are_refused(log: Log) -> None:
    log.create_topic("t", TopicConfig(partitions=2))
    for partition in (-1, 2):
        for use in (log.end, lambda t, p: log.read(t, p, 0), lambda t, p: log.backlog(t, p, 0)):
            with pytest.raises(DataError, match="has no partition"):
                use("t", partition)


def test_recreated_topic_is_empty_and_knows_no_producers(log: Log) -> None:
    log.create_topic("t")
    log.publish([make.record()], Producer("p", 7))
    log.advance_watermark("t", 9)
    log.delete_topic("t")
    with pytest.raises(NotFoundError):
        log.topic("t")
    log.create_topic("t")
    assert log.read("t", 0, 0) == []
    assert (log.end("t", 0), log.last_sequence("t", "p"), log.topic("t").watermark_us) == (0, -1, MIN_US)
    assert log.publish([make.record()], Producer("p", 0)) == [0]


def test_topic_that_a_pipeline_reads_is_not_deleted(log: Log) -> None:
    make.pipeline(log)
    with pytest.raises(ConflictError, match="read by pipeline 'p'"):
        log.delete_topic("t")
    log.reset_pipeline("p")
    log.delete_topic("t")


def test_offsets_number_events_contiguously_per_partition(log: Log) -> None:
    log.create_topic("t", TopicConfig(partitions=2))
    assert log.publish([make.record(count=3), make.record(partition=1, count=5), make.record(count=4)]) == [0, 0, 3]
    assert log.publish([make.record(partition=1), make.record()]) == [5, 7]
    assert (log.end("t", 0), log.end("t", 1)) == (8, 6)


def test_publishing_nothing_writes_nothing(log: Log) -> None:
    assert log.publish([]) == []


def test_records_are_read_as_published_with_offset_and_publication_time(log: Log, clock: ManualClock) -> None:
    log.create_topic("t")
    published = [make.record(count=2, payload=b""), make.record(count=3, payload=b"\x00\xff" * 5_000, time_us=-9)]
    log.publish(published)
    assert log.read("t", 0, 0) == [
        replace(published[0], offset=0, published_us=make.NOW_US),
        replace(published[1], offset=2, published_us=make.NOW_US),
    ]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (make.record("unknown"), NotFoundError),
        (make.record(partition=16), DataError),
        (make.record(count=0), DataError),
    ],
)
def test_publish_with_one_bad_record_writes_nothing_anywhere(log: Log, bad: Record, error: type[Exception]) -> None:
    log.create_topic("t")
    log.create_topic("u")
    with pytest.raises(error):
        log.publish([make.record(), make.record("u", 3), bad], Producer("p", 0))
    assert (log.end("t", 0), log.end("u", 3), log.last_sequence("t", "p")) == (0, 0, -1)


def test_publish_over_topics_and_partitions_is_seen_whole_or_not_at_all(open_log: Callable[[], Log]) -> None:
    log, reader = open_log(), open_log()
    log.create_topic("t", TopicConfig(partitions=4))
    log.create_topic("u", TopicConfig(partitions=1))
    log.register_pipeline("p", "shape", [StageInput("s", "t"), StageInput("s2", "u")])
    batch = [make.record("t", partition) for partition in range(4)] + [make.record("u")]
    torn: list[object] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            ends = set(reader.snapshot("p").ends.values())
            if len(ends) > 1:
                torn.append(ends)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(100):
        log.publish(batch)
    done.set()
    watcher.join()
    assert torn == []
    assert set(log.snapshot("p").ends.values()) == {100}


def test_republished_sequence_changes_nothing(log: Log) -> None:
    log.create_topic("t")
    assert log.publish([make.record(count=2)], Producer("p", 4)) == [0]
    assert log.publish([make.record(count=2)], Producer("p", 4)) == []
    assert log.publish([make.record(count=2)], Producer("p", 3)) == []
    assert log.end("t", 0) == 2
    assert log.publish([make.record(count=2)], Producer("p", 9)) == [2]
    assert log.last_sequence("t", "p") == 9


def test_sequences_belong_to_topic_and_producer(log: Log) -> None:
    log.create_topic("t")
    log.create_topic("u")
    log.publish([make.record("t")], Producer("p", 5))
    assert log.publish([make.record("u")], Producer("p", 0)) == [0]
    assert log.publish([make.record("t")], Producer("q", 0)) == [1]
    assert [log.last_sequence(*at) for at in (("t", "p"), ("u", "p"), ("t", "q"), ("u", "q"))] == [5, 0, 0, -1]


def test_watermark_never_goes_back(log: Log) -> None:
    log.create_topic("t")
    seen = []
    for watermark_us in (-5, 10, 3, MAX_US, 11):
        log.advance_watermark("t", watermark_us)
        seen.append(log.topic("t").watermark_us)
    assert seen == [-5, 10, 10, MAX_US, MAX_US]


def read_offsets(log: Log, offset: int, **bounds: int) -> list[int]:
    return [record.offset for record in log.read("t", 0, offset, **bounds)]


def test_read_begins_with_the_record_that_contains_the_offset(log: Log) -> None:
    log.create_topic("t")
    log.publish([make.record(count=10) for _ in range(3)])
    assert [read_offsets(log, offset) for offset in (0, 9, 10, 29, 30, 99)] == [
        [0, 10, 20],
        [0, 10, 20],
        [10, 20],
        [20],
        [],
        [],
    ]


def test_read_stops_before_end(log: Log) -> None:
    log.create_topic("t")
    log.publish([make.record(count=10) for _ in range(3)])
    assert [read_offsets(log, 0, end=end) for end in (0, 1, 10, 11, 30)] == [[], [0], [0], [0, 10], [0, 10, 20]]


def test_read_returns_one_record_and_then_what_fits_both_bounds(log: Log) -> None:
    log.create_topic("t")
    log.publish([make.record(count=10, payload=b"x" * 100) for _ in range(4)])
    assert read_offsets(log, 0, max_events=1) == [0]
    assert read_offsets(log, 0, max_bytes=1) == [0]
    assert read_offsets(log, 0, max_events=29) == [0, 10]
    assert read_offsets(log, 0, max_events=30) == [0, 10, 20]
    assert read_offsets(log, 0, max_events=30, max_bytes=200) == [0, 10]
    assert read_offsets(log, 10, max_bytes=300) == [10, 20, 30]


def test_backlog_is_exact_in_events_bytes_and_age(log: Log, clock: ManualClock) -> None:
    log.create_topic("t")
    for size in (100, 20, 3):
        log.publish([make.record(count=10, payload=b"x" * size)])
        clock.advance(1.5)
    assert [log.backlog("t", 0, offset) for offset in (0, 10, 20, 30, 31)] == [
        Backlog(30, 123, 4.5),
        Backlog(20, 23, 3.0),
        Backlog(10, 3, 1.5),
        Backlog(0, 0, 0.0),
        Backlog(0, 0, 0.0),
    ]
    assert log.backlog("t", 1, 0) == Backlog(0, 0, 0.0)


def test_backlog_counts_only_what_is_kept(log: Log, clock: ManualClock) -> None:
    log.create_topic("t", TopicConfig(retention_s=60))
    log.publish([make.record(count=10, payload=b"x" * 100)])
    clock.advance(50)
    log.publish([make.record(count=4, payload=b"x" * 7)])
    clock.advance(20)
    log.prune()
    assert log.backlog("t", 0, 0) == Backlog(4, 7, 20.0)


def test_prune_deletes_whole_records_older_than_the_retention(log: Log, clock: ManualClock) -> None:
    log.create_topic("t", TopicConfig(retention_s=60))
    log.publish([make.record(count=10)])
    clock.advance(30)
    log.publish([make.record(count=10)])
    assert log.prune() == 0
    clock.advance(31)
    log.prune()
    assert read_offsets(log, 0) == [10]
    assert log.end("t", 0) == 20
    clock.advance(30)
    assert log.prune() > 0
    assert read_offsets(log, 0) == []
    assert log.publish([make.record()]) == [20]


def test_prune_keeps_internal_records_until_the_slowest_reader_has_committed_past_them(log: Log) -> None:
    log.create_topic("p.shuffle", TopicConfig(partitions=2, internal=True, retention_s=1))
    log.publish([make.record("p.shuffle", partition, count=10) for partition in (0, 0, 1)])
    log.register_pipeline("p", "shape", [StageInput("a", "p.shuffle"), StageInput("b", "p.shuffle")])
    log.commit([make.step(make.task(stage="a"), make.take(log, make.task(stage="a")).state.epoch, 20)])
    log.prune()
    assert [record.offset for record in log.read("p.shuffle", 0, 0)] == [0, 10]
    log.commit([make.step(make.task(stage="b"), make.take(log, make.task(stage="b")).state.epoch, 10)])
    log.prune()
    assert [record.offset for record in log.read("p.shuffle", 0, 0)] == [10]
    assert len(log.read("p.shuffle", 1, 0)) == 1


def test_prune_keeps_internal_records_that_no_task_reads_for_their_retention(log: Log, clock: ManualClock) -> None:
    log.create_topic("p.panes", TopicConfig(internal=True, retention_s=100))
    log.publish([make.record("p.panes")])
    clock.advance(99)
    assert log.prune() == 0
    assert len(log.read("p.panes", 0, 0)) == 1
    clock.advance(2)
    assert log.prune() > 0
    assert not log.read("p.panes", 0, 0)


def test_threads_may_share_a_handle(log: Log) -> None:
    log.create_topic("t", TopicConfig(partitions=1))

    def publish(name: str) -> None:
        for sequence in range(25):
            log.publish([make.record(count=2, payload=name.encode())], Producer(name, sequence))

    threads = [threading.Thread(target=publish, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = log.read("t", 0, 0)
    assert [record.offset for record in records] == list(range(0, 200, 2))
    assert sorted(bytes(record.payload) for record in records) == sorted([b"a", b"b", b"c", b"d"] * 25)


def test_altered_retention_holds_from_then_on_in_all_handles(open_log: Callable[[], Log], clock: ManualClock) -> None:
    log, other = open_log(), open_log()
    log.create_topic("t", TopicConfig(partitions=1, retention_s=60))
    log.create_topic("p.s", TopicConfig(internal=True))
    assert log.alter_topic("t", 600).config == TopicConfig(partitions=1, retention_s=600) == other.topic("t").config
    log.publish([make.record(count=3)])
    clock.advance(599)
    other.prune()
    assert len(log.read("t", 0, 0)) == 1
    other.alter_topic("t", 500)
    log.prune()
    assert log.read("t", 0, 0) == []
    for name, wrong, error in (("t", 0, DataError), ("p.s", 5, ConflictError), ("u", 5, NotFoundError)):
        with pytest.raises(error):
            log.alter_topic(name, wrong)


def test_added_partitions_are_empty_and_can_be_used_in_all_handles(open_log: Callable[[], Log]) -> None:
    log, other = open_log(), open_log()
    log.create_topic("t", TopicConfig(partitions=2))
    log.publish([make.record(partition=1, count=3)])
    assert other.add_partitions("t", 4).config.partitions == 4
    assert log.add_partitions("t", 4) == other.topic("t")
    assert [log.end("t", each) for each in range(4)] == [0, 3, 0, 0]
    assert log.publish([make.record(partition=3)]) == [0]
    assert len(other.read("t", 3, 0)) == 1
    assert log.create_topic("t", TopicConfig(partitions=4)).config.partitions == 4


def test_partitions_are_not_added_where_somebody_relies_on_keys_or_offsets(log: Log) -> None:
    make.pipeline(log)
    log.create_topic("p.shuffle", TopicConfig(partitions=2, internal=True))
    log.create_topic("o", TopicConfig(partitions=2))
    log.subscriptions.create_subscription("billing", "o", SubscriptionSettings(ordered=True))
    partitions = log.topic("t").config.partitions
    for name, wanted, error, says in (
        ("t", partitions + 1, ConflictError, "pipeline 'p' reads it.*Reset"),
        ("o", 3, ConflictError, "ordered subscription 'billing' reads it.*Delete"),
        ("p.shuffle", 3, ConflictError, "belongs to a pipeline"),
        ("o", 1, ConflictError, "has 2 partitions and can't have 1"),
        ("o", 4097, DataError, "can't have 4097"),
        ("none", 2, NotFoundError, "does not exist"),
    ):
        with pytest.raises(error, match=says):
            log.add_partitions(name, wanted)
    assert [log.topic(name).config.partitions for name in ("t", "o", "p.shuffle")] == [partitions, 2, 2]
    log.subscriptions.detach_subscription("billing")
    assert log.add_partitions("o", 3).config.partitions == 3
