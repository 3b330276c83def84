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
        near = [(gap, other) for gap, other in apart if gap >= 0 and (tolerance is None or gap <= tolerance * US)]
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


def pairs(label: str, p: Any, values: list[tuple[Any, float]]) -> Any:
    return p | label >> sf.Create([sf.TimestampedValue(value, at) for value, at in values])


CLICKS = [(("a", 1), 10), (("b", 2), 20), (("a", 3), 100)]
BUYS = [(("a", "x"), 12), (("a", "y"), 105), ((("c", None), "z"), 20)]
INNER = [("a", (1, "x")), ("a", (3, "y"))]
LEFT_ONLY, RIGHT_ONLY = [("b", (2, None))], [(("c", None), (None, "z"))]


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        (sf.IntervalJoin.Inner(0, 5), INNER),
        (sf.IntervalJoin.Left(0, 5), [*INNER, *LEFT_ONLY]),
        (sf.IntervalJoin.Right(lower=0, upper=5), [*INNER, *RIGHT_ONLY]),
        (sf.IntervalJoin.Full(0, 5), [*INNER, *LEFT_ONLY, *RIGHT_ONLY]),
        (sf.AsOfJoin.Left(), [("a", (1, None)), *LEFT_ONLY, ("a", (3, "x"))]),
        (sf.AsOfJoin.Inner(tolerance=5, direction="forward"), INNER),
        (sf.TableJoin.Inner(), [("a", (3, "x"))]),
    ],
)
def test_pairs_are_joined_by_key_and_time(join: Any, expected: list[Any]) -> None:
    with TestPipeline() as p:
        sides = pairs("L", p, CLICKS), pairs("R", p, BUYS)
        assert_that(sides | join, equal_to(expected))


def test_none_deletes_a_key_of_a_table_of_pairs() -> None:
    with TestPipeline() as p:
        table = pairs("T", p, [(("a", "x"), 0), (("a", None), 10), (("a", "y"), 20)])
        stream = pairs("S", p, [(("a", at), at) for at in (-1, 0, 9, 10, 19, 20, 30)])
        expected = [(-1, None), (0, "x"), (9, "x"), (10, None), (19, None), (20, "y"), (30, "y")]
        assert_that((stream, table) | sf.TableJoin.Left(), equal_to([("a", each) for each in expected]))


def test_a_bad_pair_is_a_dead_letter_and_the_others_are_joined() -> None:
    log = sf.connect("memory://")
    p = sf.Pipeline(on=log)
    left = p | "L" >> sf.Create([("a", 1), "no pair", (["unhashable", object()], 2)])
    found: list[Any] = []
    (left, p | "R" >> sf.Create([("a", 2)])) | sf.AsOfJoin.Left() | sf.Map(found.append)
    p.run()
    assert found == [("a", (1, 2))]
    assert len(read_events(log, "pipeline.dead-letter")) == 2


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_a_table_for_a_stream(way: sf.Settings, tmp_path: Any) -> None:
    (tmp_path / "users.csv").write_text("user,country\n" + "".join(f"u{i},c{i % 3}\n" for i in range(10)))

    def build(p: sf.Pipeline) -> Any:
        users = p | sf.ReadFromCsv(str(tmp_path / "users.csv"), schema={"user": str, "country": str})
        visits = p | sf.Create([{"user": f"u{i}", "ms": i} for i in range(12)]) | sf.AsColumns({"user": str, "ms": int})
        return visits | sf.TableJoin(users, on="user", how="left")

    expected = [{"user": f"u{i}", "ms": i, "country": f"c{i % 3}" if i < 10 else None} for i in range(12)]
    assert ordered(collected(build, way)) == ordered(expected)


def test_results_are_in_the_windows_of_their_own_times() -> None:
    """The click of the first minute is paired in the second; aggregates of windows are joined at their ends."""

    def build(p: sf.Pipeline) -> Any:
        clicks, buys = (
            pairs(name, p, [({"u": "a"}, at) for at in times])
            | f"Columns {name}" >> sf.AsColumns({"u": str})
            | f"Window {name}" >> sf.WindowInto(sf.FixedWindows(60))
            for name, times in (("clicks", (50.0, 70.0)), ("buys", (65.0,)))
        )
        bought = buys | "Bought" >> sf.Aggregate(by="u", buys=sf.Count())
        pairs_ = clicks | sf.IntervalJoin(buys, on="u", lower=-30, upper=30)
        counts = pairs_ | "Pairs" >> sf.Aggregate(by="u", pairs=sf.Count())
        joined = counts | sf.AsOfJoin(bought, on="u", tolerance=0)
        return joined | sf.Select("u", "pairs", "buys", w=sf.col("window_start").dt.epoch("s"))

    assert collected(build) == [{"u": "a", "pairs": 2, "buys": 1, "w": 60}]


