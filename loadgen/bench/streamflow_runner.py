"""StreamFlow's own runner: a durable topic that holds the events already, worker processes, results in a Delta table.

Exactly-once is on, as it always is. Each run is a new pipeline that reads the whole topic from its beginning.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from loadgen.bench.inputs import Inputs
from loadgen.bench.job import Job, Runner
from loadgen.bench.works import compared
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
from streamflow.topics import Publisher, open_log
from streamflow.topics.protocol import Snapshot, TopicConfig

TARGET = "loadgen.bench.streamflow_runner:pipeline"
ENVELOPE_EVENTS = 10_000
JSON_BATCH_EVENTS = 1_000
PARTITIONS = 16


def publish(inputs: Inputs) -> None:
    """Both topics, once: `envelope` in batch envelopes, `json` as single events in batches. Goes on where it
    stopped."""
    log = open_log(log_folder(inputs))
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
    log.prune()  # what earlier runs have left
    log.close()


def log_folder(inputs: Inputs) -> Path:
    """Where the topics of these inputs are, and all that pipelines make of them."""
    return inputs.folder / "streamflow"


def of_work(work: str, name: str, seed: int) -> Pipeline:
    """The pipeline of a work such as W1-json, under this name and into a table of this name."""
    topic = topic_of(work)
    return build_users(name, topic, name) if work.startswith("W2") else build(name, topic, name, ads.campaigns(seed))


def topic_of(work: str) -> str:
    """The topic of the inputs that a work reads: what its name ends in."""
    return work.rpartition("-")[2]


def pipeline() -> Pipeline:
    """What the workers of a run execute."""
    job = Job.current()
    return of_work(job.work, job.name, job.seed)


@dataclass
class _Watch:
    """Notes when the first worker has joined: its first sign of life is given by the act of joining."""

    plan: Plan
    joined_us: int | None = field(default=None, init=False)

    def finished(self, snapshot: Snapshot) -> bool:
        if self.joined_us is None and snapshot.workers:
            self.joined_us = min(worker.heartbeat_us for worker in snapshot.workers.values())
        return is_finished(self.plan, snapshot)


def finish(built: Pipeline, target: str, folder: Path, workers: int) -> float:
    """Run a pipeline, which `target` names for the worker processes, over topics that have ended.

    Seconds from the moment when the first worker had joined until the last rows were in the table, which has the
    pipeline's name. The pipeline is forgotten; the table stays."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    log = open_log(folder)
    plan = launch(built, log, built.settings)
    watch = _Watch(plan)
    Supervisor(plan, log, folder, target, workers, Policy(workers, workers), watch.finished).run()
    assert watch.joined_us is not None
    seconds = (_last_commit_us(tables_folder(folder) / plan.pipeline) - watch.joined_us) / 1e6
    log.reset_pipeline(plan.pipeline)
    log.close()
    return seconds


def _last_commit_us(table: Path) -> int:
    """When the newest version of a Delta table became visible: µs of wall time, as the file system noted it."""
    newest = max((table / "_delta_log").glob("*.json"))
    return newest.stat().st_ctime_ns // 1_000


def run_to_table(job: Job, workers: int) -> dict[str, Any]:
    """The work over the topics of the inputs; the answer is a Delta table."""
    folder = log_folder(job.inputs)
    seconds = finish(pipeline(), TARGET, folder, workers)
    (tables_folder(folder) / job.name).rename(job.answer)
    return {"seconds_inner": seconds}


def read_table(path: Path) -> pl.DataFrame:
    """The answer that `run_to_table` left, with the columns of the reference."""
    # Not at the top: the workers import this module, and have no use for the catalog's libraries.
    from streamflow.stores.table import Catalog

    start = pl.col("window_start").dt.epoch("us").alias("window_start_us")
    return Catalog(path.parent).read(path.name).with_columns(start).drop("window_start")


def _run(job: Job) -> dict[str, Any]:
    return run_to_table(job, job.cores)


RUNNERS: Mapping[str, Mapping[str, Runner]] = {"streamflow": dict.fromkeys(compared(), _run)}
"""With a worker per core."""
