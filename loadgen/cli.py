"""The `loadgen` command: options, signals, printing, exit codes. What a run does is `run.py`.

Exit codes: 0 done, or stopped by Ctrl-C with something in the topic; 130 stopped with nothing there; 1 a
failure that its message explains; 2 options that can't work.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated

import orjson
import typer
from rich.console import Console

import loadgen
from loadgen.bench import cli as bench_cli
from loadgen.dataset import Dataset
from loadgen.profiles import ads as ads_profile
from loadgen.profiles import flights as flights_profile
from loadgen.profiles import nexmark as nexmark_profile
from loadgen.report import Report
from loadgen.run import Settings
from loadgen.run import run as run_profile
from streamflow.base.clock import SystemClock
from streamflow.base.errors import DataError, StreamFlowError
from streamflow.model.time import timestamp_us

app = typer.Typer(
    help=loadgen.__doc__,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Encoding(StrEnum):
    json = "json"
    envelope = "envelope"


To = Annotated[str, typer.Option(metavar="DATA", help="Folder (made if missing) or URL of the log.")]
Partitions = Annotated[int, typer.Option(help="Partitions of the topic when it is made.")]
Rate = Annotated[float | None, typer.Option(metavar="EVENTS_PER_S", help="Constant rate; else at full speed.")]
AsFormat = Annotated[
    Encoding,
    typer.Option("--format", help="`json`: a document per event. `envelope`: columnar batches, faster to read."),
]
Batch = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Events per durable publish at most; default 1000, unpaced 10000 or 50000 (envelopes)."
    ),
]
End = Annotated[
    bool | None,
    typer.Option("--end/--no-end", help="Mark the topic as complete; default: if the whole set is in it."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the report as one JSON object on stdout.")]


@app.command(no_args_is_help=True)
def flights(
    to: To,
    topic: str = "flights",
    partitions: Partitions = 16,
    rate: Rate = None,
    speedup: Annotated[
        float | None, typer.Option(metavar="X", help="X times faster than the landings were in 2013.")
    ] = None,
    max_events: Annotated[int | None, typer.Option("--max", metavar="N", help="Only the first N flights.")] = None,
    format: AsFormat = Encoding.json,
    batch: Batch = None,
    end: End = None,
    json: AsJson = False,
) -> None:
    """Replay the 336,776 flights that left New York City in 2013, each when it has landed.

    Event time is the departure, so 90% of the events are out of order, by up to 665 minutes. Times are New
    York's local clock taken as UTC. A second run publishes only what is missing.

    **Examples**

    `loadgen flights --to ./data` — everything, as fast as possible

    `loadgen flights --to ./data --speedup 3600` — an hour of 2013 each second

    `loadgen flights --to ./data --max 10000 --rate 500` — 20 seconds of steady load
    """
    settings = Settings(to, partitions, format.value, rate, speedup, max_events, batch, end)
    _publish("flights", lambda: {topic: flights_profile.dataset()}, settings, as_json=json)


@app.command(no_args_is_help=True)
def ads(
    to: To,
    events: Annotated[int, typer.Option(metavar="N", help="How many events the set has.")],
    topic: str = "ads",
    partitions: Partitions = 16,
    rate: Rate = None,
    users: Annotated[int, typer.Option(help="Distinct user ids to draw from.")] = ads_profile.USERS_DEFAULT,
    seed: Annotated[int, typer.Option(help="Another seed, other events.")] = 0,
    start: Annotated[
        str, typer.Option(metavar="TIME", help="Event time of the first event, RFC 3339, or `now`.")
    ] = "2024-01-01T00:00:00Z",
    event_rate: Annotated[
        float, typer.Option(metavar="EVENTS_PER_S", help="Events per second of event time.")
    ] = ads_profile.EVENTS_PER_S_DEFAULT,
    format: AsFormat = Encoding.json,
    batch: Batch = None,
    end: End = None,
    json: AsJson = False,
) -> None:
    """Publish synthetic advertisement events: views, clicks and purchases of 1,000 ads in 100 campaigns.

    The shape of the Yahoo Streaming Benchmark: 7 fields, about 250 bytes, event time up to 1 s out of order.
    The same seed gives the same events. A second run publishes only what is missing.

    **Examples**

    `loadgen ads --to ./data --events 5000000` — the benchmark's load, 100 s of event time

    `loadgen ads --to ./data --events 1000000 --format envelope` — columnar batches

    `loadgen ads --to ./data --events 600000 --rate 10000 --event-rate 10000 --start now` — a live minute
    """

    def datasets() -> Mapping[str, Dataset]:
        start_us = _start_us(start)
        return {topic: ads_profile.dataset(events, seed, users=users, start_us=start_us, events_per_s=event_rate)}

    settings = Settings(to, partitions, format.value, rate, None, None, batch, end)
    _publish("ads", datasets, settings, as_json=json)


@app.command(no_args_is_help=True)
def nexmark(
    to: To,
    events: Annotated[int, typer.Option(metavar="N", help="How many events, of all kinds together.")],
    partitions: Partitions = 16,
    rate: Rate = None,
    seed: Annotated[int, typer.Option(help="Another seed, other events.")] = 0,
    start: Annotated[
        str, typer.Option(metavar="TIME", help="Event time of the first event, RFC 3339, or `now`.")
    ] = "2024-01-01T00:00:00Z",
    event_rate: Annotated[
        float, typer.Option(metavar="EVENTS_PER_S", help="Events per second of event time.")
    ] = nexmark_profile.EVENTS_PER_S_DEFAULT,
    out_of_order: Annotated[
        int, typer.Option(metavar="N", help="Shuffle the times of each N consecutive events; 1: in order.")
    ] = 1,
    max_events: Annotated[int | None, typer.Option("--max", metavar="N", help="Only the first N of them.")] = None,
    format: AsFormat = Encoding.json,
    batch: Batch = None,
    end: End = None,
    json: AsJson = False,
) -> None:
    """Publish the auction house of the Nexmark benchmark to the topics `person`, `auction` and `bid`, 1 : 3 : 46.

    Ids, prices and the hot sellers, bidders and auctions follow the generators of Apache Beam and Flink.
    The same seed gives the same events. A second run publishes only what is missing.

    **Examples**

    `loadgen nexmark --to ./data --events 1000000 --format envelope` — 100 s of event time

    `loadgen nexmark --to ./data --events 1000000 --out-of-order 1000` — up to 0.1 s out of order

    `loadgen nexmark --to ./data --events 600000 --rate 10000 --start now` — a live minute
    """

    def datasets() -> Mapping[str, Dataset]:
        shape = nexmark_profile.Shape(seed, _start_us(start), event_rate, out_of_order)
        return nexmark_profile.datasets(events, shape)

    settings = Settings(to, partitions, format.value, rate, None, max_events, batch, end)
    _publish("nexmark", datasets, settings, as_json=json)


@app.command(no_args_is_help=True)
def kafka(
    data: Annotated[Path, typer.Option("--data", metavar="FOLDER", help="Where it keeps its data; made if missing.")],
    brokers: Annotated[int, typer.Option(min=1, help="How many, if the folder is new.")] = 1,
) -> None:
    """Start a Kafka on this machine, for trying, until Ctrl-C. Needs Java, and Maven the first time.

    **Example**

    `loadgen kafka --data ./kafka` — then, elsewhere, `streamflow topic list --data` with the address that it prints
    """
    from loadgen.kafka.broker import Cluster

    with _stopped_by_signals() as stop, Cluster(data, brokers=brokers) as cluster:
        typer.echo(cluster.url)
        typer.echo("Ctrl-C stops it; what is published stays in the folder.", err=True)
        stop.wait()


app.command(no_args_is_help=True, help=bench_cli.bench_help())(bench_cli.bench)
app.command(no_args_is_help=True)(bench_cli.bench_plot)
app.command(no_args_is_help=True)(bench_cli.profile)


def main() -> None:
    """Run the command; known errors become one line on stderr."""
    try:
        app()
    except DataError as error:
        _fail(error, 2)
    except (StreamFlowError, OSError) as error:
        _fail(error, 1)


def _publish(profile: str, datasets: Callable[[], Mapping[str, Dataset]], settings: Settings, *, as_json: bool) -> None:
    clock = SystemClock()
    with _stopped_by_signals() as stop:
        report = run_profile(profile, datasets(), settings, clock=clock, stop=stop, console=Console(stderr=True))
    typer.echo(orjson.dumps(report.as_dict()).decode() if as_json else _told(report, settings))
    raise typer.Exit(exit_code(report))


def exit_code(report: Report) -> int:
    """130 (as a shell says after Ctrl-C) only if nothing came of it."""
    nothing = not report.events and not report.skipped_events
    return 130 if report.interrupted and nothing else 0


def _told(report: Report, settings: Settings) -> str:
    if report.interrupted:
        first = "Stopped before the end. Run the same command again to go on."
    elif not report.events:
        first = f"Everything was in topic '{report.topic}' of '{settings.to}' already."
    else:
        first = f"Published to topic '{report.topic}' of '{settings.to}'."
    return "\n".join([first, *report.lines()])


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second one acts as it would without this."""
    stop = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def request(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, request)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start_us(text: str) -> int:
    if text == "now":
        return time.time_ns() // 1_000
    try:
        return timestamp_us(datetime.fromisoformat(text))
    except ValueError as error:
        raise DataError(f"--start '{text}' is no time. Give RFC 3339, as 2024-01-01T00:00:00Z, or now") from error


def _fail(error: Exception, code: int) -> None:
    typer.echo(f"loadgen: {error}", err=True)
    raise SystemExit(code)
