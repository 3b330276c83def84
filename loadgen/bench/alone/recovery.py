"""Recovery: a worker with `keys` of open window state is killed, and another one goes on.

One window, which does not close, holds an event of each key. The only worker is killed with SIGKILL; at once new
events go to every partition of the topic, and reach every task of the grouping. Measured, by a process that looks at
the log every 5 ms:

- `taken_s`: from the start of the replacing process (its imports included) until it has committed steps that took in
  the new events, on all tasks that read the topic and on all tasks that hold the state. Each of these has restored its
  state by then;
- `taken_after_kill_s`: the same from the kill, so with the time in which the supervisor notices it;
- `fired_s`: then the topic is ended; from that moment until the window's results, a row for each key, are in the table.
"""

import os
import signal
import time
from typing import Any

import polars as pl

from loadgen.bench.alone.processes import supervised, wait_until
from loadgen.bench.job import Job, Runner
from loadgen.bench.streamflow_runner import ENVELOPE_EVENTS, PARTITIONS, read_table
from loadgen.profiles import ads
from streamflow.engine.plan import Plan
from streamflow.engine.stores import tables_folder
from streamflow.examples.ads import build_users
from streamflow.runtime.launch import launch
from streamflow.runtime.pipeline import Pipeline
from streamflow.runtime.progress import is_drained, is_finished
from streamflow.topics import Publisher, open_log
from streamflow.topics.protocol import Log, Snapshot, TaskId, TopicConfig, WorkerInfo

TARGET = "loadgen.bench.alone.recovery:pipeline"
TOPIC = "events"
WINDOW_S = 3_600
NEW_PER_PARTITION = 1_000
"""Events after the kill: enough that the keys among them fall to every task of the grouping."""


def pipeline() -> Pipeline:
    """What the workers execute: W2 with an hour's window."""
    job = Job.current()
    return build_users(job.name, TOPIC, job.name, window_s=WINDOW_S)


def prepare(job: Job) -> None:
    log = open_log(job.data)
    log.create_topic(TOPIC, TopicConfig(PARTITIONS))
    publisher = Publisher(log, TOPIC, name="bench")
    for sequence, frame in enumerate(_state(job).iter_slices(ENVELOPE_EVENTS)):
        publisher.publish_frame(frame, event_time="event_time", sequence=sequence)
    log.close()


def _state(job: Job) -> pl.DataFrame:
    """An event of each key, all in one window."""
    number = pl.int_range(int(job.parameters["keys"]), eager=True)
    return _visits(number, ads.START_US_DEFAULT + number % 1_000_000)


def _news(job: Job) -> pl.DataFrame:
    """Events of some of the keys, in the same window."""
    keys = int(job.parameters["keys"])
    number = pl.int_range(NEW_PER_PARTITION * PARTITIONS, eager=True)
    return _visits(number * 7_919 % keys, ads.START_US_DEFAULT + 1_000_000 + number)


def _visits(users: pl.Series, times_us: pl.Series) -> pl.DataFrame:
    names = pl.select(pl.format("00000000-0000-0000-0000-{}", users.cast(pl.String).str.zfill(12))).to_series()
    return pl.DataFrame({"user_id": names, "event_time": times_us})


def _run(job: Job) -> dict[str, Any]:
    log = open_log(job.data)
    plan = launch(pipeline(), log)
    try:
        with supervised(plan, job.data, TARGET, 1):
            return _killed_and_back(job, plan, log)
    finally:
        log.close()


def _killed_and_back(job: Job, plan: Plan, log: Log) -> dict[str, Any]:
    def seen() -> Snapshot:
        return log.snapshot(plan.pipeline)

    wait_until(lambda: is_drained(plan, seen()), "the first worker to take in all keys")
    before = seen()
    (victim,) = before.workers.values()
    publisher = Publisher(log, TOPIC, name="bench")
    killed_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    os.kill(victim.pid, signal.SIGKILL)
    first = publisher.last_sequence + 1
    for nth, frame in enumerate(_news(job).iter_slices(NEW_PER_PARTITION)):
        publisher.publish_frame(frame, event_time="event_time", sequence=first + nth)
    wait_until(lambda: _took_all(plan, before, seen()), "the second worker to take in new events on all tasks")
    taken_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    (heir,) = (worker for worker in seen().workers.values() if worker.id != victim.id)
    publisher.end()
    ended_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    wait_until(lambda: is_finished(plan, seen()), "the window's results")
    fired_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ended_s
    return {
        "events": int(job.parameters["keys"]),
        "seconds_inner": taken_s - _started_s(heir),
        "taken_s": taken_s - _started_s(heir),
        "taken_after_kill_s": taken_s - killed_s,
        "fired_s": fired_s,
    }


def _took_all(plan: Plan, before: Snapshot, now: Snapshot) -> bool:
    """Every task but the sink's has read on, and nothing is left for it to read."""

    def took(task: TaskId) -> bool:
        state = now.tasks[task]
        return state.offset > before.tasks[task].offset and state.offset == now.ends[state.topic, task.partition]

    return all(took(task) for task in now.tasks if plan.stage(task.stage).kind != "sink")


def _started_s(worker: WorkerInfo) -> float:
    """Seconds since boot, to 10 ms."""
    return worker.process_started / os.sysconf("SC_CLK_TCK")


def verified(job: Job, told: dict[str, Any]) -> bool:
    """One row per key, with what was before the kill and what came after it."""
    from loadgen.bench.reference import same  # its DuckDB has no place in the workers, which import this module too

    micros = (pl.col("event_time") % 1_000_000).sum().alias("micros")
    events = pl.concat([_state(job), _news(job)])
    right = events.group_by("user_id").agg(pl.len().cast(pl.Int64).alias("events"), micros)
    start = ads.START_US_DEFAULT // (WINDOW_S * 1_000_000) * WINDOW_S * 1_000_000
    return same(right.with_columns(window_start_us=start), read_table(tables_folder(job.data) / job.name))


RUNNERS: dict[str, dict[str, Runner]] = {"streamflow": {"recovery": _run}}
