"""Scaling: W1 with one worker and with two, on the same cores, in the same round."""

from pathlib import Path
from typing import Any

from loadgen.bench.job import Job, Runner
from loadgen.bench.reference import reference, same
from loadgen.bench.streamflow_runner import publish, read_table, run_to_table, topic_of


def prepare(job: Job) -> None:
    publish(job.inputs)


def _run(job: Job) -> dict[str, Any]:
    return run_to_table(job, int(job.parameters["workers"]))


def verified(job: Job, told: dict[str, Any]) -> bool:
    return same(reference(f"W1-{topic_of(job.work)}", job.inputs), read_table(Path(job.answer)))


RUNNERS: dict[str, dict[str, Runner]] = {"streamflow": dict.fromkeys(("scale-json", "scale-envelope"), _run)}
