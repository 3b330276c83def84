"""Commands that run pipelines, and those that tell a running one what to do."""

import logging
import math
import secrets
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from streamflow.base.clock import SystemClock
from streamflow.base.errors import (
    ConflictError,
    CorruptionError,
    DataError,
    NotFoundError,
    PipelineError,
    StreamFlowError,
)
from streamflow.cli.folders import known_pipeline, live_workers, opened
from streamflow.cli.options import Data, Name, Target, Until, UntilOption
from streamflow.cli.output import say, told_errors
from streamflow.cli.progress import RunReport, StatusLine, topics_not_ended
from streamflow.engine.plan import Plan
from streamflow.runtime.autoscaler import Policy
from streamflow.runtime.hints import command, count
from streamflow.runtime.launch import attach, launch
from streamflow.runtime.progress import is_drained, is_finished
from streamflow.runtime.supervisor import EXIT_HOPELESS, HOPELESS, Supervisor, is_supervised
from streamflow.runtime.target import load_pipeline
from streamflow.runtime.worker import Stop, Worker
from streamflow.topics import connect
from streamflow.topics.protocol import Snapshot
from streamflow.web.server import MetricsServer

app = typer.Typer()
logger = logging.getLogger(__name__)

HOPELESS_ERRORS = (PipelineError, DataError, NotFoundError, ConflictError, CorruptionError)
"""A worker that meets one of these would meet it again after a restart."""


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
    max_workers: Annotated[int | None, typer.Option(min=1, help="Let the autoscaler go up to this many.")] = None,
    latency: Annotated[float, typer.Option(help="Backlog, in seconds of work, that the autoscaler accepts.")] = 5.0,
    until: UntilOption = "stopped",
    host: Annotated[str, typer.Option(help="Address of the metrics page.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Its port; default: the first free one from 9464 on.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but problems.")] = False,
) -> None:
    """Run a pipeline: a supervisor with worker processes, until Ctrl-C (or --until).

    Ctrl-C drains: workers finish their step, commit, and exit; the next `run` goes on from there. A second `run` of
    the same pipeline is refused; a `run` after a crash adopts the workers that are still at work. The number of
    workers is what this command says: what `scale` asked of an earlier run is forgotten.
    """
    _check_scaling(workers, max_workers, latency)
    policy = Policy(workers, max(workers, max_workers or workers), latency)
    with told_errors():
        _log_to_stderr(logging.ERROR if quiet else logging.WARNING)
        pipeline = load_pipeline(target)
        log = connect(data)
        try:
            plan = launch(pipeline, log, pipeline.settings)
            condition, stop = _condition(plan, until), _stop_on_signals()
            supervisor = Supervisor(plan, log, data, target, workers, policy, condition, stop)
            _supervise(supervisor, (host, port), until, quiet=quiet)
        finally:
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
    until: UntilOption = "stopped",
) -> None:
    """Run one worker of a pipeline in this process. `streamflow run` starts and replaces workers for you."""
    _log_to_stderr(logging.WARNING)
    logging.getLogger("streamflow").setLevel(logging.INFO)
    if id is None:
        with told_errors():
            _work(target, data, f"worker-{secrets.token_hex(3)}", until)
        return
    try:
        _work(target, data, id, until)
    except HOPELESS_ERRORS as error:
        logger.error("%s: %s: %s", id, HOPELESS, error)
        raise typer.Exit(EXIT_HOPELESS) from error
    except StreamFlowError as error:
        logger.error("%s: %s", id, error)
        raise typer.Exit(1) from error
    except Exception as error:
        logger.critical("%s: %s: %s", id, type(error).__name__, error, exc_info=error)
        raise typer.Exit(1) from error


@app.command(epilog="Example:\n\n`streamflow explain streamflow.examples.flights`")
def explain(target: Target) -> None:
    """Show the plan: the stages of a pipeline, what each reads, runs and writes."""
    with told_errors():
        sys.stdout.write(load_pipeline(target).explain() + "\n")


