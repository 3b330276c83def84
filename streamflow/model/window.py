"""Windows: which intervals of event time an event belongs to, for one timestamp and for a column of them.

A window function that goes by time alone is one rule stated twice: `at` for the row path, `assign_columns` for the
column path; a property test holds them equal. Bounds are `[start, end)` in integer microseconds: `start = t -
floormod(t - offset, size)`. Functions of the user's own have Apache Beam's form, `assign` and `merge`.
"""

from collections.abc import Iterable
from functools import total_ordering
from typing import Any, Generic, TypeVar

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.time import (
    MAX_US,
    MIN_TIMESTAMP,
    MIN_US,
    Duration,
    DurationTypes,
    Timestamp,
    TimestampTypes,
    duration_us,
    timestamp_us,
)

_V = TypeVar("_V")

TIME = "_time"
WINDOW_START = "_wstart"
WINDOW_END = "_wend"


@total_ordering
class IntervalWindow:
    """`[start, end)`, in seconds since the Unix epoch, Timestamps or datetimes; equal windows are the same window.

    Windows are ordered by their end, then by their start. Not to be changed."""

    __slots__ = ("end_us", "start_us")

    def __init__(self, start: TimestampTypes, end: TimestampTypes) -> None:
        self.start_us, self.end_us = timestamp_us(start), timestamp_us(end)

    @staticmethod
    def of_us(start_us: int, end_us: int) -> "IntervalWindow":
        """The window of these microseconds; the global one is always the same object."""
        if end_us == MAX_US and start_us == MIN_US:
            return GLOBAL_WINDOW
        window = IntervalWindow.__new__(IntervalWindow)
        window.start_us, window.end_us = start_us, end_us
        return window

    @property
    def start(self) -> Timestamp:
        return Timestamp(micros=self.start_us)

    @property
    def end(self) -> Timestamp:
        return Timestamp(micros=self.end_us)

    def max_timestamp(self) -> Timestamp:
        """The last instant that belongs to the window: one microsecond before its end."""
        return Timestamp(micros=self.end_us - 1)

    def intersects(self, other: "IntervalWindow") -> bool:
        """Strictly: windows that only touch do not."""
        return other.start_us < self.end_us and self.start_us < other.end_us

    def union(self, other: "IntervalWindow") -> "IntervalWindow":
        return IntervalWindow.of_us(min(self.start_us, other.start_us), max(self.end_us, other.end_us))

    def __hash__(self) -> int:
        return hash((self.start_us, self.end_us))

    def __eq__(self, other: object) -> bool:
        # Of the global window Python asks first, as it derives from this class.
        return isinstance(other, IntervalWindow) and (self.start_us, self.end_us) == (other.start_us, other.end_us)

    def __lt__(self, other: "IntervalWindow") -> bool:
        return (self.end_us, self.start_us) < (other.end_us, other.start_us)

    def __reduce__(self) -> Any:
        return IntervalWindow.of_us, (self.start_us, self.end_us)

    def __repr__(self) -> str:
        return f"[{float(self.start)}, {float(self.end)})"


BoundedWindow = IntervalWindow
"""Apache Beam's name for any window; here each has a start."""


class GlobalWindow(IntervalWindow):
    """The one window that holds everything."""

    __slots__ = ()

    def __init__(self) -> None:
        self.start_us, self.end_us = MIN_US, MAX_US

    @property
    def start(self) -> Timestamp:
        """That of what has no time of its own."""
        return MIN_TIMESTAMP

    def __hash__(self) -> int:
        return hash(GlobalWindow)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GlobalWindow)

    def __repr__(self) -> str:
        return "GlobalWindow"


GLOBAL_WINDOW = GlobalWindow()


