"""StreamFlow's own runner: a durable topic that holds the events already, worker processes, results in a Delta table.

Exactly-once is on, as it always is. Each run is a new pipeline that reads the whole topic from its beginning.
"""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loadgen.bench.inputs import Inputs
from loadgen.bench.job import Job, Runner
from loadgen.dataset import to_json
from loadgen.profiles import ads
from streamflow.engine.plan import Plan
from streamflow.engine.stores import tables_folder
from streamflow.examples.ads import build, build_users
from streamflow.runtime.autoscaler import Policy
from streamflow.runtime.launch import launch
from streamflow.runtime.pipeline import Pipeline
from streamflow.runtime.progress import is_finished
from streamflow.runtime.supervisor import Supervisor
from streamflow.topics import Publisher, connect
from streamflow.topics.protocol import Snapshot, TopicConfig

TARGET = "loadgen.bench.streamflow_runner:pipeline"
ENVELOPE_EVENTS = 10_000
JSON_BATCH_EVENTS = 1_000
PARTITIONS = 16
_RUN, _WORK, _SEED = "STREAMFLOW_BENCH_RUN", "STREAMFLOW_BENCH_WORK", "STREAMFLOW_BENCH_SEED"
"""How the run reaches the worker processes, which build the pipeline for themselves."""


def publish(inputs: Inputs) -> None:
    """Both topics, once: `envelope` in batch envelopes, `json` as single events in batches. Goes on where it
    stopped."""
    log = connect(log_folder(inputs))
    for topic, batch in (("envelope", ENVELOPE_EVENTS), ("json", JSON_BATCH_EVENTS)):
        log.create_topic(topic, TopicConfig(PARTITIONS))
        publisher = Publisher(log, topic, name="bench")
        begin = publisher.last_sequence + 1
        for sequence in range(begin, -(-inputs.events // batch)):
            first = sequence * batch
            frame = ads.events(first, min(batch, inputs.events - first), inputs.seed)
            if topic == "envelope":
                publisher.publish_frame(frame, event_time="event_time", sequence=sequence)
            else:
                publisher.publish_batch(to_json(frame), frame["event_time"].to_list(), sequence=sequence)
        publisher.end()
    log.close()


def log_folder(inputs: Inputs) -> Path:
    """Where the topics of these inputs are, and all that pipelines make of them."""
    return inputs.folder / "streamflow"


def of_work(work: str, name: str, seed: int) -> Pipeline:
    """The pipeline of a work such as W1-json, under this name and into a table of this name."""
    question, topic = work.split("-")
    return build(name, topic, name, ads.campaigns(seed)) if question == "W1" else build_users(name, topic, name)


def pipeline() -> Pipeline:
    """What the workers of a run execute."""
    return of_work(os.environ[_WORK], os.environ[_RUN], int(os.environ[_SEED]))


@dataclass
class _Watch:
    """Notes when the first worker has joined: its first sign of life is given by the act of joining."""

    plan: Plan
    joined_us: int | None = field(default=None, init=False)

    def finished(self, snapshot: Snapshot) -> bool:
        if self.joined_us is None and snapshot.workers:
            self.joined_us = min(worker.heartbeat_us for worker in snapshot.workers.values())
        return is_finished(self.plan, snapshot)


def _run(job: Job) -> Mapping[str, Any]:
    folder = log_folder(job.inputs)
    run = f"{job.work}-{secrets.token_hex(4)}"
    os.environ |= {_RUN: run, _WORK: job.work, _SEED: str(job.seed), "POLARS_MAX_THREADS": "1"}
    log = connect(folder)
    plan = launch(pipeline(), log)
    watch = _Watch(plan)
    Supervisor(plan, log, folder, TARGET, job.cores, Policy(job.cores, job.cores), watch.finished).run()
    table = tables_folder(folder) / run
    assert watch.joined_us is not None
    seconds = last_commit_us(table) / 1e6 - watch.joined_us / 1e6
    log.reset_pipeline(run)
    log.close()
    table.rename(job.answer)
    return {"seconds_inner": seconds}


def last_commit_us(table: Path) -> int:
    """When the newest version of a Delta table became visible: µs of wall time, as the file system noted it."""
    newest = max((table / "_delta_log").glob("*.json"))
    return newest.stat().st_ctime_ns // 1_000


RUNNERS: Mapping[str, Mapping[str, Runner]] = {
    "streamflow": dict.fromkeys(("W1-json", "W1-envelope", "W2-json", "W2-envelope"), _run)
}
"""With a worker per core."""
