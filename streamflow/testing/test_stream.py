"""TestStream: an input of which a test says when each element comes, how far the watermark is, and what time it is.

    stream = (
        TestStream()
        .advance_watermark_to(10)
        .add_elements(["a", "b"])
        .advance_processing_time(5)
        .add_elements([TimestampedValue("late", 3)])
        .advance_watermark_to_infinity()
    )
    with TestPipeline() as p:
        counts = p | stream | sf.WindowInto(sf.FixedWindows(5), allowed_lateness=60) | …

Each event is worked off by the whole pipeline, all its groupings, timers and sinks, before the next one comes. The
watermark is exactly what was said: what lies behind it is late. Triggers and timers of processing time go by the
stream's own clock, which begins at 0 and moves by `advance_processing_time` alone. Nothing else decides, so a test
gives the same each time.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamflow.base.clock import ManualClock
from streamflow.base.errors import PipelineError
from streamflow.engine.plan import Plan
from streamflow.model.batch import Elements
from streamflow.model.coders import Coder, FastPrimitivesCoder
from streamflow.model.graph import PCollection, PTransform, Shape
from streamflow.model.time import (
    MAX_TIMESTAMP,
    MIN_TIMESTAMP,
    MIN_US,
    Duration,
    DurationTypes,
    Timestamp,
    TimestampTypes,
)
from streamflow.model.window import GLOBAL_WINDOW, IntervalWindow, TimestampedValue
from streamflow.model.windowing import Windowing
from streamflow.runtime.launch import publish_elements
from streamflow.runtime.pipeline import Pipeline
from streamflow.topics.protocol import Log
from streamflow.transforms.collections import Create
from streamflow.transforms.outputs import WindowedValue

__all__ = ["ElementEvent", "Event", "ProcessingTimeEvent", "TestStream", "WatermarkEvent", "WindowedValueHolder"]


class Event:
    """One thing that a TestStream does. Events of one kind with equal content are equal."""


@dataclass(frozen=True)
class ElementEvent(Event):
    """Elements come, in this order."""

    timestamped_values: Sequence[TimestampedValue[Any]]
    tag: str | None = None

    def __hash__(self) -> int:
        return hash((tuple(map(repr, self.timestamped_values)), self.tag))


@dataclass(frozen=True, init=False)
class WatermarkEvent(Event):
    """The watermark of an output moves to that time."""

    new_watermark: Timestamp
    tag: str | None

    def __init__(self, new_watermark: TimestampTypes, tag: str | None = None) -> None:
        object.__setattr__(self, "new_watermark", Timestamp.of(new_watermark))
        object.__setattr__(self, "tag", tag)


@dataclass(frozen=True, init=False)
class ProcessingTimeEvent(Event):
    """The clock moves on by so many seconds."""

    advance_by: Duration

    def __init__(self, advance_by: DurationTypes) -> None:
        object.__setattr__(self, "advance_by", Duration.of(advance_by))


class WindowedValueHolder:
    """An element that comes with its time and its windows, where a bare WindowedValue gives its time alone."""

    def __init__(self, windowed_value: WindowedValue) -> None:
        self.windowed_value = windowed_value


class TestStream(PTransform):
    """An unbounded PCollection of which the test says when what comes. With tags it gives a PCollection for each tag,
    as a dict, each with a watermark of its own.

    Elements are values, `TimestampedValue`s or `WindowedValue`s. `events`: what it does to begin with, whose tags must
    be among `output_tags`. `coder`: taken as in Apache Beam; elements are pickled. Methods give the stream itself. When
    all is done, every watermark moves to infinity. Several streams of one pipeline take turns, event by event.
    """

    __test__ = False  # it is no test, whatever pytest thinks of its name

    def __init__(
        self,
        coder: Coder | None = None,
        events: Iterable[Event] | None = None,
        output_tags: Iterable[str | None] | None = None,
        endpoint: str | None = None,
    ) -> None:
        if endpoint:
            raise PipelineError("there is no service that events come from. Give them as TestStream(events=[…]).")
        self.coder = coder or FastPrimitivesCoder()
        self.output_tags: set[str | None] = set(output_tags or ())
        self.watermarks: dict[str | None, Timestamp] = {None: MIN_TIMESTAMP}
        self._events: list[Event] = []
        for event in events or ():
            assert getattr(event, "tag", None) in self.output_tags | {None}, (
                f"{event!r} is for none of the output_tags."
            )
            self._add(event)

    @property
    def events(self) -> list[Event]:
        """What it does, in order."""
        return list(self._events)

    def add_elements(
        self, elements: Iterable[Any], tag: str | None = None, event_timestamp: TimestampTypes | None = None
    ) -> "TestStream":
        """Elements come; those without a time of their own have `event_timestamp`, or are at the watermark.
        AssertionError for a time at infinity."""
        time = self.watermarks.get(tag, MIN_TIMESTAMP) if event_timestamp is None else event_timestamp
        return self._add(ElementEvent([_timed(element, time) for element in elements], tag))

    def advance_watermark_to(self, new_watermark: TimestampTypes, tag: str | None = None) -> "TestStream":
        """No earlier element is to come. AssertionError unless that is later than before."""
        return self._add(WatermarkEvent(new_watermark, tag))

    def advance_watermark_to_infinity(self, tag: str | None = None) -> "TestStream":
        """Nothing more is to come."""
        return self.advance_watermark_to(MAX_TIMESTAMP, tag)

    def advance_processing_time(self, advance_by: DurationTypes) -> "TestStream":
        """The clock moves on by so many seconds. AssertionError unless these are more than 0."""
        return self._add(ProcessingTimeEvent(advance_by))

    def expand(self, pcoll: Any) -> PCollection | Mapping[str | None, PCollection]:
        if not isinstance(pcoll, Pipeline):
            raise PipelineError("a TestStream begins a pipeline: `pipeline | TestStream()`.")
        holds = any(isinstance(value.value, WindowedValueHolder) for value in self._values())
        tags = sorted(self.output_tags or {None}, key=lambda tag: (tag is not None, tag))
        outputs = {tag: pcoll | _Output(tag, windowed=holds) for tag in tags}
        pcoll.players.append(_Player(self.events, {tag: output.producer.slug for tag, output in outputs.items()}))
        return outputs[None] if tags == [None] else outputs

    def _values(self) -> Iterator[TimestampedValue[Any]]:
        for event in self._events:
            if isinstance(event, ElementEvent):
                yield from event.timestamped_values

    def _add(self, event: Event) -> "TestStream":
        if isinstance(event, ElementEvent):
            infinite = [v for v in event.timestamped_values if Timestamp.of(v.timestamp) >= MAX_TIMESTAMP]
            assert not infinite, f"{infinite[0].value!r} comes at infinity. Give it a time before."
        elif isinstance(event, WatermarkEvent):
            before = self.watermarks.get(event.tag, MIN_TIMESTAMP)
            assert event.new_watermark > before, f"the watermark is at {before} already. Give a later time."
            self.watermarks[event.tag] = event.new_watermark
        elif isinstance(event, ProcessingTimeEvent):
            assert event.advance_by > 0, f"the clock does not go by {event.advance_by}. Give more than 0 seconds."
        else:
            raise PipelineError(f"{event!r} is no event of a TestStream. Use its methods.")
        if not isinstance(event, ProcessingTimeEvent):
            self.output_tags.add(event.tag)
        self._events.append(event)
        return self


class _Output(Create):
    """What a TestStream gives under one tag."""

    given_later = True

    def __init__(self, tag: str | None, *, windowed: bool) -> None:
        super().__init__(())
        self.tag, self.windowed = tag, windowed

    def default_label(self) -> str:
        return self.label or ("Main" if self.tag is None else f"Tag-{self.tag}")

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        return Shape(Windowing(assigned=self.windowed), bounded=False)


@dataclass(frozen=True)
class _Player:
    """`stages`: of each tag."""

    events: Sequence[Event]
    stages: Mapping[str | None, str]

    def play(self, plan: Plan, log: Log, clock: ManualClock) -> Iterator[None]:
        stages = {tag: plan.stage(name) for tag, name in self.stages.items()}
        for sequence, event in enumerate(self.events):
            if isinstance(event, ElementEvent):
                publish_elements(log, stages[event.tag], _elements(event), sequence)
            elif isinstance(event, WatermarkEvent):
                log.advance_watermark(stages[event.tag].topic, event.new_watermark.micros)
            elif isinstance(event, ProcessingTimeEvent):
                clock.advance(float(event.advance_by))
            yield
        for stage in stages.values():
            log.advance_watermark(stage.topic, MAX_TIMESTAMP.micros)
        yield


def _timed(element: Any, time: TimestampTypes) -> TimestampedValue[Any]:
    if isinstance(element, TimestampedValue):
        return element
    if isinstance(element, WindowedValue):
        return TimestampedValue(element.value, element.timestamp)
    if isinstance(element, WindowedValueHolder):
        return TimestampedValue(element, element.windowed_value.timestamp)
    return TimestampedValue(element, time)


def _elements(event: ElementEvent) -> Elements:
    """One for each window. Nothing is before the beginning of time, not even its watermark."""
    windowed: list[tuple[Any, int, IntervalWindow]] = []
    for timed in event.timestamped_values:
        value, windows = timed.value, (GLOBAL_WINDOW,)
        if isinstance(value, WindowedValueHolder):
            value, windows = value.windowed_value.value, tuple(value.windowed_value.windows)
        windowed += [(value, max(timed.time_us, MIN_US + 1), window) for window in windows]
    elements = Elements()
    for value, time_us, window in windowed:
        elements.append(value, time_us, -1, window)
    return elements
