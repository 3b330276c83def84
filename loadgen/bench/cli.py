"""`loadgen bench`, `bench-plot` and `profile`: options and printing. What is measured, and how, is in the modules
beside this one, which are imported when they are needed."""

import os
from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from streamflow.base.errors import DataError

_WIDTH = 120

Inputs = Annotated[
    Path, typer.Option("--inputs", metavar="FOLDER", help="Where input files and peers are kept for the next time.")
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw the rates there, .svg or .png (extra `bench`).")
]


def bench(
    works: Annotated[list[str], typer.Argument(metavar="WORK…", help="What to measure; see below.")],
    events: Annotated[int, typer.Option(metavar="N", help="Events of the input.")] = 5_000_000,
    systems: Annotated[
        str, typer.Option(metavar="NAMES", help="Systems, commas between.")
    ] = "streamflow,duckdb,polars",
    repeat: Annotated[int, typer.Option(help="Rounds; the median run of each system is shown.")] = 3,
    cores: Annotated[int, typer.Option(help="Cores that each system may use.")] = os.cpu_count() or 1,
    seed: Annotated[int, typer.Option(help="Another seed, other events.")] = 0,
    folder: Inputs = Path("bench-inputs"),
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every run there.")] = None,
    plot: Plot = None,
) -> None:
    """Measure systems on the advertisement events: wall time, CPU, memory, and whether the answer is right.

    W1: views per campaign and 10 s window. W2: events per user, a million of them, and 10 s window. StreamFlow reads
    a durable topic (of JSON events, or of batch envelopes), with exactly-once on and a worker per core. DuckDB and
    Polars are limits: batch queries over the same events as NDJSON (-json) or Parquet (-envelope). Other systems
    (flink, spark, bytewax, bytewax-rows, pathway) read the NDJSON file; each gets an environment of its own, made
    when it is first asked for.

    Each run is a process of its own, its children included; systems take turns. Figures are medians, shown only of
    answers that were verified; `streamflow ×` is how many times StreamFlow's rate was theirs in the same round.

    **Examples**

    `loadgen bench W1-envelope` — 5 million events, three rounds

    `loadgen bench W1-json W2-json --systems streamflow,flink,spark --json runs.json --plot runs.svg`
    """
    from loadgen.bench.harness import Plan
    from loadgen.bench.harness import bench as measured
    from loadgen.bench.plot import check, drawn
    from loadgen.bench.result import medians
    from loadgen.bench.table import rates

    if plot is not None:
        check(plot)
    console = Console(stderr=True)
    plan = Plan(works, systems.split(","), events, folder, repeat, cores, seed)
    runs = measured(plan, lambda run: console.print(f"{run.work} {run.system} {run.seconds:.2f} s", highlight=False))
    if json:
        json.write_bytes(orjson.dumps([run.as_dict() for run in runs], option=orjson.OPT_INDENT_2))
    found = medians(runs)
    _out().print(rates(found))
    if plot is not None:
        drawn(found, plot)
    if not all(run.verified for run in runs):
        raise typer.Exit(1)


def bench_plot(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="What `bench --json` wrote.")],
    plot: Annotated[Path, typer.Option("--to", metavar="FILE", help="The figure, .svg or .png.")],
) -> None:
    """Draw the rates of measured runs: medians of verified answers, a group of bars for each work.

    **Example**

    `loadgen bench-plot runs.json --to runs.svg`
    """
    from loadgen.bench.plot import check, drawn
    from loadgen.bench.result import Run, medians

    check(plot)
    runs = []
    for file in files:
        try:
            runs += [Run.of(entry) for entry in orjson.loads(file.read_bytes())]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"'{file}' holds no runs: {error}. Give a file that `bench --json` wrote") from error
    drawn(medians(runs), plot)


def profile(
    work: Annotated[str, typer.Argument(metavar="WORK", help="W1-json or W1-envelope.")],
    events: Annotated[int, typer.Option(metavar="N", help="Events of the input.")] = 5_000_000,
    folder: Inputs = Path("bench-inputs"),
) -> None:
    """Show where StreamFlow's time goes per event, with one worker.

    **Example**

    `loadgen profile W1-envelope --events 5000000`
    """
    from loadgen.bench.inputs import written
    from loadgen.bench.profile import profile as profiled
    from loadgen.bench.systems import COMPARED
    from loadgen.bench.table import shares

    if work not in COMPARED:
        raise DataError(f"there is no work '{work}' to profile. Give one of {', '.join(COMPARED)}")
    seconds, found = profiled(work, written(folder, events))
    _out().print(shares(work, found, seconds, events))
    _out().print(f"{events:,} events in {seconds:.2f} s: {events / seconds:,.0f} events/s")


def _out() -> Console:
    """stdout; elsewhere than on a terminal a table keeps its width."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)
