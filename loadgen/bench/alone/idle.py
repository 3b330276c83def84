"""An idle worker: one process with all tasks of a pipeline that has nothing to do, its topic read to the end.

After it has taken up what there was, and rested for `REST_S`, its memory is read (RSS: resident; PSS: shared pages
divided by those who share them), and its CPU time over `duration_s`. That it was at work all the time is then shown by
an event that it takes in.
"""

import os
import time
from pathlib import Path
from typing import Any

from loadgen.bench.alone.processes import memory_of, start_worker, wait_until
from loadgen.bench.job import Job, Runner
from loadgen.bench.streamflow_runner import PARTITIONS
from loadgen.profiles import ads
from streamflow.examples.ads import build
from streamflow.runtime.launch import launch
from streamflow.runtime.pipeline import Pipeline
from streamflow.runtime.progress import is_drained
from streamflow.topics import Publisher, open_log
from streamflow.topics.protocol import TopicConfig

TARGET = "loadgen.bench.alone.idle:pipeline"
TOPIC = "events"
EVENTS = 10_000
"""Enough that every task has done a step of each kind: windows have closed and rows are in the table."""
REST_S = 3.0


def pipeline() -> Pipeline:
    """What the worker executes: W1."""
    job = Job.current()
    return build(job.name, TOPIC, job.name, ads.campaigns(job.seed))


def prepare(job: Job) -> None:
    log = open_log(job.data)
    log.create_topic(TOPIC, TopicConfig(PARTITIONS))
    Publisher(log, TOPIC).publish_frame(ads.events(0, EVENTS, job.seed, events_per_s=100), event_time="event_time")
    log.close()


def _run(job: Job) -> dict[str, Any]:
    log = open_log(job.data)
    plan = launch(pipeline(), log)
    worker = start_worker(TARGET, job.data)
    try:
        wait_until(lambda: is_drained(plan, log.snapshot(plan.pipeline)), "the worker to take in what there is")
        time.sleep(REST_S)
        cpu_s, began_s = _cpu_seconds(worker.pid), time.monotonic()
        time.sleep(job.parameters["duration_s"])
        cpu_s, seconds = _cpu_seconds(worker.pid) - cpu_s, time.monotonic() - began_s
        sizes = memory_of(worker.pid)
        Publisher(log, TOPIC).publish_frame(ads.events(EVENTS, 1, job.seed, events_per_s=100), event_time="event_time")
        wait_until(lambda: is_drained(plan, log.snapshot(plan.pipeline)), "the worker to take in one more event")
    finally:
        worker.terminate()
        worker.wait()
        log.close()
    return {"seconds_inner": seconds, "cpu_seconds": cpu_s, "cpu_share": cpu_s / seconds, "events": EVENTS + 1, **sizes}


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def verified(job: Job, told: dict[str, Any]) -> bool:
    """The worker took in the last event, and nothing was lost before."""
    log = open_log(job.data)
    snapshot = log.snapshot(job.name)
    log.close()
    sources = [state for state in snapshot.tasks.values() if state.topic == TOPIC]
    return sum(state.offset for state in sources) == EVENTS + 1


RUNNERS: dict[str, dict[str, Runner]] = {"streamflow": {"idle": _run}}
