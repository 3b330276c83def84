"""Publishing: one process, a durable topic, an fsync for each batch.

Only the publisher's calls are timed, wall and CPU: encoding, compression, writing, fsync, index. Making the events is
not, as a real publisher's events come from elsewhere; they are made a block at a time, between the timed calls.
"""

import time
from collections.abc import Iterator
from typing import Any

import polars as pl

from loadgen.bench.job import Job, Runner
from loadgen.bench.streamflow_runner import PARTITIONS
from loadgen.dataset import BLOCK_EVENTS, to_json
from loadgen.profiles import ads
from loadgen.run import BATCH_UNPACED
from streamflow.topics import Publisher, codec, open_log
from streamflow.topics.protocol import Kind, Log, Record, TopicConfig

TOPIC = "events"


def prepare(job: Job) -> None:
    """Nothing: the topic is made by the run."""


def _run(job: Job) -> dict[str, Any]:
    log = open_log(job.data)
    log.create_topic(TOPIC, TopicConfig(PARTITIONS))
    publisher = Publisher(log, TOPIC, name="bench")
    as_json = job.work == "publish-json"
    batch = BATCH_UNPACED["json" if as_json else "envelope"]
    seconds = cpu_seconds = 0.0
    sequence = 0
    for block in ads.batches(job.events, job.seed, BLOCK_EVENTS):
        for frame in block.iter_slices(batch):
            documents, times_us = (to_json(frame), frame["event_time"].to_list()) if as_json else ([], [])
            began_s, cpu_began_s = time.perf_counter(), time.process_time()
            if as_json:
                publisher.publish_batch(documents, times_us, sequence=sequence)
            else:
                publisher.publish_frame(frame, event_time="event_time", sequence=sequence)
            seconds += time.perf_counter() - began_s
            cpu_seconds += time.process_time() - cpu_began_s
            sequence += 1
    log.close()
    return {"seconds_inner": seconds, "cpu_seconds": cpu_seconds, "batch_events": batch, "batches": sequence}


def verified(job: Job, told: dict[str, Any]) -> bool:
    """Read back, all there are as many events as were to be published, and their bytes have the same checksum."""
    count = checksum = 0
    log = open_log(job.data)
    for partition in range(PARTITIONS):
        for record in _records(log, partition):
            frame = codec.decode(record)
            events = frame.select(codec.JSON) if record.kind is Kind.JSON else frame.select(ads.SCHEMA.names())
            count, checksum = count + events.height, checksum + _checksum(events)
    log.close()
    right = 0
    for block in ads.batches(job.events, job.seed):
        right += _checksum(_documents(block) if job.work == "publish-json" else block)
    return (count, checksum) == (job.events, right)


def _records(log: Log, partition: int) -> Iterator[Record]:
    offset, end = 0, log.end(TOPIC, partition)
    while offset < end:
        for record in log.read(TOPIC, partition, offset, max_events=BLOCK_EVENTS):
            yield record
            offset = record.end


def _documents(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame({codec.JSON: to_json(frame)})


def _checksum(events: pl.DataFrame) -> int:
    """Of the rows of a frame, in any order: the sum of their hashes."""
    return sum(events.hash_rows(seed=0).to_list())


RUNNERS: dict[str, dict[str, Runner]] = {"streamflow": dict.fromkeys(("publish-json", "publish-envelope"), _run)}
