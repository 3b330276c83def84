"""Commands that run pipelines, and those that tell a running one what to do."""

import logging
import secrets
import sys
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Annotated

import typer

from streamflow.base.clock import SystemClock
from streamflow.base.errors import ConflictError
from streamflow.cli.folders import known_pipeline, live_workers, opened
from streamflow.cli.options import Data, ExplainPanes, Latency, Name, Target, UntilOption
from streamflow.cli.output import say, told_errors
from streamflow.cli.progress import RunReport, StatusLine, topics_not_ended
from streamflow.engine.plan import Plan
from streamflow.runtime.autoscaler import Policy
from streamflow.runtime.hints import command, count
from streamflow.runtime.launch import launch
from streamflow.runtime.rolling import replace_workers
from streamflow.runtime.supervision import is_supervised
from streamflow.runtime.supervisor import Supervisor
from streamflow.runtime.target import load_pipeline
from streamflow.runtime.work import Until, condition, explaining, log_to_stderr, stop_on_signals, work, work_logged
from streamflow.topics import open_log
from streamflow.topics.protocol import Log
from streamflow.web.server import MetricsServer

app = typer.Typer()


@app.command(
    epilog="Examples:\n\n"
    "`streamflow run streamflow.examples.flights --data demo-data --workers 2`\n\n"
    "`streamflow run my_job.py:pipeline -d data --workers 1 --max-workers 4 --latency 5`\n\n"
    "`streamflow run my_job.py -d data --until finished`"
)
def run(
    target: Target,
    data: Data,
    workers: Annotated[
        int,
        typer.Option(min=0, help="Worker processes to begin with, and at least; 0: none while there is nothing to do."),
    ] = 1,
    max_workers: Annotated[int | None, typer.Option(min=1, help="Let the autoscaler go up to this many.")] = None,
    latency: Latency = 5.0,
    until: UntilOption = "stopped",
    host: Annotated[str, typer.Option(help="Address of the metrics page.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Its port; default: the first free one from 9464 on.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but problems.")] = False,
    explain_panes: ExplainPanes = False,
) -> None:
    """Run a pipeline: a supervisor with worker processes, until Ctrl-C (or --until).

    Ctrl-C drains: workers finish their step, commit, and exit; the next `run` goes on from there. A second `run` of
    the same pipeline is refused; a `run` after a crash adopts the workers that are still at work. The number of
    workers is what this command says: what `scale` asked of an earlier run is forgotten.
    """
    _check_scaling(workers, max_workers)
    policy = Policy(workers, max(workers, max_workers or workers), latency)
    with told_errors():
        log_to_stderr(logging.ERROR if quiet else logging.WARNING)
        pipeline = load_pipeline(target)
        log = open_log(data)
        try:
            plan = launch(pipeline, log, explaining(pipeline.settings, explain_panes))
            supervisor = Supervisor(plan, log, data, target, workers, policy, condition(plan, until), stop_on_signals())
            _supervise(supervisor, (host, port), until, quiet=quiet)
        finally:
            log.close()


@app.command(
    epilog="Examples:\n\n"
    "`streamflow worker streamflow.examples.flights --data demo-data`\n\n"
    "`streamflow worker my_job.py --on kafka://host:9092`\n\n"
    "Start it several times: workers on one folder, or on one Kafka, share the tasks, and take over from one that dies."
)
def worker(
    target: Target,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data", "-d", help="The folder that holds topics, state, tables and rows; with --on: the stores."
        ),
    ] = None,
    on: Annotated[str | None, typer.Option("--on", help="Topics and state on a Kafka: kafka://host:9092.")] = None,
    id: Annotated[str | None, typer.Option("--id", help="The worker's name; default: a random one.")] = None,
    until: UntilOption = "stopped",
    host: Annotated[str, typer.Option(help="Address of the metrics page.")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve metrics of the whole pipeline there; default: no.")
    ] = None,
    explain_panes: ExplainPanes = False,
) -> None:
    """Run one worker of a pipeline in this process. `streamflow run` starts and replaces workers for you."""
    log_to_stderr(logging.WARNING, logging.INFO)

    def serving(plan: Plan, log: Log) -> AbstractContextManager[object]:
        if port is None:
            return nullcontext()
        server = MetricsServer(plan, log, SystemClock(), lambda: 1, host, port)
        say(f"metrics at {server.url}/metrics")
        return server

    if id is not None:
        raise typer.Exit(work_logged(target, data, id, until, explain_panes=explain_panes, on=on, around=serving))
    with told_errors():
        name = f"worker-{secrets.token_hex(3)}"
        raise typer.Exit(work(target, data, name, until, explain_panes=explain_panes, on=on, around=serving))


@app.command(
    epilog="Examples:\n\n"
    "`streamflow explain streamflow.examples.flights`\n\n"
    "`streamflow explain my_job.py:pipeline --svg plan.svg` — then open plan.svg in a browser."
)
def explain(
    target: Target,
    svg: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Draw it into this file instead; an older one is replaced.")
    ] = None,
) -> None:
    """Show a pipeline as it was written and as it runs. Nothing is run, and no folder is needed.

    "As written" has your transforms, and after each `→` what goes on from it: columns and types (or Python values),
    windows, and whether it ends (bounded) or not. "As run" has the stages: what is decoded from JSON, which transforms
    became one query, where partial aggregation happens, and which columns cross which log, in how many partitions.
    """
    with told_errors():
        pipeline = load_pipeline(target)
        if svg is None:
            sys.stdout.write(pipeline.explain() + "\n")
        else:
            svg.write_text(pipeline.explain("svg") + "\n", encoding="utf-8")
            say(f"wrote '{svg}'")


@app.command(epilog="Example:\n\n`streamflow restart flights --data demo-data` — after a new version was installed.")
def restart(name: Name, data: Data) -> None:
    """Replace the workers of a running pipeline one by one, so that they run what is installed now."""
    with told_errors(), opened(data) as log:
        known_pipeline(log, name)
        if not is_supervised(data, name):
            hint = "Start it with `streamflow run`, or restart workers that you have started yourself."
            raise ConflictError(f"pipeline '{name}' is not running in '{data}'. {hint}")
        for worker in replace_workers(log, name):
            say(f"{name}: {worker} replaced")


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


def _check_scaling(workers: int, max_workers: int | None) -> None:
    if max_workers is not None and max_workers < workers:
        raise typer.BadParameter(f"{max_workers} is below --workers {workers}.", param_hint="'--max-workers'")
    if not workers and not max_workers:
        raise typer.BadParameter("0 needs a --max-workers above 0.", param_hint="'--workers'")


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
