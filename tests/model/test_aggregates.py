"""Aggregates: three expressions on columns, a CombineFn on rows, and plain Python must agree, however data is split."""

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.model.aggregates import AggregateFn, Count, Max, Mean, Min, RecordCombineFn, Sum
from streamflow.model.combiner import CallableCombineFn, CombineFn, ListCombineFn

Value = int | float | str | None

wholes = st.none() | st.integers(-(2**40), 2**40)
floats = st.none() | st.floats(-1e6, 1e6)
KINDS: dict[str, tuple[st.SearchStrategy[Any], pl.DataType]] = {
    "int": (wholes, pl.Int64()),
    "float": (floats, pl.Float64()),
    "text": (st.none() | st.text(max_size=3), pl.String()),
}

PLAIN: dict[str, tuple[AggregateFn, Callable[[list[Any]], Any], set[str]]] = {
    "count all": (Count(), len, {"int", "float", "text"}),
    "count": (Count("v"), lambda vs: len(present(vs)), {"int", "float", "text"}),
    "sum": (Sum("v"), lambda vs: sum(present(vs)), {"int", "float"}),
    "sum of an expression": (Sum(pl.col("v") * 2), lambda vs: sum(v * 2 for v in present(vs)), {"int", "float"}),
    "mean": (Mean("v"), lambda vs: fmean(present(vs)) if present(vs) else None, {"int", "float"}),
    "min": (Min("v"), lambda vs: min(present(vs), default=None), {"int", "float", "text"}),
    "max": (Max("v"), lambda vs: max(present(vs), default=None), {"int", "float", "text"}),
}


def present(values: Sequence[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def on_columns(fn: AggregateFn, parts: list[list[Value]], dtype: pl.DataType) -> Any:
    """Partial per part, one merge of all, final: as the engine does it for one group."""
    frames = [pl.DataFrame({"v": pl.Series(part, dtype=dtype), "g": [0] * len(part)}) for part in parts]
    partials = [frame.group_by("g").agg(fn.partial("x")) for frame in frames]
    merged = pl.concat(partials).group_by("g").agg(fn.merge("x"))
    return merged.select(fn.final("x")).item()


def on_single_columns(fn: AggregateFn, values: list[Value], dtype: pl.DataType) -> Any:
    """As `on_columns`, each event a part of its own, without grouping them first."""
    singles = pl.DataFrame({"v": pl.Series(values, dtype=dtype)}).select(pl.lit(0).alias("g"), "v", *fn.single("x"))
    return singles.group_by("g").agg(fn.merge("x")).select(fn.final("x")).item()


def on_rows(fn: CombineFn, parts: list[list[Value]]) -> Any:
    accumulators = [fn.add_inputs(fn.create_accumulator(), [{"v": v} for v in part]) for part in parts]
    return fn.extract_output(fn.merge_accumulators([fn.compact(a) for a in accumulators]))


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, (int, float)):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-6)
    return bool(left == right)


@pytest.mark.parametrize("name", PLAIN)
@given(data=st.data())
def test_columns_rows_and_plain_python_agree_on_any_split(name: str, data: st.DataObject) -> None:
    fn, plain, kinds = PLAIN[name]
    values, dtype = KINDS[data.draw(st.sampled_from(sorted(kinds)))]
    parts = data.draw(st.lists(st.lists(values, min_size=1, max_size=8), min_size=1, max_size=5))
    expected = plain([value for part in parts for value in part])
    assert same(on_columns(fn, parts, dtype), expected)
    assert same(on_single_columns(fn, [value for part in parts for value in part], dtype), expected)
    assert same(on_rows(fn, parts), expected)


@pytest.mark.parametrize("name", PLAIN)
@given(
    parts=st.lists(st.lists(wholes, min_size=1, max_size=5), min_size=3, max_size=3), order=st.permutations(range(3))
)
def test_merging_is_associative_and_commutative(name: str, parts: list[list[Value]], order: list[int]) -> None:
    fn = PLAIN[name][0]
    frames = [pl.DataFrame({"v": pl.Series(p, dtype=pl.Int64), "g": [0] * len(p)}) for p in parts]
    partials = [frame.group_by("g").agg(fn.partial("x")) for frame in frames]

    def merged(*of: pl.DataFrame) -> pl.DataFrame:
        return pl.concat(of).group_by("g").agg(fn.merge("x"))

    a, b, c = partials
    left = merged(merged(a, b), c)
    assert left.equals(merged(a, merged(b, c)))
    assert left.equals(merged(*(partials[i] for i in order)))


