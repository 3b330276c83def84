"""Measures systems in turn and verifies what they answer. Printing and options are `cli.py`'s."""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from loadgen.bench.inputs import Inputs, written
from loadgen.bench.job import Job
from loadgen.bench.measure import measure
from loadgen.bench.reference import reference, same
from loadgen.bench.result import Run
from loadgen.bench.systems import COMPARED, SYSTEMS
from streamflow.base.errors import DataError, StreamFlowError

TIMEOUT_S = 1_800.0
_LOG_LINES = 15


@dataclass(frozen=True)
class Plan:
    """What to measure. `repeat`: rounds, each with every system in turn, so that a slow phase of the machine hits
    all. `folder`: where inputs and the environments of peers are kept between runs. DataError for unknown names and
    counts below 1."""

    works: Sequence[str]
    systems: Sequence[str]
    events: int
    folder: Path
    repeat: int = 1
    cores: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _known("work", self.works, COMPARED)
        _known("system", self.systems, tuple(SYSTEMS))
        for name in ("events", "repeat", "cores"):
            if getattr(self, name) < 1:
                raise DataError(f"--{name} must be at least 1, not {getattr(self, name)}. Give a positive number")

    def home(self, system: str) -> Path:
        """Where the environment of a system is kept."""
        return self.folder.resolve() / "systems" / system


def bench(plan: Plan, on_run: Callable[[Run], None] = lambda _: None) -> list[Run]:
    """Every system on every work it knows, `repeat` times. StreamFlowError with its last output if one fails."""
    inputs = written(plan.folder, plan.events, plan.seed)
    for name in plan.systems:
        if set(plan.works) & set(SYSTEMS[name].works):
            SYSTEMS[name].prepare(inputs, plan.home(name))
    runs: list[Run] = []
    for work in plan.works:
        right = reference(work, inputs)
        for _ in range(plan.repeat):
            for name in plan.systems:
                if work in SYSTEMS[name].works:
                    runs.append(_measured(plan, work, name, inputs, right))
                    on_run(runs[-1])
    return runs


def _measured(plan: Plan, work: str, name: str, inputs: Inputs, right: pl.DataFrame) -> Run:
    system = SYSTEMS[name]
    # Beside the inputs, not in the system's folder for such, which may be small or in memory.
    with tempfile.TemporaryDirectory(prefix="run-", dir=plan.folder.resolve()) as scratch:
        path, log = Path(scratch) / "job.json", Path(scratch) / "log"
        job = Job.make(work, name, inputs, plan.cores, Path(scratch), {})
        job.write(path)
        env = os.environ | {"POLARS_MAX_THREADS": str(plan.cores)}
        usage = measure(system.command(path, plan.home(name), plan.cores), log, env, TIMEOUT_S, plan.cores)
        if usage.exit_code:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise StreamFlowError(
                f"system '{name}' failed on '{work}' with exit code {usage.exit_code}. Its last output:\n{tail}"
            )
        told = json.loads(Path(job.told).read_text())
        return Run(
            work=work,
            system=name,
            cores=plan.cores,
            events=inputs.events,
            seconds=usage.seconds,
            seconds_inner=told.pop("seconds_inner"),
            cpu_seconds=usage.cpu_seconds,
            peak_bytes=usage.peak_bytes,
            verified=same(right, system.answer(Path(job.answer), right.schema)),
            extra=told,
        )


def _known(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise DataError(f"there is no {what} '{name}'. Give some of {', '.join(known)}, with commas between")
