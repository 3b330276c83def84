"""Side inputs: their forms, their windows, and how elements wait for them."""

from collections.abc import Iterator
from typing import Any

import pytest
from pipelines import collected, dead_letters, end_topic, ordered, read_events
from side_making import MAIN, SIDE, make_topics, publish, read

import streamflow as sf
from streamflow import pvalue
from streamflow.base.clock import ManualClock
from streamflow.base.errors import PipelineError
from streamflow.engine.plan import build_plan
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_drained
from streamflow.runtime.worker import Worker
from streamflow.testing import TestPipeline, TestStream
from streamflow.topics.protocol import Log
from streamflow.transforms import trigger
from streamflow.transforms.userstate import ReadModifyWriteStateSpec
from streamflow.transforms.window import Sessions

WORDS = ["a", "bb", "ccc", "dddd"]
TEN, TWENTY = sf.FixedWindows(10), sf.FixedWindows(20)


def longer(word: str, lower: float, upper: float = float("inf")) -> Iterator[str]:
    if lower <= len(word) <= upper:
        yield word


class Longer(sf.DoFn):
    def process(self, element: str, lower: float, upper: float = float("inf")) -> Iterator[str]:
        yield from longer(element, lower, upper)


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("how", ["positional", "keyword", "DoFn", "Filter", "view", "constants beside"])
def test_singleton_of_the_same_words_is_an_argument(how: str, partitions: int) -> None:
    def build(p: sf.Pipeline) -> Any:
        words = p | "Words" >> sf.Create(WORDS)
        total = words | "Lengths" >> sf.Map(len) | "Sum" >> sf.CombineGlobally(sum)
        third = pvalue.AsSingleton(total | "Third" >> sf.Map(lambda n: n / 3))
        if how == "positional":
            return words | sf.FlatMap(longer, third)
        if how == "keyword":
            return words | sf.FlatMap(longer, lower=third)
        if how == "DoFn":
            return words | sf.ParDo(Longer(), third, upper=4)
        if how == "Filter":
            return words | sf.Filter(lambda word, least: len(word) >= least, third)
        if how == "view":
            view = words | "Short" >> sf.Map(lambda _: 1) | "Count" >> sf.CombineGlobally(sum).as_singleton_view()
            return words | sf.FlatMap(longer, view)
        return words | sf.FlatMap(longer, third, 5)

    assert collected(build, sf.Settings(partitions=partitions)) == ["dddd"]


PAIRS = [("x", 1), ("y", 2), ("x", 3)]


@pytest.mark.parametrize(
    ("of", "values", "seen"),
    [
        (pvalue.AsIter, [3, 1, 2], [1, 2, 3]),
        (pvalue.AsList, [3, 1, 2], [1, 2, 3]),
        (pvalue.AsList, [], []),
        (pvalue.AsIter, [], []),
        (pvalue.AsDict, [("x", 1), ("y", 2)], [("x", 1), ("y", 2)]),
        (pvalue.AsDict, [], []),
        (pvalue.AsMultiMap, PAIRS, [("x", [1, 3]), ("y", [2])]),
        (pvalue.AsMultiMap, [], []),
    ],
)
def test_forms(of: Any, values: list[Any], seen: list[Any]) -> None:
    def look(_: int, side: Any) -> list[Any]:
        return sorted(side.items() if isinstance(side, dict) else side)

    def build(p: sf.Pipeline) -> Any:
        return p | "Main" >> sf.Create([0, 1]) | sf.Map(look, of(p | "Side" >> sf.Create(values)))

    assert collected(build) == [seen, seen]


