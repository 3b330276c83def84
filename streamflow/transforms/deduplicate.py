"""What has come already is left out, for a while; with Apache Beam's names."""

from collections.abc import Iterator
from typing import Any

from streamflow.base.errors import PipelineError
from streamflow.model.graph import PCollection, PTransform
from streamflow.model.time import DurationTypes
from streamflow.transforms.elementwise import DoFn, Map, MapTuple, ParDo
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer

__all__ = ["Deduplicate", "DeduplicatePerKey"]


class DeduplicatePerKey(PTransform):
    """Of the (key, value) pairs of a key and window the first one, and again the first after so many seconds (or
    Durations): by the worker's clock since then (`processing_time_duration`), by event time, which the watermark tells
    (`event_time_duration`), or whichever comes first. At least one of them is needed."""

    def __init__(
        self,
        processing_time_duration: DurationTypes | None = None,
        event_time_duration: DurationTypes | None = None,
    ) -> None:
        if processing_time_duration is None and event_time_duration is None:
            raise PipelineError(
                f"{type(self).__name__} needs to know how long: processing_time_duration or event_time_duration, in "
                "seconds. For all of a window use Distinct()."
            )
        self.processing_time_duration, self.event_time_duration = processing_time_duration, event_time_duration

    def expand(self, pcoll: PCollection) -> Any:
        return pcoll | ParDo(_FirstFn(self.processing_time_duration, self.event_time_duration))


class Deduplicate(DeduplicatePerKey):
    """The same for whole elements, which must be what keys may be."""

    def expand(self, pcoll: PCollection) -> Any:
        keyed = pcoll | "Key" >> Map(lambda element: (element, None))
        return super().expand(keyed) | "Unkey" >> MapTuple(lambda element, _: element)


class _FirstFn(DoFn):
    SEEN = ReadModifyWriteStateSpec("seen")
    BY_CLOCK = TimerSpec("by_clock", TimeDomain.REAL_TIME)
    BY_EVENT_TIME = TimerSpec("by_event_time", TimeDomain.WATERMARK)

    def __init__(self, by_clock: DurationTypes | None, by_event_time: DurationTypes | None) -> None:
        self.by_clock, self.by_event_time = by_clock, by_event_time

    def process(
        self,
        element: Any,
        seen: Any = DoFn.StateParam(SEEN),
        clock: Any = DoFn.TimerParam(BY_CLOCK),
        event_time: Any = DoFn.TimerParam(BY_EVENT_TIME),
    ) -> Iterator[Any]:
        if seen.read():
            return
        seen.write(True)
        if self.by_clock is not None:
            clock.set_relative(self.by_clock)
        if self.by_event_time is not None:
            event_time.set_relative(self.by_event_time)
        yield element

    @on_timer(BY_CLOCK)
    def clock_has_come(
        self, seen: Any = DoFn.StateParam(SEEN), event_time: Any = DoFn.TimerParam(BY_EVENT_TIME)
    ) -> None:
        seen.clear()
        event_time.clear()

    @on_timer(BY_EVENT_TIME)
    def watermark_has_come(self, seen: Any = DoFn.StateParam(SEEN), clock: Any = DoFn.TimerParam(BY_CLOCK)) -> None:
        seen.clear()
        clock.clear()