@pytest.mark.parametrize(
    ("fn", "expected"),
    [(Count(), 2), (Count("v"), 0), (Sum("v"), 0), (Mean("v"), None), (Min("v"), None), (Max("v"), None)],
)
@pytest.mark.parametrize("dtype", [pl.Null(), pl.Int64(), pl.Float64()])
def test_group_of_nulls_counts_and_sums_to_zero_and_is_null_otherwise(
    fn: AggregateFn, expected: Any, dtype: pl.DataType
) -> None:
    assert on_columns(fn, [[None], [None]], dtype) == expected
    assert on_single_columns(fn, [None, None], dtype) == expected
    assert on_rows(fn, [[None], [None]]) == expected


@pytest.mark.parametrize("fn", [Count(), Count("v"), Sum("v"), Mean("v"), Min("v"), Max("v")])
def test_rows_of_nothing_give_zero_or_none(fn: AggregateFn) -> None:
    assert fn.apply([]) == (0 if isinstance(fn, (Count, Sum)) else None)
    assert fn.extract_output(fn.merge_accumulators([fn.create_accumulator()] * 2)) == fn.apply([])


@pytest.mark.parametrize("dtype", [pl.Int8(), pl.Int16(), pl.Int32(), pl.UInt32()])
def test_integers_of_any_width_are_summed_as_64_bit(dtype: pl.DataType) -> None:
    greatest = int(pl.Series([0], dtype=dtype).to_frame("v").select(pl.col("v").upper_bound()).item())
    assert on_columns(Sum("v"), [[greatest, greatest], [greatest]], dtype) == 3 * greatest
    assert on_columns(Mean("v"), [[greatest, greatest], [greatest]], dtype) == greatest


def test_booleans_are_summed_as_numbers() -> None:
    assert (
        on_columns(Sum("v"), [[True, False], [True]], pl.Boolean()) == on_rows(Sum("v"), [[True, False], [True]]) == 2
    )


@pytest.mark.parametrize("parts", [[[math.nan, 1.0], [2.0]], [[1.0, math.nan], [2.0]], [[1.0], [math.nan], [2.0]]])
def test_nan_is_no_extreme_wherever_it_stands(parts: list[list[Value]]) -> None:
    for fn, expected in ((Min("v"), 1.0), (Max("v"), 2.0)):
        assert on_columns(fn, parts, pl.Float64()) == expected
        assert on_rows(fn, parts) == expected


def test_extremes_of_dates_and_booleans_are_found() -> None:
    early, late = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 6, 1, tzinfo=UTC)
    parts: list[list[Any]] = [[late], [early, None]]
    assert on_columns(Min("v"), parts, pl.Datetime("us", "UTC")) == on_rows(Min("v"), parts) == early
    assert on_columns(Max("v"), [[False], [True]], pl.Boolean()) is True


def test_record_combines_each_aggregate_on_its_own_column() -> None:
    fn = RecordCombineFn({"n": Count(), "total": Sum("a"), "top": Max("b")})
    assert fn.apply([{"a": 1, "b": "x"}, {"a": None, "b": "y"}]) == {"n": 2, "total": 1, "top": "y"}


@given(parts=st.lists(st.lists(st.integers(), max_size=25), min_size=1, max_size=4))
def test_a_function_combines_parts_as_it_combines_the_whole(parts: list[list[int]]) -> None:
    whole = [value for part in parts for value in part]
    for function in (sum, lambda values: max(values, default=None)):
        fn = CallableCombineFn(function)
        accumulators = [fn.compact(fn.add_inputs(fn.create_accumulator(), part)) for part in parts]
        assert fn.extract_output(fn.merge_accumulators(accumulators)) == function(whole)


@given(parts=st.lists(st.lists(st.integers(), max_size=5), min_size=1, max_size=4))
def test_a_list_combine_keeps_every_element(parts: list[list[int]]) -> None:
    fn = ListCombineFn()
    accumulators = [fn.add_inputs(fn.create_accumulator(), part) for part in parts]
    assert sorted(fn.merge_accumulators(accumulators)) == sorted(value for part in parts for value in part)
