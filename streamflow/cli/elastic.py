"""Commands about the number of workers: who they are, how many there are to be, and why."""

import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from streamflow.base.errors import ConflictError, NotFoundError
from streamflow.cli.folders import data_folder, known_pipeline, live_workers, opened
from streamflow.cli.options import CONTEXT, Data, Json, LatencyIfGiven, Name
from streamflow.cli.output import print_json, print_table, say, time_text, told_errors
from streamflow.runtime.autoscaler import Policy
from streamflow.runtime.decisions import Entry, read, recorded
from streamflow.runtime.hints import count
from streamflow.runtime.observing import BUSY_S
from streamflow.runtime.processes import is_alive, memory_bytes
from streamflow.runtime.supervision import is_supervised
from streamflow.runtime.what_if import Outcome, as_it_was, what_if
from streamflow.topics.protocol import Snapshot, WorkerInfo

app = typer.Typer()
autoscale = typer.Typer(
    help="Why there are as many workers as there are, and how many there would be with other settings.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings=CONTEXT,
)

AUTO = "auto"
Recorded = Annotated[
    str | None, typer.Argument(help="The pipeline's name; not needed if only one was scaled in this folder.")
]


@app.command(
    epilog="Examples:\n\n`streamflow scale flights 4 --data demo-data`\n\n"
    "`streamflow scale flights auto --data demo-data` gives it back to the autoscaler, or to what `run` said"
)
def scale(
    name: Name, workers: Annotated[str, typer.Argument(metavar="N|auto", help="How many, or auto.")], data: Data
) -> None:
    """Change the number of workers of a running pipeline; only the tasks that must move do.

    It holds until the next `scale`, or the next `run`, which begins with its own number.
    """
    if workers != AUTO and not workers.isdecimal():
        raise typer.BadParameter(f"'{workers}' is neither a number nor '{AUTO}'.", param_hint="'N|auto'")
    with told_errors(), opened(data) as log:
        running = len(live_workers(log.snapshot(known_pipeline(log, name))))
        if not is_supervised(data, name):
            others = f" ({count(running, 'worker')} without a supervisor)" if running else ""
            hint = "Start it with `streamflow run … --workers N`."
            raise ConflictError(f"pipeline '{name}' is not running in '{data}'{others}. {hint}")
        log.request_workers(name, None if workers == AUTO else int(workers))
        wanted = "back to what `run` said" if workers == AUTO else f"{count(int(workers), 'worker')} wanted"
        say(f"{name}: {wanted}; {running} running now")


@app.command(epilog="Example:\n\n`streamflow workers --data demo-data`")
def workers(
    data: Data,
    over: Annotated[float, typer.Option(min=0.05, help="Seconds over which rates are measured.")] = 1.0,
    json: Json = False,
) -> None:
    """Every worker of a folder: what it runs, how fast, how busy it is, its memory and its state."""
    with told_errors(), opened(data) as log:
        names = list(log.pipelines())
        before, began_s = {name: log.snapshot(name) for name in names}, time.monotonic()
        if any(snapshot.workers for snapshot in before.values()):
            time.sleep(over)
        passed_s = max(1e-3, time.monotonic() - began_s)
        rows = [row for name in names for row in _workers(name, before[name], log.snapshot(name), passed_s)]
    if json:
        print_json(rows)
    elif not rows:
        say(f"no worker is at work in '{data}'")
    else:
        print_table(list(rows[0]), [list(row.values()) for row in rows])


@autoscale.command(
    epilog="Examples:\n\n`streamflow autoscale explain --data demo-data`\n\n"
    "`streamflow autoscale explain flights --last 3 --json --data demo-data` has all that was seen, too"
)
def explain(
    name: Recorded = None,
    *,
    data: Data,
    last: Annotated[int, typer.Option(min=1, help="So many changes at most.")] = 10,
    json: Json = False,
) -> None:
    """The last changes of the number of workers, and what is decided now: what was seen, what was expected, and the
    price of the other choices.

    Prices are in seconds of the usual number of workers.
    """
    with told_errors():
        entries = _entries(data, name)
        changes = [entry for entry in entries[:-1] if entry.changes][-last:]
        if json:
            print_json([msgspec.to_builtins(entry) for entry in [*changes, entries[-1]]])
            return
        for entry in changes:
            _tell(entry, f"{entry.seen.wanted} → {entry.decision.workers}")
        _tell(entries[-1], f"now {entries[-1].decision.workers}")


