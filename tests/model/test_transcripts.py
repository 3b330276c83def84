"""Transcripts: what the windows of one key give, event by event, as YAML in `transcripts/`.

A case has `windows`, and perhaps `trigger`, `mode`, `lateness`, `timestamp`, `on_time`, `closing`: what WindowInto
takes. It is either `refused` with some words when a pipeline groups by it, or has a `transcript`:

    at 1 2       elements at these seconds of event time, each its own value, one after the other
    watermark 9  the watermark goes on to it (`watermark end`: the input has ended)
    clock 5      processing time goes on to it
    open         asks for the windows that are held
    > …          what the line before gave, in this order: `[start,end) TIMING index[/index not EARLY][ first][ last]
                 [ @time if not the end of the window]: values`, `dropped value`, or windows
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import streamflow as sf
from streamflow.base.errors import PipelineError
from streamflow.model.panes import Added, Decision, Dropped, Fired, Gone, Merged, PaneMachine, WindowPanes
from streamflow.model.time import MAX_US, MIN_US, Timestamp
from streamflow.model.window import IntervalWindow
from streamflow.model.windowing import Windowing
from streamflow.transforms import trigger, window

S = 1_000_000


class Touching(window.WindowFn):
    """Sessions of ten seconds that become one where they only touch, too."""

    def assign(self, assign_context: window.WindowFn.AssignContext) -> list[IntervalWindow]:
        return [IntervalWindow(assign_context.timestamp, assign_context.timestamp + 10)]

    def merge(self, merge_context: window.WindowFn.MergeContext) -> None:
        groups: list[list[IntervalWindow]] = []
        for each in sorted(merge_context.windows, key=lambda each: each.start_us):
            if groups and each.start_us <= max(other.end_us for other in groups[-1]):
                groups[-1].append(each)
            else:
                groups.append([each])
        for group in groups:
            merge_context.merge(group, IntervalWindow(group[0].start, max(each.end for each in group)))


class Priority(window.NonMergingWindowFn):
    """Even seconds are in windows of ten seconds, odd ones of a hundred."""

    def assign(self, assign_context: window.WindowFn.AssignContext) -> list[IntervalWindow]:
        size = 100 if int(assign_context.timestamp) % 2 else 10
        start = int(assign_context.timestamp) // size * size
        return [IntervalWindow(start, start + size)]


NAMES = {
    **{name: getattr(window, name) for name in window.__all__},
    **{name: getattr(trigger, name) for name in trigger.__all__},
    "Touching": Touching,
    "Priority": Priority,
}
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted((Path(__file__).parent / "transcripts").glob("*.yaml"))
    for case in yaml.safe_load(path.read_text())
]


def window_into(case: dict[str, Any]) -> sf.WindowInto:
    """Evaluated in the names that users import."""
    given = {
        "trigger": ("trigger", "{}"),
        "mode": ("accumulation_mode", "AccumulationMode.{}"),
        "lateness": ("allowed_lateness", "{}"),
        "timestamp": ("timestamp_combiner", "TimestampCombiner.{}"),
        "on_time": ("on_time_behavior", "OnTimeBehavior.{}"),
        "closing": ("closing_behavior", "ClosingBehavior.{}"),
    }
    options = {name: eval(form.format(case[key]), NAMES) for key, (name, form) in given.items() if key in case}
    return sf.WindowInto(eval(case["windows"], NAMES), **options)


class Player:
    """Plays one key: follows the machine's decisions with lists of values."""

    def __init__(self, windowing: Windowing) -> None:
        self.machine = PaneMachine(windowing)
        self.windows: dict[IntervalWindow, WindowPanes] = {}
        self.values: dict[IntervalWindow, list[str]] = {}
        self.watermark_us, self.now_us = MIN_US, 0

    def play(self, line: str) -> list[str]:
        verb, *words = line.split()
        return list({"at": self.at, "watermark": self.watermark, "clock": self.clock, "open": self.open}[verb](words))

    def at(self, words: list[str]) -> Iterator[str]:
        for word in words:
            time_us = round(float(word) * S)
            for proto in self.machine.windowing.windows(time_us, word, None):
                steps = self.machine.element(self.windows, proto, time_us, self.watermark_us, self.now_us)
                yield from self.follow(steps, word)

    def watermark(self, words: list[str]) -> Iterator[str]:
        before_us, self.watermark_us = self.watermark_us, MAX_US if words == ["end"] else round(float(words[0]) * S)
        for each in sorted(self.windows):
            steps = self.machine.watermark(self.windows, each, before_us, self.watermark_us, self.now_us)
            yield from self.follow(steps)

    def clock(self, words: list[str]) -> Iterator[str]:
        before_us, self.now_us = self.now_us, round(float(words[0]) * S)
        for each in sorted(self.windows):
            due_us = self.machine.trigger.due_us(self.windows[each].trigger, before_us)
            if due_us is not None and due_us <= self.now_us:
                yield from self.follow(self.machine.asked(self.windows, each, self.watermark_us, self.now_us))

    def open(self, words: list[str]) -> Iterator[str]:
        yield " ".join(map(shown, sorted(self.windows))) or "nothing"

    def follow(self, steps: Iterator[Decision], value: str = "") -> Iterator[str]:
        for step in steps:
            if isinstance(step, Merged):
                for source in step.sources:
                    self.values.setdefault(step.result, []).extend(self.values.pop(source, []))
            elif isinstance(step, Added):
                self.values.setdefault(step.window, []).append(value)
            elif isinstance(step, Dropped):
                yield f"dropped {value}"
            elif isinstance(step, Fired):
                yield self.pane(step)
            else:
                assert isinstance(step, Gone)
                self.values.pop(step.window, None)

    def pane(self, fired: Fired) -> str:
        held = self.values.pop(fired.window, []) if fired.clears else self.values.get(fired.window, [])
        pane = fired.pane
        late = f"/{pane.nonspeculative_index}" if pane.nonspeculative_index >= 0 else ""
        flags = " first" * pane.is_first + " last" * pane.is_last
        moved = fired.time_us != min(fired.window.end_us, MAX_US) - 1
        time = f" @{float(Timestamp(micros=fired.time_us)):g}" if moved else ""
        values = "".join(f" {value}" for value in sorted(held, key=float))
        return f"{shown(fired.window)} {pane.timing.name} {pane.index}{late}{flags}{time}:{values}"


