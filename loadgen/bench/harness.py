"""Measures systems in turn and verifies what they answer. Printing and options are `cli.py`'s."""

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from loadgen.bench.inputs import Inputs, folder_of, written
from loadgen.bench.job import Job
from loadgen.bench.measure import Usage, measure
from loadgen.bench.reference import reference, same
from loadgen.bench.result import Run
from loadgen.bench.systems import SYSTEMS
from loadgen.bench.works import Work, work_named
from streamflow.base.errors import DataError, StreamFlowError

TIMEOUT_S = 1_800.0
_LOG_LINES = 15

OnRun = Callable[[Run], None]


@dataclass(frozen=True)
class Plan:
    """What to measure. `events`, `repeat`: None: what each work has. `repeat`: rounds, each with every system in turn,
    so that a slow phase of the machine hits all. `folder`: where inputs and the environments of peers are kept between
    runs. `options`, `points`: see `Work.parameters`. DataError for unknown names and counts below 1."""

    works: Sequence[str]
    systems: Sequence[str]
    events: int | None
    folder: Path
    repeat: int | None = None
    cores: int = 1
    seed: int = 0
    options: Mapping[str, float] = field(default_factory=dict)
    points: Sequence[int] = ()

    def __post_init__(self) -> None:
        for name in self.works:
            work_named(name)
        for name in self.systems:
            if name not in SYSTEMS:
                raise DataError(f"there is no system '{name}'. Give some of {', '.join(SYSTEMS)}, with commas between")
        counts = [(name, getattr(self, name)) for name in ("events", "repeat", "cores")]
        for name, value in [*counts, *self.options.items(), *(("points", point) for point in self.points)]:
            if value is not None and value <= 0:
                raise DataError(f"--{name} must be above 0, not {value}. Give a positive number")

    def home(self, system: str) -> Path:
        """Where the environment of a system is kept."""
        return self.folder.resolve() / "systems" / system

    def inputs(self, work: Work) -> Inputs:
        """Of a work, written if it needs them."""
        events = self.events or work.events
        if work.inputs:
            return written(self.folder, events, self.seed)
        return Inputs(folder_of(self.folder, events, self.seed), events, self.seed)


def bench(plan: Plan, on_run: OnRun = lambda _: None) -> list[Run]:
    """Every work, by every system that knows it. StreamFlowError with its last output if one fails."""
    plan.folder.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    for name in plan.works:
        work = work_named(name)
        measured = _compared(plan, name, work) if work.module is None else _alone(plan, name, work, work.module)
        for run in measured:
            runs.append(run)
            on_run(run)
    return runs


def _compared(plan: Plan, name: str, work: Work) -> Iterator[Run]:
    inputs = plan.inputs(work)
    able = [system for system in plan.systems if name in SYSTEMS[system].works]
    for system in able:
        SYSTEMS[system].prepare(inputs, plan.home(system))
    right = reference(name, inputs)
    for _ in range(plan.repeat or work.repeat):
        for system in able:
            with _job(plan, name, system, inputs, {}) as (job, path):
                command = SYSTEMS[system].command(path, plan.home(system), plan.cores)
                usage, told = _done(job, path, command)
                answer = SYSTEMS[system].answer(Path(job.answer), right.schema)
                yield _run(job, usage, told, verified=same(right, answer))


def _alone(plan: Plan, name: str, work: Work, module: str) -> Iterator[Run]:
    inputs, measured = plan.inputs(work), importlib.import_module(module)
    for _ in range(plan.repeat or work.repeat):
        for system, parameters in product(work.systems, work.parameters(plan.options, plan.points)):
            with _job(plan, name, system, inputs, parameters) as (job, path):
                measured.prepare(job)
                command = [sys.executable, "-m", "loadgen.bench.child", module, str(path)]
                usage, told = _done(job, path, command)
                point = {} if work.varied is None else {"point": f"{work.varied} {parameters[work.varied]:,}"}
                verified = measured.verified(job, told)
                yield _run(job, usage, point | parameters | told, verified=verified)


@contextmanager
def _job(
    plan: Plan, work: str, system: str, inputs: Inputs, parameters: Mapping[str, float]
) -> Iterator[tuple[Job, Path]]:
    # Beside the inputs, not in the machine's folder for such, which may be small or in memory.
    with tempfile.TemporaryDirectory(prefix="run-", dir=plan.folder.resolve()) as scratch:
        job = Job.make(work, system, inputs, plan.cores, Path(scratch), parameters)
        path = Path(scratch) / "job.json"
        job.write(path)
        yield job, path


def _done(job: Job, path: Path, command: Sequence[str]) -> tuple[Usage, dict[str, Any]]:
    log = path.with_name("log")
    env = os.environ | {"POLARS_MAX_THREADS": str(job.cores)}
    usage = measure(command, log, env, TIMEOUT_S, job.cores)
    if usage.exit_code:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
        raise StreamFlowError(
            f"system '{job.system}' failed on '{job.work}' with exit code {usage.exit_code}. Its last output:\n{tail}"
        )
    return usage, json.loads(Path(job.told).read_text())


def _run(job: Job, usage: Usage, told: Mapping[str, Any], *, verified: bool) -> Run:
    measured = {
        "work": job.work,
        "system": job.system,
        "cores": job.cores,
        "events": job.events,
        "seconds": usage.seconds,
        "cpu_seconds": usage.cpu_seconds,
        "peak_bytes": usage.peak_bytes,
        "verified": verified,
    }
    return Run.of({**measured, **told})
