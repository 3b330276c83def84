"""TestStream: each event is worked off by the whole pipeline before the next, watermark and clock are as told, and what
comes out is the same each time.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import streamflow as sf
from streamflow.base.clock import SystemClock
from streamflow.model.time import MAX_TIMESTAMP
from streamflow.pvalue import AsList
from streamflow.testing import ManualClock, TestPipeline, TestStream
from streamflow.testing.test_stream import ElementEvent, ProcessingTimeEvent, WatermarkEvent, WindowedValueHolder
from streamflow.testing.util import assert_that, equal_to, equal_to_per_window
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.trigger import AfterAll, AfterCount, AfterProcessingTime, AfterWatermark, Repeatedly
from streamflow.transforms.userstate import TimerSpec, on_timer
from streamflow.transforms.window import GlobalWindow
from streamflow.utils.windowed_value import WindowedValue

UNSAFE = sf.Settings(allow_unsafe_triggers=True)
DISCARDING, ACCUMULATING = sf.AccumulationMode.DISCARDING, sf.AccumulationMode.ACCUMULATING


def values_of(pairs: Any) -> Any:
    return pairs | sf.GroupByKey() | sf.Map(lambda pair: pair[1])


def test_a_stream_is_the_list_of_what_it_does() -> None:
    stream = (
        TestStream()
        .advance_watermark_to(0)
        .add_elements(["a", WindowedValue("b", 3, []), sf.TimestampedValue("c", 6)])
        .advance_processing_time(10)
        .advance_watermark_to(8)
        .add_elements(["d"])
        .add_elements(["e"], event_timestamp=2)
        .advance_watermark_to_infinity()
    )
    timed = sf.TimestampedValue
    assert stream.events == [
        WatermarkEvent(0),
        ElementEvent([timed("a", 0), timed("b", 3), timed("c", 6)]),
        ProcessingTimeEvent(10),
        WatermarkEvent(8),
        ElementEvent([timed("d", 8)]),
        ElementEvent([timed("e", 2)]),
        WatermarkEvent(MAX_TIMESTAMP),
    ]
    assert len({*stream.events, WatermarkEvent(0)}) == 7


@pytest.mark.parametrize(
    "build",
    [
        lambda: TestStream().advance_watermark_to(5).advance_watermark_to(5),
        lambda: TestStream().advance_processing_time(0),
        lambda: TestStream().advance_watermark_to_infinity().add_elements(["after the end"]),
        lambda: TestStream(events=[WatermarkEvent(1, "letters")], output_tags=["numbers"]),
    ],
    ids=["watermark stands", "clock stands", "element at infinity", "unknown tag"],
)
def test_what_no_stream_can_do_is_refused(build: Callable[[], TestStream]) -> None:
    with pytest.raises(AssertionError):
        build()


@pytest.mark.parametrize("pipeline", [TestPipeline, sf.Pipeline])
def test_elements_behind_the_watermark_are_late_to_the_second(pipeline: type[sf.Pipeline]) -> None:
    """At 15 the first window is over: what comes for it is a pane of its own, or dropped once lateness has passed."""
    stream = (
        TestStream()
        .advance_watermark_to(10)
        .add_elements(["a", "b"])
        .advance_watermark_to(14.999999)
        .add_elements([sf.TimestampedValue("in time", 12)])
        .advance_watermark_to(15)
        .add_elements([sf.TimestampedValue("late", 12)])
        .advance_watermark_to(44)
        .add_elements([sf.TimestampedValue("later", 12)])
        .advance_watermark_to(45)
        .add_elements([sf.TimestampedValue("dropped", 12), "d"])
    )
    with pipeline() as p:
        windowed = p | stream | sf.WindowInto(sf.FixedWindows(15), allowed_lateness=30)
        panes = windowed | sf.Map(lambda value: ("k", value)) | sf.GroupByKey()
        expected = {
            sf.IntervalWindow(0, 15): [("k", ["a", "b", "in time"]), ("k", ["late"]), ("k", ["later"])],
            sf.IntervalWindow(45, 60): [("k", ["d"])],
        }
        assert_that(panes, equal_to_per_window(expected))
    assert p.result.total("dropped") == 1


@pytest.mark.parametrize("partitions", [1, 4])
def test_processing_time_triggers_go_by_the_clock_of_the_stream(partitions: int) -> None:
    stream = TestStream()
    for i in range(7):
        stream.advance_processing_time(1.99).add_elements([("key", i)])
    stream.advance_processing_time(2).advance_watermark_to_infinity()
    with TestPipeline(settings=sf.Settings(partitions=partitions)) as p:
        trigger = Repeatedly(AfterProcessingTime(2))
        pairs = p | stream | sf.WindowInto(sf.FixedWindows(10), trigger, accumulation_mode=DISCARDING)
        assert_that(values_of(pairs), equal_to([[0, 1], [2, 3], [4, 5], [6]]))


def test_trigger_that_has_finished_takes_nothing_more() -> None:
    stream = TestStream()
    for i in range(4):
        stream.advance_processing_time(0.5).add_elements([("key", i)])
    stream.advance_processing_time(2.1).add_elements([("key", "dropped")]).advance_processing_time(2)
    with TestPipeline(settings=UNSAFE) as p:
        pairs = p | stream | sf.WindowInto(sf.FixedWindows(10), AfterProcessingTime(2), DISCARDING)
        assert_that(values_of(pairs), equal_to([[0, 1, 2, 3]]))


def test_watermark_and_clock_decide_together() -> None:
    stream = TestStream().advance_watermark_to(0)
    for i in range(1, 11):
        stream.add_elements([("key", i)])
        if i % 5 == 0:
            stream.advance_watermark_to(i).advance_processing_time(5)
    with TestPipeline() as p:
        early = AfterWatermark(early=AfterAll(AfterCount(1), AfterProcessingTime(5)))
        pairs = p | stream | sf.WindowInto(sf.FixedWindows(10), early, ACCUMULATING)
        assert_that(values_of(pairs), equal_to([[1, 2, 3, 4, 5], list(range(1, 11))]))


class Delay(sf.DoFn):
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)

    def process(self, element: Any, due: Any = sf.DoFn.TimerParam(DUE)) -> Iterator[Any]:
        due.set(20)
        yield "came"

    @on_timer(DUE)
    def fire(self) -> Iterator[Any]:
        yield "due"


@pytest.mark.parametrize(("seconds", "expected"), [(19.9, ["came"]), (20, ["came", "due"])])
def test_processing_time_timers_go_by_the_clock_of_the_stream(seconds: float, expected: list[str]) -> None:
    """Until it is due, nothing; at the end of its window a timer fires anyway, so what counts is which comes first."""
    seen: list[Any] = []
    stream = TestStream().add_elements([("k", 1)]).advance_processing_time(seconds).add_elements([("end", 0)])
    with TestPipeline(settings=sf.Settings(partitions=1)) as p:
        source = p | stream
        source | sf.Filter(lambda pair: pair[0] == "k") | sf.ParDo(Delay()) | sf.Map(seen.append)
        source | sf.Filter(lambda pair: pair[0] == "end") | "Note" >> sf.Map(lambda _: seen.append("end"))
    assert seen[: seen.index("end")] == expected


def test_outputs_by_tag_have_watermarks_of_their_own() -> None:
    """Of two, the earlier one decides for what stands behind both."""
    stream = (
        TestStream()
        .advance_watermark_to(0, tag="letters")
        .advance_watermark_to(30, tag="numbers")
        .add_elements([sf.TimestampedValue("a", 6)], tag="letters")
        .add_elements([sf.TimestampedValue(1, 21)], tag="numbers")
        .advance_watermark_to(15, tag="letters")
        .add_elements([sf.TimestampedValue(2, 22)], tag="numbers")
    )
    with TestPipeline() as p:
        outputs = p | stream
        assert set(outputs) == {"letters", "numbers"}
        apart = outputs["numbers"] | "Windows" >> sf.WindowInto(sf.FixedWindows(15))
        assert_that(apart | sf.combiners.Count.Globally().without_defaults(), equal_to([]), label="numbers are late")
        both = (outputs["letters"], outputs["numbers"]) | sf.Flatten() | sf.WindowInto(sf.FixedWindows(15))
        counts = both | "Together" >> sf.combiners.Count.Globally().without_defaults()
        assert_that(counts, equal_to([1, 2]), label="letters hold numbers back")


def test_windowed_value_in_a_holder_keeps_its_window() -> None:
    held = WindowedValueHolder(WindowedValue("a", 5, [sf.IntervalWindow(5, 10)]))
    with TestPipeline() as p:
        values = p | TestStream().advance_watermark_to(10).add_elements([held, "b"])
        reified = values | sf.Map(lambda e, t=sf.DoFn.TimestampParam, w=sf.DoFn.WindowParam: (e, float(t), w))
        expected = [("a", 5.0, sf.IntervalWindow(5, 10)), ("b", 10.0, GlobalWindow())]
        assert_that(reified, equal_to(expected))


def test_elements_wait_for_their_side_input() -> None:
    stream = (
        TestStream()
        .advance_watermark_to(9, tag="main")
        .add_elements(["early"], tag="main")
        .add_elements([sf.TimestampedValue("s", 10)], tag="side")
        .advance_watermark_to(12, tag="side")
    )
    with TestPipeline() as p:
        outputs = p | stream
        side = outputs["side"] | "Side" >> sf.WindowInto(sf.FixedWindows(3))
        main = outputs["main"] | "Main" >> sf.WindowInto(sf.FixedWindows(1))
        assert_that(main | sf.Map(lambda value, side: (value, side), AsList(side)), equal_to([("early", ["s"])]))


def test_several_streams_take_turns() -> None:
    seen: list[str] = []
    with TestPipeline() as p:
        for name in "ab":
            stream = TestStream().add_elements([f"{name}1"]).add_elements([f"{name}2"])
            p | name >> stream | f"See {name}" >> sf.Map(seen.append)
    assert seen == ["a1", "b1", "a2", "b2"]


def test_sinks_have_written_before_the_next_event() -> None:
    """A store is no exception: a topic read back in the middle has all that came before."""
    log = sf.open_log("memory://")
    ends: list[int] = []
    with TestPipeline(on=log) as p:
        source = p | TestStream().add_elements([1]).add_elements([2]).add_elements([3])
        source | sf.Reshuffle() | sf.Map(lambda value: {"v": value}) | sf.WriteToTopic("out")
        source | "Look" >> sf.Map(lambda value: ends.append(sum(log.end("out", i) for i in range(16))))
    assert ends == [0, 1, 2]


def test_failing_step_is_raised_at_once() -> None:
    """Where the clock stands still, a pause before another try would have no end."""

    class Broken(sf.DoFn):
        def process(self, element: Any) -> list[Any]:
            return [element]

        def start_bundle(self) -> None:
            raise RuntimeError("broken bundle")

    p = TestPipeline()
    p | TestStream().add_elements([1]) | sf.ParDo(Broken())
    with pytest.raises(RuntimeError, match="broken bundle"):
        p.run()


def test_drained_run_with_a_manual_clock_fires_what_is_due() -> None:
    log, clock = sf.open_log("memory://"), ManualClock()
    seen: list[Any] = []
    p = sf.Pipeline(on=log, settings=sf.Settings(partitions=1))
    p | sf.ReadFromTopic("in") | sf.Map(lambda value: ("k", value)) | sf.ParDo(Delay()) | sf.Map(seen.append)
    log.create_topic("in")
    sf.Publisher(log, "in").publish_batch([b"1"], [0])
    for seconds, expected in [(0, ["came"]), (19, ["came"]), (1, ["came", "due"])]:
        clock.advance(seconds)
        p.run(until="drained", clock=clock)
        assert seen == expected


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda p: p | TestStream(endpoint="localhost:1"), "no service"),
        (lambda p: p | sf.Create([1]) | TestStream(), "begins a pipeline"),
        (lambda p: p | TestStream() | sf.GroupByKey(), "never give a result"),
    ],
)
def test_pipeline_that_can_not_work_is_refused(build: Callable[[sf.Pipeline], Any], told: str) -> None:
    with pytest.raises(sf.PipelineError, match=told):
        build(TestPipeline())


def test_stream_needs_a_clock_that_it_can_move() -> None:
    p = TestPipeline()
    p | TestStream().add_elements([1])
    with pytest.raises(sf.PipelineError, match="what time it is"):
        p.run(clock=SystemClock())
