"""Windows: which intervals of event time an event belongs to, for one timestamp and for a column of them.

A window function is one rule stated twice: `assign` for the row path, `assign_columns` for the column path; a property
test holds them equal. Bounds are `[start, end)` in integer microseconds: `start = t - floormod(t - offset, size)`.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.time import (
    MAX_US,
    MIN_US,
    Duration,
    DurationTypes,
    Timestamp,
    TimestampTypes,
    duration_us,
    timestamp_us,
)

TIME = "_time"
WINDOW_START = "_wstart"
WINDOW_END = "_wend"


@dataclass(frozen=True, slots=True, order=True)
class IntervalWindow:
    """`[start_us, end_us)`; equal windows are the same window."""

    start_us: int
    end_us: int

    @staticmethod
    def of_us(start_us: int, end_us: int) -> "IntervalWindow":
        return IntervalWindow(start_us, end_us)

    @property
    def start(self) -> Timestamp:
        return Timestamp(micros=self.start_us)

    @property
    def end(self) -> Timestamp:
        return Timestamp(micros=self.end_us)

    def max_timestamp(self) -> Timestamp:
        """The last instant that belongs to the window: one microsecond before its end."""
        return Timestamp(micros=self.end_us - 1)


GLOBAL_WINDOW = IntervalWindow(MIN_US, MAX_US)


class WindowFn(Protocol):
    """Assigns windows by event time alone."""

    def assign(self, time_us: int) -> list[IntervalWindow]:
        """Every window of an event at `time_us`, earliest start last."""

    def assign_columns(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The frame with `_wstart` and `_wend` (Int64, µs) set from `_time`; a row for each window of each event."""


@dataclass(frozen=True)
class GlobalWindows:
    """One window for everything; it closes when the input has ended."""

    def assign(self, time_us: int) -> list[IntervalWindow]:
        return [GLOBAL_WINDOW]

    def assign_columns(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.with_columns(
            pl.lit(MIN_US, pl.Int64).alias(WINDOW_START), pl.lit(MAX_US, pl.Int64).alias(WINDOW_END)
        )


@dataclass(frozen=True, init=False)
class FixedWindows:
    """Back-to-back windows of `size` seconds (or Duration, timedelta), starting at `offset` modulo the size."""

    size_us: int
    offset_us: int

    def __init__(self, size: DurationTypes, offset: TimestampTypes = 0) -> None:
        size_us = duration_us(size)
        if size_us <= 0:
            raise PipelineError(
                f"window size must be above 0, got {size!r}. Give it in seconds, e.g. FixedWindows(60)."
            )
        object.__setattr__(self, "size_us", size_us)
        object.__setattr__(self, "offset_us", timestamp_us(offset) % size_us)

    @property
    def size(self) -> Duration:
        return Duration(micros=self.size_us)

    def assign(self, time_us: int) -> list[IntervalWindow]:
        start = time_us - (time_us - self.offset_us) % self.size_us
        return [IntervalWindow(start, start + self.size_us)]

    def assign_columns(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        start = pl.col(TIME) - (pl.col(TIME) - self.offset_us) % self.size_us
        return frame.with_columns(start.alias(WINDOW_START)).with_columns(
            (pl.col(WINDOW_START) + self.size_us).alias(WINDOW_END)
        )


@dataclass(frozen=True, init=False)
class SlidingWindows:
    """Windows of `size` seconds that start every `period` seconds, at `offset` modulo the period. An event is in about
    size/period of them, and in none if the period is longer than the size and it falls into a gap."""

    size_us: int
    period_us: int
    offset_us: int

    def __init__(self, size: DurationTypes, period: DurationTypes, offset: TimestampTypes = 0) -> None:
        size_us, period_us = duration_us(size), duration_us(period)
        if size_us <= 0 or period_us <= 0:
            raise PipelineError(f"window size and period must be above 0, got {size!r} and {period!r} (seconds).")
        object.__setattr__(self, "size_us", size_us)
        object.__setattr__(self, "period_us", period_us)
        object.__setattr__(self, "offset_us", timestamp_us(offset) % period_us)

    def assign(self, time_us: int) -> list[IntervalWindow]:
        last = time_us - (time_us - self.offset_us) % self.period_us
        starts = range(last, time_us - self.size_us, -self.period_us)
        return [IntervalWindow(start, start + self.size_us) for start in starts]

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


class AccumulationMode(Enum):
    """What a later pane of a window holds: only what is new (DISCARDING), or all so far (ACCUMULATING)."""

    DISCARDING = 1
    ACCUMULATING = 2


@dataclass(frozen=True, slots=True)
class Windowing:
    """How a PCollection is windowed. `assigned`: its events already carry their window (they come from a grouping),
    so it is not derived from the timestamp again. `late_to`: the topic for what is too late, if there is one; it
    changes nothing of what state means, so it is no part of how a windowing is written."""

    fn: WindowFn = field(default_factory=GlobalWindows)
    allowed_lateness_us: int = 0
    accumulation_mode: AccumulationMode = AccumulationMode.DISCARDING
    assigned: bool = False
    late_to: str | None = field(default=None, repr=False, kw_only=True)

    @property
    def is_global(self) -> bool:
        return isinstance(self.fn, GlobalWindows)

    def gone_at(self, end_us: int) -> int:
        """The watermark at which a window that ends there is not needed any more."""
        return min(end_us + self.allowed_lateness_us, MAX_US)


@dataclass(frozen=True, slots=True)
class TimestampedValue:
    """A value with its event time (seconds, Timestamp or datetime), yielded by a function to set the time."""

    value: object
    timestamp: TimestampTypes

    @property
    def time_us(self) -> int:
        return timestamp_us(self.timestamp)
