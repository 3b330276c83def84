"""`sf.combiners` in pipelines: what Beam's answer is, on rows."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from pipelines import end_topic, make_topic, publish_json, read_events

import streamflow as sf
from streamflow import combiners
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.util import assert_that, equal_to, equal_to_per_window, is_empty

US = 1_000_000
PLANTS = [("spring", "leek"), ("spring", "pea"), ("summer", "bean"), ("spring", "leek"), ("summer", "corn")]
NUMBERS = [("a", 3), ("b", 10), ("a", 1), ("a", 4), ("b", 20), ("a", 1)]
WORDS = ["apple", "fig", "banana", "kiwi", "date"]
STAMPED = [sf.TimestampedValue(("a", 1), 30), sf.TimestampedValue(("a", 2), 10), sf.TimestampedValue(("b", 3), 20)]

CASES: dict[str, tuple[Any, Any, list[Any]]] = {
    "count globally": (PLANTS, combiners.Count.Globally(), [5]),
    "count globally, of nothing": ([], combiners.Count.Globally(), [0]),
    "count per key": (PLANTS, combiners.Count.PerKey(), [("spring", 3), ("summer", 2)]),
    "count per element": (
        PLANTS,
        combiners.Count.PerElement(),
        [(("spring", "leek"), 2), (("spring", "pea"), 1), (("summer", "bean"), 1), (("summer", "corn"), 1)],
    ),
    "mean globally": ([1, 2, 6], combiners.Mean.Globally(), [3.0]),
    "mean per key": (NUMBERS, combiners.Mean.PerKey(), [("a", 2.25), ("b", 15.0)]),
    "top of": (WORDS, combiners.Top.Of(2, key=len), [["banana", "apple"]]),
    "top of, reversed": (WORDS, combiners.Top.Of(2, key=len, reverse=True), [["fig", "date"]]),
    "top of nothing": ([], combiners.Top.Of(2), [[]]),
    "top per key": (NUMBERS, combiners.Top.PerKey(2), [("a", [4, 3]), ("b", [20, 10])]),
    "top per key, by key": (NUMBERS, combiners.Top.PerKey(1, key=lambda v: -v), [("a", [1]), ("b", [10])]),
    "largest": ([3, 9, 1, 7], combiners.Top.Largest(2), [[9, 7]]),
    "smallest": ([3, 9, 1, 7], combiners.Top.Smallest(2), [[1, 3]]),
    "largest per key": (NUMBERS, combiners.Top.LargestPerKey(2), [("a", [4, 3]), ("b", [20, 10])]),
    "smallest per key": (NUMBERS, combiners.Top.SmallestPerKey(2), [("a", [1, 1]), ("b", [10, 20])]),
    "sample of all": ([5, 5], combiners.Sample.FixedSizeGlobally(3), [[5, 5]]),
    "sample per key of all": ([("a", 1), ("b", 2)], combiners.Sample.FixedSizePerKey(2), [("a", [1]), ("b", [2])]),
    "to list": ([7], combiners.ToList(), [[7]]),
    "to dict": ([("a", 1), ("b", 2)], combiners.ToDict(), [{"a": 1, "b": 2}]),
    "to set": ([1, 2, 1], combiners.ToSet(), [{1, 2}]),
    "to set of nothing": ([], combiners.ToSet(), [set()]),
    "latest": (STAMPED, combiners.Latest.Globally(), [("a", 1)]),
    "latest of nothing": ([], combiners.Latest.Globally(), [None]),
    "latest per key": (STAMPED, combiners.Latest.PerKey(), [("a", 1), ("b", 3)]),
    "a combine fn of several": (
        NUMBERS,
        sf.CombinePerKey(combiners.SingleInputTupleCombineFn(sum, min, combiners.MeanCombineFn())),
        [("a", (9, 1, 2.25)), ("b", (30, 10, 15.0))],
    ),
    "any": ([False, True], sf.CombineGlobally(any), [True]),
    "all per key": ([("a", True), ("a", False), ("b", True)], sf.CombinePerKey(all), [("a", False), ("b", True)]),
    "combine values": ([("a", [1, 2]), ("b", [])], sf.CombineValues(sum), [("a", 3), ("b", 0)]),
    "combine values, with arguments": (
        [("a", [1, 2, 9])],
        sf.CombineValues(lambda values, bound: sum(v for v in values if v < bound), bound=5),
        [("a", 3)],
    ),
    "combine per key, with arguments": (
        NUMBERS,
        sf.CombinePerKey(lambda values, bound: min(sum(values), bound), 10),
        [("a", 9), ("b", 10)],
    ),
    "hot keys": (NUMBERS, sf.CombinePerKey(sum).with_hot_key_fanout(3), [("a", 9), ("b", 30)]),
    "hot keys, some": (
        NUMBERS,
        sf.CombinePerKey(combiners.MeanCombineFn()).with_hot_key_fanout(lambda key: 4 if key == "a" else 0),
        [("a", 2.25), ("b", 15.0)],
    ),
    "quantiles": (list(range(1001)), sf.ApproximateQuantiles.Globally(5), [[0, 250, 500, 750, 1000]]),
    "quantiles of nothing": ([], sf.ApproximateQuantiles.Globally(5), [[]]),
    "quantiles per key": (
        [("a", n) for n in range(101)] + [("b", "x")],
        sf.ApproximateQuantiles.PerKey(3, reverse=True),
        [("a", [100, 50, 0]), ("b", ["x", "x", "x"])],
    ),
    "unique": ([1, 2, 1, "1"], sf.ApproximateUnique.Globally(size=16), [3]),
    "unique of nothing": ([], sf.ApproximateUnique.Globally(error=0.1), [0]),
    "unique per key": (NUMBERS, sf.ApproximateUnique.PerKey(error=0.5), [("a", 3), ("b", 2)]),
    "fanout": ([1, 2, 6], sf.CombineGlobally(combiners.MeanCombineFn()).with_fanout(2), [3.0]),
    "fanout of nothing": ([], sf.CombineGlobally(sum).with_fanout(2), [0]),
}


@pytest.mark.parametrize("name", CASES)
def test_combiner_gives_beams_answer(name: str) -> None:
    values, transform, expected = CASES[name]
    with TestPipeline() as p:
        assert_that(p | "Values" >> sf.Create(values) | transform, equal_to(expected))


def test_mean_of_nothing_is_not_a_number() -> None:
    with TestPipeline() as p:
        assert_that(p | sf.Create([]) | combiners.Mean.Globally(), lambda actual: all(map(math.isnan, actual)) or 1 / 0)


GLOBALLY: list[Callable[[], Any]] = [
    combiners.Count.Globally,
    combiners.Mean.Globally,
    lambda: combiners.Top.Of(1),
    lambda: combiners.Sample.FixedSizeGlobally(1),
    combiners.ToList,
    combiners.ToDict,
    combiners.ToSet,
    combiners.Latest.Globally,
]


@pytest.mark.parametrize("make", GLOBALLY)
def test_without_defaults_nothing_gives_nothing(make: Callable[[], Any]) -> None:
    with TestPipeline() as p:
        assert_that(p | sf.Create([]) | make().without_defaults(), is_empty())
    with TestPipeline() as p:
        assert_that(p | sf.Create([]) | sf.CombineGlobally(sum).with_fanout(2).without_defaults(), is_empty())
    with pytest.raises(sf.PipelineError, match="without_defaults"):
        sf.Pipeline() | sf.Create([]) | sf.WindowInto(sf.FixedWindows(60)) | make()


@pytest.mark.parametrize("make", [sf.CombinePerKey, sf.CombineGlobally, sf.CombineValues])
def test_a_collection_is_no_argument_of_a_combination(make: Any) -> None:
    side = sf.Pipeline() | sf.Create([1])
    with pytest.raises(sf.PipelineError, match="can't be an argument"):
        make(lambda values, of: sum(values), side)


@pytest.mark.parametrize("wrong", [{}, {"size": 16, "error": 0.1}, {"size": 15}, {"error": 0.001}, {"error": 0.6}])
def test_approximate_unique_needs_a_size_or_an_error_within_bounds(wrong: Any) -> None:
    for make in (sf.ApproximateUnique.Globally, sf.ApproximateUnique.PerKey):
        with pytest.raises(sf.PipelineError, match="ApproximateUnique needs"):
            make(**wrong)


def test_windows_are_combined_one_by_one() -> None:
    values = [sf.TimestampedValue(value, time) for value, time in [(5, 1), (7, 59), (1, 61)]]
    with TestPipeline() as p:
        windowed = p | sf.Create(values) | sf.WindowInto(sf.FixedWindows(60))
        first, second = sf.IntervalWindow(0, 60), sf.IntervalWindow(60, 120)
        largest = windowed | combiners.Top.Largest(1, has_defaults=False)
        assert_that(largest, equal_to_per_window({first: [[7]], second: [[1]]}))
        fanned = windowed | sf.CombineGlobally(sum).without_defaults().with_fanout(2)
        assert_that(fanned, equal_to_per_window({first: [12], second: [1]}))


@pytest.mark.parametrize("mode", [sf.AccumulationMode.ACCUMULATING, sf.AccumulationMode.DISCARDING])
def test_late_panes_of_a_fanout_count_nothing_twice(mode: sf.AccumulationMode) -> None:
    log = sf.open_log("memory://")
    make_topic(log, partitions=1)

    def run(until: Any) -> None:
        p = sf.Pipeline(on=log)
        events = p | sf.ReadFromTopic("in") | sf.Map(lambda event: ("k", event["v"]))
        windowed = events | sf.WindowInto(sf.FixedWindows(10), allowed_lateness=100, accumulation_mode=mode)
        sums = windowed | sf.CombinePerKey(sum).with_hot_key_fanout(2)
        whole = windowed | sf.Values() | sf.CombineGlobally(sum).without_defaults().with_fanout(2)
        (sums, whole | sf.WithKeys("all")) | sf.Flatten() | sf.Map(list) | sf.WriteToTopic("out")
        p.run(until=until)

    publish_json(log, [{"v": 1}, {"v": 2}, {"v": 4}, {"v": 0}], [1 * US, 2 * US, 3 * US, 20 * US])
    run("drained")
    publish_json(log, [{"v": 8}], [4 * US])
    run("drained")
    publish_json(log, [{"v": 16}], [5 * US])
    end_topic(log)
    run("finished")
    accumulating = mode is sf.AccumulationMode.ACCUMULATING
    for key in ("k", "all"):
        panes = [value for of, value in read_events(log) if of == key]
        assert sorted(panes) == sorted([0, 7, 15, 31] if accumulating else [0, 7, 8, 16])


def test_a_seeded_sample_is_the_same_in_every_run() -> None:
    samples: list[Any] = []
    for _ in range(2):
        with TestPipeline() as p:
            p | sf.Create(range(1000)) | combiners.Sample.FixedSizeGlobally(5, seed=7) | sf.Map(samples.append)
    assert samples[0] == samples[1]
    assert len(set(samples[0])) == 5


def test_a_fanout_leaves_windows_that_merge_whole() -> None:
    with TestPipeline() as p:
        stamped = [sf.TimestampedValue(("a", 1), time) for time in (0, 5, 9, 30)]
        pairs = p | sf.Create(stamped) | sf.WindowInto(sf.Sessions(10))
        assert_that(pairs | sf.CombinePerKey(sum).with_hot_key_fanout(3), equal_to([("a", 3), ("a", 1)]))
