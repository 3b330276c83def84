"""State and timers of a DoFn: what Apache Beam's documentation says of them, on a machine whose watermark and clock are
moved by hand, and in whole pipelines."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import collected, ordered
from stateful_making import WINDOWS_OF_10, Buffered, Indexed, Machine, at

import streamflow as sf
from streamflow.coders import VarIntCoder
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import (
    BagStateSpec,
    CombiningValueStateSpec,
    TimerSpec,
    on_timer,
)


@pytest.mark.parametrize("settings", [sf.Settings(step_events_max=1), sf.Settings(partitions=1)], ids=["1", "all"])
def test_elements_of_a_key_are_counted_in_their_order(settings: sf.Settings) -> None:
    values = [("a", "x"), ("b", "x"), ("a", "y"), ("a", "z")]
    found = collected(lambda p: p | sf.Create(values) | sf.ParDo(Indexed()), settings)
    assert ordered(found) == [("a", "x", 0), ("a", "y", 1), ("a", "z", 2), ("b", "x", 0)]


def test_several_inputs_meet_in_one_state_and_its_outputs_can_be_grouped() -> None:
    def build(p: sf.Pipeline) -> Any:
        both = (p | "L" >> sf.Create([("a", 1)]), p | "R" >> sf.Create([("a", 2), ("b", 3)])) | sf.Flatten()
        return both | sf.ParDo(Indexed()) | sf.Map(lambda e: (e[0], e[2])) | sf.GroupByKey()

    assert [(key, sorted(indices)) for key, indices in ordered(collected(build))] == [("a", [0, 1]), ("b", [0])]


def test_event_time_timer_fires_when_the_watermark_comes_to_it_and_at_once_where_it_has() -> None:
    m = Machine(Buffered())
    assert m.step(at(1, 10), at(2, 10), to=10) == []
    assert m.step(at(3, 11), to=19.999999) == []
    assert m.step(to=20) == [b"A1A2A3"]
    assert m.step(to=30) == []
    assert m.step(at(4, 25), at(5, 25)) == [b"A1A2A3A4", b"A1A2A3A4A5"]
    assert {time for _, time in m.log} == {20}


class Script(sf.DoFn):
    """Runs the elements, which are functions of what it has; timers leave a trace."""

    EVENT, CLOCK = TimerSpec("event", TimeDomain.WATERMARK), TimerSpec("clock", TimeDomain.REAL_TIME)
    NOTES = BagStateSpec("notes")

    def process(
        self,
        element: Any,
        event: Any = sf.DoFn.TimerParam(EVENT),
        clock: Any = sf.DoFn.TimerParam(CLOCK),
        notes: Any = sf.DoFn.StateParam(NOTES),
    ) -> Any:
        return eval(element[1])

    @on_timer(EVENT)
    def on_event(
        self,
        event: Any = sf.DoFn.TimerParam(EVENT),
        clock: Any = sf.DoFn.TimerParam(CLOCK),
        notes: Any = sf.DoFn.StateParam(NOTES),
        key: Any = sf.DoFn.KeyParam,
        tag: Any = sf.DoFn.DynamicTimerTagParam,
        time: Any = sf.DoFn.TimestampParam,
    ) -> Iterator[Any]:
        yield f"{key}.{tag}@{float(time):g}"
        eval(tag) if tag.endswith(")") else None

    @on_timer(CLOCK)
    def on_clock(
        self,
        clock: Any = sf.DoFn.TimerParam(CLOCK),
        key: Any = sf.DoFn.KeyParam,
        tag: Any = sf.DoFn.DynamicTimerTagParam,
        time: Any = sf.DoFn.TimestampParam,
    ) -> Iterator[Any]:
        yield f"{key}.{tag}#{float(time):g}"
        eval(tag) if tag.endswith(")") else None


EVENT_TIMERS: dict[str, tuple[list[str], list[str]]] = {
    "in the order of time": (["event.set(3, 'c')", "event.set(1, 'a')", "event.set(2, 'b')"], ["a@1", "b@2", "c@3"]),
    "set again moves it": (["event.set(3)", "event.set(1)", "event.set(2)"], ["@2"]),
    "tags are timers of their own": (["event.set(1)", "event.set(2, 'x')", "event.clear()"], ["x@2"]),
    "cleared and set again": (["event.set(1)", "event.clear()", "event.set(1)"], ["@1"]),
    "cleared in the batch that set it": (["event.set(1)", "event.clear()"], []),
    "clearing what is not set": (["event.clear('x')"], []),
    "what a timer sets fires in order": (
        ["event.set(1, 'event.set(2)')", "event.set(3, 'z')"],
        ["event.set(2)@1", "@2", "z@3"],
    ),
    "a timer sets one for the same time": (["event.set(1, 'event.set(1)')"], ["event.set(1)@1", "@1"]),
    "a timer clears another": (["event.set(1, 'event.clear()')", "event.set(2)"], ["event.clear()@1"]),
    "relative to the element": (["event.set_relative(1.5)"], ["@1.5"]),
}


@pytest.mark.parametrize(("calls", "fired"), EVENT_TIMERS.values(), ids=EVENT_TIMERS)
@pytest.mark.parametrize("how", ["one step", "a step each", "claimed again"])
def test_event_time_timers(calls: list[str], fired: list[str], how: str) -> None:
    m = Machine(Script())
    elements = [at(call, 0) for call in calls]
    for batch in [elements] if how == "one step" else [[each] for each in elements]:
        m.step(*batch)
        if how == "claimed again":
            m.claim()
    assert m.step(to=5) == [f"k.{trace}" for trace in fired]
    assert m.step(to=100) == []
    assert not m.dead


def test_timers_of_all_keys_fire_in_the_order_of_time() -> None:
    m = Machine(Script())
    m.step(at("event.set(3)", 0, "a"), at("event.set(1)", 0, "b"), at("event.set(2)", 0, "a"), at("event.set(2.5)", 0))
    assert m.step(to=9) == ["b.@1", "a.@2", "k.@2.5"]


class Counted(sf.CombineFn):
    """Says what is called."""

    calls: ClassVar[list[str]] = []

    def setup(self) -> None:
        self.calls.append("setup")

    def create_accumulator(self) -> int:
        return 0

    def add_input(self, accumulator: int, element: int) -> int:
        self.calls.append("add")
        return accumulator + element

    def merge_accumulators(self, accumulators: Iterable[int]) -> int:
        return sum(accumulators)

    def extract_output(self, accumulator: int) -> int:
        return accumulator

    def teardown(self) -> None:
        self.calls.append("teardown")


class Counting(sf.DoFn):
    TOTAL = CombiningValueStateSpec("total", VarIntCoder(), Counted())

    def process(self, element: Any, total: Any = sf.DoFn.StateParam(TOTAL)) -> None:
        total.add(element[1])


def test_what_combines_a_state_is_set_up_before_and_torn_down_after() -> None:
    Counted.calls.clear()
    m = Machine(Counting())
    m.step(at(1, 0))
    m.head.close()
    assert Counted.calls == ["setup", "add", "teardown"]


class Twice(sf.DoFn):
    """Two timers that call one method."""

    FIRST, SECOND = TimerSpec("first", TimeDomain.WATERMARK), TimerSpec("second", TimeDomain.WATERMARK)

    def process(
        self, element: Any, first: Any = sf.DoFn.TimerParam(FIRST), second: Any = sf.DoFn.TimerParam(SECOND)
    ) -> None:
        first.set(3)
        second.set(5)

    @on_timer(FIRST)
    @on_timer(SECOND)
    def fired(self, time: Any = sf.DoFn.TimestampParam, second: Any = sf.DoFn.TimerParam(SECOND)) -> Iterator[Any]:
        yield int(time)


def test_several_timers_may_call_one_method() -> None:
    m = Machine(Twice())
    assert m.step(at(1, 0), to=9) == [3, 5]


CLOCK_TIMERS: dict[str, tuple[list[str], list[str]]] = {
    "in the order of time": (["clock.set(103, 'c')", "clock.set(101, 'a')"], ["a#101", "c#103"]),
    "cleared in the batch that set it": (["clock.set(101)", "clock.clear()"], []),
    "what a timer sets fires in order": (["clock.set(101, 'clock.set(102)')"], ["clock.set(102)#101", "#102"]),
    "relative to the clock": (["clock.set_relative(2)"], ["#102"]),
}


@pytest.mark.parametrize(("calls", "fired"), CLOCK_TIMERS.values(), ids=CLOCK_TIMERS)
@pytest.mark.parametrize("claimed", [False, True], ids=["going on", "claimed again"])
def test_processing_time_timers_fire_when_the_clock_has_come_to_them(
    calls: list[str], fired: list[str], claimed: bool
) -> None:
    m = Machine(Script())
    assert m.step(*(at(call, 7) for call in calls), to=8, now=100) == []
    if claimed:
        m.claim()
    assert (m.head.due_us is not None) == bool(fired)
    assert m.head.hold_us == (7_000_000 if fired else sf.MAX_TIMESTAMP.micros)
    assert m.step(to=50, now=100.5) == []
    assert m.step(now=110) == [f"k.{trace}" for trace in fired]
    assert (m.head.due_us, m.head.hold_us) == (None, sf.MAX_TIMESTAMP.micros)
    assert {time for _, time in m.log} <= {7}, "what it gives has the time of the element that set it"
    assert not m.dead


def test_processing_time_timer_that_is_due_fires_before_the_next_element() -> None:
    """As in the sequence of Apache Beam's test of a timer that generates records."""
    m = Machine(Script())
    assert m.step(at("clock.set(1)", 0), now=0) == []
    assert m.step(at("clock.set(1, 'again')", 0), at("['x']", 0), now=1) == ["k.#1", "k.again#1", "x"]


