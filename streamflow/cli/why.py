"""`streamflow why`: what `runtime/why.py` has found, in words and tables."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import orjson
import typer

from streamflow.base.errors import NotFoundError
from streamflow.cli.folders import known_pipeline, opened
from streamflow.cli.options import Data, Json
from streamflow.cli.output import iso_time, print_json, print_table, say, time_text, told_errors
from streamflow.model.history import Kind, Pane, Row
from streamflow.model.time import MAX_US, MIN_US
from streamflow.runtime.events import event_at
from streamflow.runtime.hints import count
from streamflow.runtime.holders import Holder, KeptBack, SourcePartition
from streamflow.runtime.why import Why, instant_text, window_text
from streamflow.runtime.why import why as found_why
from streamflow.topics.protocol import Log

app = typer.Typer()

_KINDS = {Kind.ROW: "in time", Kind.LATE: "late", Kind.DROPPED: "dropped"}


@app.command(
    epilog="Examples:\n\n"
    "`streamflow run visits.py --data data --explain-panes` — keeps what `why` then can tell\n\n"
    "`streamflow why /checkout 2026-07-04T12:00 --data data` — the window with this instant (UTC)\n\n"
    "`streamflow why '[\"JFK\",5]' 2013-07-04T12:00/2013-07-04T13:00 -d data --pipeline flights --step Hourly`\n\n"
    '`streamflow why "" global --data data` — where nothing is grouped by, in the global window'
)
def why(
    key: Annotated[str, typer.Argument(help="As it is printed; of several columns a JSON array.")],
    window: Annotated[str, typer.Argument(help="An instant in it, its start/end (ISO 8601, UTC), or `global`.")],
    data: Data,
    pipeline: Annotated[str | None, typer.Option("--pipeline", help="Needed if there are several.")] = None,
    step: Annotated[str | None, typer.Option(help="The grouping's label, if there are several.")] = None,
    rows: Annotated[int, typer.Option("--rows", "-n", min=0, help="How many input rows to show of each kind.")] = 10,
    json: Json = False,
) -> None:
    """Why a window has given this result, or none yet: is it open, what holds the watermark back, which events it took,
    which were late or dropped, and which panes it gave.

    Events and panes are known if the pipeline ran with `--explain-panes` (or `Settings(explain_panes=True)`).
    """
    with told_errors(), opened(data) as log:
        found = found_why(log, known_pipeline(log, pipeline or _only(log)), key, window, step=step)
        if json:
            print_json(_document(log, found, rows))
            return
        _say_state(found)
        _say_sources(found)
        _say_history(log, found, rows)


def _only(log: Log) -> str:
    names = list(log.pipelines())
    if len(names) != 1:
        there = f"There are: {', '.join(names)}." if names else "None has run in this folder yet."
        raise NotFoundError(f"name the pipeline with `--pipeline`. {there}")
    return names[0]


def _say_state(found: Why) -> None:
    key = f"key {found.key}" if found.key else "no key"
    window = "a window" if found.window is None else f"window {window_text(found.window)}"
    say(f"{found.pipeline} · {found.step} · {key} · {window} ({found.windows.text})")
    say("")
    say(_state(found))


def _state(found: Why) -> str:
    watermark = f"the watermark is {_mark_text(found.watermark_us)}"
    if found.window is None or found.gone_us is None:
        return f"{watermark}. Give the window as start/end to know whether it is open"
    ends = "when its input has ended" if found.window.end_us >= MAX_US else f"at {instant_text(found.window.end_us)}"
    if found.state == "open":
        short = found.window.end_us - found.watermark_us
        missing = found.watermark_us > MIN_US and found.window.end_us < MAX_US
        return f"open: it ends {ends}; {watermark}{f', {_span(short)} to go' if missing else ''}"
    if found.state == "fired":
        gone = "when its input has ended" if found.gone_us >= MAX_US else f"at {instant_text(found.gone_us)}"
        return f"on time, and open for late events: it ended {ends} and is gone {gone}; {watermark}"
    lateness = f" and its lateness of {_span(found.windows.lateness_us)}" if found.windows.lateness_us else ""
    return f"closed and gone: {watermark}, past its end{lateness}; what comes now is dropped"


def _say_sources(found: Why) -> None:
    if found.state != "gone":
        say(f"the watermark goes by {held_by(found.holder, found.sources)}")
    say("")
    names = ["source", "topic", "partition", "watermark", "newest event", "backlog", "idle", ""]
    if any(each.marker_us is not None for each in found.sources):
        names[4] = "marker"
    print_table(names, [_source_cells(each, found.holder) for each in found.sources])


def _source_cells(each: SourcePartition, holder: Holder | None) -> Sequence[Any]:
    newest = each.newest_us if each.marker_us is None else each.marker_us
    seen = None if newest is None else iso_time(newest)
    idle = "yes" if each.idle else "no"
    here = "← holds back" if each == holder else ""
    return (each.stage, each.topic, each.partition, time_text(each.watermark_us), seen, each.backlog_events, idle, here)


def held_by(holder: Holder | None, sources: Sequence[SourcePartition]) -> str:
    """The one that holds it back, and why it stands where it does."""
    if holder is None:
        return "nothing any more: all its inputs have ended"
    if isinstance(holder, KeptBack):
        place = f"step {holder.stage}, partition {holder.partition}"
        return f"{place}, which keeps a result of {instant_text(holder.watermark_us)} back until its trigger fires"
    return f"{holder.topic}/{holder.partition}: {_reason(holder, sources)}"


def _reason(holder: SourcePartition, sources: Sequence[SourcePartition]) -> str:
    unread = f"{count(holder.backlog_events, 'event')} unread" if holder.backlog_events else "all of it is read"
    if holder.promised:
        why = f"its publishers have promised {instant_text(holder.watermark_us)}"
    elif holder.marker_us is not None:
        why = f"its last marker is {instant_text(holder.marker_us)} ({holder.policy})"
    elif holder.newest_us is not None:
        why = f"its newest event is at {instant_text(holder.newest_us)} ({holder.policy})"
    elif holder.idle or not holder.backlog_events:
        why = f"nothing that its watermark could go by has come yet ({holder.policy})"
    else:
        why = f"nothing of it was read yet ({holder.policy})"
    alone = "" if not holder.idle or len(sources) == 1 else "; every partition is read to its end, so the newest speaks"
    return f"{why}; {unread}{alone}"


def _say_history(log: Log, found: Why, limit: int) -> None:
    say("")
    if found.history is None:
        say("which events it took is not known: run the pipeline with --explain-panes to keep that from then on")
        return
    history = found.history
    if history.panes:
        names = ["pane", "timing", "events", "fired at", "watermark then", "last"]
        print_table(names, [_pane_cells(n, pane) for n, pane in enumerate(history.panes)])
    else:
        say("no pane has fired yet")
    numbers = {id(pane): n for n, pane in enumerate(history.panes)}
    for kind, name in _KINDS.items():
        of_kind = history.of(kind)
        if not of_kind:
            continue
        say("")
        shown = f", the first {limit}" if len(of_kind) > limit else ""
        say(f"{count(len(of_kind), 'event')} {name}{shown}{_dropped(found) if kind is Kind.DROPPED else ''}")
        columns = ["place", "event time", "watermark then", "in panes", "event"]
        cells = [_row_cells(log, row, numbers, found.labels) for row in of_kind[:limit]]
        if cells:
            print_table(columns, cells)


def _dropped(found: Why) -> str:
    gone_us = found.gone_us
    return "" if gone_us is None else f": the window was gone at {_mark_text(gone_us)}"


def _pane_cells(number: int, pane: Pane) -> Sequence[Any]:
    fired, then = time_text(pane.now_us), time_text(pane.watermark_us)
    return (number, pane.timing, pane.events, fired, then, "yes" if pane.is_last else "no")


def _row_cells(log: Log, row: Row, numbers: dict[int, int], labels: Mapping[str, str]) -> Sequence[Any]:
    panes = ", ".join(str(numbers[id(pane)]) for pane in row.panes)
    then = time_text(row.watermark_us)
    return (_place(row, labels), iso_time(row.time_us), then, panes or "-", _event_text(_event(log, row)))


def _place(row: Row, labels: Mapping[str, str]) -> str:
    if row.offset < 0:
        return f"from {labels.get(row.topic, row.topic)}"
    return f"{row.topic}/{row.partition}/{row.offset}"


def _event(log: Log, row: Row) -> Any:
    """None if it is not kept any more, or was no event of a topic."""
    info = next((info for info in log.topics() if info.name == row.topic), None)
    if info is None or info.config.internal or row.offset < 0:
        return None
    event = event_at(log, row.topic, row.partition, row.offset)
    return None if event is None else event.value


def _event_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _mark_text(time_us: int) -> str:
    return "not known yet" if time_us <= MIN_US else "past everything" if time_us >= MAX_US else instant_text(time_us)


def _span(time_us: int) -> str:
    """Of event time, to the second where it is more than one."""
    seconds = time_us / 1e6
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    return " ".join(f"{value:,} {unit}" for value, unit in parts if value)


def _instant(time_us: int | None) -> str | None:
    return None if time_us is None or not MIN_US < time_us < MAX_US else iso_time(time_us)


def _document(log: Log, found: Why, limit: int) -> dict[str, Any]:
    holder = found.holder
    document: dict[str, Any] = {
        "pipeline": found.pipeline,
        "step": found.step,
        "key": found.key,
        "window": None if found.window is None else window_text(found.window),
        "state": found.state,
        "watermark": _instant(found.watermark_us),
        "ended": found.watermark_us >= MAX_US,
        "gone_at": _instant(found.gone_us),
        "held_by": held_by(holder, found.sources),
        "sources": [
            {
                "source": each.stage,
                "topic": each.topic,
                "partition": each.partition,
                "goes_by": each.policy,
                "watermark": _instant(each.watermark_us),
                "newest_event": _instant(each.newest_us),
                "marker": _instant(each.marker_us),
                "backlog_events": each.backlog_events,
                "idle": each.idle,
                "holds_back": each == holder,
            }
            for each in found.sources
        ],
        "panes": None,
        "rows": None,
    }
    if found.history is None:
        return document
    numbers = {id(pane): n for n, pane in enumerate(found.history.panes)}
    document["panes"] = [_pane_document(pane) for pane in found.history.panes]
    document["counts"] = {name: len(found.history.of(kind)) for kind, name in _KINDS.items()}
    shown = [row for kind in _KINDS for row in found.history.of(kind)[:limit]]
    document["rows"] = [_row_document(log, row, numbers) for row in shown]
    return document


def _pane_document(pane: Pane) -> dict[str, Any]:
    return {
        "window": window_text(pane.window),
        "index": pane.index,
        "timing": pane.timing,
        "is_last": pane.is_last,
        "events": pane.events,
        "fired_at": iso_time(pane.now_us),
        "watermark": _instant(pane.watermark_us),
    }


def _row_document(log: Log, row: Row, numbers: dict[int, int]) -> dict[str, Any]:
    return {
        "became": _KINDS[row.kind],
        "topic": row.topic,
        "partition": row.partition,
        "offset": row.offset if row.offset >= 0 else None,
        "event_time": _instant(row.time_us),
        "watermark": _instant(row.watermark_us),
        "at": iso_time(row.now_us),
        "panes": [numbers[id(pane)] for pane in row.panes],
        "event": _event(log, row),
    }
