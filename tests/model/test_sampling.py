"""Sample: the same on columns and rows however events are split and ordered, and every event with the same chance."""

import itertools
import random
from collections import Counter
from typing import Any

import polars as pl
import pytest
from aggregating import TYPES, on_columns, on_rows, same
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.base.errors import PipelineError
from streamflow.model.sampling import Sample
from streamflow.model.window import TIME

CHI_SQUARE_MAX = {2: 13.8, 4: 18.5, 9: 27.9}
"""By degrees of freedom: exceeded once in a thousand times."""


@pytest.mark.parametrize("kind", TYPES)
@settings(max_examples=25)
@given(data=st.data())
def test_columns_and_rows_agree_on_any_split_merging_and_order(kind: str, data: st.DataObject) -> None:
    of, dtype = TYPES[kind]
    parts = data.draw(
        st.lists(st.lists(st.tuples(of, st.integers(0, 3)), min_size=1, max_size=8), min_size=1, max_size=5)
    )
    fn = Sample("v", data.draw(st.integers(1, 6)), seed=data.draw(st.integers(0, 3)))
    events = [event for part in parts for event in part]
    found = on_rows(fn, [data.draw(st.permutations(events))], dtype)
    for again in (
        on_columns(fn, parts, dtype, single=False),
        on_columns(fn, parts, dtype, single=True),
        on_rows(fn, parts, dtype),
    ):
        assert same(again, found)
    values = Counter(str(value) for value, _ in events if value is not None)
    assert len(found) == min(fn.n, values.total())
    assert Counter(map(str, found)) <= values


def draws(bag: list[Any], n: int, windows: int) -> list[list[Any]]:
    """A sample in each of so many minutes, in which the values of the bag come at random times."""
    seconds = random.Random(5)
    rows = [(w, v, w * 60_000_000 + seconds.randrange(60) * 1_000_000) for w in range(windows) for v in bag]
    frame = pl.DataFrame(rows, schema={"w": pl.Int64, "v": pl.String, TIME: pl.Int64}, orient="row")
    fn = Sample("v", n, seed=11)
    return frame.group_by("w").agg(fn.partial("x")).select(fn.final("x"))["x"].to_list()


@pytest.mark.parametrize(("bag", "n"), [("abbbcccccc", 1), ("abbbcccccc", 2), ("abcdefghij", 1), ("abcde", 3)])
def test_every_set_of_events_has_the_same_chance_also_where_values_are_equal(bag: str, n: int) -> None:
    found = Counter("".join(sorted(drawn)) for drawn in draws(list(bag), n, 5_000))
    chances = Counter("".join(sorted(some)) for some in itertools.combinations(bag, n))
    expected = {some: 5_000 * chance / chances.total() for some, chance in chances.items()}
    assert set(found) == set(expected)
    chi_square = sum((found[some] - often) ** 2 / often for some, often in expected.items())
    assert chi_square < CHI_SQUARE_MAX[len(expected) - 1]


def test_a_sample_is_in_random_order() -> None:
    first = Counter(drawn[0] for drawn in draws(["a", "b", "c"], 3, 3_000))
    assert sum((first[value] - 1_000) ** 2 / 1_000 for value in "abc") < CHI_SQUARE_MAX[2]


def test_another_seed_gives_another_sample() -> None:
    events = [{"v": value, TIME: value} for value in range(1_000)]
    drawn = [frozenset(Sample("v", 5, seed=seed).apply(events)) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_a_value_that_occurs_a_billion_times_costs_no_more_than_others() -> None:
    fn = Sample("v", 3)
    often = fn.merge_accumulators([{"often": ("often", 10**9, 17), "once": ("once", 1, 4)}])
    assert fn.extract_output(often) == ["often"] * 3


def test_a_group_of_nulls_gives_an_empty_sample_and_nothing_can_be_asked_for() -> None:
    assert on_columns(Sample("v", 2), [[(None, 1)]], pl.Null(), single=False) == Sample("v", 2).apply([]) == []
    with pytest.raises(PipelineError, match="n of 1 or more"):
        Sample("v", 0)
