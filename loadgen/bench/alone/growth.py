"""Growth: the same load while one thing about it grows. How the rate falls is the figure, not the rate.

Events per user and window, as W2, read from a topic of envelopes that has ended. What grows is one of:

- keys: distinct users, all of whose state is in one to three windows;
- windows: of 10 s each, all open until the end, as the event times are spread over them without any order;
- partitions: of the topic;
- state_mb: the memory that a worker's window state may take, with many keys; what exceeds it is read back;
- topics: idle ones in the same log, of one partition with one event;
- pipelines: idle ones in the same log, which read such a topic; they have tasks and no worker.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import polars as pl

from loadgen.bench.inputs import WINDOW_US
from loadgen.bench.job import Job, Runner
from loadgen.bench.streamflow_runner import PARTITIONS, finish, read_table
from loadgen.profiles import ads
from streamflow.base.settings import Settings
from streamflow.engine.stores import tables_folder
from streamflow.examples.ads import DISORDER_S, WINDOW_S, build_users
from streamflow.runtime.launch import launch
from streamflow.runtime.pipeline import Pipeline
from streamflow.topics import Publisher, open_log
from streamflow.topics.protocol import Log, TopicConfig

TARGET = "loadgen.bench.alone.growth:pipeline"
TOPIC = "events"
ENVELOPES = 1_000
"""In all, so that a thousand partitions have something in each of them."""
USERS, USERS_OF_WINDOWS = 10_000, 10
"""Where keys do not grow."""
_SPREAD = 0x9E3779B97F4A7C15
"""Odd, so that multiples of it fall evenly over any range (Knuth's multiplicative hashing)."""


def pipeline() -> Pipeline:
    """What the workers of a run execute."""
    job = Job.current()
    disorder_s = job.parameters.get("windows", 0) * WINDOW_S + DISORDER_S
    settings = Settings()
    if "state_mb" in job.parameters:
        settings = replace(settings, state_bytes_max=int(job.parameters["state_mb"]) << 20)
    return build_users(job.name, TOPIC, job.name, settings, disorder_s=disorder_s)


def prepare(job: Job) -> None:
    log = open_log(job.data)
    partitions = int(job.parameters.get("partitions", PARTITIONS))
    log.create_topic(TOPIC, TopicConfig(partitions))
    publisher = Publisher(log, TOPIC, name="bench")
    for sequence, frame in enumerate(_frames(job)):
        publisher.publish_frame(frame, event_time="event_time", sequence=sequence)
    publisher.end()
    for n in range(int(job.parameters.get("topics", 0))):
        _idle_topic(log, f"idle-{n}")
    if pipelines := int(job.parameters.get("pipelines", 0)):
        _idle_topic(log, "idle")
        for n in range(pipelines):
            idle = build_users(f"idle-{n}", "idle", f"idle-{n}", Settings(partitions=1))
            launch(idle, log, idle.settings)
    log.close()


def _idle_topic(log: Log, name: str) -> None:
    log.create_topic(name, TopicConfig(1))
    Publisher(log, name).publish_batch([b"{}"])


def _frames(job: Job) -> Iterator[pl.DataFrame]:
    windows = int(job.parameters.get("windows", 0))
    users = USERS_OF_WINDOWS if windows else int(job.parameters.get("keys", USERS))
    # One window's length for all, whatever their number.
    per_s = job.events / WINDOW_S
    number = 0
    for block in ads.batches(job.events, job.seed, users=users, events_per_s=per_s):
        visits = block.select("user_id", "event_time")
        if windows:
            spread = pl.int_range(number, number + visits.height, dtype=pl.UInt64) * _SPREAD // (1 << 24)
            since_us = (spread % (windows * WINDOW_US)).cast(pl.Int64)
            visits = visits.with_columns((ads.START_US_DEFAULT + since_us).alias("event_time"))
        number += visits.height
        yield from visits.iter_slices(-(-job.events // ENVELOPES))


def _run(job: Job) -> dict[str, Any]:
    return {"seconds_inner": finish(pipeline(), TARGET, job.data, job.cores)}


def verified(job: Job, told: dict[str, Any]) -> bool:
    """The same rows as from one query over all events."""
    from loadgen.bench.reference import same  # its DuckDB has no place in the workers, which import this module too

    start = (pl.col("event_time") // WINDOW_US * WINDOW_US).alias("window_start_us")
    micros = (pl.col("event_time") % 1_000_000).sum().alias("micros")
    events = pl.concat(_frames(job))
    right = events.group_by("user_id", start).agg(pl.len().cast(pl.Int64).alias("events"), micros)
    told["rows"] = right.height
    return same(right, read_table(tables_folder(job.data) / job.name))


WORKS = tuple(f"growth-{what}" for what in ("keys", "windows", "partitions", "state", "topics", "pipelines"))
RUNNERS: dict[str, dict[str, Runner]] = {"streamflow": dict.fromkeys(WORKS, _run)}
