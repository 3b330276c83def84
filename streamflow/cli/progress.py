"""What `run` tells of a pipeline: a line while it works, and at its end what it did and what went wrong."""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import orjson

from streamflow.cli.output import console, print_table, say, say_problem, time_text
from streamflow.engine.plan import Plan
from streamflow.model.time import MAX_US, MIN_US
from streamflow.model.watermark import merged_watermark
from streamflow.runtime.hints import command, count
from streamflow.runtime.pipeline import result_of
from streamflow.runtime.progress import backlog_events, source_mark, waiting_sources
from streamflow.runtime.supervisor import NOT_ASKED, Status
from streamflow.topics import codec
from streamflow.topics.protocol import Log, Snapshot

REFRESH_S = 1.0
"""Of the line on a terminal."""
LINE_S = 5.0
"""Between two lines where there is no terminal."""

Counters = Mapping[str, Mapping[str, float]]


class StatusLine:
    """Workers, events read, events/s, backlog and watermark: in place on a terminal, else a plain line every 5 s."""

    def __init__(self, plan: Plan, clock_s: Callable[[], float] = time.monotonic) -> None:
        self.plan, self._clock_s = plan, clock_s
        self._in_place = console.is_terminal and not console.is_dumb_terminal
        self._told_s = clock_s()
        self._read: int | None = None
        self._waiting = waiting_sources(plan)

    def __call__(self, seen: Status) -> None:
        sources = [stage for stage in self.plan.stages if not stage.upstream]
        names = {stage.name for stage in sources}
        read = sum(state.offset for task, state in seen.snapshot.tasks.items() if task.stage in names)
        before, self._read = self._read, read if self._read is None else self._read
        elapsed_s = self._clock_s() - self._told_s
        if before is None or elapsed_s < (REFRESH_S if self._in_place else LINE_S):
            return
        self._read, self._told_s = read, self._told_s + elapsed_s
        line = (
            f"workers {seen.workers}/{seen.wanted} · read {read:,} · {(read - before) / elapsed_s:,.0f} events/s · "
            f"backlog {backlog_events(seen.snapshot, sources):,} · "
            f"watermark {time_text(pipeline_watermark(seen.snapshot, self._waiting))}"
        )
        line += f" · {seen.decision}" if seen.decision != NOT_ASKED else ""
        if self._in_place:
            console.file.write(f"\r\x1b[2K{line[: console.width - 1]}")
            console.file.flush()
        else:
            say(line)

    def close(self) -> None:
        """What is printed next has the line for itself."""
        if self._in_place:
            console.file.write("\r\x1b[2K")


def pipeline_watermark(snapshot: Snapshot, waiting: Collection[str] = ()) -> int:
    """How far the pipeline's sources have come in event time: what its windows go by. `waiting`: the stages whose
    partitions are waited for also when they have been read to their end."""
    topics = {name for name, info in snapshot.topics.items() if not info.config.internal}
    marks = [source_mark(state, snapshot, waiting) for state in snapshot.tasks.values() if state.topic in topics]
    if marks:
        return merged_watermark(marks, ())
    return min((s.watermark_us for s in snapshot.tasks.values() if s.watermark_us > MIN_US), default=MIN_US)


def topics_not_ended(plan: Plan, snapshot: Snapshot) -> list[str]:
    topics = dict.fromkeys(stage.topic for stage in plan.stages if stage.kind == "source")
    return [topic for topic in topics if snapshot.topics[topic].watermark_us < MAX_US]


class RunReport:
    """Made when a run begins, told when it has ended: what was counted in between."""

    def __init__(self, plan: Plan, log: Log, data: object) -> None:
        self.plan, self.log, self.data = plan, log, data
        self._before = self._counters()
        self._letters_start = log.end(plan.dead_letter_topic, 0)

    def tell(self, *, problems_only: bool) -> None:
        done = self._done()
        if not problems_only:
            self._tell_stages(done)
        self._tell_problems(done)

    def _tell_stages(self, done: Counters) -> None:
        if not any(counts.get("events_in", 0) for counts in done.values()):
            status = command("status", str(self.data))
            say(f"nothing new was read; {status} shows what all runs have counted")
            return
        names = ("events_in", "events_out", "late", "dropped", "dead_lettered")
        rows = [[stage.name, *(int(done[stage.name].get(name, 0)) for name in names)] for stage in self.plan.stages]
        say("")
        print_table(["stage", "in", "out", "late", "dropped", "failed"], rows)

    def _tell_problems(self, done: Counters) -> None:
        totals = {
            name: int(sum(counts.get(name, 0) for counts in done.values()))
            for name in ("dead_lettered", "dropped", "expired")
        }
        if failed := totals["dead_lettered"]:
            tail = command(f"topic tail {self.plan.dead_letter_topic}", str(self.data))
            say_problem(f"{count(failed, 'event')} failed{self._first_error()}. See them with {tail}.")
        if dropped := totals["dropped"]:
            say_problem(
                f"{count(dropped, 'event')} came too late and {_were(dropped)} dropped: the window was gone already. "
                "A larger `allowed_lateness` of the windows keeps them, or a larger `disorder` of the source."
            )
        if expired := totals["expired"]:
            say_problem(
                f"{count(expired, 'event')} {_were(expired)} deleted by retention before the pipeline read them."
            )

    def _first_error(self) -> str:
        """Of this run, from the dead-letter topic; empty if retention has taken it."""
        for record in self.log.read(self.plan.dead_letter_topic, 0, self._letters_start, max_events=1):
            first = max(0, self._letters_start - record.offset)
            letter: dict[str, Any] = orjson.loads(codec.decode(record)[codec.JSON][first])
            return f", the first in {letter['transform']}: {letter['error']}"
        return ""

    def _done(self) -> Counters:
        return {
            stage: {name: value - self._before.get(stage, {}).get(name, 0) for name, value in counts.items()}
            for stage, counts in self._counters().items()
        }

    def _counters(self) -> Counters:
        return result_of(self.plan.pipeline, self.log.snapshot(self.plan.pipeline)).counters


def _were(number: int) -> str:
    return "was" if number == 1 else "were"
