"""Commands for pipelines on Kafka, which have no folder to look into."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from streamflow.base.errors import PipelineError
from streamflow.cli.options import Name
from streamflow.cli.output import iso_time, print_table, say, told_errors
from streamflow.model.time import MAX_US, MIN_US
from streamflow.runtime.hints import count
from streamflow.runtime.opening import open_cluster
from streamflow.runtime.progress import stage_tasks

if TYPE_CHECKING:
    from streamflow.runtime.cluster import ClusterLog

app = typer.Typer(no_args_is_help=True, help="Pipelines on Kafka: how they stand, stopping and forgetting them.")

On = Annotated[str, typer.Option("--on", help="The Kafka: kafka://host:9092.")]


@app.command(epilog="Example:\n\n`streamflow cluster status flights --on kafka://127.0.0.1:9092`")
def status(name: Name, on: On) -> None:
    """Show how far the stages of a pipeline are: events read and written, and who runs their tasks."""
    with told_errors(), _opened(on) as log:
        snapshot = log.snapshot(name)
        rows = []
        for stage in dict.fromkeys(task.stage for task in snapshot.tasks):
            states = stage_tasks(snapshot, stage)
            behind = sum(s.offset < snapshot.ends[s.topic, s.task.partition] for s in states)
            mark_us = min(state.watermark_us for state in states)
            counted = [sum(int(s.counters.get(what, 0)) for s in states) for what in ("events_in", "events_out")]
            owners = len({state.owner for state in states if state.owner})
            rows.append([stage, len(states), behind, *counted, _watermark(mark_us), owners])
        print_table(["stage", "tasks", "with a backlog", "events in", "out", "watermark", "last run by"], rows)
        say(f"{name}: {count(log.members(name), 'worker')}{', stopping' if snapshot.stopping else ''}")


@app.command(epilog="Example:\n\n`streamflow cluster stop flights --on kafka://127.0.0.1:9092`")
def stop(name: Name, on: On) -> None:
    """Let all workers of a pipeline finish their step and exit. A worker that is started again goes on from there."""
    with told_errors(), _opened(on) as log:
        log.request_stop(name)
        say(f"{name}: stopping {count(log.members(name), 'worker')}")


@app.command(epilog="Example:\n\n`streamflow cluster reset flights --on kafka://127.0.0.1:9092 --yes`")
def reset(name: Name, on: On, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Forget a pipeline's position and state, and delete the topics it keeps them in, so that it begins anew.

    Topics that you read or write stay as they are, and so do tables and rows."""
    with told_errors(), _opened(on) as log:
        topics = log.own_topics(name)
        if not yes:
            say("\n".join(topics))
            typer.confirm(f"Forget position and state of pipeline '{name}', and delete these topics?", abort=True)
        log.reset_pipeline(name)
        say(f"{name}: forgotten")


@contextmanager
def _opened(on: str) -> "Iterator[ClusterLog]":
    if not on.startswith("kafka:"):
        raise PipelineError(f"'{on}' is no Kafka. Write --on kafka://host:9092; a folder has commands of its own.")
    log = open_cluster(on)
    try:
        yield log
    finally:
        log.close()


def _watermark(time_us: int) -> str:
    return "ended" if time_us >= MAX_US else "none yet" if time_us <= MIN_US else iso_time(time_us)