def test_singletons_of_nothing_have_a_default() -> None:
    def build(p: sf.Pipeline) -> Any:
        nothing = p | "Nothing" >> sf.Create([])
        total = nothing | sf.CombineGlobally(sum).as_singleton_view()
        none = nothing | "Max" >> sf.CombineGlobally(max).without_defaults().as_singleton_view()
        given = pvalue.AsSingleton(nothing, default_value=None)
        sides = (given, pvalue.AsSingleton(nothing), total, none)
        return p | "Main" >> sf.Create([1]) | sf.Map(lambda n, *sides: (n, *sides), *sides)

    [(n, given, empty, total, none)] = collected(build)
    assert (n, given, total) == (1, None, 0)
    assert isinstance(empty, pvalue.EmptySideInput)
    assert isinstance(none, pvalue.EmptySideInput)


@pytest.mark.parametrize(
    ("of", "values", "error"),
    [
        (pvalue.AsSingleton, [1, 2], "a PCollection of 2 elements is no singleton: the first are 1 and 2"),
        (pvalue.AsDict, [1], "needs (key, value) pairs, got 1"),
        (pvalue.AsMultiMap, ["ab"], "needs (key, value) pairs, got 'ab'"),
    ],
)
def test_side_without_the_wanted_form_makes_elements_bad(of: Any, values: list[Any], error: str) -> None:
    p = sf.Pipeline()
    p | "Main" >> sf.Create([7]) | sf.Map(lambda n, _: n, of(p | "Side" >> sf.Create(values)))
    [letter] = p.run().dead_letters
    assert letter["input"] == 7
    assert error in letter["error"]


