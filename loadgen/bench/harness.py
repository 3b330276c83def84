"""Measures systems in turn and verifies what they answer. Printing and options are `loadgen/cli.py`'s."""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from loadgen.bench.inputs import Inputs, written
from loadgen.bench.measure import measure
from loadgen.bench.reference import reference, same
from loadgen.bench.result import Run
from loadgen.bench.systems import SYSTEMS, WORKS
from streamflow.base.errors import DataError, StreamFlowError

TIMEOUT_S = 1_800.0
_LOG_LINES = 15


@dataclass(frozen=True)
class Plan:
    """What to measure. `repeat`: rounds, each with every system in turn, so that a slow phase of the machine hits
    all. `folder`: where inputs are kept between runs. DataError for unknown names and counts below 1."""

    works: Sequence[str]
    systems: Sequence[str]
    events: int
    folder: Path
    repeat: int = 1
    cores: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _known("work", self.works, WORKS)
        _known("system", self.systems, tuple(SYSTEMS))
        for name in ("events", "repeat", "cores"):
            if getattr(self, name) < 1:
                raise DataError(f"--{name} must be at least 1, not {getattr(self, name)}. Give a positive number")


def bench(plan: Plan, on_run: Callable[[Run], None] = lambda _: None) -> list[Run]:
    """Every system on every work it knows, `repeat` times. StreamFlowError with its last output if one fails."""
    inputs = written(plan.folder, plan.events, plan.seed)
    for name in plan.systems:
        prepare = SYSTEMS[name].prepare
        if prepare:
            prepare(inputs)
    runs: list[Run] = []
    for work in plan.works:
        right = reference(work, inputs)
        for _ in range(plan.repeat):
            for name in plan.systems:
                if work in SYSTEMS[name].works:
                    runs.append(_measured(work, name, inputs, plan.cores, right))
                    on_run(runs[-1])
    return runs


def _measured(work: str, system: str, inputs: Inputs, cores: int, right: pl.DataFrame) -> Run:
    with tempfile.TemporaryDirectory(prefix="loadgen-bench-") as scratch:
        answer, told, log = (Path(scratch) / name for name in ("answer.parquet", "told.json", "log"))
        job = {
            "system": system,
            "work": work,
            "folder": str(inputs.folder.resolve()),
            "events": inputs.events,
            "seed": inputs.seed,
            "cores": cores,
            "answer": str(answer),
            "told": str(told),
        }
        command = [sys.executable, "-m", "loadgen.bench.child", json.dumps(job)]
        env = os.environ | {"POLARS_MAX_THREADS": str(cores)}
        usage = measure(command, log, env, TIMEOUT_S)
        if usage.exit_code:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise StreamFlowError(
                f"system '{system}' failed on '{work}' with exit code {usage.exit_code}. Its last output:\n{tail}"
            )
        return Run(
            work=work,
            system=system,
            cores=cores,
            events=inputs.events,
            seconds=usage.seconds,
            seconds_inner=json.loads(told.read_text())["seconds_inner"],
            cpu_seconds=usage.cpu_seconds,
            peak_bytes=usage.peak_bytes,
            verified=same(right, pl.read_parquet(answer)),
        )


def _known(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise DataError(f"there is no {what} '{name}'. Give some of {', '.join(known)}, with commas between")
