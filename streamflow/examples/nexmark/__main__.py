"""A Nexmark query from its events to its checked result.

    python -m streamflow.examples.nexmark q5 --events 200000

Publishes the events with loadgen, runs the query's pipeline with worker processes until everything is through, shows
its table, and compares it with what DuckDB answers to the same question. `all` does so for each query in turn.
"""

import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import polars as pl
import typer
from rich.console import Console

from loadgen.profiles.nexmark import Shape
from streamflow.base.errors import DataError
from streamflow.cli.output import print_frame, told_errors
from streamflow.engine.plan import build_plan
from streamflow.examples.nexmark.check import events_of, expected, found, is_right, module_of
from streamflow.examples.nexmark.events import DISORDER_S
from streamflow.runtime.hints import count
from streamflow.topics import open_log

QUERIES = ("q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q11", "q12")
ROWS_SHOWN = 10
console = Console(highlight=False, soft_wrap=True)


def nexmark(
    query: Annotated[str, typer.Argument(help=f"{', '.join(QUERIES)}, or all.")],
    events: Annotated[int, typer.Option(min=1, help="Events of all kinds together.")] = 200_000,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    seed: Annotated[int, typer.Option(help="Another seed, other events.")] = 0,
    event_rate: Annotated[float, typer.Option(help="Events per second of event time.")] = 10_000,
    out_of_order: Annotated[int, typer.Option(help="Shuffle the times of each so many events.")] = 1,
    partitions: Annotated[int, typer.Option(min=1, help="Of each topic.")] = 16,
    format: Annotated[str, typer.Option(help="Of the events: envelope or json.")] = "envelope",
    data: Annotated[
        Path | None, typer.Option("--data", "-d", help="Keep topics and tables here; else they are removed at the end.")
    ] = None,
) -> None:
    """Run a query of the Nexmark benchmark; exit code 1 if its result is not what DuckDB gives."""
    with told_errors(), tempfile.TemporaryDirectory() if data is None else nullcontext(str(data)) as folder:
        shape = Shape(seed, events_per_s=event_rate, out_of_order=out_of_order)
        chosen = _chosen(query, shape)
        _publish(folder, events, shape, partitions, format)
        equal = [_run_and_check(each, Path(folder), events, shape, workers) for each in chosen]
    raise typer.Exit(0 if all(equal) else 1)


def _chosen(query: str, shape: Shape) -> tuple[str, ...]:
    if query not in (*QUERIES, "all"):
        raise DataError(f"there is no query '{query}'. There are {', '.join(QUERIES)}, and all")
    if shape.disorder_us > DISORDER_S * 1e6:
        raise DataError(
            f"events up to {shape.disorder_us / 1e6:g} s out of order would be late: queries wait {DISORDER_S:g} s. "
            "Give a smaller --out-of-order or a higher --event-rate"
        )
    return QUERIES if query == "all" else (query,)


def _publish(folder: str, events: int, shape: Shape, partitions: int, format: str) -> None:
    console.print(f"[bold]loadgen publishes {events:,} events[/]")
    options = {
        "events": events,
        "seed": shape.seed,
        "event-rate": shape.events_per_s,
        "out-of-order": shape.out_of_order,
        "partitions": partitions,
        "format": format,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    _done([sys.executable, "-m", "loadgen", "nexmark", "--to", folder, *given])


def _run_and_check(query: str, folder: Path, events: int, shape: Shape, workers: int) -> bool:
    module = module_of(query)
    summary = (module.__doc__ or query).splitlines()[0]
    console.print(f"\n[bold]{summary}[/]")
    began_anew = _is_new(folder, module.pipeline.name)
    began_s = time.monotonic()
    target = ["run", module.__name__, "--data", str(folder), "--until", "finished", "--workers", str(workers)]
    _done([sys.executable, "-m", "streamflow", *target])
    seconds = time.monotonic() - began_s
    of_kind = events_of(events, shape)
    answer, right = found(folder, query), expected(module.SQL, of_kind)
    _show(answer)
    equal = is_right(query, answer, right)
    verdict = "[green]equal[/] to" if equal else f"[bold red]DIFFERENT[/] from the {right.height:,} of"
    console.print(f"{query}: {answer.height:,} rows, {verdict} DuckDB's answer")
    if began_anew:
        stages = build_plan(module.pipeline).stages
        read = sum(of_kind[stage.topic].height for stage in stages if stage.kind == "source")
        rate = f"{read / seconds:,.0f} events/s, with starting and stopping {count(workers, 'worker')}"
        console.print(f"{query}: {read:,} events in {seconds:.1f} s: {rate}")
    return equal


def _is_new(folder: Path, pipeline: str) -> bool:
    log = open_log(folder)
    try:
        return pipeline not in log.pipelines()
    finally:
        log.close()


def _show(answer: pl.DataFrame) -> None:
    """The last rows by their last column, which is a time where there is one; without what only fills events."""
    shown = answer.drop("extra", strict=False)
    if shown.height > ROWS_SHOWN:
        console.print(f"the last {ROWS_SHOWN} rows:")
    print_frame(shown.sort(shown.columns[::-1]).tail(ROWS_SHOWN), as_json=False)


def _done(command: list[str]) -> None:
    code = subprocess.run(command).returncode
    if code:
        raise typer.Exit(code)


if __name__ == "__main__":
    typer.run(nexmark)
