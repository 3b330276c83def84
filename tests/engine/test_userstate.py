"""State and timers of a DoFn: what Apache Beam's documentation says of them, on a machine whose watermark and clock are
moved by hand, and in whole pipelines."""

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import collected, ordered
from stateful_making import Machine

import streamflow as sf
from streamflow.coders import BooleanCoder, BytesCoder, StrUtf8Coder, VarIntCoder
from streamflow.model.window import FixedWindows
from streamflow.model.windowing import Windowing
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import (
    BagStateSpec,
    CombiningValueStateSpec,
    MapStateSpec,
    OrderedListStateSpec,
    ReadModifyWriteStateSpec,
    SetStateSpec,
    StateSpec,
    TimerSpec,
    on_timer,
)

WINDOWS_OF_10 = Windowing(FixedWindows(10), allowed_lateness_us=5_000_000)


def at(value: Any, seconds: float, key: str = "k") -> sf.TimestampedValue:
    return sf.TimestampedValue((key, value), seconds)


class Indexed(sf.DoFn):
    INDEX = CombiningValueStateSpec("index", sum)

    def process(self, element: Any, index: Any = sf.DoFn.StateParam(INDEX)) -> Iterator[Any]:
        yield (*element, index.read())
        index.add(1)


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


class Buffered(sf.DoFn):
    """Everything so far, once the watermark has come to 20."""

    BUFFER = BagStateSpec("buffer", BytesCoder())
    EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)

    def process(
        self, element: Any, buffer: Any = sf.DoFn.StateParam(BUFFER), expiry: Any = sf.DoFn.TimerParam(EXPIRY)
    ) -> None:
        buffer.add(b"A%d" % element[1])
        expiry.set(20)

    @on_timer(EXPIRY)
    def expired(self, buffer: Any = sf.DoFn.StateParam(BUFFER)) -> Iterator[Any]:
        yield b"".join(buffer.read())


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


class Kinds(sf.DoFn):
    """Runs an expression on states of every kind."""

    VALUE = ReadModifyWriteStateSpec("value", StrUtf8Coder())
    BAG = BagStateSpec("bag")
    SET = SetStateSpec("set", VarIntCoder())
    SUM = CombiningValueStateSpec("sum", VarIntCoder(), sum)
    MAP = MapStateSpec("map")
    LIST = OrderedListStateSpec("list", StrUtf8Coder())
    SHORT = CombiningValueStateSpec("short", sum, ttl=10)

    def process(
        self,
        element: Any,
        value: Any = sf.DoFn.StateParam(VALUE),
        bag: Any = sf.DoFn.StateParam(BAG),
        set_: Any = sf.DoFn.StateParam(SET),
        total: Any = sf.DoFn.StateParam(SUM),
        map_: Any = sf.DoFn.StateParam(MAP),
        list_: Any = sf.DoFn.StateParam(LIST),
        short: Any = sf.DoFn.StateParam(SHORT),
    ) -> Iterable[Any]:
        return [eval(element[1])]


KINDS: dict[str, tuple[list[str], str, Any, Any]] = {
    "value": (["value.write('x')", "value.write('y')"], "value.read()", "y", None),
    "bag": (["bag.add(2)", "bag.add('a' * 5000)", "bag.add(2)"], "bag.read()", [2, "a" * 5000, 2], []),
    "set": (["set_.add(1)", "set_.add(2)", "set_.add(1)"], "sorted(set_.read())", [1, 2], []),
    "total": (["total.add(1)", "total.add(5)"], "total.read()", 6, 0),
    "map": (
        ["map_.put('a', 1)", "map_.put((1, 'b'), 2)", "map_.put('a', 3)", "map_.put('c', 4)", "map_.remove('c')"],
        "(sorted(map_.entries(), key=repr), map_.get('a'), map_.get('z', 0), len(map_.keys()), sum(map_.values()))",
        ([("a", 3), ((1, "b"), 2)], 3, 0, 2, 5),
        ([], None, 0, 0, 0),
    ),
    "list": (
        ["list_.add((3, 'c'))", "list_.add((-1, 'a'))", "list_.add((3, 'd'))", "list_.add((9, 'e'))"],
        "([(float(t), v) for t, v in list_.read()], [v for _, v in list_.read_range(-1, 9)])",
        ([(-1, "a"), (3, "c"), (3, "d"), (9, "e")], ["a", "c", "d"]),
        ([], []),
    ),
    "short": (["short.add(1)", "short.add(5)"], "short.read()", 6, 0),
}


