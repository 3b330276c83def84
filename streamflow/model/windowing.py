"""How a PCollection is windowed: its window function, when panes fire and what they hold, how long state is kept."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from streamflow.base.errors import DataError
from streamflow.model.composite_trigger import AfterWatermark
from streamflow.model.time import MAX_US, Timestamp
from streamflow.model.trigger import DefaultTrigger, Never, TriggerFn
from streamflow.model.window import GlobalWindows, IntervalWindow, Sessions, SlidingWindows, WindowFn


class AccumulationMode(Enum):
    """What a later pane of a window holds: only what is new (DISCARDING), or all so far (ACCUMULATING)."""

    DISCARDING = 1
    ACCUMULATING = 2


class TimestampCombiner(Enum):
    """The event time of a result: the last instant of its window, or the earliest or latest event time of its pane (of
    those events that were not late; a pane of late ones alone has the last instant of the window)."""

    OUTPUT_AT_EOW = "end of window"
    OUTPUT_AT_EARLIEST = "earliest"
    OUTPUT_AT_LATEST = "latest"


class OnTimeBehavior(Enum):
    """Whether a window whose trigger fires at its end gives a pane though nothing is new since the one before."""

    FIRE_ALWAYS = 1
    FIRE_IF_NON_EMPTY = 2


class ClosingBehavior(Enum):
    """Whether a window gives a last pane, when its allowed lateness has passed, though nothing is new."""

    FIRE_IF_NON_EMPTY = 1
    FIRE_ALWAYS = 2


@dataclass(frozen=True, slots=True)
class Windowing:
    """How a PCollection is windowed. `assigned`: its events already carry their window (they come from a grouping, or
    a window function of the user's own), so it is not derived from the timestamp again; `grouped`: they come from a
    grouping, so that windows are final though the function may merge. `late_to`: the topic for what is too late, if
    there is one; it changes nothing of what state means, so it is no part of how a windowing is written."""

    fn: WindowFn = field(default_factory=GlobalWindows)
    allowed_lateness_us: int = 0
    accumulation_mode: AccumulationMode = AccumulationMode.DISCARDING
    assigned: bool = False
    trigger: TriggerFn = field(default_factory=DefaultTrigger)
    timestamp_combiner: TimestampCombiner = TimestampCombiner.OUTPUT_AT_EOW
    on_time_behavior: OnTimeBehavior = OnTimeBehavior.FIRE_ALWAYS
    closing_behavior: ClosingBehavior = ClosingBehavior.FIRE_IF_NON_EMPTY
    grouped: bool = False
    late_to: str | None = field(default=None, repr=False, kw_only=True)

    @property
    def is_global(self) -> bool:
        return isinstance(self.fn, GlobalWindows)

    @property
    def is_merging(self) -> bool:
        return self.fn.is_merging() and not self.grouped

    @property
    def may_spread(self) -> bool:
        """An event is still in several windows at once, or in none."""
        return isinstance(self.fn, SlidingWindows) and not self.assigned

    @property
    def ends_once(self) -> bool:
        """A window gives one pane, and no other."""
        return self.allowed_lateness_us == 0 and self.trigger in (DefaultTrigger(), AfterWatermark(), Never())

    @property
    def is_plain(self) -> bool:
        """One pane per window when it ends, and one for each late arrival, of windows that their start names."""
        return self.fn.by_time and not self.fn.is_merging() and self._fires_plainly

    @property
    def is_plain_sessions(self) -> bool:
        """The same of sessions, which are found while they are grouped."""
        return type(self.fn) is Sessions and not self.assigned and self._fires_plainly

    @property
    def has_columns(self) -> bool:
        """The column path can group such windows; all others are grouped one event at a time."""
        return self.is_plain or self.is_plain_sessions

    @property
    def _fires_plainly(self) -> bool:
        return (
            (self.trigger == DefaultTrigger() or (self.trigger == AfterWatermark() and self.ends_once))
            and self.timestamp_combiner is TimestampCombiner.OUTPUT_AT_EOW
            and self.closing_behavior is ClosingBehavior.FIRE_IF_NON_EMPTY
        )

    def windows(self, time_us: int, element: Any, window: IntervalWindow | None) -> Sequence[IntervalWindow]:
        """Of an element at that time which is in `window` so far. DataError if the function gives what is none."""
        if self.fn.by_time:
            return self.fn.at(time_us)
        assigned = list(self.fn.assign(WindowFn.AssignContext(Timestamp(micros=time_us), element, window)))
        for each in assigned:
            if not isinstance(each, IntervalWindow) or each.start_us > each.end_us:
                raise DataError(f"{self.fn!r} assigned {each!r}, which is no IntervalWindow, or ends before its start.")
        return assigned

    def gone_at(self, end_us: int) -> int:
        """The watermark at which a window that ends there is not needed any more."""
        return min(end_us + self.allowed_lateness_us, MAX_US)