def test_of_equal_times_the_greatest_row_counts_in_whatever_types() -> None:
    def build(p: sf.Pipeline) -> Any:
        left = pairs("l", p, [({"k": 1}, 5)]) | sf.AsColumns({"k": int})
        values = [{"k": 1, "x": None, "y": [9]}, {"k": 1, "x": 2.0, "y": [1, 2]}, {"k": 1, "x": 2.0, "y": [1]}]
        schema = {"k": pl.Int64, "x": pl.Float64, "y": list[int]}
        right = pairs("r", p, [(value, 5) for value in values]) | "R" >> sf.AsColumns(schema)
        return left | sf.AsOfJoin(right, on="k")

    assert collected(build) == [{"k": 1, "x": 2.0, "y": [1, 2]}]


def side(p: sf.Pipeline, schema: dict[str, Any], window: Any = None) -> Any:
    name = f"s{len(p.nodes)}"
    read = p | name >> sf.ReadFromTopic(name, schema=schema, bounded=True)
    return read if window is None else read | f"w{name}" >> window


K: dict[str, Any] = {"k": int}
LATE = sf.WindowInto(sf.FixedWindows(10), allowed_lateness=5)


def interval(p: sf.Pipeline, **options: Any) -> Any:
    return side(p, K) | sf.IntervalJoin(side(p, K), **{"on": "k", "lower": 0, "upper": 1, **options})


class Kind(sf.window.NonMergingWindowFn):
    def assign(self, context: Any) -> Any:
        return [sf.IntervalWindow(0, 1)]

    def get_window_coder(self) -> Any:
        return None


@pytest.mark.parametrize(
    ("join", "words"),
    [
        (lambda p: interval(p, how="outer"), "can't be 'outer'. Use one of inner, left, right, full"),
        (lambda p: interval(p, lower=2), "is empty. Swap"),
        (lambda p: interval(p, upper=float("inf")), "upper must be a span"),
        (lambda p: interval(p, on=[]), "needs the columns"),
        (lambda p: interval(p, on="kk"), "column 'kk' not found"),
        (lambda p: side(p, K) | sf.IntervalJoin(side(p, {"k": str}), on="k", lower=0, upper=1), "Int64 and String"),
        (lambda p: side(p, K) | sf.AsOfJoin([1], on="k"), "joins with a PCollection"),
        (lambda p: side(p, K) | sf.AsOfJoin(side(p, K), on="k", direction="nearest"), "can't be 'nearest'"),
        (lambda p: side(p, K) | sf.AsOfJoin(side(p, K), on="k", direction="forward"), "Give one"),
        (lambda p: side(p, K) | sf.AsOfJoin(side(p, K), on="k", tolerance=-1), "can't be negative"),
        (lambda p: side(p, K) | sf.AsOfJoin(side(p, K), on="k", how="full"), "can't be 'full'"),
        (lambda p: side(p, K) | sf.AsOfJoin(p | sf.Create([]), on="k"), "no known columns"),
        (lambda p: side(p, {"k": list[int]}) | sf.AsOfJoin(side(p, {"k": list[int]}), on="k"), "can't join by"),
        (lambda p: side(p, K) | sf.TableJoin(side(p, {**K, "d": int}), on="k", deleted="d"), "must be a Boolean"),
        (lambda p: [side(p, K)] | sf.TableJoin.Inner(), "two PCollections"),
        (
            lambda p: side(p, {**K, "v": int, "v_right": int}) | sf.AsOfJoin(side(p, {**K, "v": int}), on="k"),
            "'v_right' would be there twice. Give AsOfJoin",
        ),
        (
            lambda p: side(p, K) | sf.AsOfJoin(side(p, K, LATE) | sf.Aggregate(by="k", n=sf.Count()), on="k"),
            "further panes",
        ),
        (lambda p: side(p, K, sf.WindowInto(Kind())) | sf.AsOfJoin(side(p, K), on="k"), "Apply WindowInto to the res"),
    ],
)
def test_what_can_not_be_joined_by_time_is_refused(join: Any, words: str) -> None:
    with pytest.raises(sf.PipelineError, match=words):
        join(sf.Pipeline())
