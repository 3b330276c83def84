"""What functions ask for by the default values of their parameters."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import streamflow as sf
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.util import assert_that, equal_to
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer
from streamflow.utils.windowed_value import PANE_INFO_UNKNOWN, WindowedValue

EVENTS: list[str] = []


@contextmanager
def opened(name: str, suffix: str = "") -> Iterator[str]:
    EVENTS.append(f"open {name}")
    yield name + suffix
    EVENTS.append(f"close {name}")


BUNDLE = sf.DoFn.BundleContextParam(opened, ("bundle",), {"suffix": "!"})
SETUP = sf.DoFn.SetupContextParam(opened, args=["setup"])


class Plain(sf.DoFn):
    def setup(self) -> None:
        EVENTS.append("setup")

    def start_bundle(self) -> None:
        EVENTS.append("start")

    def process(self, element: Any, bundle: str = BUNDLE, setup: str = SETUP) -> Iterator[Any]:
        EVENTS.append(f"process {bundle} {setup}")
        yield element

    def finish_bundle(self) -> None:
        EVENTS.append("finish")

    def teardown(self) -> None:
        EVENTS.append("teardown")


class Stateful(Plain):
    STATE = ReadModifyWriteStateSpec("state")
    TIMER = TimerSpec("timer", TimeDomain.WATERMARK)

    def process(
        self,
        element: Any,
        bundle: str = BUNDLE,
        setup: str = SETUP,
        state: Any = sf.DoFn.StateParam(STATE),
        timer: Any = sf.DoFn.TimerParam(TIMER),
    ) -> Iterator[Any]:
        EVENTS.append(f"process {bundle} {setup}")
        timer.set(5)
        yield element

    @on_timer(TIMER)
    def fired(self, bundle: str = BUNDLE) -> None:
        EVENTS.append(f"fired {bundle}")


@pytest.mark.parametrize("fn", [Plain(), Stateful()], ids=lambda fn: type(fn).__name__)
def test_context_managers_are_entered_for_a_task_and_around_each_bundle(fn: sf.DoFn) -> None:
    EVENTS.clear()
    with TestPipeline() as p:
        assert_that(p | sf.Create([("k", 1)]) | sf.ParDo(fn), equal_to([("k", 1)]))
    # Other tasks of the stage, which have no elements, open and close too.
    seen = [event for event in EVENTS if event != "setup" and not event.startswith(("open setup", "close setup"))]
    at = seen.index("process bundle! setup")
    assert seen[at - 2 : at] == ["open bundle", "start"]
    rest = seen[at + 1 :]
    assert rest.index("finish") < rest.index("close bundle")
    assert ("fired bundle!" in EVENTS) == isinstance(fn, Stateful)
    assert EVENTS.index("setup") < EVENTS.index("open setup") < EVENTS.index("open bundle")
    assert EVENTS.count("open setup") == EVENTS.count("close setup") == EVENTS.count("teardown")
    assert EVENTS.count("open bundle") == EVENTS.count("close bundle")


def test_map_has_what_context_managers_give() -> None:
    def joined(element: str, bundle: str = BUNDLE, setup: str = SETUP) -> str:
        return element + bundle + setup

    with TestPipeline() as p:
        assert_that(p | sf.Create(["a-"]) | sf.Map(joined), equal_to(["a-bundle!setup"]))


class Placed(sf.DoFn):
    def process(self, element: Any, place: Any = sf.DoFn.WindowedValueParam) -> Iterator[Any]:
        yield place


class PlacedByKey(sf.DoFn):
    STATE = ReadModifyWriteStateSpec("state")

    def process(
        self, element: Any, place: Any = sf.DoFn.WindowedValueParam, state: Any = sf.DoFn.StateParam(STATE)
    ) -> Iterator[Any]:
        # As it is, it would be an output with that place.
        yield (place.value, place.timestamp, tuple(place.windows), place.pane_info)


@pytest.mark.parametrize("keyed", [False, True])
def test_an_element_is_asked_for_with_its_place_once_for_each_window(keyed: bool) -> None:
    fn = PlacedByKey() if keyed else Placed()
    windows = [sf.IntervalWindow(-2, 2), sf.IntervalWindow(0, 4)]
    with TestPipeline() as p:
        timed = p | sf.Create([sf.TimestampedValue(("k", 1), 1)]) | sf.WindowInto(sf.SlidingWindows(4, 2))
        reified = timed | sf.ParDo(fn)
        if keyed:
            expected: list[Any] = [(("k", 1), 1, (window,), PANE_INFO_UNKNOWN) for window in windows]
            assert_that(reified, equal_to(expected))
        else:
            at = reified | sf.Map(lambda e, t=sf.DoFn.TimestampParam, w=sf.DoFn.WindowParam: (e, t, w))
            assert_that(at, equal_to([(("k", 1), 1, window) for window in windows]))


def test_a_windowed_value_is_equal_by_value_and_place() -> None:
    window = sf.IntervalWindow(0, 5)
    value = WindowedValue("a", 1, [window])
    assert value == WindowedValue("a", sf.Timestamp(1), [window])
    assert len({value, WindowedValue("a", 1.0, [window])}) == 1
    assert value.with_value("b") == WindowedValue("b", 1, [window]) != value
    assert value.timestamp == sf.Timestamp(1)
    assert value.pane_info is PANE_INFO_UNKNOWN


def late_side(element: str, time: Any = sf.DoFn.TimestampParam, side: Any = None, other: int = 0) -> Any:
    return element, float(time), side, other


def marked(e: str = sf.DoFn.ElementParam, time: Any = sf.DoFn.TimestampParam, s: Any = sf.DoFn.SideInputParam) -> Any:
    return [(e, float(time), s, 0)]


class LateSide(sf.DoFn):
    def process(self, element: str, time: Any = sf.DoFn.TimestampParam, side: Any = None, other: int = 0) -> Any:
        yield late_side(element, time, side, other)


ARGUMENTS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "by place": (lambda side: sf.Map(late_side, side, 3), ("e", 7, [1], 3)),
    "by place and name": (lambda side: sf.Map(late_side, side, other=3), ("e", 7, [1], 3)),
    "by name": (lambda side: sf.Map(late_side, side=side), ("e", 7, [1], 0)),
    "of a DoFn": (lambda side: sf.ParDo(LateSide(), side, 3), ("e", 7, [1], 3)),
    "with their places marked": (lambda side: sf.FlatMap(marked, side), ("e", 7, [1], 0)),
    "none": (lambda side: sf.Map(late_side), ("e", 7, None, 0)),
}


@pytest.mark.parametrize(("build", "expected"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_take_the_places_that_nothing_is_asked_for_in(build: Any, expected: Any) -> None:
    with TestPipeline() as p:
        side = sf.pvalue.AsList(p | "Side" >> sf.Create([1]))
        assert_that(p | sf.Create([sf.TimestampedValue("e", 7)]) | build(side), equal_to([expected]))


def test_arguments_without_a_place_are_refused_when_built() -> None:
    with pytest.raises(sf.PipelineError, match="3 arguments besides the element were given, but there is place for 2"):
        sf.Map(late_side, 1, 2, 3)
