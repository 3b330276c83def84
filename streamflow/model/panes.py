"""Panes: what the windows of one key give, and when. A pure machine: events in (an element, the watermark, processing
time), decisions out; the accumulators themselves are elsewhere and follow the decisions.

Its state is one `WindowPanes` per window, plain numbers that can be stored. Merging windows: an element that comes to a
window that is not there makes the function merge it with those that are; the merged window has the counts, holds and
trigger states of all, but begins its panes anew unless it is one of them. An event is dropped only if the window that
it would have become part of is gone.

    EARLY*     before the watermark has passed the window's end
    ON_TIME    the first after it, once, if the window had an event before it
    LATE*      all that follow
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

from streamflow.model.time import MAX_US
from streamflow.model.trigger import Moment, State
from streamflow.model.window import IntervalWindow, WindowFn
from streamflow.model.windowing import AccumulationMode, ClosingBehavior, OnTimeBehavior, TimestampCombiner, Windowing


class PaneInfoTiming(IntEnum):
    """When a pane was made, seen from the end of its window. UNKNOWN: of elements that come from no grouping."""

    EARLY = 0
    ON_TIME = 1
    LATE = 2
    UNKNOWN = 3

    @classmethod
    def to_string(cls, value: int) -> str:
        return cls(value).name

    @classmethod
    def from_string(cls, value: str) -> "PaneInfoTiming":
        """KeyError for a text that names none."""
        return cls[value]


@dataclass(frozen=True, slots=True)
class PaneInfo:
    """Which of the panes of its key and window a result is. `index` counts all of them, `nonspeculative_index` those
    that are not EARLY (-1 for these)."""

    is_first: bool = True
    is_last: bool = True
    timing: PaneInfoTiming = PaneInfoTiming.UNKNOWN
    index: int = 0
    nonspeculative_index: int = 0

    @property
    def packed(self) -> int:
        """All but the index, as one number."""
        return (self.nonspeculative_index + 1) << 4 | self.timing << 2 | self.is_last << 1 | self.is_first

    @staticmethod
    @lru_cache(maxsize=4096)
    def unpacked(index: int, packed: int) -> "PaneInfo":
        timing = PaneInfoTiming(packed >> 2 & 3)
        return PaneInfo(bool(packed & 1), bool(packed & 2), timing, index, (packed >> 4) - 1)


PANE_UNKNOWN = PaneInfo()
PANE_ONLY = PaneInfo(timing=PaneInfoTiming.ON_TIME)


@dataclass(slots=True)
class WindowPanes:
    """The state of one window of a key. `panes`, `nonspeculative`: how many it has given; `owed`: the ON_TIME pane is
    still to come; `held`: elements since the last pane; `hold_us`: the earliest or latest event time among those that
    were not late, where that is the time of the result; `given`: elements in the panes before."""

    trigger: State
    panes: int = 0
    nonspeculative: int = 0
    owed: bool = False
    held: int = 0
    hold_us: int | None = None
    given: int = 0

    def plain(self) -> list[Any]:
        """As values that any encoding has."""
        return [self.trigger, self.panes, self.nonspeculative, self.owed, self.held, self.hold_us, self.given]

    @property
    def is_closed(self) -> bool:
        """Its trigger has finished: it takes nothing more."""
        return bool(self.trigger[0])


@dataclass(frozen=True, slots=True)
class Merged:
    """What is held of `sources` belongs to `result` now, besides what is held of that already."""

    sources: tuple[IntervalWindow, ...]
    result: IntervalWindow


@dataclass(frozen=True, slots=True)
class Added:
    """The element belongs to `window`."""

    window: IntervalWindow


@dataclass(frozen=True, slots=True)
class Dropped:
    """The element's window is gone or closed."""

    window: IntervalWindow