def test_what_waits_for_the_clock_fires_for_the_last_time_before_its_window_goes() -> None:
    m = Machine(Script(), WINDOWS_OF_10)
    m.step(at("clock.set(1000, 'clock.set(2000)')", 3), at("clock.set(1000)", 12), now=0)
    assert m.step(to=14.9) == []
    assert m.step(to=15) == ["k.clock.set(2000)#1000"]
    assert m.head.due_us == 1_000_000_000
    assert m.step(to=1e12) == ["k.#1000"]
    assert len(m.state) == 0


class Throttled(sf.DoFn):
    """One element a second; `beats`: keeps on though nothing waits."""

    WAITING, SENT = BagStateSpec("waiting"), CombiningValueStateSpec("sent", sum)
    NEXT = TimerSpec("next", TimeDomain.REAL_TIME)

    def __init__(self, beats: bool) -> None:
        self.beats = beats

    def process(
        self,
        element: Any,
        waiting: Any = sf.DoFn.StateParam(WAITING),
        following: Any = sf.DoFn.TimerParam(NEXT),
    ) -> None:
        waiting.add(element[1])
        following.set_relative(1)

    @on_timer(NEXT)
    def send(
        self,
        waiting: Any = sf.DoFn.StateParam(WAITING),
        sent: Any = sf.DoFn.StateParam(SENT),
        following: Any = sf.DoFn.TimerParam(NEXT),
    ) -> Iterator[Any]:
        first, *others = [*waiting.read(), None]
        waiting.clear()
        for each in others[:-1]:
            waiting.add(each)
        sent.add(1)
        yield first
        if self.beats or len(others) > 1:
            following.set_relative(1)


