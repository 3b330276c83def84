"""Sessions of very many users: how fast they are grouped, and what is left of them in memory.

Each user has an event every `EVERY_S` seconds on average, and a session ends after `GAP_S` seconds without one: nearly
every user has an open session at any moment, of four and a half events in the end.

- `sessions`: events per second, read from a topic of envelopes that has ended;
- `sessions-memory`: memory of the workers (PSS: shared pages divided by those who share them) before the first event
  and after ten generations of sessions. Each generation brings events of all users, and begins when the sessions of the
  last one have ended and can't change any more, their lateness included. It is right if in the end there is no more
  than a fifth more than at the beginning.
"""

import time
from collections.abc import Iterator
from typing import Any

import polars as pl

import streamflow as sf
from loadgen.bench.alone.processes import memory_of, start_worker, wait_until
from loadgen.bench.job import Job, Runner
from loadgen.bench.streamflow_runner import ENVELOPE_EVENTS, PARTITIONS, finish, read_table
from loadgen.profiles import ads
from streamflow.engine.stores import tables_folder
from streamflow.examples.ads import DISORDER_S, Visit
from streamflow.runtime.launch import launch
from streamflow.runtime.pipeline import Pipeline
from streamflow.runtime.progress import is_drained
from streamflow.topics import Publisher, open_log
from streamflow.topics.protocol import TopicConfig
from streamflow.transforms.trigger import AccumulationMode
from streamflow.transforms.window import Sessions

TARGET = "loadgen.bench.alone.sessions:pipeline"
TOPIC = "events"
EVERY_S, GAP_S = 20, 30
LATENESS_S = 60
"""Of the work that measures memory: sessions are kept so long after their end."""
GENERATIONS = 10
GENERATION_S = GAP_S + LATENESS_S + DISORDER_S + EVERY_S
GROWTH_MAX = 1.2
REST_S = 4.0
"""After this an idle worker has given back what it does not need."""
SPOT_US = 1_000_000


def pipeline() -> Pipeline:
    """What the workers of a run execute."""
    job = Job.current()
    lateness_s = LATENESS_S if job.work == "sessions-memory" else 0
    p = Pipeline(job.name)
    (
        p
        | sf.ReadFromTopic(TOPIC, schema=Visit, event_time="event_time", disorder=DISORDER_S)
        | sf.WindowInto(Sessions(GAP_S), allowed_lateness=lateness_s, accumulation_mode=AccumulationMode.ACCUMULATING)
        | sf.Aggregate(by=["user_id"], events=sf.Count(), last=sf.Max("event_time"))
        | sf.Select("user_id", "window_start", "events", "last")
        | sf.WriteToTable(job.name, key=["user_id", "window_start"] if lateness_s else [])
    )
    return p


def prepare(job: Job) -> None:
    log = open_log(job.data)
    log.create_topic(TOPIC, TopicConfig(PARTITIONS))
    if job.work == "sessions":
        publisher = Publisher(log, TOPIC, name="bench")
        for sequence, frame in enumerate(_visits(job)):
            publisher.publish_frame(frame, event_time="event_time", sequence=sequence)
        publisher.end()
    log.close()


def _visits(job: Job) -> Iterator[pl.DataFrame]:
    keys = int(job.parameters["keys"])
    for block in ads.batches(job.events, job.seed, users=keys, events_per_s=keys / EVERY_S):
        yield from block.select("user_id", "event_time").iter_slices(ENVELOPE_EVENTS)


def _rate(job: Job) -> dict[str, Any]:
    return {"seconds_inner": finish(pipeline(), TARGET, job.data, job.cores)}


def _generation(job: Job, nth: int) -> Iterator[pl.DataFrame]:
    """An event of each user, and a second one a little later, in the same session."""
    keys = int(job.parameters["keys"])
    number = pl.int_range(2 * keys, eager=True)
    users = pl.select(pl.format("user-{}", number % keys)).to_series()
    since_us = number * (EVERY_S * SPOT_US) // (2 * keys)
    at_us = ads.START_US_DEFAULT + nth * GENERATION_S * SPOT_US + since_us
    return pl.DataFrame({"user_id": users, "event_time": at_us}).iter_slices(ENVELOPE_EVENTS)


def _generations(job: Job) -> dict[str, Any]:
    log = open_log(job.data)
    plan = launch(pipeline(), log)
    workers = [start_worker(TARGET, job.data, f"worker-{nth}") for nth in range(job.cores)]
    publisher = Publisher(log, TOPIC, name="bench")

    def weighed(what: str) -> int:
        wait_until(lambda: is_drained(plan, log.snapshot(plan.pipeline)), f"the workers to take in {what}")
        time.sleep(REST_S)
        return sum(memory_of(worker.pid)["pss_bytes"] for worker in workers)

    try:
        wait_until(lambda: len(log.snapshot(plan.pipeline).workers) == len(workers), "the workers to join")
        at_start = weighed("nothing")
        began_s, sizes = time.monotonic(), list[int]()
        for nth in range(GENERATIONS):
            for frame in _generation(job, nth):
                publisher.publish_frame(frame, event_time="event_time")
            sizes.append(weighed(f"generation {nth + 1}"))
        seconds = time.monotonic() - began_s - GENERATIONS * REST_S
        publisher.advance_watermark(ads.START_US_DEFAULT + GENERATIONS * GENERATION_S * SPOT_US)
        at_end = weighed("that nothing earlier will come")
    finally:
        for worker in workers:
            worker.terminate()
            worker.wait()
        log.close()
    return {
        "events": GENERATIONS * 2 * int(job.parameters["keys"]),
        "seconds_inner": seconds,
        "start_mb": at_start / 1e6,
        "first_generation_mb": sizes[0] / 1e6,
        "last_generation_mb": sizes[-1] / 1e6,
        "end_mb": at_end / 1e6,
        "end_to_start": at_end / at_start,
    }


def verified(job: Job, told: dict[str, Any]) -> bool:
    """The same sessions as from one query over all events."""
    from loadgen.bench.reference import same  # its DuckDB has no place in the workers, which import this module too

    if job.work == "sessions":
        frames, within = list(_visits(job)), True
    else:
        frames = [frame for nth in range(GENERATIONS) for frame in _generation(job, nth)]
        within = told["end_to_start"] <= GROWTH_MAX
    right = sessions_of(pl.concat(frames))
    told["sessions"] = right.height
    return within and same(right, read_table(tables_folder(job.data) / job.name))


def sessions_of(events: pl.DataFrame) -> pl.DataFrame:
    at, gap_us = pl.col("event_time"), GAP_S * SPOT_US
    begins = (at - at.shift() >= gap_us).fill_null(True).cum_sum().over("user_id")
    numbered = events.sort("user_id", "event_time").with_columns(begins.alias("nth"))
    found = numbered.group_by("user_id", "nth").agg(
        at.min().alias("window_start_us"),
        pl.len().cast(pl.Int64).alias("events"),
        at.max().alias("last"),
    )
    return found.drop("nth")


RUNNERS: dict[str, dict[str, Runner]] = {"streamflow": {"sessions": _rate, "sessions-memory": _generations}}
