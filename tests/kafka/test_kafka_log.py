"""Topics on a real Kafka: what is published is what is read, by our handle and by plain clients of Kafka."""

import asyncio
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import polars as pl
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streamflow.base.errors import ConflictError, DataError, NotFoundError, PipelineError, StreamFlowError
from streamflow.topics import Publisher, codec
from streamflow.topics.kafka import KafkaLog
from streamflow.topics.kafka.messages import SPAN
from streamflow.topics.partition import murmur2
from streamflow.topics.protocol import Kind, Producer, Record, TopicConfig

pytestmark = pytest.mark.kafka


def eventually(question: Callable[[], object], wanted: object, timeout_s: float = 10.0) -> None:
    """Kafka's transactions are visible a moment after they are committed."""
    give_up = time.monotonic() + timeout_s
    while (answer := question()) != wanted:
        assert time.monotonic() < give_up, f"{answer!r} is not {wanted!r}"
        time.sleep(0.01)


def documents(records: list[Record]) -> list[bytes]:
    return [event for record in records for event in codec.decode(record)[codec.JSON].to_list()]


def all_of(log: KafkaLog, topic: str) -> list[bytes]:
    return [event for partition in range(3) for event in documents(log.read(topic, partition, 0))]


def json_record(topic: str, *events: bytes, partition: int = 0) -> Record:
    return codec.encode_json(topic, partition, events, range(len(events)))


def test_events_are_read_as_published(log: KafkaLog, topic: str) -> None:
    sent = codec.encode_json(
        topic, 1, [b'{"a":1}', b"no json", b""], [-5, 0, 7], [b"k", None, b""], [None, {"x": "é"}, {}]
    )
    log.publish([sent])
    eventually(lambda: len(log.read(topic, 1, 0)), 1)
    (read,) = log.read(topic, 1, 0)
    assert codec.decode(read).equals(codec.decode(sent))
    assert (read.time_min_us, read.time_max_us, read.count, read.offset) == (-5, 7, 3, 0)


