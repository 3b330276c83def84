"""Aggregates that keep values or sketch them: three expressions on columns, a CombineFn on rows and plain Python agree,
however events are split and partials are merged."""

import math
from collections.abc import Callable, Sequence
from statistics import pstdev, variance
from typing import Any

import polars as pl
import pytest
from aggregating import TYPES, Event, final, frame_of, merge, on_columns, on_rows, same
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.base.errors import DataError, PipelineError
from streamflow.model.aggregates import AggregateFn
from streamflow.model.collecting import CollectList, CollectMap, CollectSet, First, Last, TopK
from streamflow.model.statistics import ApproxDistinct, Quantiles, StdDev, Variance

ALL, NUMBERS = frozenset(TYPES), frozenset({"int"})


def order(value: Any) -> Any:
    return (True, 0) if value != value else (False, value)


def values(events: Sequence[Event]) -> list[Any]:
    return sorted((value for value, _ in events), key=order)


def in_time(events: Sequence[Event]) -> list[Any]:
    return [value for value, _ in sorted(events, key=lambda event: (event[1], order(event[0])))]


def different(events: Sequence[Event]) -> list[Any]:
    found: list[Any] = []
    for value in values(events):
        if not found or order(found[-1]) != order(value):
            found.append(value)
    return found


def newest(events: Sequence[Event]) -> list[Any]:
    """By each value as the key: the sum of value and time, which is greatest at the latest time."""
    found = {value: value + time for value, time in sorted(events, key=lambda event: event[1])}
    return [{"key": key, "value": found[key]} for key in sorted(found)]


def quantile(events: Sequence[Event], q: float) -> float | None:
    """Of three digits; nearest rank."""
    kept = sorted(pl.Series([float(v) for v, _ in events if v == v], dtype=pl.Float64).round_sig_figs(3).to_list())
    return kept[max(1, math.ceil(round(q * len(kept), 6))) - 1] if kept else None


Plain = Callable[[Sequence[Event]], Any]
"""Of the events whose value is not null."""

PLAIN: dict[str, tuple[AggregateFn, Plain, frozenset[str]]] = {
    "variance": (Variance("v"), lambda es: variance(values(es)) if len(es) > 1 else None, NUMBERS),
    "deviation": (StdDev("v", ddof=0), lambda es: pstdev(values(es)) if es else None, NUMBERS),
    "first": (First("v"), lambda es: in_time(es)[0] if es else None, ALL),
    "first of an expression": (First(pl.col("v") * 2), lambda es: in_time(es)[0] * 2 if es else None, NUMBERS),
    "last": (Last("v"), lambda es: in_time(es)[-1] if es else None, ALL),
    "top": (TopK("v", 3), lambda es: values(es)[::-1][:3], ALL),
    "top, reversed": (TopK("v", 3, reverse=True), lambda es: values(es)[:3], ALL),
    "list": (CollectList("v"), in_time, ALL),
    "set": (CollectSet("v"), different, ALL),
    "map": (CollectMap("v", pl.col("v") + pl.col("_time")), newest, NUMBERS),
    "distinct": (ApproxDistinct("v", size=64), lambda es: len(different(es)), ALL),
    "quantile": (Quantiles("v", 0.7), lambda es: quantile(es, 0.7), NUMBERS | {"float"}),
    "quantiles": (
        Quantiles("v", [0, 0.5, 1]),
        lambda es: [quantile(es, q) for q in (0, 0.5, 1)] if quantile(es, 0) is not None else None,
        NUMBERS | {"float"},
    ),
}


@pytest.mark.parametrize("name", PLAIN)
@settings(max_examples=40)
@given(data=st.data())
def test_columns_rows_and_plain_python_agree_on_any_split_and_merging(name: str, data: st.DataObject) -> None:
    fn, plain, kinds = PLAIN[name]
    of, dtype = TYPES[data.draw(st.sampled_from(sorted(kinds)))]
    events = st.tuples(of, st.integers(0, 3))
    parts = data.draw(st.lists(st.lists(events, min_size=1, max_size=8), min_size=1, max_size=5))
    expected = plain([event for part in parts for event in part if event[0] is not None])
    for found in (
        on_columns(fn, parts, dtype, single=False),
        on_columns(fn, parts, dtype, single=True),
        on_rows(fn, parts, dtype),
    ):
        assert same(found, expected)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("dtype", [pl.Null(), pl.Int64()])
