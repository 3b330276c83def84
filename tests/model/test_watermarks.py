"""Watermark functions, by table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.model.time import MAX_US, MIN_US
from streamflow.model.watermark import SourceMark, advance, merged_watermark, source_watermark, speaking_sources

BUSY, IDLE = False, True


@pytest.mark.parametrize(
    ("seen_us", "disorder_us", "promised_us", "expected_us"),
    [
        (None, 0, None, MIN_US),
        (None, 5, 100, 100),
        (100, 0, None, 100),
        (100, 30, None, 70),
        (100, 30, 50, 70),
        (100, 30, 90, 90),
        (100, 0, MAX_US, MAX_US),
    ],
)
def test_source_watermark_is_the_newest_time_less_disorder_or_a_later_promise(
    seen_us: int | None, disorder_us: int, promised_us: int | None, expected_us: int
) -> None:
    assert source_watermark(seen_us, disorder_us, promised_us) == expected_us


@pytest.mark.parametrize(
    ("sources", "intermediates", "expected_us"),
    [
        ([(10, BUSY), (20, BUSY)], [], 10),
        ([(10, IDLE), (20, BUSY)], [], 20),
        ([(MIN_US, IDLE), (20, BUSY)], [], 20),
        ([(10, IDLE), (20, IDLE)], [], 20),
        ([(MIN_US, BUSY), (20, IDLE)], [], MIN_US),
        ([(MIN_US, IDLE)], [], MIN_US),
        ([], [30, 15], 15),
        ([(10, IDLE), (20, IDLE)], [15], 15),
        ([(10, BUSY)], [5], 5),
        ([(10, IDLE)], [MIN_US], MIN_US),
        ([], [], MAX_US),
    ],
    ids=[
        "the minimum of all",
        "an idle source holds nobody back",
        "nor does one that never had an event",
        "if all are idle the newest speaks",
        "a busy one that has said nothing holds all back",
        "one idle source speaks for itself",
        "intermediates: the minimum",
        "idle sources do not outrun an intermediate",
        "both kinds: the minimum",
        "a silent intermediate is not idle",
        "no input at all has ended",
    ],
)
def test_watermark_is_the_minimum_over_those_who_still_speak(
    sources: list[tuple[int, bool]], intermediates: list[int], expected_us: int
) -> None:
    assert merged_watermark((SourceMark(*mark) for mark in sources), intermediates) == expected_us


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=6))
def test_first_of_those_that_speak_is_the_one_that_holds_the_watermark_back(pairs: list[tuple[int, bool]]) -> None:
    marks = [SourceMark(*pair) for pair in pairs]
    speaking = speaking_sources(marks)
    assert [marks[i].watermark_us for i in speaking[:1]] == ([merged_watermark(marks, ())] if marks else [])
    assert all(not marks[i].idle for i in speaking) or len(speaking) == 1


@given(st.lists(st.integers(MIN_US, MAX_US), min_size=1))
def test_advancing_never_goes_back(candidates: list[int]) -> None:
    mark = MIN_US
    for candidate in candidates:
        mark, before = advance(mark, candidate), mark
        assert mark >= before
    assert mark == max(candidates)
