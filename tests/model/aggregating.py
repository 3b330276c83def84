"""How the aggregates are computed by each path, on events that are split into parts at will."""

import math
from collections.abc import Sequence
from typing import Any

import polars as pl
from hypothesis import strategies as st

from streamflow.model.aggregates import AggregateFn, RecordCombineFn

Event = tuple[Any, int]
"""Value and time."""

TYPES: dict[str, tuple[st.SearchStrategy[Any], pl.DataType]] = {
    "int": (st.none() | st.integers(-20, 20) | st.integers(-(2**40), 2**40), pl.Int64()),
    "float": (st.none() | st.just(math.nan) | st.floats(-1e6, 1e6).map(lambda v: v + 0.0), pl.Float64()),
    "text": (st.none() | st.text(max_size=2), pl.String()),
    "flag": (st.none() | st.booleans(), pl.Boolean()),
}


def frame_of(part: Sequence[Event], dtype: pl.DataType) -> pl.DataFrame:
    columns = {"v": [value for value, _ in part], "_time": [time for _, time in part], "g": [0] * len(part)}
    return pl.DataFrame(columns, schema={"v": dtype, "_time": pl.Int64, "g": pl.Int64})


def merge(fn: AggregateFn, partials: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(partials, how="diagonal_relaxed").group_by("g").agg(fn.merge("x"))


def final(fn: AggregateFn, merged: pl.DataFrame) -> Any:
    (value,) = merged.select(fn.final("x").alias("x"))["x"].to_list()
    return value


def on_columns(fn: AggregateFn, parts: Sequence[Sequence[Event]], dtype: pl.DataType, single: bool) -> Any:
    """Partials per part, or of each event; merged in two halves, then together."""
    frames = [frame_of(part, dtype) for part in parts]
    if single:
        partials = [frame.select("g", *fn.single("x")) for frame in frames]
    else:
        partials = [frame.group_by("g").agg(fn.partial("x")) for frame in frames]
    half = len(partials) // 2
    halves = [merge(fn, some) for some in (partials[:half], partials[half:]) if some]
    return final(fn, merge(fn, halves[::-1]))


def on_rows(fn: AggregateFn, parts: Sequence[Sequence[Event]], dtype: pl.DataType) -> Any:
    record = RecordCombineFn({"x": fn})
    accumulators = [record.create_accumulator()]
    for part in parts:
        rows = frame_of(part, dtype).drop("g").to_dicts()
        accumulators.append(record.compact(record.add_inputs(record.create_accumulator(), rows)))
    half = len(parts) // 2
    halves = [record.merge_accumulators(some) for some in (accumulators[: half + 1], accumulators[half + 1 :]) if some]
    return record.extract_output(record.merge_accumulators(halves[::-1]))["x"]


def same(left: Any, right: Any) -> bool:
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float) and isinstance(right, (int, float)):
        return (left != left and right != right) or math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-6)
    return type(left) is type(right) and bool(left == right)