class WindowFn:
    """Assigns windows to elements, and says which windows of a key become one. As in Apache Beam: subclass it, or
    `NonMergingWindowFn`, and define `assign` (and `merge`).

    A function of the user's own is called once per element where WindowInto stands; groupings behind it are on the row
    path. Its windows must be IntervalWindows. Two functions are equal if they are of one class and have equal
    attributes, which need a `repr` that is the same in every process: it is part of what names the pipeline's state."""

    by_time = False
    """Windows depend on the event time alone: `at` and `assign_columns` give them too."""

    class AssignContext:
        """An element whose windows are wanted; `window`: the one it has so far, if any."""

        def __init__(
            self, timestamp: TimestampTypes, element: Any = None, window: IntervalWindow | None = None
        ) -> None:
            self.timestamp, self.element, self.window = Timestamp.of(timestamp), element, window

    class MergeContext:
        """`windows`: all of one key. `merge` is to be called for each set of them that becomes one."""

        def __init__(self, windows: Iterable[IntervalWindow]) -> None:
            self.windows = list(windows)

        def merge(self, to_be_merged: Iterable[IntervalWindow], merge_result: IntervalWindow) -> None:
            raise NotImplementedError

    def assign(self, assign_context: AssignContext) -> Iterable[IntervalWindow]:
        """Every window of an element."""
        return self.at(assign_context.timestamp.micros)

    def merge(self, merge_context: MergeContext) -> None:
        """Called with the windows of a key after an element has come to one that was not there. Must not depend on the
        order in which they came."""
        raise PipelineError(f"{type(self).__name__} must define merge(merge_context), or be a NonMergingWindowFn.")

    def is_merging(self) -> bool:
        return True

    def at(self, time_us: int) -> list[IntervalWindow]:
        """Every window of an event at `time_us`, earliest start last."""
        raise PipelineError(f"{type(self).__name__} must define assign(assign_context).")

    def assign_columns(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The frame with `_wstart` and `_wend` (Int64, µs) set from `_time`; a row for each window of each event."""
        raise PipelineError(f"{type(self).__name__} does not go by time alone, so it has no form on columns.")

    def _state(self) -> dict[str, Any]:
        return vars(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WindowFn) and type(self) is type(other) and self._state() == other._state()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in sorted(self._state().items()))})"


class NonMergingWindowFn(WindowFn):
    """A window function whose windows never become one."""

    def is_merging(self) -> bool:
        return False

    def merge(self, merge_context: WindowFn.MergeContext) -> None: ...


class GlobalWindows(NonMergingWindowFn):
    """One window for everything; it closes when the input has ended."""

    by_time = True

    def at(self, time_us: int) -> list[IntervalWindow]:
        return [GLOBAL_WINDOW]

    def assign_columns(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.with_columns(
            pl.lit(MIN_US, pl.Int64).alias(WINDOW_START), pl.lit(MAX_US, pl.Int64).alias(WINDOW_END)
        )


class FixedWindows(NonMergingWindowFn):
    """Back-to-back windows of `size` seconds (or Duration, timedelta), starting at `offset` modulo the size."""

    by_time = True

    def __init__(self, size: DurationTypes, offset: TimestampTypes = 0) -> None:
        self.size_us = duration_us(size)
        if self.size_us <= 0:
            raise PipelineError(
                f"window size must be above 0, got {size!r}. Give it in seconds, e.g. FixedWindows(60)."
            )
        self.offset_us = timestamp_us(offset) % self.size_us

    @property
    def size(self) -> Duration:
        return Duration(micros=self.size_us)

    @property
    def offset(self) -> Duration:
        return Duration(micros=self.offset_us)

    def at(self, time_us: int) -> list[IntervalWindow]:
        start = time_us - (time_us - self.offset_us) % self.size_us
        return [IntervalWindow.of_us(start, start + self.size_us)]

    def assign_columns(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        start = pl.col(TIME) - (pl.col(TIME) - self.offset_us) % self.size_us
        return frame.with_columns(start.alias(WINDOW_START)).with_columns(
            (pl.col(WINDOW_START) + self.size_us).alias(WINDOW_END)
        )


class SlidingWindows(NonMergingWindowFn):
    """Windows of `size` seconds that start every `period` seconds, at `offset` modulo the period. An event is in about
    size/period of them, and in none if the period is longer than the size and it falls into a gap."""

    by_time = True

    def __init__(self, size: DurationTypes, period: DurationTypes, offset: TimestampTypes = 0) -> None:
        self.size_us, self.period_us = duration_us(size), duration_us(period)
        if self.size_us <= 0 or self.period_us <= 0:
            raise PipelineError(f"window size and period must be above 0, got {size!r} and {period!r} (seconds).")
        self.offset_us = timestamp_us(offset) % self.period_us

    @property
    def size(self) -> Duration:
        return Duration(micros=self.size_us)

    @property
    def period(self) -> Duration:
        return Duration(micros=self.period_us)

    @property
    def offset(self) -> Duration:
        return Duration(micros=self.offset_us)

    def at(self, time_us: int) -> list[IntervalWindow]:
        last = time_us - (time_us - self.offset_us) % self.period_us
        starts = range(last, time_us - self.size_us, -self.period_us)
        return [IntervalWindow.of_us(start, start + self.size_us) for start in starts]

    def assign_columns(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        last = pl.col(TIME) - (pl.col(TIME) - self.offset_us) % self.period_us
        steps = -(-self.size_us // self.period_us)
        return (
            frame.with_columns(
                pl.concat_list([last - step * self.period_us for step in range(steps)]).alias(WINDOW_START)
            )
            .explode(WINDOW_START)
            .filter(pl.col(TIME) < pl.col(WINDOW_START) + self.size_us)
            .with_columns((pl.col(WINDOW_START) + self.size_us).alias(WINDOW_END))
        )


class Sessions(WindowFn):
    """Windows per key that end once nothing has come for `gap_size` seconds: each event begins as `[t, t + gap)`, and
    windows of a key that overlap become one. Events exactly a gap apart stay apart."""

    by_time = True

    def __init__(self, gap_size: DurationTypes) -> None:
        self.gap_us = duration_us(gap_size)
        if self.gap_us <= 0:
            raise PipelineError(f"the gap of sessions must be above 0, got {gap_size!r}. Give it in seconds.")

    @property
    def gap_size(self) -> Duration:
        return Duration(micros=self.gap_us)

    def at(self, time_us: int) -> list[IntervalWindow]:
        return [IntervalWindow.of_us(time_us, time_us + self.gap_us)]

    def assign_columns(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.with_columns(pl.col(TIME).alias(WINDOW_START), (pl.col(TIME) + self.gap_us).alias(WINDOW_END))

    def merge(self, merge_context: WindowFn.MergeContext) -> None:
        together: list[IntervalWindow] = []
        whole: IntervalWindow | None = None
        for window in sorted(merge_context.windows, key=lambda each: each.start_us):
            if whole is not None and window.intersects(whole):
                together.append(window)
                whole = whole.union(window)
                continue
            if whole is not None and len(together) > 1:
                merge_context.merge(together, whole)
            together, whole = [window], window
        if whole is not None and len(together) > 1:
            merge_context.merge(together, whole)


@total_ordering
class TimestampedValue(Generic[_V]):
    """A value with its event time (seconds, Timestamp or datetime), yielded by a function to set the time. They are
    ordered by their values, then by time. Not to be changed."""

    __slots__ = ("timestamp", "value")

    def __init__(self, value: _V, timestamp: TimestampTypes) -> None:
        self.value, self.timestamp = value, Timestamp.of(timestamp)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TimestampedValue) and (self.value, self.time_us) == (other.value, other.time_us)

    def __hash__(self) -> int:
        return hash((self.value, self.time_us))

    def __lt__(self, other: "TimestampedValue[Any]") -> bool:
        mine: Any = (self.value, self.time_us)
        return bool(mine < (other.value, other.time_us))

    def __repr__(self) -> str:
        return f"TimestampedValue({self.value!r}, {self.timestamp!r})"

    @property
    def time_us(self) -> int:
        return self.timestamp.micros
