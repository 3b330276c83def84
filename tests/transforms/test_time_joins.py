"""Joins by time give what a nested loop over all rows gives, whatever the order of arrival, the batches and the number
of partitions."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import collected, end_topic, make_topic, ordered, publish_frame, publish_json, read_events, records

import streamflow as sf
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.util import assert_that, equal_to
from streamflow.topics import codec

US = 1_000_000
DISORDER_S = 4
SMALL = sf.Settings(partitions=3, step_events_max=3, compact_segments=1)
WAYS = [sf.Settings(partitions=1), sf.Settings(partitions=3), SMALL, replace(SMALL, rows_only=True)]
SCHEMA = {"k": pl.String, "n": pl.Int64, "v": pl.Int64, "at": pl.Int64}

Row = dict[str, Any]

rows = st.lists(
    st.builds(
        lambda k, at, v, late: ({"k": k, "n": 7, "v": v, "at": at * US}, at + late),
        st.none() | st.sampled_from(["a", "b"]),
        st.integers(-12, 12),
        st.integers(0, 9),
        st.floats(0, DISORDER_S - 0.01),
    ),
    max_size=14,
).map(lambda placed: [row for row, _ in sorted(placed, key=lambda pair: pair[1])])
"""In the order of their arrival: out of order by less than the sources allow."""


def run(build: Callable[[Any, Any], Any], left: list[Row], right: list[Row], way: sf.Settings) -> list[Any]:
    """(event time in seconds, row) of what `build` makes of both."""
    log = sf.connect("memory://")
    for name, side in (("left", left), ("right", right)):
        make_topic(log, name, partitions=2)
        for i, row in enumerate(side):
            if i % 3:
                publish_json(log, [row], topic=name, partition=i % 2)
            else:
                publish_frame(log, pl.DataFrame([row], schema=SCHEMA), topic=name, partition=i % 2)
        end_topic(log, name)
    p = sf.Pipeline(on=log, settings=way)
    sides = [
        p | sf.ReadFromTopic(name, schema=SCHEMA, event_time="at", disorder=DISORDER_S) for name in ("left", "right")
    ]
    build(*sides) | sf.WriteToTopic("out")
    p.run()
    assert not any(state.counters.get("dropped") for state in log.snapshot("pipeline").tasks.values())
    times = [time_us / US for record in records(log, "out") for time_us in codec.decode(record)[codec.TIME].to_list()]
    return ordered([list(pair) for pair in zip(times, read_events(log), strict=True)])


def result(one: Row | None, other: Row | None, at_us: int) -> list[Any]:
    some = one or other or {}
    sides = [{"v": None, "at": None} if side is None else side for side in (one, other)]
    row = {"k": some["k"], "n": some["n"], "v": sides[0]["v"], "at": sides[0]["at"]}
    return [at_us / US, row | {"v_right": sides[1]["v"], "at_right": sides[1]["at"]}]


def in_interval(left: list[Row], right: list[Row], lower: int, upper: int, how: str) -> list[Any]:
    pairs = [
        (i, j)
        for i, one in enumerate(left)
        for j, other in enumerate(right)
        if one["k"] is not None and one["k"] == other["k"] and lower * US <= other["at"] - one["at"] <= upper * US
    ]
    found = [result(left[i], right[j], max(left[i]["at"], right[j]["at"])) for i, j in pairs]
    if how in ("left", "full"):
        found += [result(row, None, row["at"]) for i, row in enumerate(left) if i not in {pair[0] for pair in pairs}]
    if how in ("right", "full"):
        found += [result(None, row, row["at"]) for j, row in enumerate(right) if j not in {pair[1] for pair in pairs}]
    return ordered(found)


@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
@settings(max_examples=40)
@given(
    left=rows,
    right=rows,
    bounds=st.sampled_from([(-3, 5), (0, 0), (0, 6), (-5, 0), (2, 6), (-7, -3), (-30, 30)]),
    way=st.sampled_from(WAYS),
)
def test_rows_in_an_interval_are_joined_as_a_nested_loop_would(
    how: Any, left: list[Row], right: list[Row], bounds: tuple[int, int], way: sf.Settings
) -> None:
    lower, upper = bounds
    found = run(
        lambda one, other: (
            one
            | sf.IntervalJoin(other, on=["k", "n"], lower=timedelta(seconds=lower), upper=sf.Duration(upper), how=how)
        ),
        left,
        right,
        way,
    )
    assert found == in_interval(left, right, lower, upper, how)


def as_of(left: list[Row], right: list[Row], tolerance: int | None, direction: str, how: str) -> list[Any]:
    found = []
    for one in left:
        sign = 1 if direction == "backward" else -1
        apart = [(sign * (one["at"] - other["at"]), other) for other in right if other["k"] == one["k"] is not None]
        near = [(gap, other) for gap, other in apart if 0 <= gap and (tolerance is None or gap <= tolerance * US)]
        nearest = [other for gap, other in near if gap == min(gap for gap, _ in near)]
        if nearest or how == "left":
            best = max(nearest, key=lambda row: row["v"], default=None)
            found.append(result(one, best, one["at"]))
    return ordered(found)


@pytest.mark.parametrize("how", ["inner", "left"])
@settings(max_examples=60)
@given(
    left=rows,
    right=rows,
    to=st.sampled_from([(None, "backward"), (0, "backward"), (4, "backward"), (0, "forward"), (5, "forward")]),
    way=st.sampled_from(WAYS),
)
def test_each_row_is_joined_with_the_nearest_in_time_as_a_loop_would(
    how: Any, left: list[Row], right: list[Row], to: tuple[int | None, Any], way: sf.Settings
) -> None:
    tolerance, direction = to
    join = {"on": ["k", "n"], "tolerance": tolerance, "direction": direction, "how": how}
    found = run(lambda one, other: one | sf.AsOfJoin(other, **join), left, right, way)
    assert found == as_of(left, right, tolerance, direction, how)


@pytest.mark.parametrize("how", ["inner", "left"])
@settings(max_examples=30)
@given(left=rows, right=rows, way=st.sampled_from(WAYS))
def test_a_table_is_joined_as_it_was_at_the_time_of_the_row(
    how: Any, left: list[Row], right: list[Row], way: sf.Settings
) -> None:
    """Rows of the table with an even `v` delete."""
    found = run(
        lambda one, other: (
            one
            | sf.TableJoin(
                other | sf.WithColumns(gone=sf.col("v") % 2 == 0),
                on=["k", "n"],
                how=how,
                deleted="gone",
                suffix="_right",
            )
        ),
        left,
        right,
        way,
    )
    expected = []
    for at, row in as_of(left, right, None, "backward", "left"):
        if row["v_right"] is None or row["v_right"] % 2 == 0:
            if how == "inner":
                continue
            row = row | {"v_right": None, "at_right": None}
        expected.append([at, row])
    assert found == ordered(expected)
