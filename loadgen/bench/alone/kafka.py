"""Kafka: the same events published and read by us and by plain clients, each in a process of its own, on a broker that is
started for the run.

Plain messages: one event each, by all three clients. Envelopes are ours alone; beside them the plain clients do single
events again, as they have nothing else. All publish with acknowledgement by all replicas and compressed with zstd, ours
also in a transaction for each batch; all read what is committed. Timed are the calls, wall and CPU of the client's
process: not the broker, not the making of events, not the checksums.
"""

import asyncio
import json
import shutil
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from loadgen.bench.job import Job, Runner
from loadgen.dataset import to_json
from loadgen.kafka.broker import Cluster
from loadgen.profiles import ads
from streamflow.base.settings import Settings
from streamflow.topics import codec
from streamflow.topics.kafka import KafkaLog
from streamflow.topics.protocol import Kind, Producer, Record, TopicConfig

TOPIC = "events"
WORKS = ("kafka-publish-json", "kafka-publish-envelope", "kafka-consume-json", "kafka-consume-envelope")
BATCH_EVENTS = 10_000
_IN_FLIGHT = 100_000
"""Messages that a plain client may have unsent."""


class _Watch:
    """Sums up wall and CPU seconds of what runs in it."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began[0]
        self.cpu_seconds += time.process_time() - self._began[1]

    def told(self, events: int, checksum: int) -> dict[str, Any]:
        return {
            "seconds_inner": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "cpu_us_per_event": self.cpu_seconds / events * 1e6,
            "events": events,
            "checksum": checksum,
        }


def prepare(job: Job) -> None:
    """Nothing: the broker and its topic are of the run."""


def verified(job: Job, told: dict[str, Any]) -> bool:
    """What was read is as many events as there are, with the checksum of all."""
    in_frames = _in_frames(job)
    right = sum(
        _of_frame(frame) if in_frames else _of_documents(to_json(frame))
        for frame in ads.batches(job.events, job.seed, BATCH_EVENTS)
    )
    return bool((told.pop("read"), told.pop("checksum")) == (job.events, right))


def _in_frames(job: Job) -> bool:
    return job.system == OURS and job.work.endswith("envelope")


def _run(job: Job) -> dict[str, Any]:
    publish, read = CLIENTS[job.system]
    with Cluster(Path(job.scratch) / "kafka") as cluster:
        log = KafkaLog(cluster.url)
        log.create_topic(TOPIC, TopicConfig(PARTITIONS))
        published, consumed = Watch(), Watch()
        if "publish" in job.work:
            publish(job, cluster.servers, published)
        else:
            _publish_ours(job, cluster.servers, Watch())
            _all_visible(log)
        if "publish" in job.work:
            _all_visible(log)
            read = _read_ours
        events, checksum = read(job, cluster.servers, consumed)
        log.close()
    watch = published if "publish" in job.work else consumed
    return {"seconds_inner": watch.seconds, "cpu_seconds": watch.cpu_seconds, "read": events, "checksum": checksum}
