"""Snippets in the style of Apache Beam's programming guide, with the answers that Beam gives."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from pipelines import collected, ordered

import streamflow as sf

LINES = ["to be or not to be", "that is the question", ""]


def test_word_count() -> None:
    def build(p: sf.Pipeline) -> Any:
        return (
            p
            | "Create" >> sf.Create(LINES)
            | "Split" >> sf.FlatMap(lambda line: re.findall(r"[a-z]+", line))
            | "PairWithOne" >> sf.Map(lambda word: (word, 1))
            | "GroupAndSum" >> sf.CombinePerKey(sum)
            | "Format" >> sf.MapTuple(lambda word, count: f"{word}: {count}")
        )

    assert sorted(collected(build)) == [
        "be: 2",
        "is: 1",
        "not: 1",
        "or: 1",
        "question: 1",
        "that: 1",
        "the: 1",
        "to: 2",
    ]


def test_map_passes_further_arguments() -> None:
    def between(value: int, low: int, *, high: int) -> bool:
        return low <= value < high

    assert ordered(collected(lambda p: p | sf.Create([1, 5, 9]) | sf.Map(between, 2, high=9))) == [False, False, True]
    assert collected(lambda p: p | sf.Create([1, 5, 9]) | sf.Filter(between, 2, high=9)) == [5]
    assert collected(lambda p: p | sf.Create([2]) | sf.FlatMap(range, 5)) == [2, 3, 4]


def test_flat_map_takes_generators_and_by_default_flattens() -> None:
    def split(text: str) -> Iterator[str]:
        for word in text.split():
            if word != "skip":
                yield word

    assert collected(lambda p: p | sf.Create(["a skip b", "skip"]) | sf.FlatMap(split)) == ["a", "b"]
    assert collected(lambda p: p | sf.Create([[1, 2], [], [3]]) | sf.FlatMap()) == [1, 2, 3]


def test_filter_keeps_what_is_true() -> None:
    assert collected(lambda p: p | sf.Create(range(6)) | sf.Filter(lambda n: n % 2)) == [1, 3, 5]


def test_create_of_a_dict_gives_pairs() -> None:
    assert collected(lambda p: p | sf.Create({"a": 1, "b": 2})) == [("a", 1), ("b", 2)]


class AverageFn(sf.CombineFn):
    def create_accumulator(self) -> tuple[float, int]:
        return 0.0, 0

    def add_input(self, accumulator: tuple[float, int], element: float) -> tuple[float, int]:
        total, count = accumulator
        return total + element, count + 1

    def merge_accumulators(self, accumulators: Iterable[tuple[float, int]]) -> tuple[float, int]:
        totals, counts = zip(*accumulators, strict=True)
        return sum(totals), sum(counts)

    def extract_output(self, accumulator: tuple[float, int]) -> float:
        total, count = accumulator
        return total / count if count else float("nan")


PAIRS = [("cat", 1), ("cat", 5), ("dog", 5), ("dog", 2), ("cat", 9)]


@pytest.mark.parametrize("fn", [AverageFn(), AverageFn])
def test_combine_per_key_takes_a_combine_fn(fn: Any) -> None:
    assert ordered(collected(lambda p: p | sf.Create(PAIRS) | sf.CombinePerKey(fn))) == [("cat", 5.0), ("dog", 3.5)]


@pytest.mark.parametrize(("fn", "expected"), [(sum, [15, 7]), (max, [9, 5]), (min, [1, 2])])
def test_combine_per_key_takes_functions_over_iterables(fn: Any, expected: list[int]) -> None:
    combined = ordered(collected(lambda p: p | sf.Create(PAIRS) | sf.CombinePerKey(fn)))
    assert combined == list(zip(["cat", "dog"], expected, strict=True))


def test_combine_globally_gives_one_value() -> None:
    assert collected(lambda p: p | sf.Create([1, 10, 100]) | sf.CombineGlobally(sum)) == [111]
    assert collected(lambda p: p | sf.Create([1, 2, 6]) | sf.CombineGlobally(AverageFn())) == [3.0]


def test_combine_globally_of_nothing_gives_the_default_unless_without() -> None:
    assert collected(lambda p: p | sf.Create([]) | sf.CombineGlobally(sum)) == [0]
    assert collected(lambda p: p | sf.Create([]) | sf.CombineGlobally(sum).without_defaults()) == []
    assert collected(lambda p: p | sf.Create([3]) | sf.CombineGlobally(sum).without_defaults()) == [3]


def test_group_by_key_gathers_all_values() -> None:
    grouped = collected(lambda p: p | sf.Create(PAIRS) | sf.GroupByKey())
    assert {key: sorted(values) for key, values in grouped} == {"cat": [1, 5, 9], "dog": [2, 5]}


@pytest.mark.parametrize("keys", [[1, 2], [1.5, 2.5], ["a", b"b"], [None, "a"], [("a", 1), ("a", 2)], [True, False]])
def test_keys_of_any_plain_type_come_back_as_they_were(keys: list[Any]) -> None:
    grouped = collected(lambda p: p | sf.Create([(key, 1) for key in keys * 2]) | sf.CombinePerKey(sum))
    assert ordered(grouped) == ordered((key, 2) for key in keys)


def test_flatten_joins_collections_keeping_duplicates() -> None:
    def build(p: sf.Pipeline) -> Any:
        a, b = p | "A" >> sf.Create([1, 2]), p | "B" >> sf.Create([2, 3])
        return (a, b) | sf.Flatten()

    def doubled(p: sf.Pipeline) -> Any:
        a = p | sf.Create([1, 2])
        return [a, a] | sf.Flatten()

    assert sorted(collected(build)) == [1, 2, 2, 3]
    assert sorted(collected(doubled)) == [1, 1, 2, 2]


def test_branches_of_one_collection_each_see_every_element() -> None:
    def build(p: sf.Pipeline) -> Any:
        numbers = p | sf.Create([1, 2, 3])
        return (numbers | sf.Map(lambda n: n * 10), numbers | sf.Filter(lambda n: n > 2)) | sf.Flatten()

    assert sorted(collected(build)) == [3, 10, 20, 30]


class CountWords(sf.PTransform):
    def expand(self, pcoll: sf.PCollection) -> Any:
        return pcoll | sf.FlatMap(str.split) | sf.Map(lambda word: (word, 1)) | sf.CombinePerKey(sum)


def test_composite_transforms_are_reused_under_labels() -> None:
    def build(p: sf.Pipeline) -> Any:
        first = p | "First" >> sf.Create(["a b a"]) | "CountFirst" >> CountWords()
        second = p | "Second" >> sf.Create(["b"]) | "CountSecond" >> CountWords()
        return (first, second) | sf.Flatten()

    assert ordered(collected(build)) == [("a", 2), ("b", 1), ("b", 1)]


def test_composite_may_take_and_give_several_collections() -> None:
    class Partitioned(sf.PTransform):
        def expand(self, pcolls: Any) -> Any:
            both = pcolls | sf.Flatten()
            return {"even": both | sf.Filter(lambda n: n % 2 == 0), "odd": both | sf.Filter(lambda n: n % 2)}

    def build(p: sf.Pipeline) -> Any:
        parts = (p | "A" >> sf.Create([1, 2]), p | "B" >> sf.Create([3, 4])) | Partitioned()
        return parts["odd"]

    assert sorted(collected(build)) == [1, 3]


def test_pardo_with_a_function_and_with_a_dofn() -> None:
    class ComputeLength(sf.DoFn):
        def process(self, element: str) -> list[int]:
            return [len(element)]

    assert collected(lambda p: p | sf.Create(["a", "bcd"]) | sf.ParDo(ComputeLength())) == [1, 3]
    assert collected(lambda p: p | sf.Create(["a", "bcd"]) | sf.ParDo(lambda word: [word, word])) == [
        "a",
        "a",
        "bcd",
        "bcd",
    ]


def test_dofn_that_returns_nothing_gives_nothing() -> None:
    seen: list[int] = []

    class Sink(sf.DoFn):
        def process(self, element: int) -> None:
            seen.append(element)

    assert collected(lambda p: p | sf.Create([1, 2]) | sf.ParDo(Sink())) == []
    assert seen == [1, 2]


LIFE: list[str] = []


class Lifecycle(sf.DoFn):
    def setup(self) -> None:
        LIFE.append("setup")

    def start_bundle(self) -> None:
        LIFE.append("start_bundle")

    def process(self, element: int) -> list[int]:
        LIFE.append("process")
        return [element]

    def finish_bundle(self) -> None:
        LIFE.append("finish_bundle")

    def teardown(self) -> None:
        LIFE.append("teardown")


def test_dofn_lives_from_setup_to_teardown_with_bundles_in_between() -> None:
    LIFE.clear()
    assert collected(lambda p: p | sf.Create([1, 2]) | sf.ParDo(Lifecycle())) == [1, 2]
    assert LIFE == ["setup", "start_bundle", "process", "process", "finish_bundle", "teardown"]


def test_two_uses_of_one_dofn_do_not_share_state() -> None:
    class Numbered(sf.DoFn):
        def setup(self) -> None:
            self.count = 0

        def process(self, element: str) -> list[tuple[str, int]]:
            self.count += 1
            return [(element, self.count)]

    fn = Numbered()

    def build(p: sf.Pipeline) -> Any:
        values = p | sf.Create(["a"])
        return (values | "One" >> sf.ParDo(fn), values | "Two" >> sf.ParDo(fn)) | sf.Flatten()

    assert collected(build) == [("a", 1), ("a", 1)]


STAMPED = [sf.TimestampedValue("a", 1), sf.TimestampedValue("b", 59.5), sf.TimestampedValue("c", 60)]


def test_timestamp_param_gives_the_event_time() -> None:
    def stamp(element: str, timestamp: sf.Timestamp = sf.DoFn.TimestampParam) -> tuple[str, float]:
        return element, float(timestamp)

    assert collected(lambda p: p | sf.Create(STAMPED) | sf.Map(stamp)) == [("a", 1.0), ("b", 59.5), ("c", 60.0)]


def test_window_param_gives_each_window_of_the_element() -> None:
    class Windowed(sf.DoFn):
        def process(
            self,
            element: str,
            window: sf.IntervalWindow = sf.DoFn.WindowParam,
        ) -> list[tuple[str, int]]:
            return [(element, int(window.start))]

    def fixed(p: sf.Pipeline) -> Any:
        return p | sf.Create(STAMPED) | sf.WindowInto(sf.FixedWindows(60)) | sf.ParDo(Windowed())

    def sliding(p: sf.Pipeline) -> Any:
        return p | sf.Create(STAMPED[:1]) | sf.WindowInto(sf.SlidingWindows(60, 30)) | sf.ParDo(Windowed())

    assert collected(fixed) == [("a", 0), ("b", 0), ("c", 60)]
    assert sorted(collected(sliding)) == [("a", -30), ("a", 0)]


def test_filter_that_asks_for_the_window_decides_for_each_window() -> None:
    def early(element: str, window: sf.IntervalWindow = sf.DoFn.WindowParam) -> bool:
        return window.start < 0

    def build(p: sf.Pipeline) -> Any:
        windowed = p | sf.Create(STAMPED[:1]) | sf.WindowInto(sf.SlidingWindows(60, 30))
        return windowed | sf.Filter(early) | sf.Map(lambda word: (word, 1)) | sf.CombinePerKey(sum)

    assert collected(build) == [("a", 1)]


def test_timestamped_value_moves_the_element_to_its_window() -> None:
    def build(p: sf.Pipeline) -> Any:
        readings = p | sf.Create([{"t": 5, "v": 1}, {"t": 65, "v": 2}, {"t": 66, "v": 3}])
        stamped = readings | sf.Map(lambda r: sf.TimestampedValue(("k", r["v"]), r["t"]))
        sums = stamped | sf.WindowInto(sf.FixedWindows(60)) | sf.CombinePerKey(sum)
        return sums | sf.Map(
            lambda pair, window=sf.DoFn.WindowParam, t=sf.DoFn.TimestampParam: (int(window.start), pair[1], float(t))
        )

    assert ordered(collected(build)) == [(0, 1, 59.999999), (60, 5, 119.999999)]


def test_windows_are_set_anew_after_a_grouping() -> None:
    def build(p: sf.Pipeline) -> Any:
        values = [sf.TimestampedValue(("k", 1), t) for t in (1, 11, 61)]
        minutes = p | sf.Create(values) | sf.WindowInto(sf.FixedWindows(10)) | "Tens" >> sf.CombinePerKey(sum)
        return minutes | sf.WindowInto(sf.FixedWindows(60)) | "Sixties" >> sf.CombinePerKey(sum)

    assert ordered(collected(build)) == [("k", 1), ("k", 2)]


def test_grouping_after_a_grouping_keeps_the_window() -> None:
    def build(p: sf.Pipeline) -> Any:
        values = [sf.TimestampedValue(("k", 1), t) for t in (1, 11, 61)]
        sums = p | sf.Create(values) | sf.WindowInto(sf.FixedWindows(60)) | sf.CombinePerKey(sum)
        return sums | sf.Map(lambda pair: pair[1]) | sf.CombineGlobally(max).without_defaults()

    assert sorted(collected(build)) == [1, 2]


def test_values_without_a_timestamp_share_the_first_window_of_time() -> None:
    def build(p: sf.Pipeline) -> Any:
        return p | sf.Create([{"v": 1}, {"v": 2}]) | sf.WindowInto(sf.FixedWindows(60)) | sf.Aggregate(s=sf.Sum("v"))

    assert collected(build) == [{"window_start": None, "window_end": None, "s": 3}]
    assert collected(build, sf.Settings(rows_only=True)) == [{"window_start": None, "window_end": None, "s": 3}]


def test_context_manager_runs_the_pipeline_at_its_end() -> None:
    seen: list[int] = []
    with sf.Pipeline() as p:
        p | sf.Create([1, 2]) | sf.Map(seen.append)
        assert seen == []
    assert seen == [1, 2]
    assert p.result.wait_until_finish() == "DONE"


def test_elements_may_be_any_python_value() -> None:
    values = [{1, 2}, object, None, sf.Timestamp(1), 2**100]
    assert collected(lambda p: p | sf.Create(values) | sf.Map(lambda value: value)) == values


def test_elements_in_several_windows_are_as_many_when_they_are_windowed_again() -> None:
    def build(p: sf.Pipeline) -> Any:
        events = p | sf.Create([sf.TimestampedValue(n, n) for n in (1, 4, 7)])
        sliding = events | "Sliding" >> sf.WindowInto(sf.SlidingWindows(size=6, period=2))
        fixed = sliding | "Fixed" >> sf.WindowInto(sf.FixedWindows(5)) | "Again" >> sf.WindowInto(sf.FixedWindows(5))
        return fixed | sf.Map(lambda n: ("k", n)) | sf.GroupByKey() | sf.MapTuple(lambda k, ns: sorted(ns))

    assert sorted(collected(build)) == [[1, 1, 1, 4, 4, 4], [7, 7, 7]]


def test_rows_in_several_windows_are_as_many_when_they_are_windowed_again() -> None:
    def build(p: sf.Pipeline) -> Any:
        events = p | sf.Create([sf.TimestampedValue({"n": n}, n) for n in (1, 4, 7)])
        sliding = events | sf.AsColumns({"n": int}) | "Sliding" >> sf.WindowInto(sf.SlidingWindows(size=6, period=2))
        fixed = sliding | "Fixed" >> sf.WindowInto(sf.FixedWindows(5))
        counts = fixed | sf.Aggregate(by=[], total=sf.Sum("n"), count=sf.Count())
        return counts | sf.Map(lambda row: (row["total"], row["count"]))

    assert sorted(collected(build)) == [(15, 6), (21, 3)]


def test_what_has_no_time_has_the_earliest() -> None:
    def build(p: sf.Pipeline) -> Any:
        plain, timed = (
            p | "Plain" >> sf.Create([1]),
            p | "Timed" >> sf.Create([sf.TimestampedValue(2, sf.MIN_TIMESTAMP)]),
        )
        set_again = plain | "Set" >> sf.Map(lambda n: sf.TimestampedValue(3, sf.MIN_TIMESTAMP))
        place = "Place" >> sf.Map(lambda n, at=sf.DoFn.TimestampParam: (n, at == sf.MIN_TIMESTAMP))
        return (plain, timed, set_again) | sf.Flatten() | place

    assert sorted(collected(build)) == [(1, True), (2, True), (3, True)]