@app.command(
    epilog="Example:\n\n`streamflow scale flights 4 --data demo-data` — and `0` to give it back to the autoscaler."
)
def scale(name: Name, workers: Annotated[int, typer.Argument(min=0)], data: Data) -> None:
    """Change the number of workers of a running pipeline; only the tasks that must move do.

    It holds until the next `scale`, or the next `run`, which begins with its own number.
    """
    with told_errors(), opened(data) as log:
        running = len(live_workers(log.snapshot(known_pipeline(log, name))))
        if not is_supervised(data, name):
            others = f" ({count(running, 'worker')} without a supervisor)" if running else ""
            hint = "Start it with `streamflow run … --workers N`."
            raise ConflictError(f"pipeline '{name}' is not running in '{data}'{others}. {hint}")
        log.request_workers(name, workers or None)
        wanted = f"{count(workers, 'worker')} wanted" if workers else "back to what `run` said"
        say(f"{name}: {wanted}; {running} running now")


@app.command(epilog="Example:\n\n`streamflow stop flights --data demo-data`")
def stop(name: Name, data: Data) -> None:
    """Drain and stop all workers of a pipeline, whoever started them. `run` starts it again where it stopped."""
    with told_errors(), opened(data) as log:
        running = len(live_workers(log.snapshot(known_pipeline(log, name))))
        if not running and not is_supervised(data, name):
            say(f"{name}: not running")
            return
        log.request_stop(name)
        say(f"{name}: stopping {count(running, 'worker')}")


@app.command(
    epilog="Example:\n\n`streamflow reset flights --data demo-data --yes` — then remove its tables by hand if wanted."
)
def reset(name: Name, data: Data, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Forget a pipeline's position and state, so that it begins anew. Topics, tables and rows stay as they are."""
    with told_errors(), opened(data) as log:
        if live_workers(log.snapshot(known_pipeline(log, name))) or is_supervised(data, name):
            hint = f"Stop it first: {command(f'stop {name}', data)}."
            raise ConflictError(f"pipeline '{name}' is running. {hint}")
        if not yes:
            typer.confirm(f"Forget position and state of pipeline '{name}' in '{data}'?", abort=True)
        log.reset_pipeline(name)
        say(f"{name}: forgotten")


def _work(target: str, data: Path, name: str, until: Until) -> None:
    stop = _stop_on_signals()
    pipeline = load_pipeline(target)
    log = connect(data)
    try:
        plan = attach(pipeline, log, pipeline.settings)
        Worker(plan, log, data, worker_id=name, stop=stop, until=_condition(plan, until)).run()
    finally:
        log.close()


def _check_scaling(workers: int, max_workers: int | None, latency: float) -> None:
    if max_workers is not None and max_workers < workers:
        raise typer.BadParameter(f"{max_workers} is below --workers {workers}.", param_hint="'--max-workers'")
    if not 0 < latency < math.inf:
        raise typer.BadParameter(f"{latency:g} is not a number of seconds above 0.", param_hint="'--latency'")


def _supervise(supervisor: Supervisor, address: tuple[str, int | None], until: Until, *, quiet: bool) -> None:
    """Run it with its page and its status line, and report what was done."""
    plan, log = supervisor.plan, supervisor.log
    report, status = RunReport(plan, log, supervisor.data), StatusLine(plan)
    with ExitStack() as stack:

        def started() -> None:
            server = MetricsServer(plan, log, SystemClock(), lambda: supervisor.wanted, *address)
            stack.enter_context(server)
            if not quiet:
                _tell_start(supervisor, server.url, until)
                supervisor.on_status = status

        supervisor.on_start = started
        stack.callback(status.close)
        supervisor.run()
    report.tell(problems_only=quiet)


def _tell_start(supervisor: Supervisor, url: str, until: Until) -> None:
    plan, log, data = supervisor.plan, supervisor.log, supervisor.data
    say(f"pipeline {plan.pipeline} on '{data}', metrics at {url}/metrics")
    say(f"workers write to '{supervisor.log_file}'; Ctrl-C drains and stops")
    waiting = topics_not_ended(plan, log.snapshot(plan.pipeline)) if until == "finished" else []
    for topic in waiting:
        end = command(f"topic end {topic}", data)
        say(f"topic '{topic}' is not ended by its publisher yet; its last windows stay open until it is: {end}")


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
