"""Windowing, under the names and in the module in which users of Apache Beam look for it."""

from streamflow.model.calendar_windows import CalendarWindows
from streamflow.model.window import (
    BoundedWindow,
    ClosingBehavior,
    FixedWindows,
    GlobalWindow,
    GlobalWindows,
    IntervalWindow,
    NonMergingWindowFn,
    OnTimeBehavior,
    Sessions,
    SlidingWindows,
    TimestampCombiner,
    TimestampedValue,
    WindowFn,
)

__all__ = [
    "BoundedWindow",
    "CalendarWindows",
    "ClosingBehavior",
    "FixedWindows",
    "GlobalWindow",
    "GlobalWindows",
    "IntervalWindow",
    "NonMergingWindowFn",
    "OnTimeBehavior",
    "Sessions",
    "SlidingWindows",
    "TimestampCombiner",
    "TimestampedValue",
    "WindowFn",
]
