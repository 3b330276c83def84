"""The systems that can be measured. To add one: write its runner beside this file, and a line in `SYSTEMS`.

A runner gets the inputs, the path where the answer goes (Parquet, columns as in `reference.py`) and the cores that it
may use. It runs in a process of its own; what it imports at the top of its function counts as start-up.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loadgen.bench import reference
from loadgen.bench.inputs import Inputs

Runner = Callable[[Inputs, Path, int], None]


@dataclass(frozen=True)
class System:
    """`works`: work → runner. `prepare`: called once per input and not measured, for what must be there before, such
    as events in a topic; it may write below `inputs.folder` and must do nothing where that is done already."""

    works: Mapping[str, Runner]
    prepare: Callable[[Inputs], None] | None = field(default=None)


def _streamflow(work: str) -> Runner:
    def run(inputs: Inputs, answer: Path, cores: int) -> None:
        from loadgen.bench import streamflow_runner

        streamflow_runner.RUNNERS[work](inputs, answer, cores)

    return run


def _publish(inputs: Inputs) -> None:
    from loadgen.bench import streamflow_runner

    streamflow_runner.publish(inputs)


SYSTEMS: dict[str, System] = {
    "streamflow": System({work: _streamflow(work) for work in ("W1-json", "W1-envelope")}, prepare=_publish),
    "duckdb": System({"W1-json": reference.w1_duckdb_json, "W1-envelope": reference.w1_duckdb_parquet}),
    "polars": System({"W1-json": reference.w1_polars_json, "W1-envelope": reference.w1_polars_parquet}),
}
WORKS = tuple(sorted({work for system in SYSTEMS.values() for work in system.works}))