def test_envelopes_are_read_as_published_among_events(log: KafkaLog, topic: str) -> None:
    frame = pl.DataFrame({"_time": [3, 4], "a": [[1], [2, 3]]})
    log.publish([json_record(topic, b"1", b"2"), codec.encode_frame(topic, 0, frame), json_record(topic, b"3")])
    eventually(lambda: sum(record.count for record in log.read(topic, 0, 0)), 5)
    records = log.read(topic, 0, 0)
    assert [(record.kind, record.offset // SPAN, record.count) for record in records] == [
        (Kind.JSON, 0, 2),
        (Kind.ARROW, 2, 2),
        (Kind.JSON, 3, 1),
    ]
    assert codec.decode(records[1]).equals(frame)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_reading_on_from_each_end_gives_every_event_once(log: KafkaLog, topic: str, step: int) -> None:
    frame = pl.DataFrame({"_time": [0, 0], "_json": [b"3", b"4"]})
    for record in (json_record(topic, b"0", b"1", b"2"), codec.encode_frame(topic, 0, frame), json_record(topic, b"5")):
        log.publish([record])
    eventually(lambda: log.backlog(topic, 0, 0).events, 6)
    offset, seen = 0, []
    while records := log.read(topic, 0, offset, max_events=step):
        seen += [event for record in records for event in codec.decode(record)[codec.JSON].to_list()]
        offset = records[-1].end
    assert seen == [b"0", b"1", b"2", b"3", b"4", b"5"]


def test_backlog_counts_events_bytes_and_age_exactly(log: KafkaLog, topic: str) -> None:
    log.publish([json_record(topic, b"11", b"222"), codec.encode_frame(topic, 0, pl.DataFrame({"_time": [1, 2, 3]}))])
    log.publish([json_record(topic, b"4444")])
    eventually(lambda: log.backlog(topic, 0, 0).events, 6)
    whole, rest = log.backlog(topic, 0, 0), log.backlog(topic, 0, SPAN)
    assert (whole.events - rest.events, whole.bytes - rest.bytes) == (1, 2)
    assert log.backlog(topic, 0, 3 * SPAN).events == 1
    assert log.backlog(topic, 0, log.end(topic, 0)) == log.backlog(topic, 1, 0)
    assert log.backlog(topic, 0, 0) == whole or log.backlog(topic, 0, 0).oldest_age_s > whole.oldest_age_s > 0


def test_backlog_of_many_messages_is_counted_on_from_any_offset(log: KafkaLog, topic: str) -> None:
    log.publish([json_record(topic, *[b"x"] * 3_500)])
    eventually(lambda: log.backlog(topic, 0, 0).events, 3_500)
    for taken in (1, 999, 1_000, 1_001, 2_500, 100, 3_499, 3_500, 0):
        assert log.backlog(topic, 0, taken * SPAN).events == 3_500 - taken


def test_sequence_published_again_changes_nothing_whoever_does_it(log: KafkaLog, topic: str, kafka_url: str) -> None:
    record = json_record(topic, b"1")
    assert log.publish([record], Producer("p", 4))
    assert log.publish([record], Producer("p", 4)) == []
    assert log.publish([record], Producer("p", 3)) == []
    other = KafkaLog(kafka_url)
    try:
        assert other.publish([record], Producer("p", 4)) == []
        assert other.publish([record], Producer("p", 5))
        assert log.publish([record], Producer("p", 5)) == []
        assert log.publish([record], Producer("p", 6))
        assert log.publish([record], Producer("q", 0))
    finally:
        other.close()
    eventually(lambda: log.backlog(topic, 0, 0).events, 4)
    assert log.last_sequence(topic, "p") == 6


def test_publishing_is_seen_whole_or_not_at_all(log: KafkaLog, topic: str) -> None:
    good, unknown = json_record(topic, b"1"), json_record(topic, b"2", partition=3)
    with pytest.raises(DataError, match="no partition 3"):
        log.publish([good, unknown])
    too_large = json_record(topic, secrets.token_hex(1_500_000).encode(), partition=1)
    with pytest.raises(DataError, match="larger than Kafka takes"):
        log.publish([good, too_large])
    log.publish([json_record(topic, b"3")])
    eventually(lambda: all_of(log, topic), [b"3"])


def test_keys_go_where_other_clients_send_them(log: KafkaLog, topic: str, kafka_url: str) -> None:
    """By the test vectors of Kafka's own clients, and by asking one of them."""
    vectors = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    assert {key: murmur2(key) for key in vectors} == {key: hash_ & 0x7FFFFFFF for key, hash_ in vectors.items()}
    keys = [f"key{n}".encode() for n in range(20)]

    async def theirs() -> dict[bytes, int]:
        async with AIOKafkaProducer(bootstrap_servers=kafka_url.removeprefix("kafka://")) as producer:
            return {key: (await producer.send_and_wait(topic, b"theirs", key=key)).partition for key in keys}

    expected = asyncio.run(theirs())
    Publisher(log, topic).publish_batch([b'"ours"'] * len(keys), keys=keys)
    eventually(lambda: sum(log.backlog(topic, partition, 0).events for partition in range(3)), 2 * len(keys))
    found = {}
    for partition in range(3):
        for record in log.read(topic, partition, 0):
            for event, key in codec.decode(record)[[codec.JSON, codec.KEY]].iter_rows():
                if event == b'"ours"':
                    found[key] = partition
    assert found == expected


def test_plain_clients_read_ours_and_we_read_theirs(log: KafkaLog, topic: str, kafka_url: str) -> None:
    servers = kafka_url.removeprefix("kafka://")
    log.publish([codec.encode_json(topic, 0, [b'{"a":1}'], [1_500_000], [b"k"], [{"type": "view"}])])

    async def exchange() -> object:
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            headers = [("type", b"click"), ("odd", b"\xff")]
            await producer.send_and_wait(topic, b"{}", key=b"x", partition=1, timestamp_ms=1_234, headers=headers)
            await producer.send_and_wait(topic, None, key=b"x", partition=1, timestamp_ms=1_235)
        consumer = AIOKafkaConsumer(bootstrap_servers=servers, isolation_level="read_committed")
        async with consumer:
            consumer.assign([TopicPartition(topic, 0)])
            await consumer.seek_to_beginning()
            return await consumer.getone()

    message = asyncio.run(exchange())
    assert (message.value, message.key, dict(message.headers)["type"]) == (b'{"a":1}', b"k", b"view")
    assert abs(message.timestamp / 1000 - time.time()) < 60
    frame = codec.decode(log.read(topic, 1, 0)[0])
    assert frame[codec.JSON].to_list() == [b"{}", b"null"]
    assert frame[codec.TIME].to_list() == [1_234_000, 1_235_000]
    assert frame[codec.ATTRIBUTES].to_list() == ['{"type":"click","odd":"\ufffd"}'.encode(), None]


def test_settings_of_a_topic_are_kept_and_partitions_can_be_added(log: KafkaLog) -> None:
    log.create_topic("settings", TopicConfig(partitions=2, retention_s=3600))
    log.advance_watermark("settings", 17)
    log.advance_watermark("settings", 5)
    info = log.topic("settings")
    eventually(lambda: log.topic("settings").watermark_us, 17)
    assert (info.config.partitions, info.config.retention_s, info.config.internal) == (2, 3600, False)
    with pytest.raises(ConflictError, match="2 partitions, not 3"):
        log.create_topic("settings", TopicConfig(partitions=3))
    assert log.add_partitions("settings", 4).config.partitions == 4
    with pytest.raises(ConflictError, match="4 partitions and can't have 3"):
        log.add_partitions("settings", 3)
    assert log.alter_topic("settings", 7200).config == TopicConfig(partitions=4, retention_s=7200)
    log.create_topic("inside", TopicConfig(partitions=1, internal=True))
    for change in (lambda: log.alter_topic("inside", 5), lambda: log.add_partitions("inside", 5)):
        with pytest.raises(ConflictError, match="belongs to a pipeline"):
            change()
    assert {info.name: info.config.internal for info in log.topics() if info.name in ("settings", "inside")} == {
        "inside": True,
        "settings": False,
    }


def test_recreated_topic_is_empty_and_knows_no_producers(log: KafkaLog, topic: str) -> None:
    log.publish([json_record(topic, b"1")], Producer("p", 7))
    log.delete_topic(topic)
    with pytest.raises(NotFoundError, match=f"'{topic}' does not exist"):
        log.read(topic, 0, 0)
    log.create_topic(topic, TopicConfig(partitions=3))
    assert log.last_sequence(topic, "p") == -1
    assert log.publish([json_record(topic, b"2")], Producer("p", 0))
    eventually(lambda: all_of(log, topic), [b"2"])


_PUBLISH = """
import sys, itertools
from streamflow.topics import codec
from streamflow.topics.kafka import KafkaLog
from streamflow.topics.protocol import Producer
url, topic = sys.argv[1:]
log = KafkaLog(url)
for sequence in itertools.count(log.last_sequence(topic, "p") + 1):
    events = [b"%d.%d" % (sequence, n) for n in range(200)]
    log.publish([codec.encode_json(topic, p, events, range(200)) for p in range(3)], Producer("p", sequence))
    print(sequence, flush=True)
"""


def test_publisher_killed_anywhere_leaves_whole_batches_each_once(log: KafkaLog, topic: str, kafka_url: str) -> None:
    confirmed = -1
    for kill_after in (0.0, 0.013, 0.03, 0.05):
        process = subprocess.Popen(
            [sys.executable, "-c", _PUBLISH, kafka_url, topic], stdout=subprocess.PIPE, text=True
        )
        confirmed = int(process.stdout.readline())
        time.sleep(kill_after)
        process.send_signal(signal.SIGKILL)
        rest = process.communicate()[0].split()
        confirmed = int(rest[-1]) if rest else confirmed
    # The next under that name ends what the killed one had begun.
    log.publish([json_record(topic, b"last", partition=p) for p in range(3)], Producer("p", confirmed + 1000))
    eventually(lambda: documents(log.read(topic, 2, 0))[-1:], [b"last"])
    for partition in range(3):
        events = documents(log.read(topic, partition, 0))[:-1]
        batches = len(events) // 200
        assert batches > confirmed
        assert events == [b"%d.%d" % (sequence, n) for sequence in range(batches) for n in range(200)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("kafka://", "names no server"),
        ("kafka://h?nothing=1", "no option 'nothing'"),
        ("kafka://h?replication=x", "no whole number"),
    ],
)
def test_address_that_says_nothing_sensible_is_refused(url: str, message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        KafkaLog(url)


def test_kafka_that_is_not_there_is_told() -> None:
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(StreamFlowError, match="can't be reached"):
            KafkaLog(f"kafka://127.0.0.1:{taken.getsockname()[1]}")