def test_a_group_of_nulls_is_a_group_of_nothing(name: str, dtype: pl.DataType) -> None:
    fn, plain, _ = PLAIN[name]
    nulls = [[(None, 1)], [(None, 2), (None, 2)]]
    assert on_columns(fn, nulls, dtype, single=False) == on_columns(fn, nulls, dtype, single=True) == plain([])
    assert on_rows(fn, nulls, dtype) == fn.apply([]) == plain([])


@pytest.mark.parametrize("name", PLAIN)
def test_a_batch_of_nulls_without_a_type_goes_with_those_that_have_one(name: str) -> None:
    fn, plain, _ = PLAIN[name]
    frames = [frame_of([(None, 1)], pl.Null()), frame_of([(3, 2), (4, 2)], pl.Int64())]
    partials = [frame.group_by("g").agg(fn.partial("x")) for frame in frames]
    assert same(final(fn, merge(fn, partials)), plain([(3, 2), (4, 2)]))


@pytest.mark.parametrize("fn", [First("v"), Last("v"), CollectList("v")])
def test_what_needs_event_times_says_so_where_there_are_none(fn: AggregateFn) -> None:
    with pytest.raises(DataError, match="needs event times"):
        fn.apply([{"v": 1}])


STRUCTS = [({"a": 1, "b": "x"}, 1), ({"a": 0, "b": "y"}, 2)]


@pytest.mark.parametrize(
    ("fn", "expected"),
    [(First("v"), STRUCTS[0][0]), (Last("v"), STRUCTS[1][0]), (CollectList("v"), [value for value, _ in STRUCTS])],
)
def test_nested_values_are_kept_as_they_are(fn: AggregateFn, expected: Any) -> None:
    dtype = pl.Struct({"a": pl.Int64, "b": pl.String})
    parts = [STRUCTS[1:], STRUCTS[:1]]
    assert on_columns(fn, parts, dtype, single=False) == on_columns(fn, parts, dtype, single=True) == expected
    assert on_rows(fn, parts, dtype) == expected


@pytest.mark.parametrize("count", [2_000, 50_000])
def test_distinct_values_beyond_the_size_are_estimated_alike_on_rows_and_columns(count: int) -> None:
    fn = ApproxDistinct("v", size=1024)
    parts = [[(value % count, 0) for value in range(begin, begin + count)] for begin in (0, count // 2)]
    found = on_columns(fn, parts, pl.Int64(), single=False)
    # Four standard errors.
    assert abs(found - count) < 4 * count / math.sqrt(fn.size)
    assert on_columns(fn, [parts[1][:17], parts[0], parts[1]], pl.Int64(), single=True) == found
    if count < 10_000:
        assert on_rows(fn, parts, pl.Int64()) == found


def test_quantiles_are_within_half_a_percent_and_their_state_does_not_grow_with_the_events() -> None:
    fn = Quantiles("v", [0.01, 0.5, 0.99])
    numbers = [math.exp(i / 5_000) for i in range(50_000)]
    partial = frame_of([(number, 0) for number in numbers], pl.Float64()).group_by("g").agg(fn.partial("x"))
    found = final(fn, merge(fn, [partial]))
    for value, q in zip(found, (0.01, 0.5, 0.99), strict=True):
        assert math.isclose(value, numbers[math.ceil(q * 50_000) - 1], rel_tol=0.006)
    assert partial["x"].list.len().item() < 5_000


@pytest.mark.parametrize(
    "make",
    [
        lambda: TopK("v", 0),
        lambda: ApproxDistinct("v", size=1),
        lambda: Quantiles("v", 1.5),
        lambda: Quantiles("v", []),
        lambda: Quantiles("v", 0.5, digits=0),
    ],
)
def test_what_can_not_be_is_refused(make: Callable[[], AggregateFn]) -> None:
    with pytest.raises(PipelineError, match="needs"):
        make()
