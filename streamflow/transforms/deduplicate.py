"""Elements once within a time, by Apache Beam's names."""

from collections.abc import Iterator
from typing import Any

from streamflow.base.errors import PipelineError
from streamflow.model.coders import BooleanCoder
from streamflow.model.graph import PCollection, PTransform
from streamflow.model.time import DurationTypes, duration_us
from streamflow.transforms.core import DoFn, Map, MapTuple, ParDo
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer

__all__ = ["Deduplicate", "DeduplicatePerKey"]


class DeduplicatePerKey(PTransform):
    """Of (key, value) pairs the first one of each key and window, then none for the given time: of the worker's clock,
    or after the pair's event time, as the watermark goes. With both, for the longer of them."""

    def __init__(
        self,
        processing_time_duration: DurationTypes | None = None,
        event_time_duration: DurationTypes | None = None,
    ) -> None:
        if processing_time_duration is None and event_time_duration is None:
            raise PipelineError("for how long? Give processing_time_duration, event_time_duration or both (seconds).")
        self.processing_time, self.event_time = processing_time_duration, event_time_duration

    def expand(self, pcoll: PCollection) -> Any:
        return pcoll | ParDo(_Once(self.processing_time, self.event_time))


class Deduplicate(DeduplicatePerKey):
    """Of equal elements of a window the first one, then none for the given time. See DeduplicatePerKey."""

    def expand(self, pcoll: PCollection) -> Any:
        pairs = pcoll | "Pair" >> Map(lambda element: (element, None))
        return super().expand(pairs) | "Unpair" >> MapTuple(lambda element, _: element)


class _Once(DoFn):
    WAITS = ReadModifyWriteStateSpec("waits", BooleanCoder())
    """For how many timers: set while nothing of the key is to pass."""
    CLOCK = TimerSpec("clock", TimeDomain.REAL_TIME)
    EVENTS = TimerSpec("events", TimeDomain.WATERMARK)

    def __init__(self, processing_time: DurationTypes | None, event_time: DurationTypes | None) -> None:
        self.processing_time, self.event_time = processing_time, event_time

    def process(
        self,
        element: Any,
        timestamp: Any = DoFn.TimestampParam,
        waits: Any = DoFn.StateParam(WAITS),
        clock: Any = DoFn.TimerParam(CLOCK),
        events: Any = DoFn.TimerParam(EVENTS),
    ) -> Iterator[Any]:
        if waits.read():
            return
        count = 0
        if self.processing_time is not None:
            clock.set_relative(self.processing_time)
            count += 1
        if self.event_time is not None:
            events.set(timestamp + duration_us(self.event_time) / 1e6)
            count += 1
        waits.write(count)
        yield element

    @on_timer(CLOCK)
    def clock_passed(self, waits: Any = DoFn.StateParam(WAITS)) -> None:
        waits.write((waits.read() or 1) - 1)

    @on_timer(EVENTS)
    def events_passed(self, waits: Any = DoFn.StateParam(WAITS)) -> None:
        waits.write((waits.read() or 1) - 1)
