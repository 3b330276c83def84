"""What comes again and again by the clock, with Apache Beam's names: PeriodicImpulse, PeriodicSequence.

    ticks = pipeline | PeriodicImpulse(fire_interval=60, apply_windowing=True)
    rates = AsSingleton(ticks | Map(read_rates))           # a side input that changes every minute

An element comes no earlier than its event time says by the clock. Which one is next is part of the step's commit, so
none is missed and none comes twice, whatever is killed; what was due meanwhile comes at once. The watermark is the time
of the next one.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from streamflow.base.errors import DataError, PipelineError
from streamflow.model.graph import PCollection, Primitive, PTransform, Shape
from streamflow.model.time import (
    EVENT_MAX_US,
    EVENT_MIN_US,
    MAX_TIMESTAMP,
    MAX_US,
    MIN_US,
    DurationTypes,
    Timestamp,
    TimestampTypes,
    duration_us,
    timestamp_us,
)
from streamflow.model.window import FixedWindows
from streamflow.transforms.collections import Create
from streamflow.transforms.window import WindowInto

__all__ = ["PeriodicImpulse", "PeriodicSequence"]

Span = tuple[float, int, float]
"""When it begins (seconds since 1970), when it ends (µs, exclusive), and seconds in between."""


def span_of(element: Any) -> Span:
    """Of `(start, stop, interval)`. DataError if it is none."""
    try:
        start, stop, interval = element
        begin = float(start) if isinstance(start, (int, float)) else timestamp_us(start) / 1e6
        every = float(interval) if isinstance(interval, (int, float)) else duration_us(interval) / 1e6
        span = begin, timestamp_us(stop), every
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{element!r} is no (start, stop, interval): {error}.") from error
    if not EVENT_MIN_US <= begin * 1e6 <= EVENT_MAX_US or round(every * 1e6) < 1:
        raise DataError(f"{element!r} begins beyond the years 1 to 9999, or its interval is not above 0 (seconds).")
    return span


class Firing(Primitive):
    """Of each `(start, stop, interval)` an element at `start`, then one each `interval` seconds, until before `stop`.
    `data`: what they are, in turn, with their times if it has these; None: their times."""

    def __init__(self, data: Sequence[Any] | None = None, *, bounded: bool = False) -> None:
        self.data, self.bounded = None if data is None else list(data), bounded
        self.is_timed = self.data is not None and _is_timed(self.data)
        self._newest_us = [MIN_US]
        for time, _ in (self.data or ()) if self.is_timed else ():
            self._newest_us.append(max(self._newest_us[-1], timestamp_us(time)))

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        return replace(inputs[0].shape, columns=None, bounded=self.bounded)

    def element(self, span: Span, index: int) -> tuple[Any, int]:
        """The one with that number, and its event time."""
        at = span[0] + span[2] * index
        if not self.data:
            return at, round(at * 1e6)
        value = self.data[index % len(self.data)]
        return (value[1], timestamp_us(value[0])) if self.is_timed else (value, round(at * 1e6))

    def watermark_us(self, span: Span, index: int) -> int:
        """Before the one with that number."""
        return self._newest_us[min(index, len(self._newest_us) - 1)] if self.is_timed else due_us(span, index)


def due_us(span: Span, index: int) -> int:
    """The wall time at which the element with that number is due; MAX_US if there is none."""
    at_us = round((span[0] + span[2] * index) * 1e6)
    return at_us if at_us < min(span[1], EVENT_MAX_US) else MAX_US


class PeriodicSequence(PTransform):
    """Elements `(start, stop, interval)` → for each of them the seconds since 1970 `start`, `start + interval`, …
    before `stop`, with that event time, each when the clock has come to it."""

    def expand(self, pcoll: Any) -> Any:
        return pcoll | "GenSequence" >> Firing()


class PeriodicImpulse(PTransform):
    """An element at `start_timestamp` (by default now), then one each `fire_interval` seconds, before `stop_timestamp`;
    without a stop for ever. What `start` and `stop` are is decided when the pipeline is first launched.

    `data`: the elements, in turn, again from the first after the last; of `(Timestamp, value)` pairs the values have
    these event times, and PipelineError if they are too few. Without a stop, data comes once. Without `data` elements
    are their times in seconds since 1970. `apply_windowing`: each in a fixed window of `fire_interval`."""

    def __init__(
        self,
        start_timestamp: TimestampTypes | None = None,
        stop_timestamp: TimestampTypes = MAX_TIMESTAMP,
        fire_interval: DurationTypes = 360.0,
        apply_windowing: bool = False,
        data: Sequence[Any] | None = None,
    ) -> None:
        start = Timestamp.now() if start_timestamp is None else start_timestamp
        try:
            begin, stop_us, interval = span_of((start, stop_timestamp, fire_interval))
        except DataError as error:
            raise PipelineError(f"PeriodicImpulse: {error}") from error
        if data is not None and not data:
            raise PipelineError("PeriodicImpulse needs data, or None for the times themselves.")
        if data and stop_us >= MAX_US:
            stop_us = round((begin + len(data) * interval) * 1e6)
        if stop_us < begin * 1e6:
            raise PipelineError(f"PeriodicImpulse stops at {stop_timestamp!r}, before it begins at {start!r}.")
        if data and _is_timed(data) and due_us((begin, stop_us, interval), len(data)) < MAX_US:
            raise PipelineError(
                f"PeriodicImpulse has {len(data)} elements with times, too few until {stop_timestamp!r}. Give "
                "more of them, or an earlier stop_timestamp."
            )
        self.span = (begin, Timestamp(micros=stop_us), interval)
        self.apply_windowing, self.data = apply_windowing, data

    def expand(self, pcoll: Any) -> Any:
        stops = self.span[1].micros < MAX_US
        ticks = pcoll | "ImpulseElement" >> Create([self.span]) | "GenSequence" >> Firing(self.data, bounded=stops)
        return ticks | "ApplyWindowing" >> WindowInto(FixedWindows(self.span[2])) if self.apply_windowing else ticks


def _is_timed(data: Sequence[Any]) -> bool:
    return isinstance(data[0], tuple) and len(data[0]) == 2 and isinstance(data[0][0], Timestamp)