def test_tags_exceptions_and_partition_go_with_sides() -> None:
    found: dict[str, list[Any]] = {"good": [], "bad": [], "part": []}
    p = sf.Pipeline()
    main, two = p | "Main" >> sf.Create([0, 2, 4]), pvalue.AsSingleton(p | "Two" >> sf.Create([2]))
    good, bad = main | sf.Map(lambda n, two: two / n, two).with_exception_handling()
    _, odd = main | sf.Partition(lambda n, of, two: n // two % of, 2, two)
    for name, pcoll in {"good": good, "bad": bad | "Of bad" >> sf.Map(lambda b: b[0]), "part": odd}.items():
        pcoll | f"Collect {name}" >> sf.Map(found[name].append)
    assert not p.run().dead_letters
    assert {name: ordered(values) for name, values in found.items()} == {"good": [0.5, 1.0], "bad": [0], "part": [2]}


def test_columns_stay_columns_behind_a_filter_with_a_side() -> None:
    def build(p: sf.Pipeline) -> Any:
        rows = p | "Main" >> sf.Create([{"k": "a", "v": 1}, {"k": "b", "v": 2}]) | sf.AsColumns({"k": str, "v": int})
        most = rows | sf.Map(lambda row: row["v"]) | sf.CombineGlobally(max)
        kept = rows | sf.Filter(lambda row, most: row["v"] == most, pvalue.AsSingleton(most))
        assert kept.shape.columns == rows.shape.columns
        return kept | sf.WithColumns(w=sf.col("v") * 2)

    assert collected(build) == [{"k": "b", "v": 2, "w": 4}]


def test_rows_of_columns_are_a_side_of_dicts() -> None:
    def build(p: sf.Pipeline) -> Any:
        rows = p | "Rows" >> sf.Create([{"k": "a", "v": 1}]) | sf.AsColumns({"k": str, "v": int})
        return p | "Main" >> sf.Create([1]) | sf.Map(lambda _, side: side, pvalue.AsList(rows))

    assert collected(build) == [[{"k": "a", "v": 1}]]


def test_combined_values_are_main_input_and_side_of_one_function() -> None:
    def build(p: sf.Pipeline) -> Any:
        total = p | sf.Create([1, 2]) | sf.CombineGlobally(sum)
        return total | sf.Map(lambda n, side: (n, side), pvalue.AsSingleton(total))

    assert collected(build) == [(3, 3)]


def test_results_with_a_side_are_a_side_themselves() -> None:
    def build(p: sf.Pipeline) -> Any:
        numbers = p | sf.Create([1, 2])
        scaled = numbers | "Scale" >> sf.Map(lambda n, k: n * k, pvalue.AsSingleton(p | "Ten" >> sf.Create([10])))
        return numbers | sf.Map(lambda n, side: (n, sorted(side)), pvalue.AsList(scaled))

    assert ordered(collected(build)) == [(1, [10, 20]), (2, [10, 20])]


def timed(values: list[tuple[Any, float]]) -> list[sf.TimestampedValue]:
    return [sf.TimestampedValue(value, seconds) for value, seconds in values]


MAIN_TIMES = [(1, 1.0), (2, 9.0), (3, 10.0), (4, 25.0), (5, 39.0)]
SIDE_TIMES = [("a", 0.0), ("b", 9.9), ("c", 10.0), ("d", 31.0)]


@pytest.mark.parametrize(
    ("main", "side", "expected"),
    [
        (TEN, TEN, {1: "ab", 2: "ab", 3: "c", 4: "", 5: "d"}),
        (TEN, TWENTY, {1: "abc", 2: "abc", 3: "abc", 4: "d", 5: "d"}),
        (TWENTY, TEN, {1: "c", 2: "c", 3: "c", 4: "d", 5: "d"}),
        (TEN, sf.GlobalWindows(), dict.fromkeys(range(1, 6), "abcd")),
        # Of those that hold the last instant, the one that starts first.
        (TEN, sf.SlidingWindows(20, 10), {1: "ab", 2: "ab", 3: "abc", 4: "c", 5: "d"}),
        (sf.GlobalWindows(), sf.GlobalWindows(), dict.fromkeys(range(1, 6), "abcd")),
    ],
)
@pytest.mark.parametrize("partitions", [1, 3])
def test_window_of_the_side_is_that_of_the_last_instant(main: Any, side: Any, expected: Any, partitions: int) -> None:
    def build(p: sf.Pipeline) -> Any:
        letters = p | "Side" >> sf.Create(timed(SIDE_TIMES)) | "Side windows" >> sf.WindowInto(side)
        numbers = p | "Main" >> sf.Create(timed(MAIN_TIMES)) | "Main windows" >> sf.WindowInto(main)
        return numbers | sf.Map(lambda n, side: (n, "".join(sorted(side))), pvalue.AsIter(letters))

    for step_events_max in (1, 100):
        settings = sf.Settings(partitions=partitions, step_events_max=step_events_max)
        assert dict(collected(build, settings)) == expected


def test_element_of_several_windows_is_given_the_side_of_each() -> None:
    def build(p: sf.Pipeline) -> Any:
        side = p | "Side" >> sf.Create(timed(SIDE_TIMES)) | "Ten" >> sf.WindowInto(TEN)
        main = p | "Main" >> sf.Create(timed([(1, 5)])) | sf.WindowInto(sf.SlidingWindows(20, 10))
        return main | sf.Map(lambda n, s, w=sf.DoFn.WindowParam: (float(w.start), sorted(s)), pvalue.AsList(side))

    assert dict(collected(build)) == {-10.0: ["a", "b"], 0.0: ["c"]}


def test_window_that_ends_in_a_gap_of_the_side_is_bad() -> None:
    p = sf.Pipeline()
    side = p | "Side" >> sf.Create([1]) | "Gaps" >> sf.WindowInto(sf.SlidingWindows(5, 20))
    main = p | "Main" >> sf.Create(timed([(1, 1.0), (2, 15.0)])) | sf.WindowInto(sf.FixedWindows(5))
    main | sf.Map(lambda n, s: n, pvalue.AsList(side))
    [letter] = p.run().dead_letters
    assert letter["input"] == 2
    assert "its windows leave gaps" in letter["error"]


class Live:
    """A pipeline on two topics that goes on as these do."""

    def __init__(self, build: Any, partitions: int = 1) -> None:
        self.log: Log = sf.open_log("memory://")
        make_topics(self.log)
        self.settings, self.clock = sf.Settings(partitions=partitions), ManualClock()
        p = sf.Pipeline("p", settings=self.settings)
        build(p) | "Out" >> sf.WriteToTopic("out")
        self.plan = launch(p, self.log, self.settings)

    def step(self, *, main: Any = (), side: Any = (), end: tuple[str, ...] = ()) -> list[Any]:
        """What has newly come out once all this is through."""
        before = len(read_events(self.log))
        for topic, events in {MAIN: main, SIDE: side}.items():
            if events:
                publish(self.log, topic, events)
        for topic in end:
            end_topic(self.log, topic)
        Worker(self.plan, self.log, None, clock=self.clock, until=lambda snap: is_drained(self.plan, snap)).run()
        return read_events(self.log)[before:]

    def mark_s(self, stage: str) -> float:
        return min(s.output_watermark_us for t, s in self.log.snapshot("p").tasks.items() if t.stage == stage) / 1e6

    def count(self, name: str) -> int:
        return int(sum(s.counters.get(name, 0) for s in self.log.snapshot("p").tasks.values()))


def with_sides(p: sf.Pipeline, main: Any = None, side: Any = None) -> Any:
    numbers = read(p, MAIN, main or sf.WindowInto(TEN), disorder=5)
    letters = read(p, SIDE, side or sf.WindowInto(TEN))
    return numbers | "Both" >> sf.Map(lambda n, s: {"n": n, "s": sorted(s)}, pvalue.AsList(letters))


@pytest.mark.parametrize("partitions", [1, 3])
def test_elements_wait_until_their_window_of_the_side_is_closed(partitions: int) -> None:
    live = Live(with_sides, partitions)
    assert live.step(main=[(1, 1), (2, 12), (3, 2), (4, 14)]) == []
    assert live.mark_s("both") == 1
    assert live.step(side=[(70, 3), (71, 9)]) == []
    # Another worker takes the tasks over here each time, with what waits.
    assert live.step(side=[(80, 11)]) == [{"n": 1, "s": [70, 71]}, {"n": 3, "s": [70, 71]}]
    assert live.mark_s("both") == 9
    assert live.step(main=[(5, 8), (6, 23)]) == [{"n": 5, "s": [70, 71]}]
    # The window [20, 30) of the side is empty, which only its watermark can tell.
    assert live.step(side=[(90, 31)]) == [{"n": 2, "s": [80]}, {"n": 4, "s": [80]}, {"n": 6, "s": []}]
    assert live.mark_s("both") == 18
    assert live.step(main=[(7, 44)], end=(MAIN,)) == []
    assert live.step(end=(SIDE,)) == [{"n": 7, "s": []}]
    assert live.mark_s("both") > 1e9
    assert live.count("dropped") == 0


def test_what_waits_is_not_late_for_what_comes_after() -> None:
    def build(p: sf.Pipeline) -> Any:
        pairs = with_sides(p) | "Pairs" >> sf.Map(lambda row: (0, row["n"]))
        sums = pairs | sf.CombinePerKey(sum)
        return sums | "Sums" >> sf.Map(lambda pair: {"sum": pair[1]})

    live = Live(build)
    assert live.step(main=[(1, 1), (2, 2), (4, 60)]) == []
    assert live.step(side=[(0, 61)]) == [{"sum": 3}]
    assert live.step(end=(MAIN, SIDE)) == [{"sum": 4}]
    assert live.count("dropped") == 0


def test_late_data_of_the_side_is_dropped_or_gives_a_newer_pane() -> None:
    late = {"accumulation_mode": sf.AccumulationMode.ACCUMULATING, "allowed_lateness": 100}
    for options, seen in (({}, [1]), (late, [1, 2])):
        live = Live(lambda p, options=options: with_sides(p, side=sf.WindowInto(TEN, **options)))
        assert live.step(side=[(1, 1), (3, 11)], main=[(1, 1)]) == [{"n": 1, "s": [1]}]
        assert live.step(side=[(2, 2)]) == []
        assert live.step(main=[(5, 3)]) == [{"n": 5, "s": seen}]


def test_late_elements_see_the_side_as_long_as_their_window_lives() -> None:
    live = Live(lambda p: with_sides(p, main=sf.WindowInto(TEN, allowed_lateness=20, late_to="too-late")))
    assert live.step(side=[(1, 1), (0, 99)], main=[(1, 34)]) == [{"n": 1, "s": []}]
    assert live.step(main=[(2, 2)]) == [{"n": 2, "s": [1]}]
    assert live.step(main=[(3, 35)]) == [{"n": 3, "s": []}]
    assert live.count("dropped") == 0
    assert read_events(live.log, "too-late") == []
    assert live.step(main=[(4, 2)]) == []
    assert live.count("dropped") == 1
    bounds = {"window_start": "1970-01-01T00:00:00Z", "window_end": "1970-01-01T00:00:10Z"}
    assert read_events(live.log, "too-late") == [{"value": 4, **bounds, "late_events": 1}]


def test_bounded_side_of_an_endless_input_is_read_once_and_kept() -> None:
    def build(p: sf.Pipeline) -> Any:
        names = pvalue.AsDict(p | "Names" >> sf.Create([(1, "one"), (2, "two")]))
        return read(p, MAIN, None) | "Named" >> sf.Map(lambda n, names: names[n], names)

    live = Live(build, partitions=3)
    assert live.step(main=[(1, 1)]) == ["one"]
    live.log.prune()
    assert live.step(main=[(2, 1000), (3, 1001)]) == ["two"]
    assert [letter["input"] for letter in dead_letters(live.log, "p")] == [3]


@pytest.mark.parametrize("partitions", [1, 3])
def test_side_that_changes_slowly_is_that_of_the_newest_pane(partitions: int) -> None:
    def build(p: sf.Pipeline) -> Any:
        every = sf.WindowInto(
            sf.GlobalWindows(),
            trigger=trigger.Repeatedly(trigger.AfterCount(1)),
            accumulation_mode=sf.AccumulationMode.DISCARDING,
        )
        newest = pvalue.AsSingleton(read(p, SIDE, every))
        return read(p, MAIN, None) | "Both" >> sf.Map(lambda n, s: {"n": n, "s": s}, newest)

    live = Live(build, partitions)
    assert live.step(main=[(1, 1), (2, 900)]) == []
    assert live.mark_s("both") == 1
    assert live.step(side=[(70, 3)]) == [{"n": 1, "s": 70}, {"n": 2, "s": 70}]
    assert live.mark_s("both") == 900
    assert live.step(main=[(3, 2)]) == [{"n": 3, "s": 70}]
    assert live.step(side=[(71, 4)]) == []
    assert live.step(main=[(4, 901)]) == [{"n": 4, "s": 71}]


@pytest.mark.parametrize(
    ("mode", "seen"), [(sf.AccumulationMode.DISCARDING, 7), (sf.AccumulationMode.ACCUMULATING, 12)]
)
def test_early_panes_of_a_combination_make_elements_ready(mode: Any, seen: int) -> None:
    def build(p: sf.Pipeline) -> Any:
        early = trigger.AfterWatermark(early=trigger.AfterCount(1))
        total = read(p, SIDE, sf.WindowInto(TEN, trigger=early, accumulation_mode=mode))
        view = total | sf.CombineGlobally(sum).as_singleton_view()
        main = read(p, MAIN, sf.WindowInto(TEN))
        return main | "Both" >> sf.Map(lambda n, s: {"n": n, "s": s}, view)

    live = Live(build)
    assert live.step(main=[(1, 1)]) == []
    assert live.step(side=[(5, 3)]) == [{"n": 1, "s": 5}]
    assert live.step(side=[(7, 4)]) == []
    assert live.step(main=[(2, 2)]) == [{"n": 2, "s": seen}]


def test_plan_tells_side_inputs_from_inputs() -> None:
    p = sf.Pipeline("p", settings=sf.Settings(partitions=3))
    letters = p | "Letters" >> sf.Create(["a", "b"])
    numbers = p | "Numbers" >> sf.Create([1])
    for name in ("A", "B"):
        numbers | name >> sf.Map(lambda n, *s: n, pvalue.AsList(letters), pvalue.AsIter(letters))
    plan = build_plan(p, p.settings)
    a = plan.stage("a")
    assert (a.kind, a.upstream, a.sideways, a.partitions) == ("sides", ("numbers",), ("view-letters",), 3)
    assert [stage.name for stage in plan.stages] == ["letters", "numbers", "view-letters", "a", "b"]
    assert plan.depth("a") == 3
    assert "hands each pane to all tasks, as side input 1" in p.explain()


def endless(p: sf.Pipeline) -> Any:
    return p | "Endless" >> sf.ReadFromTopic("side", schema={"v": int})


class Remembers(sf.DoFn):
    COUNT = ReadModifyWriteStateSpec("count")

    def process(self, element: Any, side: Any, count: Any = sf.DoFn.StateParam(COUNT)) -> None: ...


@pytest.mark.parametrize(
    ("build", "error"),
    [
        (lambda p, one: one | sf.Map(max, one), r"can't be an argument as it is. Say what of it: pvalue.AsSingleton"),
        (
            lambda p, one: one | sf.Map(max, x=one | "T" >> sf.Map(str).with_outputs("t")),
            "can't be an argument as it is",
        ),
        (lambda p, one: one | sf.CombineGlobally(max, one), r"PCollection\[One\] can't be an argument as it is"),
        (lambda p, one: pvalue.AsList([1]), r"AsList takes a PCollection, not \[1\]"),
        (
            lambda p, one: one | sf.Map(max, pvalue.AsList(sf.Pipeline("other") | sf.Create([1]))),
            r"Map\(max\): AsList\(PCollection\[Create\]\) is of another pipeline",
        ),
        (
            lambda p, one: one | sf.Map(max, pvalue.AsList(endless(p))),
            "endless and in the global window, so as a side input it would never be ready",
        ),
        (
            lambda p, one: one | sf.Map(max, pvalue.AsList(one | sf.WindowInto(TEN))),
            "a side input with windows, but the input is in the global window",
        ),
        (
            lambda p, one: (
                one | sf.WindowInto(TEN) | sf.Map(max, pvalue.AsList(one | "S" >> sf.WindowInto(Sessions(5))))
            ),
            "has windows that merge, so none belongs to an element",
        ),
        (
            lambda p, one: one | sf.Map(lambda n: (n, n)) | sf.ParDo(Remembers(), pvalue.AsList(one)),
            "DoFn with state can't have side inputs",
        ),
    ],
    ids=[
        "bare",
        "bare outputs",
        "combination",
        "no PCollection",
        "other pipeline",
        "endless",
        "windows",
        "merging",
        "state",
    ],
)
def test_side_inputs_that_cannot_work_are_refused(build: Any, error: str) -> None:
    p = sf.Pipeline()
    with pytest.raises(PipelineError, match=error):
        build(p, p | "One" >> sf.Create([1]))


def test_wait_on_gives_elements_once_the_others_are_complete_in_their_window() -> None:
    stream = (
        TestStream()
        .add_elements([sf.TimestampedValue("first", 1), sf.TimestampedValue("second", 11)], tag="main")
        .add_elements([sf.TimestampedValue("other", 2)], tag="others")
        .advance_watermark_to(10, tag="others")
        .advance_processing_time(1)
        .add_elements([sf.TimestampedValue("third", 3)], tag="main")
        .advance_watermark_to_infinity(tag="main")
        .advance_watermark_to_infinity(tag="others")
    )
    got: list[str] = []
    with TestPipeline() as p:
        outputs = p | stream
        main, others = (outputs[tag] | tag >> sf.WindowInto(sf.FixedWindows(10)) for tag in ("main", "others"))
        main | sf.WaitOn(others) | sf.Map(got.append)
    assert got == ["first", "third", "second"]
    with pytest.raises(PipelineError, match="takes the PCollections to wait for"):
        sf.WaitOn()