@dataclass(frozen=True, slots=True)
class Fired:
    """What is held of `window` is a result, timed at `time_us`. `clears`: it is held no longer. `events`: how many
    elements it is of."""

    window: IntervalWindow
    pane: PaneInfo
    time_us: int
    clears: bool
    events: int


@dataclass(frozen=True, slots=True)
class Gone:
    """Nothing of `window` is needed any more."""

    window: IntervalWindow


Decision = Merged | Added | Dropped | Fired | Gone
Windows = dict[IntervalWindow, WindowPanes]
"""Of one key."""


class PaneMachine:
    """The rules of one windowing. It changes the windows that it is handed, and keeps nothing itself."""

    def __init__(self, windowing: Windowing) -> None:
        self.windowing, self.trigger = windowing, windowing.trigger
        self.discards = windowing.accumulation_mode is AccumulationMode.DISCARDING

    def gone_at(self, window: IntervalWindow) -> int:
        """The watermark at which nothing of it is needed any more."""
        return self.windowing.gone_at(window.end_us)

    def hold_us(self, window: IntervalWindow, panes: WindowPanes) -> int | None:
        """A time beyond which the watermark of the results must not go yet."""
        if not panes.held:
            return None
        if self.windowing.timestamp_combiner is TimestampCombiner.OUTPUT_AT_EOW:
            return _last_instant(window) if panes.owed else None
        return panes.hold_us

    def element(
        self,
        windows: Windows,
        proto: IntervalWindow,
        time_us: int,
        watermark_us: int,
        now_us: int,
        *,
        asks: bool = True,
    ) -> Iterator[Decision]:
        """One element, at `time_us`, in a window that its function has assigned. `asks` False: the trigger is asked
        later, by `asked`, once for several elements."""
        window = proto
        if proto not in windows and windows and self.windowing.is_merging:
            merges, window = self._merges(windows, proto)
            for sources, result in merges:
                yield self._merge(windows, sources, result, Moment(result.end_us, watermark_us, now_us))
        panes = windows.get(window)
        if panes is None and self.gone_at(window) > watermark_us:
            panes = windows[window] = WindowPanes(self.trigger.fresh())
        if panes is None or panes.is_closed:
            yield Dropped(window)
            return
        at = Moment(window.end_us, watermark_us, now_us)
        panes.trigger = self.trigger.on_element(panes.trigger, at)
        panes.held += 1
        panes.owed = panes.owed or not at.is_past
        if time_us >= watermark_us:
            panes.hold_us = self._combined([panes.hold_us, time_us])
        yield Added(window)
        if asks and self.trigger.should_fire(panes.trigger, at):
            yield from self._fire(window, panes, at, even_empty=False)

    def watermark(
        self, windows: Windows, window: IntervalWindow, before_us: int, after_us: int, now_us: int
    ) -> Iterator[Decision]:
        """The watermark has gone on: ends the window, or is the end of its lateness, or neither."""
        panes = windows[window]
        at = Moment(window.end_us, after_us, now_us)
        is_gone = self.gone_at(window) <= after_us
        is_end = at.is_past and before_us < min(window.end_us, MAX_US)
        is_last = is_gone and not self.windowing.allowed_lateness_us
        if is_end and not panes.is_closed and self.trigger.should_fire(panes.trigger, at):
            always = panes.owed and self.windowing.on_time_behavior is OnTimeBehavior.FIRE_ALWAYS
            closing = is_last and self.windowing.closing_behavior is ClosingBehavior.FIRE_ALWAYS
            yield from self._fire(window, panes, at, even_empty=always or closing, is_last=is_last)
            is_over = is_last
        else:
            is_over = False
        if not is_gone:
            return
        if not panes.is_closed and not is_over:
            always = self.windowing.closing_behavior is ClosingBehavior.FIRE_ALWAYS
            if panes.held or always:
                yield self._pane(window, panes, at, is_last=True)
        del windows[window]
        yield Gone(window)

    def asked(self, windows: Windows, window: IntervalWindow, watermark_us: int, now_us: int) -> Iterator[Decision]:
        """It has become `now_us`, for which the trigger of the window has asked, or elements have come."""
        panes = windows[window]
        at = Moment(window.end_us, watermark_us, now_us)
        if not panes.is_closed and self.trigger.should_fire(panes.trigger, at):
            yield from self._fire(window, panes, at, even_empty=False)

    def _fire(
        self, window: IntervalWindow, panes: WindowPanes, at: Moment, *, even_empty: bool, is_last: bool = False
    ) -> Iterator[Fired]:
        panes.trigger = self.trigger.on_fire(panes.trigger, at)
        if panes.held or even_empty:
            yield self._pane(window, panes, at, is_last=is_last or panes.is_closed)

    def _pane(self, window: IntervalWindow, panes: WindowPanes, at: Moment, *, is_last: bool) -> Fired:
        if not at.is_past:
            timing = PaneInfoTiming.EARLY
        else:
            timing = PaneInfoTiming.ON_TIME if panes.owed else PaneInfoTiming.LATE
        is_early = timing is PaneInfoTiming.EARLY
        pane = PaneInfo(panes.panes == 0, is_last, timing, panes.panes, -1 if is_early else panes.nonspeculative)
        time_us = _last_instant(window) if panes.hold_us is None else panes.hold_us
        panes.panes += 1
        panes.nonspeculative += not is_early
        panes.owed = panes.owed and is_early
        events = panes.held + (0 if self.discards else panes.given)
        panes.given += panes.held
        panes.held, panes.hold_us = 0, None
        return Fired(window, pane, time_us, self.discards or is_last, events)

    def _merges(
        self, windows: Windows, proto: IntervalWindow
    ) -> tuple[list[tuple[list[IntervalWindow], IntervalWindow]], IntervalWindow]:
        """What the function merges now that `proto` has come, and what becomes of that."""
        context = _Merging([*windows, proto])
        self.windowing.fn.merge(context)
        became = [result for sources, result in context.merged if proto in sources]
        merges = [([each for each in sources if each != proto], result) for sources, result in context.merged]
        # A window alone stays as it is: a function may tell of each group that it has found, also of one.
        merges = [(sources, result) for sources, result in merges if sources and sources != [result]]
        return merges, became[0] if became else proto

    def _merge(self, windows: Windows, sources: Sequence[IntervalWindow], result: IntervalWindow, at: Moment) -> Merged:
        there = windows.get(result)
        merged = dict.fromkeys([*sources, *([result] if there else [])])
        states = [windows[window] for window in merged]
        for window in sources:
            del windows[window]
        windows[result] = WindowPanes(
            self.trigger.on_merge([state.trigger for state in states], at),
            there.panes if there else 0,
            there.nonspeculative if there else 0,
            any(state.owed for state in states) or not at.is_past,
            sum(state.held for state in states),
            self._combined([state.hold_us for state in states]),
            sum(state.given for state in states),
        )
        return Merged(tuple(window for window in sources if window != result), result)

    def _combined(self, times_us: Iterable[int | None]) -> int | None:
        combiner = self.windowing.timestamp_combiner
        known = [time_us for time_us in times_us if time_us is not None]
        if combiner is TimestampCombiner.OUTPUT_AT_EOW or not known:
            return None
        return min(known) if combiner is TimestampCombiner.OUTPUT_AT_EARLIEST else max(known)


class _Merging(WindowFn.MergeContext):
    def __init__(self, windows: Iterable[IntervalWindow]) -> None:
        super().__init__(windows)
        self.merged: list[tuple[list[IntervalWindow], IntervalWindow]] = []

    def merge(self, to_be_merged: Iterable[IntervalWindow], merge_result: IntervalWindow) -> None:
        self.merged.append((list(to_be_merged), merge_result))


def _last_instant(window: IntervalWindow) -> int:
    return min(window.end_us, MAX_US) - 1
