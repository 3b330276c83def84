"""assert_that: a statement that holds lets the run end, any other one ends it, whatever happens to the events."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from pipelines import end_topic, make_topic, publish_json

import streamflow as sf
from streamflow.options.pipeline_options import PipelineOptions
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.util import (
    AssertThat,
    BeamAssertException,
    SortLists,
    TestWindowedValue,
    assert_that,
    contains_in_any_order,
    equal_to,
    equal_to_per_window,
    is_empty,
    is_not_empty,
    matches_all,
)


class Even:
    def matches(self, element: int) -> bool:
        return element % 2 == 0


def say(values: list[Any], matcher: Any, **options: Any) -> None:
    with TestPipeline() as p:
        assert_that(p | sf.Create(values), matcher, **options)


@pytest.mark.parametrize(
    ("values", "matcher"),
    [
        ([3, 1, 2], equal_to([1, 2, 3])),
        ([1, 1], equal_to(iter([1, 1]))),
        ([{"a": [1]}, {"a": [2]}], equal_to([{"a": [2]}, {"a": [1]}])),
        ([1.001, 2], equal_to([2.002, 1], lambda expected, actual: abs(expected - actual) < 0.01)),
        ([], equal_to([])),
        ([], is_empty()),
        ([None], is_not_empty()),
        ([4, "a"], matches_all([Even(), "a"][::-1])),
        ([("k", [2, 1])], equal_to([("k", contains_in_any_order([1, 2]))])),
        ([3], lambda actual: None),
    ],
)
def test_a_statement_that_holds_lets_the_run_end(values: list[Any], matcher: Any) -> None:
    say(values, matcher)


def refuses(actual: list[Any]) -> None:
    raise ValueError("never right")


@pytest.mark.parametrize(
    ("values", "matcher", "words"),
    [
        ([1, 2], equal_to([1, 3]), r"1 of 2 elements.*missing: 3.*unexpected: 2"),
        ([1], equal_to([1, 1]), "missing: 1"),
        ([1, 1], equal_to([1]), "unexpected: 1"),
        ([{"a": 1}], equal_to([{"a": 2}]), "missing: {'a': 2}.*unexpected: {'a': 1}"),
        ([], equal_to([0]), "missing: 0"),
        ([0], is_empty(), "unexpected: 0"),
        ([], is_not_empty(), "no elements"),
        ([4, 5], matches_all([Even(), Even()]), "unexpected: 5"),
        ([("k", [2, 2])], equal_to([("k", contains_in_any_order([1, 2]))]), "missing"),
        (list(range(100)), equal_to([]), "unexpected: … and 80 more"),
        ([], refuses, "mine: never right"),
    ],
)
def test_any_other_ends_the_run_and_shows_the_difference(values: list[Any], matcher: Any, words: str) -> None:
    with pytest.raises(AssertionError, match=re.compile(words, re.DOTALL)) as caught:
        say(values, matcher, label="mine")
    assert isinstance(caught.value, BeamAssertException)


def test_of_what_is_equal_in_several_ways_as_much_as_possible_is_paired() -> None:
    near = equal_to([0, 1], lambda expected, actual: abs(expected - actual) <= 1)
    say([1, 2], near)
    say([2, 1], near)


STAMPED = [sf.TimestampedValue("a", 1), sf.TimestampedValue("b", 61), sf.TimestampedValue("c", 2)]
FIRST, SECOND = sf.IntervalWindow(0, 60), sf.IntervalWindow(60, 120)


def minutes(p: sf.Pipeline) -> Any:
    return p | sf.Create(STAMPED) | sf.WindowInto(sf.FixedWindows(60))


def test_each_window_has_its_own_expectation() -> None:
    with TestPipeline() as p:
        assert_that(minutes(p), equal_to_per_window({FIRST: ["c", "a"], SECOND: ["b"]}))


@pytest.mark.parametrize("expected", [{FIRST: ["a", "c"]}, {FIRST: ["a"], SECOND: ["b"]}, {FIRST: ["a", "b", "c"]}])
def test_an_element_in_another_window_is_a_difference(expected: dict[Any, list[str]]) -> None:
    with pytest.raises(AssertionError, match=r"in \[\d"), TestPipeline() as p:
        assert_that(minutes(p), equal_to_per_window(expected))


def test_times_and_windows_can_be_asked_for() -> None:
    with TestPipeline() as p:
        expected = [
            TestWindowedValue("a", sf.Timestamp(1), [FIRST]),
            TestWindowedValue("c", sf.Timestamp(2), [FIRST]),
            TestWindowedValue("b", sf.Timestamp(61), [SECOND]),
        ]
        assert_that(minutes(p), equal_to(expected), reify_windows=True)


def test_without_the_global_window_the_matcher_sees_a_window_at_a_time() -> None:
    seen: list[tuple[list[str], Any]] = []
    with TestPipeline() as p:
        assert_that(minutes(p), lambda pair: seen.append((sorted(pair[0]), pair[1])), use_global_window=False)
    assert sorted(seen) == [(["a", "c"], FIRST), (["b"], SECOND)]


def test_one_pipeline_may_have_many_statements_and_one_that_fails_is_enough() -> None:
    p = TestPipeline()
    numbers = p | sf.Create([1, 2])
    assert_that(numbers, equal_to([2, 1]))
    assert_that(numbers | sf.Map(lambda n: n * 2), equal_to([2, 4, 9]))
    assert_that(numbers, is_not_empty(), label="filled")
    with pytest.raises(AssertionError, match="missing: 9"):
        p.run()


def test_a_failed_statement_ends_the_run_at_once_without_retries() -> None:
    tried: list[int] = []

    def matcher(actual: list[Any]) -> None:
        tried.append(1)
        raise AssertionError("no")

    with pytest.raises(AssertionError, match="no"):
        say([], matcher)
    assert tried == [1]


@pytest.mark.parametrize("folder", [False, True])
def test_a_statement_about_a_topic_is_checked_once_it_has_ended(folder: bool, tmp_path: Any) -> None:
    log = sf.open_log(f"{tmp_path}/log" if folder else "memory://")
    make_topic(log)
    publish_json(log, [{"v": 1}, {"v": 2}])

    def run(expected: list[int], until: Any) -> None:
        p = sf.Pipeline("checked", on=log)
        assert_that(p | sf.ReadFromTopic("in") | sf.Map(lambda event: event["v"]), equal_to(expected))
        p.run(until=until)

    run([1, 2], "drained")
    end_topic(log)
    with pytest.raises(AssertionError, match="missing: 3"):
        run([1, 2, 3], "finished")
    with pytest.raises(AssertionError, match="missing: 3"):
        run([1, 2, 3], "finished")
    run([1, 2], "finished")
    log.close()


def test_a_statement_after_the_run_is_refused_since_nobody_would_look() -> None:
    with TestPipeline() as p:
        numbers = p | sf.Create([1])
    with pytest.raises(sf.PipelineError, match="comes too late"):
        assert_that(numbers, equal_to([2]))
    by_hand = TestPipeline()
    numbers = by_hand | sf.Create([1])
    by_hand.run()
    with pytest.raises(sf.PipelineError, match="comes too late"):
        numbers | AssertThat(equal_to([2]))


def test_lists_in_elements_can_be_sorted_first() -> None:
    with TestPipeline() as p:
        grouped = p | sf.Create([("a", 2), ("a", 1)]) | sf.GroupByKey()
        grouped | SortLists | AssertThat(equal_to([("a", [1, 2])]))
        nested = p | "Nested" >> sf.Create([({"x": {3, 1}}, "ba", [2, 1])])
        nested | SortLists | AssertThat(equal_to([({"x": [1, 3]}, "ba", [1, 2])]))


def failing(p: sf.Pipeline) -> Any:
    return p | sf.Create([0, 1]) | "Divide" >> sf.Map(lambda n: 1 // n)


def test_a_failed_event_fails_a_test_pipeline_although_no_statement_does() -> None:
    with pytest.raises(ZeroDivisionError) as caught, TestPipeline() as p:
        assert_that(failing(p), equal_to([1]))
    assert caught.value.__notes__[0] == "while running 'Divide', input 0"
    assert "ZeroDivisionError: " in caught.value.__notes__[1]
    assert "1 events failed" in caught.value.__notes__[2]
    with TestPipeline(dead_letters_allowed=True) as allowed:
        assert_that(failing(allowed), equal_to([1]))
    assert [letter["input"] for letter in allowed.result.dead_letters] == [0]


def test_a_difference_tells_of_the_events_that_failed_before() -> None:
    with pytest.raises(AssertionError) as caught, TestPipeline() as p:
        assert_that(failing(p), equal_to([1, 1]))
    assert caught.value.__notes__ == [
        "An event failed before, in Divide: ZeroDivisionError: integer division or modulo by zero"
    ]


@pytest.mark.parametrize(
    "build", [lambda: TestPipeline(runner="DirectRunner"), lambda: TestPipeline(None, options=PipelineOptions([]))]
)
def test_test_pipeline_takes_what_beams_takes(build: Callable[[], TestPipeline]) -> None:
    with build() as p:
        assert_that(p | sf.Create([1]), equal_to([1]))