def shown(each: IntervalWindow) -> str:
    return "all" if isinstance(each, window.GlobalWindow) else f"[{each.start_us / S:.16g},{each.end_us / S:.16g})"


def as_played(case: dict[str, Any]) -> list[str]:
    """The transcript again, with what the machine really gives."""
    player, lines = Player(window_into(case).windowing), []
    for line in case["transcript"].splitlines():
        if line.strip() and not line.strip().startswith(">"):
            lines += [line.strip(), *(f"> {given}" for given in player.play(line))]
    return lines


@pytest.mark.parametrize("case", CASES)
def test_transcript(case: dict[str, Any]) -> None:
    if "refused" in case:
        with pytest.raises(PipelineError, match=case["refused"]):
            sf.Pipeline("p") | sf.Create([("k", 1)]) | window_into(case) | sf.GroupByKey()
    else:
        assert as_played(case) == [line.strip() for line in case["transcript"].splitlines() if line.strip()]


def test_there_are_transcripts_of_every_trigger_and_window() -> None:
    used = {name for param in CASES for name in NAMES if name in str(param.values[0])}  # type: ignore[attr-defined]
    wanted = [name for name in NAMES if name.startswith(("After", "Repeat", "OrF", "Never", "Default"))]
    assert set(wanted) | {"FixedWindows", "SlidingWindows", "Sessions", "CalendarWindows", "GlobalWindows"} <= used
    assert len(CASES) >= 60