@pytest.mark.parametrize(("beats", "end"), [(False, []), (True, [None])])
def test_buffer_behind_a_timer_by_the_clock_is_emptied_before_its_window_goes(beats: bool, end: list[None]) -> None:
    m = Machine(Throttled(beats), WINDOWS_OF_10)
    m.step(at("a", 3), at("b", 3), at("c", 3), at("d", 3), at("x", 12), now=0)
    assert m.step(now=1) == ["a", "x"]
    assert m.step(to=15) == ["b", "c", "d", *end]
    assert m.step(to=1e12) == [None] * beats
    assert len(m.state) == 0


def test_event_time_timer_beyond_its_window_fires_before_the_state_goes() -> None:
    m = Machine(Script(), WINDOWS_OF_10)
    m.step(at("event.set(500)", 3), at("notes.add(1)", 3))
    assert m.step(to=20) == ["k.@15"]
    assert len(m.state) == 0


class Failing(sf.DoFn):
    COUNT = CombiningValueStateSpec("count", sum)
    DUE = TimerSpec("due", TimeDomain.WATERMARK)
    OTHER = TimerSpec("other", TimeDomain.WATERMARK)

    def process(
        self,
        element: Any,
        count: Any = sf.DoFn.StateParam(COUNT),
        due: Any = sf.DoFn.TimerParam(DUE),
    ) -> Iterator[Any]:
        count.add(1)
        due.set(element[1])
        yield "never seen if what follows raises"
        if element[1] > 5:
            due.clear()
            raise ValueError("above 5")

    @on_timer(DUE)
    def fail(
        self,
        count: Any = sf.DoFn.StateParam(COUNT),
        other: Any = sf.DoFn.TimerParam(OTHER),
        key: Any = sf.DoFn.KeyParam,
    ) -> None:
        count.add(100)
        other.set(4)
        if key == "bad":
            raise ValueError("bad timer")

    @on_timer(OTHER)
    def tell(self, count: Any = sf.DoFn.StateParam(COUNT), key: Any = sf.DoFn.KeyParam) -> Iterator[Any]:
        yield key, count.read()


