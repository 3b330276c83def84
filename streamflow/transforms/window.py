"""WindowInto and what it takes, under the names and in the module in which users of Apache Beam look for it."""

from collections.abc import Sequence
from enum import Enum
from typing import Any, TypeVar

from streamflow.base.errors import PipelineError
from streamflow.model.calendar_windows import CalendarWindows
from streamflow.model.graph import PCollection, Primitive, Shape
from streamflow.model.time import Duration, DurationTypes, Timestamp, duration_us
from streamflow.model.trigger import DefaultTrigger, TriggerFn, checked
from streamflow.model.window import (
    BoundedWindow,
    FixedWindows,
    GlobalWindow,
    GlobalWindows,
    IntervalWindow,
    NonMergingWindowFn,
    Sessions,
    SlidingWindows,
    TimestampedValue,
    WindowFn,
)
from streamflow.model.windowing import AccumulationMode, ClosingBehavior, OnTimeBehavior, TimestampCombiner, Windowing
from streamflow.transforms.outputs import WindowedValue

__all__ = [
    "BoundedWindow",
    "CalendarWindows",
    "ClosingBehavior",
    "Duration",
    "FixedWindows",
    "GlobalWindow",
    "GlobalWindows",
    "IntervalWindow",
    "NonMergingWindowFn",
    "OnTimeBehavior",
    "Sessions",
    "SlidingWindows",
    "Timestamp",
    "TimestampCombiner",
    "TimestampedValue",
    "WindowFn",
    "WindowInto",
    "WindowedValue",
]

_E = TypeVar("_E", bound=Enum)


class WindowInto(Primitive):
    """Sets how the groupings that follow divide event time.

    `allowed_lateness` (seconds, or Duration): how long after a window has closed an event may still change it; later
    ones are dropped and counted. With lateness a window gives further panes: only what is new
    (`AccumulationMode.DISCARDING`, the default) or everything so far (`ACCUMULATING`).

    `trigger`: when a window gives a pane, by default when the watermark passes its end, then for late events; another
    one needs an `accumulation_mode`. `timestamp_combiner`: the event time of results. `on_time_behavior`,
    `closing_behavior`: whether panes without anything new are given.

    `late_to`: a topic for the dropped ones, which a grouping writes to in the same transaction as the step that dropped
    them: for each key and window what it would give for these events alone, and how many they are (`late_events`). An
    Aggregate writes such rows, a grouping of pairs `{"key": …, "value": …, "window_start": …, "window_end": …,
    "late_events": …}`, a DoFn with state `{"key": …, "value": …, …}` for each element, a function with side inputs in
    windows `{"value": …, …}`; what joins by time write stands in `time_joins`. What one grouping drops may come in
    several records, so add them up.
    """

    def __init__(
        self,
        windowfn: WindowFn,
        trigger: TriggerFn | None = None,
        accumulation_mode: AccumulationMode | None = None,
        timestamp_combiner: TimestampCombiner | None = None,
        allowed_lateness: DurationTypes = 0,
        *,
        on_time_behavior: OnTimeBehavior = OnTimeBehavior.FIRE_ALWAYS,
        closing_behavior: ClosingBehavior = ClosingBehavior.FIRE_IF_NON_EMPTY,
        late_to: str | None = None,
    ) -> None:
        if not isinstance(windowfn, WindowFn):
            raise PipelineError(f"WindowInto takes a window function, e.g. FixedWindows(60), not {windowfn!r}.")
        lateness_us = duration_us(allowed_lateness)
        if lateness_us < 0:
            raise PipelineError(f"allowed_lateness can't be negative, got {allowed_lateness!r}.")
        chosen = DefaultTrigger() if trigger is None else checked(trigger)
        if accumulation_mode is None:
            if chosen != DefaultTrigger():
                raise PipelineError(
                    f"the panes of {chosen!r} need an accumulation_mode: AccumulationMode.ACCUMULATING for everything "
                    "so far, DISCARDING for what is new."
                )
            accumulation_mode = AccumulationMode.DISCARDING
        # Windows of a function of the user's own are given to each element where this stands.
        self.assigns = not windowfn.by_time
        self.windowing = Windowing(
            windowfn,
            lateness_us,
            _member(AccumulationMode, accumulation_mode, "accumulation_mode"),
            self.assigns,
            chosen,
            _member(TimestampCombiner, timestamp_combiner or TimestampCombiner.OUTPUT_AT_EOW, "timestamp_combiner"),
            _member(OnTimeBehavior, on_time_behavior, "on_time_behavior"),
            _member(ClosingBehavior, closing_behavior, "closing_behavior"),
            late_to=checked_late_to(late_to),
        )

    def infer_output_type(self, input_type: Any) -> Any:
        return input_type

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (pcoll,) = inputs
        return Shape(self.windowing, pcoll.shape.columns, pcoll.shape.bounded)


def _member(enum: type[_E], value: _E, name: str) -> _E:
    if not isinstance(value, enum):
        raise PipelineError(f"{name} must be one of {enum.__name__}, got {value!r}.")
    return value


class Restated(Primitive):
    """The same elements in the same windows, of which something else is known from here on. Costs nothing when it
    runs."""

    def infer_output_type(self, input_type: Any) -> Any:
        return input_type


def checked_late_to(late_to: object) -> str | None:
    if late_to is not None and (not isinstance(late_to, str) or not late_to):
        raise PipelineError(f"late_to takes the name of a topic, not {late_to!r}.")
    return late_to
