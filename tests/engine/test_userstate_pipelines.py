"""State and timers in whole pipelines."""

from collections.abc import Iterator
from typing import Any

import pytest
from pipelines import collected, ordered
from stateful_making import Machine, at

import streamflow as sf
from streamflow.coders import BooleanCoder, StrUtf8Coder
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import (
    BagStateSpec,
    CombiningValueStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)


class Once(sf.DoFn):
    """The first of equal values in each window, said again under a tag when the window has closed."""

    SEEN = ReadModifyWriteStateSpec("seen", BooleanCoder())
    CLOSED = TimerSpec("closed", TimeDomain.WATERMARK)

    def setup(self) -> None:
        self.bundles = 0

    def start_bundle(self) -> None:
        self.bundles += 1

    def process(
        self,
        element: Any,
        suffix: str,
        seen: Any = sf.DoFn.StateParam(SEEN),
        closed: Any = sf.DoFn.TimerParam(CLOSED),
        window: Any = sf.DoFn.WindowParam,
    ) -> Iterator[Any]:
        if not seen.read():
            seen.write(True)
            closed.set(window.end)
            yield f"{element[0]}{suffix}"

    @on_timer(CLOSED)
    def say(self, key: Any = sf.DoFn.KeyParam, window: Any = sf.DoFn.WindowParam) -> Iterator[Any]:
        assert self.bundles
        yield sf.TaggedOutput("closed", (key, float(window.start)))


@pytest.mark.parametrize("partitions", [1, 4])
def test_outputs_with_tags_and_windows_of_a_whole_pipeline(partitions: int) -> None:
    main: list[Any] = []

    def build(p: sf.Pipeline) -> Any:
        times = [("a", 1), ("b", 2), ("a", 3), ("a", 11)]
        events = p | sf.Create([sf.TimestampedValue((k, None), t) for k, t in times])
        windowed = events | sf.WindowInto(sf.SlidingWindows(10, 5))
        outputs = windowed | "Once" >> sf.ParDo(Once(), suffix="!").with_outputs("closed", main="first")
        outputs.first | sf.Map(main.append)
        return outputs.closed

    closed = collected(build, sf.Settings(partitions=partitions, step_events_max=2))
    assert ordered(closed) == [("a", -5.0), ("a", 0.0), ("a", 10.0), ("a", 5.0), ("b", -5.0), ("b", 0.0)]
    assert sorted(main) == ["a!"] * 4 + ["b!"] * 2


class Join(sf.DoFn):
    """Pairs what comes first with what comes second under the same key; who is alone after ten seconds is told."""

    WAITING = BagStateSpec("waiting", StrUtf8Coder())
    ALONE = TimerSpec("alone", TimeDomain.WATERMARK)

    def process(
        self,
        element: Any,
        waiting: Any = sf.DoFn.StateParam(WAITING),
        alone: Any = sf.DoFn.TimerParam(ALONE),
        time: Any = sf.DoFn.TimestampParam,
    ) -> Any:
        key, value = element
        others = list(waiting.read())
        if not others:
            waiting.add(value)
            alone.set(time + 10)
            return None
        alone.clear()
        waiting.clear()
        return [(key, *sorted([*others, value]))]

    @on_timer(ALONE)
    def give_up(self, waiting: Any = sf.DoFn.StateParam(WAITING), key: Any = sf.DoFn.KeyParam) -> Any:
        others = list(waiting.read())
        waiting.clear()
        return [(key, other, None) for other in others]


def test_two_streams_are_joined_by_state_and_a_timer_tells_who_is_alone() -> None:
    m = Machine(Join())
    assert m.step(at("left", 0, "a"), at("left", 1, "b"), at("right", 5, "a")) == [("a", "left", "right")]
    assert m.step(at("left", 6, "c"), to=11) == [("b", "left", None)]
    assert m.step(at("right", 12, "b"), at("right", 12, "c"), to=40) == [("c", "left", "right"), ("b", "right", None)]
    assert [time for _, time in m.log] == [5, 11, 12, 22]
    assert len(m.state) == 0


class Looping(sf.DoFn):
    """Tells every ten seconds how many there have been, as long as there are some."""

    COUNT = CombiningValueStateSpec("count", sum)
    NEXT = TimerSpec("next", TimeDomain.WATERMARK)

    def process(
        self,
        element: Any,
        count: Any = sf.DoFn.StateParam(COUNT),
        following: Any = sf.DoFn.TimerParam(NEXT),
        time: Any = sf.DoFn.TimestampParam,
    ) -> None:
        if count.read() == 0:
            following.set(time - time % 10 + 10)
        count.add(1)

    @on_timer(NEXT)
    def tell(
        self,
        count: Any = sf.DoFn.StateParam(COUNT),
        following: Any = sf.DoFn.TimerParam(NEXT),
        time: Any = sf.DoFn.TimestampParam,
    ) -> Iterator[Any]:
        yield count.read()
        if count.read():
            following.set(time + 10)
        count.clear()


def test_timer_that_sets_itself_goes_on_while_there_is_something() -> None:
    m = Machine(Looping())
    m.step(at("x", 3), at("x", 4))
    assert m.step(to=10) == [2]
    assert m.step(at("x", 12), to=60) == [1, 0]
    assert [time for _, time in m.log] == [10, 20, 30]
    assert m.step(at("x", 75), to=200) == [1, 0]
