"""`loadgen bench`, `bench-plot` and `profile`: options and printing. What is measured, and how, is in the modules
beside this one, which are imported when they are needed."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer
from rich.console import Console

from loadgen.bench.works import PEERS, WORKS, compared
from streamflow.base.errors import DataError

if TYPE_CHECKING:
    from loadgen.bench.result import Run

_WIDTH = 120

_HELP = """\
Measure StreamFlow, alone or beside others. Each run is made of real processes, and its answer is verified.

{works}

W1 and W2 compare: StreamFlow reads a durable topic, with exactly-once on and a worker per core. DuckDB and Polars are
limits: batch queries over the same events as NDJSON or Parquet. Other systems ({peers}) read the NDJSON file; each gets
an environment of its own, made when it is first asked for. Systems take turns; `streamflow ×` is how many times
StreamFlow's rate was theirs in the same round. The other works measure StreamFlow alone. A figure is shown only of an
answer that was verified; exit code 1 if one was not.

**Examples**

`loadgen bench W1-envelope` — 5 million events, three rounds

`loadgen bench W1-json W2-json --systems streamflow,flink,spark --json runs.json --plot runs.svg`

`loadgen bench latency-table --rate 50000 --seconds 20`

`loadgen bench growth-keys --points 1000,10000000 --events 10000000`
"""

Inputs = Annotated[
    Path, typer.Option("--inputs", metavar="FOLDER", help="Where input files and peers are kept for the next time.")
]
Plot = Annotated[
    Path | None, typer.Option("--plot", metavar="FILE", help="Draw W1 and W2 there, .svg or .png (extra `bench`).")
]


def bench(
    works: Annotated[list[str], typer.Argument(metavar="WORK…", help="What to measure; see above.")],
    events: Annotated[
        int | None, typer.Option(metavar="N", help="Events of the input; default: 5 million, less where said.")
    ] = None,
    systems: Annotated[
        str, typer.Option(metavar="NAMES", help="Systems for W1 and W2, commas between.")
    ] = "streamflow,duckdb,polars",
    repeat: Annotated[
        int | None, typer.Option(help="Rounds; medians are shown. Default: 3, or 1 of most works of one system.")
    ] = None,
    cores: Annotated[int, typer.Option(help="Cores that each system may use.")] = os.cpu_count() or 1,
    seed: Annotated[int, typer.Option(help="Another seed, other events.")] = 0,
    rate: Annotated[float | None, typer.Option(metavar="EVENTS_PER_S", help="latency: the load.")] = None,
    seconds: Annotated[float | None, typer.Option(metavar="S", help="latency, idle: how long.")] = None,
    keys: Annotated[int | None, typer.Option(metavar="N", help="recovery, sessions: keys of state.")] = None,
    points: Annotated[str, typer.Option(metavar="N,N…", help="growth, scale: the values to measure at.")] = "",
    folder: Inputs = Path("bench-inputs"),
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every run there.")] = None,
    plot: Plot = None,
) -> None:
    """Measure StreamFlow, alone or beside others. Each run is made of real processes, and its answer is verified."""
    from loadgen.bench.harness import Plan
    from loadgen.bench.harness import bench as measured
    from loadgen.bench.plot import check, drawn
    from loadgen.bench.result import medians
    from loadgen.bench.table import tables

    if plot is not None:
        check(plot)
        if not set(works) & set(compared()):
            raise DataError(f"--plot draws {', '.join(compared())}, of which none is to be measured. Leave it out")
    console = Console(stderr=True)
    given = {"rate": rate, "duration_s": seconds, "keys": keys}
    options = {name: float(value) for name, value in given.items() if value is not None}
    plan = Plan(works, systems.split(","), events, folder, repeat, cores, seed, options, _numbers(points))
    runs = measured(plan, lambda run: console.print(_told(run), highlight=False))
    if json:
        json.write_bytes(orjson.dumps([run.as_dict() for run in runs], option=orjson.OPT_INDENT_2))
    found = medians(runs)
    for table in tables(found):
        _out().print(table)
    if plot is not None:
        drawn(found, plot)
    if not all(run.verified for run in runs):
        raise typer.Exit(1)


def bench_help() -> str:
    """What `loadgen bench --help` says."""
    listed = "\n".join(f"- `{name}` — {work.help}" for name, work in WORKS.items())
    return _HELP.format(works=listed, peers=", ".join(PEERS))


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
    work: Annotated[str, typer.Argument(metavar="WORK", help="W1-json, W1-envelope, W2-json or W2-envelope.")],
    events: Annotated[int, typer.Option(metavar="N", help="Events of the input.")] = 5_000_000,
    folder: Inputs = Path("bench-inputs"),
) -> None:
    """Show where StreamFlow's time goes per event, with one worker.

    **Example**

    `loadgen profile W1-envelope --events 5000000`
    """
    from loadgen.bench.inputs import written
    from loadgen.bench.profile import profile as profiled
    from loadgen.bench.table import shares

    if work not in compared():
        raise DataError(f"there is no work '{work}' to profile. Give one of {', '.join(compared())}")
    seconds, found = profiled(work, written(folder, events))
    _out().print(shares(work, found, seconds, events))
    _out().print(f"{events:,} events in {seconds:.2f} s: {events / seconds:,.0f} events/s")


def _out() -> Console:
    """stdout; elsewhere than on a terminal a table keeps its width."""
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def _told(run: "Run") -> str:
    return " ".join(part for part in (run.work, run.system, run.point, f"{run.seconds:.2f} s") if part)


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",") if number]
    except ValueError as error:
        raise DataError(f"--points '{text}' is not a list of numbers. Give some as 1,10,100") from error