@autoscale.command(
    name="what-if",
    epilog="Example:\n\n`streamflow autoscale what-if --latency 5s --max-workers 8 --data demo-data`",
)
def what_if_(
    name: Recorded = None,
    *,
    data: Data,
    latency: LatencyIfGiven = None,
    min_workers: Annotated[int | None, typer.Option(min=0, help="At least so many.")] = None,
    max_workers: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    violation_price: Annotated[
        float | None,
        typer.Option(min=0, help="What a second over the latency may cost, in seconds of the usual number of workers."),
    ] = None,
    json: Json = False,
) -> None:
    """Replay what was recorded under other settings: what would have been decided, and what it would have cost. What is
    not given stays as it was."""
    with told_errors():
        entries = _entries(data, name)
        was = entries[-1].policy
        least = was.workers_min if min_workers is None else min_workers
        most = was.workers_max if max_workers is None else max_workers
        if most < least:
            raise typer.BadParameter(f"{most} is below the least of {least}.", param_hint="'--max-workers'")
        policy = Policy(
            least, most, latency or was.latency_s, was.violation_price if violation_price is None else violation_price
        )
        real, other = as_it_was(entries, policy.latency_s), what_if(entries, policy)
        if json:
            print_json({"settings": msgspec.to_builtins(policy), "was": _numbers(real), "would_be": _numbers(other)})
            return
        for at_us, before, decision in other.changes:
            say(f"{time_text(at_us)}  {before} → {decision.workers}  {decision.reason}")
        rows = [["as it was", *_numbers(real).values()], ["what if", *_numbers(other).values()]]
        print_table(["", *_numbers(real)], rows)


def _entries(data: Path, name: str | None) -> list[Entry]:
    names = recorded(data_folder(data))
    if name is None and len(names) > 1:
        raise NotFoundError(f"several pipelines have been scaled here: {', '.join(names)}. Name one.")
    entries = read(data, name or names[0]) if name or names else []
    if not entries:
        whose = f" for '{name}'" if name else ""
        hint = "The autoscaler is at work where `streamflow run` has --max-workers above --workers."
        raise NotFoundError(f"no decision of the autoscaler is recorded in '{data}'{whose}. {hint}")
    return entries


def _tell(entry: Entry, change: str) -> None:
    say(f"{time_text(entry.at_us)}  {change}  {entry.decision.reason}")
    for choice in entry.decision.choices:
        mark = "*" if choice.workers == entry.decision.workers else " "
        over = f"{choice.over_s:,.1f} s too late" if choice.over_s else "in time"
        say(f"    {mark} {count(choice.workers, 'worker')}: price {choice.price:,.0f}, {over}")


def _numbers(outcome: Outcome) -> dict[str, Any]:
    return {
        "changes": len(outcome.changes),
        "worker_seconds": round(outcome.worker_s, 1),
        "seconds_over_latency": round(outcome.over_s, 1),
    }


def _workers(pipeline: str, before: Snapshot, after: Snapshot, passed_s: float) -> list[dict[str, Any]]:
    """Rates of a task count for who owned it all the time."""
    stages: dict[str, set[str]] = defaultdict(set)
    tasks: dict[str, int] = defaultdict(int)
    events: dict[str, int] = defaultdict(int)
    busy_s: dict[str, float] = defaultdict(float)
    for task, state in after.tasks.items():
        if state.owner is None:
            continue
        stages[state.owner].add(task.stage)
        tasks[state.owner] += 1
        was = before.tasks.get(task)
        if was is not None and was.epoch == state.epoch:
            events[state.owner] += state.offset - was.offset
            busy_s[state.owner] += state.counters.get(BUSY_S, 0.0) - was.counters.get(BUSY_S, 0.0)
    return [
        {
            "pipeline": pipeline,
            "worker": worker.id,
            "pid": worker.pid,
            "state": "gone" if not is_alive(worker) else "draining" if worker.draining else "working",
            "tasks": tasks[worker.id],
            "stages": ", ".join(sorted(stages[worker.id])),
            "events_per_s": round(events[worker.id] / passed_s, 1),
            "busy_percent": round(100 * min(1.0, busy_s[worker.id] / passed_s), 1),
            "memory_mb": _memory_mb(worker),
        }
        for worker in after.workers.values()
    ]


def _memory_mb(worker: WorkerInfo) -> float:
    with suppress(OSError):
        return round(memory_bytes(worker.pid) / 1e6, 1) if is_alive(worker) else 0.0
    return 0.0
