"""The commands. Each teaches by example in its --help."""

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import polars as pl
import typer

from streamflow.base.clock import SystemClock
from streamflow.base.errors import ConflictError, NotFoundError
from streamflow.cli import topics as topic_commands
from streamflow.cli.output import console, errors, print_frame, print_json, print_table, told_errors
from streamflow.engine.plan import Plan
from streamflow.engine.stores import rows_folder, tables_folder
from streamflow.runtime.autoscaler import Policy
from streamflow.runtime.launch import attach, launch
from streamflow.runtime.pipeline import result_of
from streamflow.runtime.processes import is_alive
from streamflow.runtime.progress import backlog_events, is_drained, is_finished
from streamflow.runtime.supervisor import Status, Supervisor
from streamflow.runtime.target import load_pipeline
from streamflow.runtime.worker import Stop, Worker
from streamflow.stores.table import Catalog
from streamflow.stores.widerow import WideRowStore, row_folder, row_stores, rows_as_dicts
from streamflow.topics import connect
from streamflow.topics.protocol import Log, Snapshot
from streamflow.web.server import MetricsServer

app = typer.Typer(
    help="Streaming pipelines on elastic workers: topics, windows, tables and wide rows in one folder, no server.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
app.add_typer(topic_commands.app, name="topic")

Data = Annotated[Path, typer.Option("--data", "-d", help="The folder that holds topics, state, tables and rows.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Target = Annotated[str, typer.Argument(help="The pipeline: package.module[:name] or path/file.py[:name].")]
Name = Annotated[str, typer.Argument(help="The pipeline's name.")]
Until = Literal["stopped", "drained", "finished"]


@app.command(
    epilog="Examples:\n\n"
    "`streamflow run streamflow.examples.flights --data demo-data --workers 2`\n\n"
    "`streamflow run my_job.py:pipeline -d data --workers 1 --max-workers 4 --latency 5`\n\n"
    "`streamflow run my_job.py -d data --until finished`"
)
def run(
    target: Target,
    data: Data,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes to begin with, and at least.")] = 1,
    max_workers: Annotated[int | None, typer.Option(help="Let the autoscaler go up to this many.")] = None,
    latency: Annotated[float, typer.Option(help="Backlog, in seconds of work, that the autoscaler accepts.")] = 5.0,
    until: Annotated[Until, typer.Option(help="Return when all input is through (drained: for now).")] = "stopped",
    host: Annotated[str, typer.Option(help="Address of the metrics page.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Its port; default: the first free one from 9464 on.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but problems.")] = False,
) -> None:
    """Run a pipeline: a supervisor with worker processes, until Ctrl-C (or --until).

    Ctrl-C drains: workers finish their step, commit, and exit; the next `run` goes on from there. A second `run` of
    the same pipeline is refused; a `run` after a crash adopts the workers that are still at work.
    """
    with told_errors():
        _log_to_stderr(logging.ERROR if quiet else logging.WARNING)
        pipeline = load_pipeline(target)
        log = connect(data)
        plan = launch(pipeline, log, pipeline.settings)
        stop = _stop_on_signals()
        supervisor = Supervisor(
            plan=plan,
            log=log,
            data=data,
            target=target,
            wanted=workers,
            policy=Policy(workers, max(workers, max_workers or workers), latency),
            until=_condition(plan, until),
            stop=stop,
        )
        with MetricsServer(plan, log, SystemClock(), lambda: supervisor.wanted, host, port) as server:
            if not quiet:
                console.print(f"pipeline [bold]{plan.pipeline}[/] on {data}, metrics at {server.url}/metrics")
                console.print(f"workers write to {supervisor.log_file}; Ctrl-C drains and stops")
                supervisor.on_status = StatusLine(plan)
            supervisor.run()
        if not quiet:
            _print_result(plan, log)
        log.close()


@app.command(
    epilog="Examples:\n\n"
    "`streamflow worker streamflow.examples.flights --data demo-data`\n\n"
    "Start it several times: workers on one folder share the tasks, and take over from one that dies."
)
def worker(
    target: Target,
    data: Data,
    id: Annotated[str | None, typer.Option("--id", help="The worker's name; default: a random one.")] = None,
    until: Annotated[Until, typer.Option(help="Return when all input is through (drained: for now).")] = "stopped",
) -> None:
    """Run one worker of a pipeline in this process. `streamflow run` starts and replaces workers for you."""
    with told_errors():
        _log_to_stderr(logging.WARNING)
        stop = _stop_on_signals()
        pipeline = load_pipeline(target)
        log = connect(data)
        plan = attach(pipeline, log, pipeline.settings)
        Worker(plan, log, data, worker_id=id, stop=stop, until=_condition(plan, until)).run()
        log.close()


@app.command(
    epilog="Example:\n\n`streamflow scale flights 4 --data demo-data` — and `0` to give it back to the autoscaler."
)
def scale(name: Name, workers: Annotated[int, typer.Argument(min=0)], data: Data) -> None:
    """Change the number of workers of a running pipeline; only the tasks that must move do."""
    with told_errors():
        log = _open(data)
        log.request_workers(_known(log, name), workers or None)
        log.close()
        console.print(f"{name}: {workers} workers wanted" if workers else f"{name}: the autoscaler decides")


@app.command(epilog="Example:\n\n`streamflow stop flights --data demo-data`")
def stop(name: Name, data: Data) -> None:
    """Drain and stop all workers of a pipeline, whoever started them. `run` starts it again where it stopped."""
    with told_errors():
        log = _open(data)
        log.request_stop(_known(log, name))
        log.close()
        console.print(f"{name}: stopping")


@app.command(
    epilog="Example:\n\n`streamflow reset flights --data demo-data --yes` — then remove its tables by hand if wanted."
)
def reset(name: Name, data: Data, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Forget a pipeline's position and state, so that it begins anew. Topics, tables and rows stay as they are."""
    with told_errors():
        log = _open(data)
        workers = log.snapshot(_known(log, name)).workers.values()
        if any(is_alive(worker) for worker in workers):
            raise ConflictError(f"pipeline '{name}' is running. Stop it first: `streamflow stop {name} --data {data}`.")
        if not yes:
            typer.confirm(f"Forget position and state of pipeline '{name}' in {data}?", abort=True)
        log.reset_pipeline(name)
        log.close()
        console.print(f"{name}: forgotten")


@app.command(epilog="Example:\n\n`streamflow status --data demo-data`")
def status(data: Data, json: Json = False) -> None:
    """Every pipeline of a folder: workers, backlog, what it has counted."""
    with told_errors():
        log = _open(data)
        rows = [_status_row(name, log.snapshot(name)) for name in log.pipelines()]
        log.close()
        if json:
            print_json(rows)
        else:
            print_table(list(rows[0]) if rows else ["pipeline"], [list(row.values()) for row in rows])


@app.command(epilog="Example:\n\n`streamflow explain streamflow.examples.flights`")
def explain(target: Target) -> None:
    """Show the plan: the stages of a pipeline, what each reads, runs and writes."""
    with told_errors():
        sys.stdout.write(load_pipeline(target).explain() + "\n")


@app.command(
    epilog="Examples:\n\n"
    '`streamflow sql --data demo-data "select origin, sum(flights) as n from flights_hourly group by origin"`\n\n'
    "`streamflow sql --data demo-data --json \"select count(*) as n from flights_hourly where month = '2013-07'\"`\n\n"
    "`streamflow sql --data demo-data` lists the tables"
)
def sql(
    query: Annotated[str | None, typer.Argument(help="A SELECT.")] = None, *, data: Data, json: Json = False
) -> None:
    """Query the tables with SQL (DuckDB's). Keyed tables show the newest row of each key."""
    with told_errors():
        catalog = Catalog(tables_folder(_folder(data)))
        if query is None:
            print_frame(pl.DataFrame([_table_row(table) for table in catalog.tables()]), as_json=json)
        else:
            print_frame(catalog.sql(query), as_json=json)


@app.command(
    epilog="Examples:\n\n"
    "`streamflow row --data demo-data carrier_daily UA#2013-07-04` — one row\n\n"
    "`streamflow row --data demo-data carrier_daily --prefix UA#2013-07 --limit 3` — rows by prefix\n\n"
    "`streamflow row --data demo-data` — lists the stores"
)
def row(
    store: Annotated[str | None, typer.Argument(help="The row store.")] = None,
    key: Annotated[str | None, typer.Argument(help="A row key.")] = None,
    *,
    data: Data,
    prefix: Annotated[str, typer.Option(help="Rows whose key begins so, in key order.")] = "",
    limit: Annotated[int, typer.Option(help="At most this many rows.")] = 20,
    json: Json = False,
) -> None:
    """Read wide rows: one by key, or many by key prefix. Cells are the newest of each column."""
    with told_errors():
        names = row_stores(rows_folder(_folder(data)))
        if store is None:
            print_frame(pl.DataFrame({"store": names}, schema={"store": pl.String}), as_json=json)
            return
        if store not in names:
            raise NotFoundError(f"no row store '{store}' in '{data}'. There are: {', '.join(names) or 'none yet'}.")
        with WideRowStore(row_folder(rows_folder(data), store), readonly=True) as opened:
            rows = rows_as_dicts(opened, prefix.encode(), limit, key=None if key is None else key.encode())
        if key is not None and not rows:
            raise NotFoundError(f"no row '{key}' in '{store}'. Look for its neighbours with --prefix.")
        if json:
            print_json(rows)
        else:
            cells = [(row["row"], *cell.values()) for row in rows for cell in row["cells"]]
            print_table(["row", "column", "timestamp", "value"], cells)


class StatusLine:
    """One line a second about a running pipeline: in place on a terminal, else only when something has changed."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._last = ""

    def __call__(self, seen: Status) -> None:
        sources = [stage for stage in self.plan.stages if not stage.upstream]
        waiting = backlog_events(seen.snapshot, sources)
        read = sum(s.offset for t, s in seen.snapshot.tasks.items() if t.stage in {stage.name for stage in sources})
        line = f"workers {seen.workers}/{seen.wanted} · read {read:,} · backlog {waiting:,} · {seen.decision}"
        if line != self._last and console.is_terminal:
            console.print(line, end="\r", soft_wrap=True, highlight=False)
        self._last = line


def main() -> None:
    """Entry point of the command `streamflow`."""
    app()


def _condition(plan: Plan, until: Until) -> Callable[[Snapshot], bool] | None:
    conditions = {"drained": is_drained, "finished": is_finished}
    test = conditions.get(until)
    return None if test is None else lambda snapshot: test(plan, snapshot)


def _stop_on_signals() -> Stop:
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.request())
    return stop


def _log_to_stderr(level: int) -> None:
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)


def _folder(data: Path) -> Path:
    if not (data / "streamflow.db").is_file():
        raise NotFoundError(
            f"'{data}' holds no StreamFlow data. Give the folder that `streamflow run --data` was given."
        )
    return data


def _open(data: Path) -> Log:
    return connect(_folder(data))


def _known(log: Log, name: str) -> str:
    if name not in log.pipelines():
        raise NotFoundError(f"no pipeline '{name}' here. There are: {', '.join(log.pipelines()) or 'none'}.")
    return name


def _status_row(name: str, snapshot: Snapshot) -> dict[str, object]:
    result = result_of(name, snapshot)
    backlog = sum(snapshot.ends[s.topic, t.partition] - s.offset for t, s in snapshot.tasks.items())
    counted = {counter: result.total(counter) for counter in ("late", "dropped", "dead_lettered")}
    return {"pipeline": name, "workers": len(snapshot.workers), "backlog_events": backlog, **counted}


def _table_row(table: object) -> dict[str, object]:
    return {name: getattr(table, name) for name in ("name", "rows", "files", "bytes", "version")}


def _print_result(plan: Plan, log: Log) -> None:
    result = result_of(plan.pipeline, log.snapshot(plan.pipeline))
    names = ["events_in", "events_out", "late", "dropped", "dead_lettered"]
    rows = [[stage, *(int(counts.get(name, 0)) for name in names)] for stage, counts in result.counters.items()]
    console.print()
    print_table(["stage", *names], rows)
    if result.total("dead_lettered"):
        errors.print(f"{result.total('dead_lettered'):,} events failed: streamflow topic tail {plan.dead_letter_topic}")
