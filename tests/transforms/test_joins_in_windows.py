"""Join and CoGroupByKey in sliding windows, in sessions and under triggers: what a grouping of both sides together
gives in Apache Beam."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import collected, end_topic, make_topic, ordered, publish_json, read_events

import streamflow as sf
from streamflow.transforms.trigger import AfterCount, AfterWatermark

US = 1_000_000
SMALL = sf.Settings(partitions=3, step_events_max=3, compact_segments=1)
WAYS = [sf.Settings(partitions=2), SMALL, replace(SMALL, rows_only=True)]
SCHEMA = {"k": pl.String, "v": pl.Int64}
GAP, SIZE, PERIOD = 5, 10, 4

Row = tuple[str, int, int]
"""Key, value, event time in seconds."""
Spans = list[tuple[int, int]]

rows = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 30)), max_size=7)


def sliding(rows: list[Row], key: str) -> Spans:
    starts = {start for k, _, at in rows if k == key for start in range(-SIZE, 31) if start % PERIOD == 0 <= at - start}
    return [(start, start + SIZE) for start in starts]


def sessions(rows: list[Row], key: str) -> Spans:
    spans: Spans = []
    for at in sorted(at for k, _, at in rows if k == key):
        if spans and at < spans[-1][1]:
            spans[-1] = spans[-1][0], at + GAP
        else:
            spans.append((at, at + GAP))
    return spans


WINDOWS = {
    "sliding": (sf.SlidingWindows(SIZE, PERIOD), sliding),
    "sessions": (sf.Sessions(GAP), sessions),
}


def groups(left: list[Row], right: list[Row], windows: str) -> list[tuple[str, int, list[int], list[int]]]:
    """(key, start of the window, values of the left, of the right)."""
    found = []
    for key in "ab":
        for start, end in WINDOWS[windows][1](left + right, key):
            lists = [sorted(v for k, v, at in side if k == key and start <= at < end) for side in (left, right)]
            if any(lists):
                found.append((key, start, *lists))
    return found


def made(p: sf.Pipeline, label: str, side: list[Row], windows: str, *, columns: bool) -> Any:
    values = [sf.TimestampedValue({"k": k, "v": v} if columns else (k, v), at) for k, v, at in side]
    created = p | f"Create {label}" >> sf.Create(values)
    typed = created | f"Columns {label}" >> sf.AsColumns(SCHEMA) if columns else created
    return typed | f"Window {label}" >> sf.WindowInto(WINDOWS[windows][0])


@pytest.mark.parametrize("windows", WINDOWS)
@settings(max_examples=25)
@given(left=rows, right=rows, way=st.sampled_from(WAYS))
def test_co_group_by_key_gives_both_sides_of_a_window(
    windows: str, left: list[Row], right: list[Row], way: sf.Settings
) -> None:
    def build(p: sf.Pipeline) -> Any:
        sides = [made(p, name, side, windows, columns=False) for name, side in (("l", left), ("r", right))]
        lists = tuple(sides) | sf.CoGroupByKey()
        return lists | sf.MapTuple(
            lambda key, sides, window=sf.DoFn.WindowParam: (key, int(window.start), *map(sorted, sides))
        )

    assert ordered(collected(build, way)) == ordered(groups(left, right, windows))


@pytest.mark.parametrize("how", ["inner", "left", "full"])
@pytest.mark.parametrize("windows", WINDOWS)
@settings(max_examples=15)
@given(left=rows, right=rows, way=st.sampled_from(WAYS))
def test_join_pairs_both_sides_of_a_window(
    windows: str, how: Any, left: list[Row], right: list[Row], way: sf.Settings
) -> None:
    def on_columns(p: sf.Pipeline) -> Any:
        one, other = (made(p, name, side, windows, columns=True) for name, side in (("l", left), ("r", right)))
        joined = one | sf.Join(other, on="k", how=how)
        start = sf.col("window_start").dt.epoch("s")
        return joined | sf.Select("k", "v", "v_right", start=start) | sf.Map(lambda row: tuple(row.values()))

    def on_pairs(p: sf.Pipeline) -> Any:
        sides = [made(p, name, side, windows, columns=False) for name, side in (("l", left), ("r", right))]
        joined = tuple(sides) | getattr(sf.Join, how.title())()
        return joined | sf.MapTuple(lambda key, pair, window=sf.DoFn.WindowParam: (key, *pair, int(window.start)))

    expected = []
    for key, start, ones, others in groups(left, right, windows):
        alone: list[Any] = [] if how == "inner" else [None]
        some = ones or ([None] if how == "full" else [])
        expected += [(key, one, other, start) for one in some for other in others or alone]
    assert ordered(collected(on_columns, way)) == ordered(expected)
    assert ordered(collected(on_pairs, way)) == ordered(expected)


PANES = AfterWatermark(early=AfterCount(1), late=AfterCount(1))
STEPS = (("left", 1, 3), ("right", 2, 4), ("right", 3, 20), ("left", 4, 20), ("right", 5, 5))
"""(topic, value, time): one after the other; the third lets the watermark pass the end of the first window."""


def panes(build: Any, mode: sf.AccumulationMode, window: Any, way: sf.Settings) -> list[list[Any]]:
    """What comes out after each of the steps and at the end."""
    log = sf.connect("memory://")
    for name in ("left", "right"):
        make_topic(log, name, partitions=1)
    seen, found = 0, []

    def run(until: Any) -> None:
        nonlocal seen
        p = sf.Pipeline(on=log, settings=way)
        windowing = sf.WindowInto(window, trigger=PANES, accumulation_mode=mode, allowed_lateness=100)
        sides = [p | sf.ReadFromTopic(name, schema=SCHEMA) | f"W {name}" >> windowing for name in ("left", "right")]
        build(*sides) | sf.WriteToTopic("out")
        p.run(until=until)
        events = read_events(log)
        found.append(sorted(events[seen:], key=repr))
        seen = len(events)

    for topic, value, at in STEPS:
        publish_json(log, [{"k": "a", "v": value}], [at * US], topic=topic)
        run("drained")
    for name in ("left", "right"):
        end_topic(log, name)
    run("finished")
    return found


def lists(left: Any, right: Any) -> Any:
    sides = [side | f"Pairs {i}" >> sf.Map(lambda row: (row["k"], row["v"])) for i, side in enumerate((left, right))]
    return tuple(sides) | sf.CoGroupByKey() | sf.MapTuple(_pane)


def _pane(key: str, sides: Any, window: Any = sf.DoFn.WindowParam, pane: Any = sf.DoFn.PaneInfoParam) -> list[Any]:
    return [int(window.start), *map(sorted, sides), pane.timing.name]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("mode", "window", "expected"),
    [
        (
            sf.AccumulationMode.DISCARDING,
            sf.FixedWindows(10),
            [
                [[0, [1], [], "EARLY"]],
                [[0, [], [2], "EARLY"]],
                [[0, [], [], "ON_TIME"], [20, [], [3], "EARLY"]],
                [[20, [4], [], "EARLY"]],
                [[0, [], [5], "LATE"]],
                [[20, [], [], "ON_TIME"]],
            ],
        ),
        (
            sf.AccumulationMode.ACCUMULATING,
            sf.FixedWindows(10),
            [
                [[0, [1], [], "EARLY"]],
                [[0, [1], [2], "EARLY"]],
                [[0, [1], [2], "ON_TIME"], [20, [], [3], "EARLY"]],
                [[20, [4], [3], "EARLY"]],
                [[0, [1], [2, 5], "LATE"]],
                [[20, [4], [3], "ON_TIME"]],
            ],
        ),
        (
            sf.AccumulationMode.ACCUMULATING,
            sf.Sessions(10),
            [
                [[3, [1], [], "EARLY"]],
                [[3, [1], [2], "EARLY"]],
                [[20, [], [3], "EARLY"], [3, [1], [2], "ON_TIME"]],
                [[20, [4], [3], "EARLY"]],
                [[3, [1], [2, 5], "LATE"]],
                [[20, [4], [3], "ON_TIME"]],
            ],
        ),
    ],
)
def test_co_group_by_key_gives_early_and_late_panes(mode: Any, window: Any, expected: Any, way: sf.Settings) -> None:
    assert panes(lists, mode, window, way) == expected


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["inner", "full"])
@pytest.mark.parametrize("window", [sf.FixedWindows(10), sf.Sessions(10)])
def test_each_accumulating_pane_of_a_join_has_all_pairs_so_far(window: Any, how: Any, way: sf.Settings) -> None:
    def build(left: Any, right: Any) -> Any:
        joined = left | sf.Join(right, on="k", how=how)
        return joined | sf.Map(lambda row: [row["v"], row["v_right"]])

    alone = [[], []] if how == "inner" else [[[1, None]], [[None, 3]]]
    expected = [alone[0], [[1, 2]], [[1, 2], *alone[1]], [[4, 3]], [[1, 2], [1, 5]], [[4, 3]]]
    assert panes(build, sf.AccumulationMode.ACCUMULATING, window, way) == expected
