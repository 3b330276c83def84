"""Kafka: the same events published or read by us and by plain clients, each in a process of its own, on a broker that
is started for the run.

The plain clients always take single messages, as they have no envelopes. All publish compressed with zstd and
acknowledged by all replicas, ours also in a transaction for each batch; all read what is committed. Timed are the
calls, wall and CPU of the client's process: not the broker, not the making of events, not the checksums.
In reading compare CPU: the plain clients fetch ahead while checksums are made, ours fetches when it is asked.
"""

import asyncio
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import polars as pl
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from loadgen.bench.job import Job, Runner
from loadgen.bench.result import OURS
from loadgen.dataset import to_json
from loadgen.kafka.broker import Cluster
from loadgen.profiles import ads
from streamflow.base.settings import Settings
from streamflow.topics import codec
from streamflow.topics.kafka import KafkaLog
from streamflow.topics.protocol import Kind, Producer, TopicConfig

TOPIC, PARTITIONS = "events", 4
WORKS = ("kafka-publish-json", "kafka-publish-envelope", "kafka-consume-json", "kafka-consume-envelope")
BATCH_EVENTS = 10_000
_SILENT_S = 10.0
"""A plain client that gets nothing for so long has got all there is."""


class Watch:
    """Sums up the wall and CPU seconds of what runs in it."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0

    def __enter__(self) -> Self:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began[0]
        self.cpu_seconds += time.process_time() - self._began[1]


Publish = Callable[[Job, str, Watch], None]
Read = Callable[[Job, str, Watch], tuple[int, int]]
"""Events and their checksum."""


def prepare(job: Job) -> None:
    """Nothing: the broker and its topic are of the run."""


def verified(job: Job, told: dict[str, Any]) -> bool:
    """What was read is as many events as there are, with the checksum of all."""
    frames = ads.batches(job.events, job.seed, BATCH_EVENTS)
    right = sum(_of_frame(frame) if _in_frames(job) else _of_documents(to_json(frame)) for frame in frames)
    found = told.pop("read"), told.pop("checksum")
    return found == (job.events, right)


def _run(job: Job) -> dict[str, Any]:
    publish, read = CLIENTS[job.system]
    publishing, reading = Watch(), Watch()
    with Cluster(Path(job.scratch) / "kafka") as cluster:
        log = KafkaLog(cluster.url)
        log.create_topic(TOPIC, TopicConfig(PARTITIONS))
        log.close()
        of_publishing = "publish" in job.work
        # What is not measured is done by ours, so that it is the same for all.
        (publish if of_publishing else publish_ours)(job, cluster.servers, publishing)
        events, checksum = (read_ours if of_publishing else read)(job, cluster.servers, reading)
    watch = publishing if of_publishing else reading
    return {"seconds_inner": watch.seconds, "cpu_seconds": watch.cpu_seconds, "read": events, "checksum": checksum}


def publish_ours(job: Job, servers: str, watch: Watch) -> None:
    log = KafkaLog(f"kafka://{servers}")
    for nth, frame in enumerate(ads.batches(job.events, job.seed, BATCH_EVENTS)):
        partition, documents = nth % PARTITIONS, to_json(frame)
        times_us, in_columns = frame["event_time"].to_list(), frame.with_columns(_time=pl.col("event_time"))
        with watch:
            if _in_frames(job):
                record = codec.encode_frame(TOPIC, partition, in_columns)
            else:
                record = codec.encode_json(TOPIC, partition, documents, times_us)
            log.publish([record], Producer("bench", nth))
    log.close()


def read_ours(job: Job, servers: str, watch: Watch) -> tuple[int, int]:
    log, bounds = KafkaLog(f"kafka://{servers}"), Settings()
    events = checksum = 0
    for partition in range(PARTITIONS):
        offset, end = 0, log.end(TOPIC, partition)
        while offset < end:
            with watch:
                records = log.read(
                    TOPIC, partition, offset, max_events=bounds.step_events_max, max_bytes=bounds.step_bytes_max
                )
                frames = [codec.decode(record) for record in records if record.kind is not Kind.JSON]
            if not records:
                break  # only the mark of a transaction is left
            documents = [codec.json_documents(record) for record in records if record.kind is Kind.JSON]
            events += sum(record.count for record in records)
            checksum += sum(map(_of_documents, documents)) + sum(map(_of_frame, frames))
            offset = records[-1].end
    log.close()
    return events, checksum


def publish_aiokafka(job: Job, servers: str, watch: Watch) -> None:
    async def publish() -> None:
        options = {"compression_type": "zstd", "acks": "all", "linger_ms": 5, "max_batch_size": 1 << 19}
        async with AIOKafkaProducer(bootstrap_servers=servers, **options) as producer:
            for partition, documents in _documents(job):
                with watch:
                    sent = [await producer.send(TOPIC, document, partition=partition) for document in documents]
                    await asyncio.gather(*sent)

    asyncio.run(publish())


def read_aiokafka(job: Job, servers: str, watch: Watch) -> tuple[int, int]:
    async def read() -> tuple[int, int]:
        events = checksum = 0
        async with AIOKafkaConsumer(bootstrap_servers=servers, isolation_level="read_committed") as consumer:
            consumer.assign([TopicPartition(TOPIC, partition) for partition in range(PARTITIONS)])
            await consumer.seek_to_beginning()
            while events < job.events:
                with watch:
                    got = await consumer.getmany(timeout_ms=int(_SILENT_S * 1000), max_records=BATCH_EVENTS)
                    values = [message.value for messages in got.values() for message in messages]
                if not values:
                    break
                events, checksum = events + len(values), checksum + _of_documents(values)
        return events, checksum

    return asyncio.run(read())


def publish_confluent(job: Job, servers: str, watch: Watch) -> None:
    from confluent_kafka import Producer as Plain  # an extra, which only this work needs

    options = {"compression.type": "zstd", "acks": "all", "linger.ms": 5, "batch.size": 1 << 19}
    producer = Plain({"bootstrap.servers": servers, **options})
    for partition, documents in _documents(job):
        with watch:
            for document in documents:
                producer.produce(TOPIC, document, partition=partition)
            producer.flush()


def read_confluent(job: Job, servers: str, watch: Watch) -> tuple[int, int]:
    from confluent_kafka import Consumer, TopicPartition

    options = {"group.id": "bench", "enable.auto.commit": False, "isolation.level": "read_committed"}
    consumer = Consumer({"bootstrap.servers": servers, **options})
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
    events = checksum = 0
    while events < job.events:
        with watch:
            values = [message.value() or b"" for message in consumer.consume(BATCH_EVENTS, _SILENT_S)]
        if not values:
            break
        events, checksum = events + len(values), checksum + _of_documents(values)
    consumer.close()
    return events, checksum


def _documents(job: Job) -> Iterator[tuple[int, Sequence[bytes]]]:
    """A partition, and what goes there."""
    for nth, frame in enumerate(ads.batches(job.events, job.seed, BATCH_EVENTS)):
        yield nth % PARTITIONS, to_json(frame)


def _in_frames(job: Job) -> bool:
    return job.system == OURS and job.work.endswith("envelope")


def _of_documents(documents: Sequence[bytes]) -> int:
    """A checksum that knows no order."""
    return sum(map(zlib.crc32, documents))


def _of_frame(frame: pl.DataFrame) -> int:
    return sum(frame.select(ads.SCHEMA.names()).hash_rows(seed=0).to_list())


CLIENTS: Mapping[str, tuple[Publish, Read]] = {
    OURS: (publish_ours, read_ours),
    "aiokafka": (publish_aiokafka, read_aiokafka),
    "confluent": (publish_confluent, read_confluent),
}
RUNNERS: dict[str, dict[str, Runner]] = {name: dict.fromkeys(WORKS, _run) for name in CLIENTS}
