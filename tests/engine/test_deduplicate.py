"""Deduplicate and DeduplicatePerKey."""

from typing import Any

import pytest
from stateful_making import Machine

import streamflow as sf
from streamflow.model.window import FixedWindows
from streamflow.model.windowing import Windowing
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.util import assert_that, equal_to
from streamflow.transforms.deduplicate import Deduplicate, DeduplicatePerKey, _FirstFn


def pairs(*given: tuple[str, float]) -> list[Any]:
    return [sf.TimestampedValue((key, None), time) for key, time in given]


def keys(given: list[Any]) -> list[Any]:
    return [key for key, _ in given]


def test_an_element_comes_again_once_the_watermark_has_passed_its_time_and_the_duration() -> None:
    m = Machine(_FirstFn(None, sf.Duration(60)))
    assert keys(m.step(*pairs(("a", 0), ("b", 20), ("a", 5)), to=30)) == ["a", "b"]
    assert m.step(*pairs(("a", 40), ("b", 50)), to=59.9) == []
    assert keys(m.step(*pairs(("a", 61)), to=60)) == []
    assert keys(m.step(*pairs(("a", 70), ("b", 70)))) == ["a"]


def test_an_element_comes_again_after_a_while_by_the_clock() -> None:
    m = Machine(_FirstFn(60, None))
    assert keys(m.step(*pairs(("a", 0)), now=100)) == ["a"]
    m.claim()
    assert m.step(*pairs(("a", 1)), now=159) == []
    assert keys(m.step(*pairs(("a", 1)), now=160)) == ["a"]


def test_of_two_durations_the_first_counts() -> None:
    m = Machine(_FirstFn(60, 10))
    assert keys(m.step(*pairs(("a", 0)), to=10, now=0)) == ["a"]
    assert keys(m.step(*pairs(("a", 15)), to=15, now=50)) == ["a"]
    assert m.step(*pairs(("a", 16)), to=16, now=60) == []
    assert keys(m.step(*pairs(("a", 17)), now=110)) == ["a"]


def test_windows_are_apart_and_leave_nothing() -> None:
    m = Machine(_FirstFn(600, 600), Windowing(FixedWindows(30)))
    assert keys(m.step(*pairs(("a", 0), ("a", 29), ("a", 30)), to=30)) == ["a", "a"]
    assert m.step(*pairs(("a", 31)), to=60) == []
    assert len(m.state) == 0
    assert m.head.due_us is None


def test_elements_and_pairs_in_a_pipeline() -> None:
    with TestPipeline() as p:
        words = p | "Words" >> sf.Create(["a", "b", "a"])
        assert_that(words | Deduplicate(processing_time_duration=600), equal_to(["a", "b"]), label="elements")
        counts = p | "Counts" >> sf.Create([("a", 1), ("b", 2), ("a", 1)])
        first = counts | DeduplicatePerKey(event_time_duration=600)
        assert_that(first, equal_to([("a", 1), ("b", 2)]), label="pairs")


@pytest.mark.parametrize("kind", [Deduplicate, DeduplicatePerKey])
def test_without_a_duration_it_is_refused(kind: type[DeduplicatePerKey]) -> None:
    with pytest.raises(sf.PipelineError, match=f"{kind.__name__} needs to know how long"):
        kind()
