"""The demonstration: a year of flights through a topic, two workers, a table and wide rows, checked to the last row.

    python -m streamflow.examples.demo --data demo-data

Starts workers, publishes all flights with loadgen, waits until everything is through, prints both results and
compares them with a direct Polars computation over the same file. Running it again finds everything done and checks
it again.
"""

import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console

from loadgen.profiles.flights import archive_path, read_csv
from streamflow.cli.output import print_frame, told_errors
from streamflow.engine.plan import build_plan
from streamflow.engine.stores import rows_folder, tables_folder
from streamflow.examples.flights import DELAYED_MINUTES, pipeline
from streamflow.runtime.hints import shown
from streamflow.runtime.pipeline import result_of
from streamflow.runtime.progress import backlog_events
from streamflow.stores.table import Catalog
from streamflow.stores.widerow import WideRowStore, row_folder, rows_as_dicts
from streamflow.topics import open_log
from streamflow.topics.protocol import TopicConfig
from streamflow.web.server import PORT

TARGET = "streamflow.examples.flights"
PARTITIONS = 16
WATCH_S = 0.1
"""How often the workers are looked at while they finish."""
console = Console()
_AS_IT_IS: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}


def demo(
    data: Annotated[Path, typer.Option("--data", "-d", help="Where topics, table and rows are kept.")] = Path(
        "demo-data"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    rate: Annotated[float | None, typer.Option(help="Flights per second; default: as fast as possible.")] = None,
) -> None:
    """Run the demonstration; exit code 1 if a result is not what a direct computation gives."""
    began_s = time.monotonic()
    with told_errors():
        open_log(data).close()
        _say(f"1. {workers} workers on {data}/")
        supervisor, url = _start_workers(data, workers)
        try:
            _say("2. loadgen publishes 336,776 flights of 2013 in landing order; their event time is departure")
            _publish(data, rate)
            _say("3. waiting until everything is through")
            _wait(supervisor, data)
        finally:
            supervisor.terminate()
            supervisor.wait()
        _say("4. results")
        equal = show_and_check(data)
    _show_what_to_try(data, url)
    console.print(f"done in {time.monotonic() - began_s:.1f} s")
    raise typer.Exit(0 if equal else 1)


def _show_what_to_try(data: Path, url: str) -> None:
    """Commands as they can be pasted into the shell that this was started from."""
    name, folder = _command(), shlex.quote(str(data))
    console.print(f"metrics: {url}/metrics while workers run: {name} run {TARGET} --data {folder}", **_AS_IT_IS)
    query = "select month, sum(flights) from flights_hourly group by month"
    console.print(f'try:     {name} sql --data {folder} "{query}"', **_AS_IT_IS)
    console.print(f"         {name} row --data {folder} carrier_daily --prefix UA#2013-07", **_AS_IT_IS)


def _command() -> str:
    """`streamflow` if the shell finds this environment's, else the way to it from here."""
    own = Path(sys.executable).parent / "streamflow"
    found = shutil.which("streamflow")
    return "streamflow" if found is not None and Path(found) == own else shlex.quote(str(shown(own)))


def show_and_check(data: Path) -> bool:
    """Print both results and whether they equal the reference, row by row and value by value."""
    hourly, daily = read_hourly(data), read_daily(data)
    worst = hourly.sort("worst_delay", descending=True, nulls_last=True).head(5)
    console.print("\ntable flights_hourly, the five worst hours:")
    print_frame(worst.drop("month").with_columns(pl.col("hour").dt.strftime("%Y-%m-%d %H:%M")), as_json=False)
    console.print("\nwide rows carrier_daily, a few days of United:")
    print_frame(daily.filter(pl.col("row").str.starts_with("UA#2013-07")).head(5), as_json=False)
    counted = _counters(data)
    console.print(
        f"\nlate: {counted['late']:,} flights changed a window that had already given a result; "
        f"dropped as too late: {counted['dropped']:,}; failed: {counted['dead_lettered']:,}"
    )
    equal = True
    expected_hourly, expected_daily = reference()
    for name, got, expected in (
        ("flights_hourly", hourly, expected_hourly),
        ("carrier_daily", daily, expected_daily),
    ):
        same = got.equals(expected)
        equal &= same
        verdict = "[green]equal[/] to" if same else "[bold red]DIFFERENT[/] from"
        console.print(f"{name}: {got.height:,} rows, {got['flights'].sum():,} flights, {verdict} a direct computation")
    return equal


def read_hourly(data: Path) -> pl.DataFrame:
    query = "select origin, hour, month, flights, departed, mean_delay, worst_delay from flights_hourly"
    return Catalog(tables_folder(data)).sql(query).sort("origin", "hour")


def read_daily(data: Path) -> pl.DataFrame:
    with WideRowStore(row_folder(rows_folder(data), "carrier_daily"), readonly=True) as store:
        rows = rows_as_dicts(store)
    names = ("flights", "departed", "delayed", "miles")
    cells = [{cell["column"]: cell["value"] for cell in row["cells"]} for row in rows]
    columns = {name: [row[f"day:{name}"] for row in cells] for name in names}
    return pl.DataFrame({"row": [row["row"] for row in rows], **columns})


def reference() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both results straight from the file, without topic, windows or workers."""
    clock = pl.col("sched_dep_time")
    scheduled = pl.datetime("year", "month", "day", time_zone="UTC") + pl.duration(
        hours=clock // 100, minutes=clock % 100
    )
    left = scheduled + pl.duration(minutes=pl.col("dep_delay").fill_null(0))
    flights = read_csv(archive_path()).with_columns(left.dt.cast_time_unit("us").alias("departure"))
    delay = pl.col("dep_delay")
    hourly = (
        flights.group_by("origin", pl.col("departure").dt.truncate("1h").alias("hour"))
        .agg(
            pl.len().cast(pl.Int64).alias("flights"),
            delay.count().cast(pl.Int64).alias("departed"),
            delay.mean().alias("mean_delay"),
            delay.max().alias("worst_delay"),
        )
        .with_columns(pl.col("hour").dt.strftime("%Y-%m").alias("month"))
    )
    daily = flights.group_by(
        pl.concat_str("carrier", pl.lit("#"), pl.col("departure").dt.strftime("%Y-%m-%d")).alias("row")
    ).agg(
        pl.len().cast(pl.Int64).alias("flights"),
        delay.count().cast(pl.Int64).alias("departed"),
        (delay > DELAYED_MINUTES).sum().cast(pl.Int64).alias("delayed"),
        pl.col("distance").sum().cast(pl.Int64).alias("miles"),
    )
    order = ["origin", "hour", "month", "flights", "departed", "mean_delay", "worst_delay"]
    return hourly.select(order).sort("origin", "hour"), daily.sort("row")


def _start_workers(data: Path, workers: int) -> tuple[subprocess.Popen[bytes], str]:
    log = open_log(data)
    log.create_topic("flights", TopicConfig(PARTITIONS))
    log.close()
    port = _free_port()
    command = ["run", TARGET, "--data", str(data), "--workers", str(workers), "--until", "finished", "--quiet"]
    process = subprocess.Popen([sys.executable, "-m", "streamflow", *command, "--port", str(port)])
    url = f"http://127.0.0.1:{port}"
    console.print(f"   metrics at {url}/metrics, workers write to {data}/logs/flights.log")
    return process, url


def _publish(data: Path, rate: float | None) -> None:
    command = [sys.executable, "-m", "loadgen", "flights", "--to", str(data), "--partitions", str(PARTITIONS)]
    subprocess.run([*command, *(["--rate", str(rate)] if rate else [])], check=True)


def _wait(supervisor: subprocess.Popen[bytes], data: Path) -> None:
    log = open_log(data)
    stages = build_plan(pipeline).stages
    while supervisor.poll() is None:
        if console.is_terminal and pipeline.name in log.pipelines():
            waiting = backlog_events(log.snapshot(pipeline.name), stages)
            console.print(f"   {waiting:,} events on their way  ", end="\r")
        time.sleep(WATCH_S)
    log.close()
    if supervisor.returncode:
        raise typer.Exit(supervisor.returncode)


def _counters(data: Path) -> dict[str, int]:
    log = open_log(data)
    result = result_of(pipeline.name, log.snapshot(pipeline.name))
    log.close()
    return {name: result.total(name) for name in ("late", "dropped", "dead_lettered")}


def _free_port() -> int:
    for port in range(PORT, PORT + 20):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
    return PORT


def _say(text: str) -> None:
    console.print(f"[bold]{text}[/]")


if __name__ == "__main__":
    typer.run(demo)
