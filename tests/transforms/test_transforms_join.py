"""Joins, on pairs and on columns: every pair once, in its window, and nulls where there is no partner."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import collected, end_topic, make_topic, ordered, publish_frame, publish_json, read_events

import streamflow as sf
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.util import assert_that, equal_to

US = 1_000_000
SMALL = sf.Settings(partitions=3, step_events_max=3, compact_segments=1)
WAYS = [sf.Settings(partitions=2), SMALL, replace(SMALL, rows_only=True), replace(SMALL, state_bytes_max=0)]

INNER = [("a", (1, "x")), ("a", (3, "x"))]
LEFT = [*INNER, ("b", (2, None))]
FULL = [*LEFT, ("c", (None, "y"))]


@pytest.mark.parametrize(
    ("join", "expected"), [(sf.Join.Inner(), INNER), (sf.Join.Left(), LEFT), (sf.Join.Full(), FULL)]
)
def test_pairs_are_joined_by_key(join: Any, expected: list[Any]) -> None:
    with TestPipeline() as p:
        left = p | "L" >> sf.Create([("a", 1), ("b", 2), ("a", 3)])
        right = p | "R" >> sf.Create([("a", "x"), ("c", "y")])
        assert_that((left, right) | join, equal_to(expected))


rows = st.lists(
    st.fixed_dictionaries(
        {"k": st.none() | st.sampled_from(["a", "b"]), "n": st.integers(0, 1), "v": st.integers(0, 3)}
    ),
    max_size=6,
)
at = st.lists(st.sampled_from([0, 9, 10, 11]), min_size=12, max_size=12)


def plain(left: list[Any], right: list[Any], how: str) -> list[dict[str, Any]]:
    """Of (row, start of its window)."""

    def row(one: Any, other: Any, start: int) -> dict[str, Any]:
        some = one or other
        right_v = None if other is None else other["v"]
        return {"k": some["k"], "n": some["n"], "start": start, "v": one and one["v"], "v_right": right_v}

    def partners(one: Any, others: list[Any]) -> list[Any]:
        key = (one[0]["k"], one[0]["n"], one[1])
        return [other for other in others if (other[0]["k"], other[0]["n"], other[1]) == key and key[0] is not None]

    found = [row(one[0], other[0], one[1]) for one in left for other in partners(one, right)]
    if how != "inner":
        found += [row(one, None, start) for one, start in left if not partners((one, start), right)]
    if how == "full":
        found += [row(None, other, start) for other, start in right if not partners((other, start), left)]
    return ordered(found)


SCHEMA = {"k": pl.String, "n": pl.Int64, "v": pl.Int64}


@pytest.mark.parametrize("how", ["inner", "left", "full"])
@settings(max_examples=15)
@given(left=rows, right=rows, times=at, way=st.sampled_from(WAYS))
def test_rows_are_joined_as_a_nested_loop_would(
    how: Any, left: list[Any], right: list[Any], times: list[int], way: sf.Settings
) -> None:
    log = sf.open_log("memory://")
    for name, side, of in (("left", left, times[:6]), ("right", right, times[6:])):
        make_topic(log, name, partitions=2)
        for i, row in enumerate(side):
            if i % 2:
                publish_json(log, [row], [of[i] * US], topic=name, partition=i % 2)
            else:
                publish_frame(log, pl.DataFrame([row], schema=SCHEMA), [of[i] * US], topic=name)
        end_topic(log, name)
    p = sf.Pipeline(on=log, settings=way)
    minutes = [
        p | sf.ReadFromTopic(name, schema=SCHEMA, disorder=100) | f"W-{name}" >> sf.WindowInto(sf.FixedWindows(10))
        for name in ("left", "right")
    ]
    joined = minutes[0] | sf.Join(minutes[1], on=["k", "n"], how=how)
    assert list(joined.shape.columns) == ["k", "n", "window_start", "window_end", "v", "v_right"]
    joined | sf.WithColumns(start=sf.col("window_start").dt.second()) | sf.WriteToTopic("out")
    p.run()
    found = [{name: row[name] for name in ("k", "n", "start", "v", "v_right")} for row in read_events(log)]
    windowed = [
        [(row, time // 10 * 10) for row, time in zip(side, of, strict=False)]
        for side, of in ((left, times[:6]), (right, times[6:]))
    ]
    assert ordered(found) == plain(windowed[0], windowed[1], how)


def columns(p: sf.Pipeline, label: str, values: list[dict[str, Any]], schema: dict[str, Any]) -> Any:
    stamped = [sf.TimestampedValue(value, value.get("at", 1)) for value in values]
    return p | f"Create {label}" >> sf.Create(stamped) | f"Columns {label}" >> sf.AsColumns(schema)


@pytest.mark.parametrize("way", WAYS)
def test_aggregates_and_the_rows_they_are_of_can_be_joined(way: sf.Settings) -> None:
    events = [{"user": "ann", "ms": 5}, {"user": "ann", "ms": 7}, {"user": "bob", "ms": 1}]

    def build(p: sf.Pipeline) -> Any:
        visits = columns(p, "v", events, {"user": str, "ms": int}) | sf.WindowInto(sf.FixedWindows(60))
        slowest = visits | sf.Aggregate(by=["user"], slowest=sf.Max("ms"))
        return visits | sf.Join(slowest, on="user") | sf.Select("user", "ms", "slowest")

    expected = [{"user": e["user"], "ms": e["ms"], "slowest": 7 if e["user"] == "ann" else 1} for e in events]
    assert ordered(collected(build, way)) == ordered(expected)


def test_a_side_may_have_no_columns_but_those_to_join_by() -> None:
    def build(p: sf.Pipeline) -> Any:
        left = columns(p, "l", [{"k": 1, "v": 2}, {"k": 2, "v": 3}], {"k": int, "v": int})
        return left | sf.Join(columns(p, "r", [{"k": 2}], {"k": int}), on="k")

    assert collected(build) == [{"k": 2, "v": 3}]


def test_a_late_row_gives_a_window_anew_with_all_its_pairs() -> None:
    log = sf.open_log("memory://")
    schema = {"k": pl.String, "v": pl.Int64}
    for name in ("left", "right"):
        make_topic(log, name, partitions=1)

    def run(until: Any) -> None:
        p = sf.Pipeline(on=log)
        window = sf.WindowInto(
            sf.FixedWindows(10), allowed_lateness=100, accumulation_mode=sf.AccumulationMode.ACCUMULATING
        )
        sides = [p | sf.ReadFromTopic(name, schema=schema) | f"W-{name}" >> window for name in ("left", "right")]
        sides[0] | sf.Join(sides[1], on="k") | sf.Select("k", "v", "v_right") | sf.WriteToTopic("out")
        p.run(until=until)

    for name in ("left", "right"):
        publish_json(log, [{"k": "a", "v": 1}, {"k": "z", "v": 0}], [1 * US, 20 * US], topic=name)
    run("drained")
    publish_json(log, [{"k": "a", "v": 2}], [2 * US], topic="right")
    for name in ("left", "right"):
        end_topic(log, name)
    run("finished")
    pane = {"k": "a", "v": 1, "v_right": 1}
    assert ordered(read_events(log)) == ordered([pane, pane, {**pane, "v_right": 2}, {"k": "z", "v": 0, "v_right": 0}])


def side(p: sf.Pipeline, schema: dict[str, Any], window: Any = None) -> Any:
    name = f"s{len(p.nodes)}"
    read = p | name >> sf.ReadFromTopic(name, schema=schema, bounded=True)
    return read if window is None else read | f"w{name}" >> window


LATE = sf.WindowInto(sf.FixedWindows(10), allowed_lateness=5)


@pytest.mark.parametrize(
    ("join", "words"),
    [
        (lambda p: side(p, {"k": int}) | sf.Join(side(p, {"k": str}), on="k"), "column 'k' is Int64 and String"),
        (lambda p: side(p, {"k": int}) | sf.Join(side(p, {"kk": int}), on="k"), "column 'k' not found.*'kk'"),
        (lambda p: side(p, {"k": int}) | sf.Join(p | sf.Create([]), on="k"), "no known columns"),
        (lambda p: side(p, {"k": int}) | sf.Join(side(p, {"k": int}), on=[]), "needs the columns"),
        (lambda p: side(p, {"k": int}) | sf.Join(side(p, {"k": int}), on="k", how="outer"), "can't be 'outer'"),
        (lambda p: side(p, {"k": int}, LATE) | sf.Join(side(p, {"k": int}, LATE), on="k"), "further pane"),
        (lambda p: (side(p, {"k": int}, LATE), side(p, {"k": int}, LATE)) | sf.Join.Inner(), "further pane"),
        (lambda p: [side(p, {"k": int})] | sf.Join.Inner(), "two PCollections"),
        (
            lambda p: side(p, {"k": int}) | sf.Join(side(p, {"k": int}, sf.WindowInto(sf.FixedWindows(1))), on="k"),
            "different windows",
        ),
        (
            lambda p: side(p, {"k": int, "v": int, "v_right": int}) | sf.Join(side(p, {"k": int, "v": int}), on="k"),
            "'v_right' would be there twice",
        ),
    ],
)
def test_what_can_not_be_joined_is_refused(join: Any, words: str) -> None:
    with pytest.raises(sf.PipelineError, match=words):
        join(sf.Pipeline())