@pytest.mark.parametrize(("changes", "read", "expected", "empty"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("claimed", [False, True], ids=["one step", "claimed again after each"])
def test_states_of_every_kind(changes: list[str], read: str, expected: Any, empty: Any, claimed: bool) -> None:
    m, name = Machine(Kinds()), changes[0].split(".")[0]
    assert m.step(at(read, 0)) == [empty]
    for change in changes:
        m.step(at(change, 0))
        if claimed:
            m.claim()
    assert m.step(at(read, 0), at(read, 0, "other key")) == [expected, empty]
    assert m.step(at(f"[{changes[0]}, 1 / 0]", 0), at(f"{name}.clear() or 1 / 0", 0)) == []
    assert [error for _, error in m.dead] == ["division by zero"] * 2
    if claimed:
        m.claim()
    assert m.step(at(read, 0)) == [expected], "what a bad element has changed is undone"
    m.step(at(f"{name}.clear()", 0))
    if claimed:
        m.claim()
    assert m.step(at(read, 0)) == [empty]
    assert not [n for k, w in m.state.groups() for n in m.state.entries(k, w) if not n.startswith(b"x")]


def test_range_of_an_ordered_list_is_cleared_without_its_limit() -> None:
    m = Machine(Kinds())
    m.step(*(at(f"list_.add(({t}, '{t}'))", 0) for t in (1, 2, 3, 4)), at("list_.clear_range(2, 4)", 0))
    assert m.step(at("[v for _, v in list_.read()]", 0)) == [["1", "4"]]


def test_bag_is_written_in_pieces_not_as_a_whole() -> None:
    m = Machine(Kinds())
    for _ in range(20):
        m.step(*(at(f"bag.add('{'x' * 90}')", 0) for _ in range(50)))
    m.step(at("bag.add('x')", 0))
    newest = m.durable.infos[max(m.durable.infos)]
    assert newest.memory_bytes < 6_000 < 90_000 < sum(info.memory_bytes for info in m.durable.infos.values())
    m.claim()
    assert m.step(at("len(bag.read())", 0)) == [1_001]


def test_state_with_a_time_to_live_is_empty_that_long_after_its_last_change() -> None:
    m = Machine(Kinds())
    read = "(short.read(), total.read())"
    m.step(at("short.add(1)", 5), at("total.add(1)", 5), to=6)
    m.step(at("short.add(1)", 9), at("short.add(1)", 7), to=10)
    m.claim()
    assert m.step(at(read, 18), to=18.9) == [(3, 1)]
    assert m.step(to=19) == []
    assert m.step(at(read, 19)) == [(0, 1)]
    m.step(at("short.add(1)", 3), at("total.clear()", 20))
    assert m.step(to=28.9) == []
    assert len(m.state) == 2
    m.step(to=29)
    assert len(m.state) == 0


def test_state_is_kept_per_key_and_window_until_window_and_lateness_have_passed() -> None:
    m = Machine(Kinds(), WINDOWS_OF_10)
    add = "total.add(1) or total.read()"
    assert m.step(at(add, 1), at(add, 9), at(add, 11), at(add, 1, "b"), to=12) == [1, 2, 1, 1]
    assert m.step(at(add, 5), to=14.9) == [3], "late, but not too late"
    m.step(to=15)
    assert m.step(at(add, 5), at(add, 12)) == [2], "the first is dropped"
    assert m.counts["dropped"] == 1
    m.step(to=25)
    assert len(m.state) == 0
    assert not m.durable.infos


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


class Bundle(sf.DoFn):
    STATE = ReadModifyWriteStateSpec("s")

    def process(self, element: Any, state: Any = sf.DoFn.StateParam(STATE)) -> None: ...

    def start_bundle(self, state: Any = sf.DoFn.StateParam(STATE)) -> None: ...


class Twins(sf.DoFn):
    def process(
        self,
        element: Any,
        a: Any = sf.DoFn.StateParam(BagStateSpec("s")),
        b: Any = sf.DoFn.StateParam(SetStateSpec("s")),
    ) -> None: ...


class Mute(sf.DoFn):
    def process(self, element: Any, t: Any = sf.DoFn.TimerParam(TimerSpec("t", TimeDomain.WATERMARK))) -> None: ...


class Unset(sf.DoFn):
    def process(self, element: Any, s: Any = sf.DoFn.StateParam(BagStateSpec("s"))) -> None: ...

    @on_timer(TimerSpec("unset", TimeDomain.WATERMARK))
    def fire(self) -> None: ...


class TwiceUnset(sf.DoFn):
    FIRST = TimerSpec("first", TimeDomain.WATERMARK)

    def process(self, element: Any, first: Any = sf.DoFn.TimerParam(FIRST)) -> None: ...

    @on_timer(TimerSpec("second", TimeDomain.WATERMARK))
    @on_timer(FIRST)
    def fired(self) -> None: ...


class Overridden(Buffered):
    def expired(self) -> None: ...  # type: ignore[override]


def in_lambda(element: Any, state: Any = sf.DoFn.StateParam(BagStateSpec("s"))) -> list[Any]:
    return []


REFUSED: dict[str, tuple[Any, str]] = {
    "state without a key": (lambda: sf.ParDo(Bundle()), r"Bundle.start_bundle asks for DoFn.StateParam\(s\)"),
    "two states of one name": (lambda: sf.ParDo(Twins()), "Twins has several states named 's'"),
    "timer that calls nothing": (lambda: sf.ParDo(Mute()), r"Mute: TimerSpec\(t, WATERMARK\) calls nothing"),
    "timer that nothing sets": (lambda: sf.ParDo(Unset()), r"Unset.fire is called by TimerSpec\(unset, WATERMARK\)"),
    "timer that nothing sets beside one": (
        lambda: sf.ParDo(TwiceUnset()),
        r"TwiceUnset.fired is called by TimerSpec\(second, WATERMARK\), which",
    ),
    "overridden callback": (lambda: sf.ParDo(Overridden()), "calls another 'expired'. Was it overridden?"),
    "state in a function": (lambda: sf.FlatMap(in_lambda), "in_lambda asks for DoFn.StateParam"),
    "state in a function of a ParDo": (lambda: sf.ParDo(in_lambda), "in_lambda asks for DoFn.StateParam"),
    "exceptions as outputs": (lambda: sf.ParDo(Indexed()).with_exception_handling(), "Catch them in its process"),
    "state of a spec's class": (lambda: sf.DoFn.StateParam(BagStateSpec), "takes a StateSpec"),
    "timer of a state": (lambda: sf.DoFn.TimerParam(BagStateSpec("s")), "takes a TimerSpec"),
    "on_timer of a name": (lambda: on_timer("t"), "on_timer takes a TimerSpec"),  # type: ignore[arg-type]
    "two callbacks": (lambda: on_timer(Buffered.EXPIRY)(lambda: None), "calls 'expired' already"),
    "unknown time domain": (lambda: TimerSpec("t", "DAYTIME"), "goes by 'DAYTIME'"),
    "state without a name": (lambda: StateSpec(3), "must be a text, got 3"),  # type: ignore[arg-type]
    "coder that is none": (lambda: BagStateSpec("s", int), "the coder of state 's' is none"),  # type: ignore[arg-type]
    "nothing to combine with": (lambda: CombiningValueStateSpec("s"), "state 's' needs something to combine with"),
    "no time to live": (lambda: BagStateSpec("s", ttl=0), "ttl of state 's' must be above 0"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_work_is_refused_when_it_is_built(build: Any, message: str) -> None:
    with pytest.raises(sf.PipelineError, match=message):
        build()


def test_columns_are_refused_when_built_and_values_without_a_key_are_bad_elements() -> None:
    p = sf.Pipeline()
    rows = p | sf.ReadFromTopic("t", schema={"k": str})
    with pytest.raises(
        sf.PipelineError, match=r"kept per key, needs \(key, value\) pairs, but the input has columns. Apply Map"
    ):
        rows | sf.ParDo(Indexed())
    m = Machine(Indexed())
    assert m.step(sf.TimestampedValue(5, 0), at(1, 0), sf.TimestampedValue((object(), 1), 0)) == [("k", 1, 0)]
    assert len(m.dead) == 2
    assert "kept per key, so the DoFn needs (key, value) pairs, got 5" in m.dead[0][1]