def test_bad_elements_and_bad_timers_are_dead_letters_and_change_nothing() -> None:
    m = Machine(Failing())
    assert len(m.step(at(2, 0, "good"), at(7, 0, "good"), at(3, 0, "bad"), at(9, 0, "bad"), at(9, 0, "new"))) == 2
    assert m.step(to=10) == [("good", 101)]
    assert [error for _, error in m.dead] == ["above 5"] * 3 + ["bad timer"]
    assert m.dead[-1][0] == {"timer": "due", "tag": "", "key": "bad", "at_us": 3_000_000}
    assert {key for key, _ in m.state.groups()} == {b"\xa3bad", b"\xa4good"}


def test_step_that_was_not_committed_leaves_no_trace() -> None:
    m = Machine(Buffered())
    m.step(at(1, 0))
    m.step(at(2, 0), commit=False)
    m.claim()
    m.step(at(3, 0))
    m.step(to=30, commit=False)
    m.claim()
    assert m.step(to=30) == [b"A1A3"]


CALLS = [
    *(f"{timer}.set({t}, '{tag}')" for timer in ("event", "clock") for t, tag in ((2, ""), (4, "x"), (6, "x"))),
    *(f"{timer}.clear('{tag}')" for timer in ("event", "clock") for tag in ("", "x")),
    "event.set(3, 'event.set(5)')",
    "notes.add(1) or [len(notes.read())]",
    "notes.clear()",
    "notes.add(1) or event.set(1) or clock.set(1) or 1 / 0",
]
elements = st.tuples(st.sampled_from(CALLS), st.integers(0, 8), st.sampled_from("ab"))
phases = st.lists(
    st.tuples(
        st.lists(elements, max_size=4), st.integers(0, 3), st.integers(0, 3), st.sampled_from(["go", "die", "claim"])
    ),
    max_size=8,
)


@settings(max_examples=60)
@given(phases)
def test_steps_deaths_and_claims_between_two_watermarks_change_nothing(
    phases: list[tuple[list[tuple[str, int, str]], int, int, str]],
) -> None:
    single, batched = Machine(Script(), WINDOWS_OF_10), Machine(Script(), WINDOWS_OF_10)
    watermark = now = 0
    for calls, advance, tick, then in [*phases, ([], 100, 0, "go")]:
        watermark, now = watermark + advance, now + tick
        batch = [at(call, time, key) for call, time, key in calls]
        single.step(now=now)
        for each in batch:
            single.step(each)
        single.step(to=watermark)
        if then == "die":
            batched.step(*batch, to=watermark, now=now, commit=False)
        if then != "go":
            batched.claim()
        batched.step(*batch, to=watermark, now=now)
    assert batched.log == single.log
    assert batched.dead == single.dead
    assert len(batched.state) == len(single.state) == 0
