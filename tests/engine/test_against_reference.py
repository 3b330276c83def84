"""Random events, published at random, against a reference written straight from the rules; and the many ways to run
one pipeline, which must give one answer.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import end_topic, make_topic, ordered, publish_frame, publish_json, read_events
from reference import Event, Row, final_rows

import streamflow as sf
from streamflow.topics.protocol import Log

S = 1_000_000
SIZE_S, PERIOD_S = 10, 5
SPREAD_S = 40
"""How far apart event times are; an allowed lateness of this drops nothing."""

events = st.builds(
    Event,
    st.none() | st.sampled_from(["a", "b", "c", "ü"]),
    st.none() | st.integers(-100, 100),
    st.integers(-20 * S, (SPREAD_S - 20) * S - 1) | st.integers(-4, 3).map(lambda tens: tens * 5 * S),
)


@dataclass(frozen=True)
class Publication:
    """One record; the run in between makes watermarks move before the next one."""

    events: Sequence[Event]
    partition: int
    envelope: bool
    run_after: bool


publications = st.lists(
    st.builds(Publication, st.lists(events, min_size=1, max_size=8), st.integers(0, 3), st.booleans(), st.booleans()),
    min_size=1,
    max_size=6,
)
SCHEMA = {"k": pl.String, "v": pl.Int64, "at": pl.Int64}


def publish(log: Log, publication: Publication) -> None:
    rows = [event.payload() for event in publication.events]
    if publication.envelope:
        publish_frame(log, pl.DataFrame(rows, schema=SCHEMA), partition=publication.partition)
    else:
        publish_json(log, rows, partition=publication.partition)


def pipeline(log: Log, options: sf.Settings, *, lateness_s: float, sliding: bool, disorder_s: float = 0) -> sf.Pipeline:
    p = sf.Pipeline("p", on=log, settings=options)
    windows = sf.SlidingWindows(SIZE_S, PERIOD_S) if sliding else sf.FixedWindows(SIZE_S)
    read = p | sf.ReadFromTopic("in", schema=SCHEMA, event_time="at", disorder=disorder_s)
    windowed = read | sf.WindowInto(
        windows, allowed_lateness=lateness_s, accumulation_mode=sf.AccumulationMode.ACCUMULATING
    )
    totals = windowed | "Totals" >> sf.Aggregate(
        by=["k"], n=sf.Count(), c=sf.Count("v"), s=sf.Sum("v"), m=sf.Mean("v"), lo=sf.Min("v"), hi=sf.Max("v")
    )
    totals | sf.WriteToTopic("out")
    return p


def run(log: Log, published: Sequence[Publication], options: sf.Settings, **shape: Any) -> sf.PipelineResult:
    make_topic(log)
    for publication in published:
        publish(log, publication)
        if publication.run_after:
            pipeline(log, options, **shape).run(until="drained")
    end_topic(log)
    return pipeline(log, options, **shape).run()


def rows(log: Log) -> list[Row]:
    """The newest pane of each key and window: the one that counts the most events."""
    latest: dict[tuple[str | None, int], Row] = {}
    for row in read_events(log):
        start = row["window_start"]
        moment = datetime.fromisoformat(start) if isinstance(start, str) else start
        group = row["k"], round(moment.timestamp() * S)
        if group not in latest or row["n"] > latest[group][2]:
            latest[group] = (*group, row["n"], row["c"], row["s"], row["m"], row["lo"], row["hi"])
    return sorted(latest.values(), key=repr)


def all_events(published: Sequence[Publication]) -> list[Event]:
    return [event for publication in published for event in publication.events]


@given(published=publications, sliding=st.booleans(), step_events_max=st.sampled_from([1, 3, 10**6]))
def test_final_panes_are_what_the_rules_say(published: list[Publication], sliding: bool, step_events_max: int) -> None:
    log = sf.open_log("memory://")
    options = sf.Settings(step_events_max=step_events_max, partitions=3, compact_segments=2)
    result = run(log, published, options, lateness_s=SPREAD_S, sliding=sliding)
    assert rows(log) == final_rows(all_events(published), SIZE_S * S, (PERIOD_S if sliding else SIZE_S) * S)
    assert result.total("dropped") == result.total("dead_lettered") == 0


@given(published=publications, disorder_s=st.sampled_from([SPREAD_S, 2 * SPREAD_S]))
def test_disorder_that_covers_all_lets_no_event_be_late(published: list[Publication], disorder_s: int) -> None:
    log = sf.open_log("memory://")
    once = [Publication(p.events, p.partition, p.envelope, run_after=False) for p in published]
    result = run(log, once, sf.Settings(partitions=2), lateness_s=0, sliding=False, disorder_s=disorder_s)
    assert rows(log) == final_rows(all_events(published), SIZE_S * S, SIZE_S * S)
    assert result.total("late") == result.total("dropped") == 0
    assert len(read_events(log)) == len(rows(log))


@given(published=publications, lateness_s=st.sampled_from([0, 1, 7]), step_events_max=st.sampled_from([1, 10**6]))
def test_every_event_is_counted_in_its_window_or_as_dropped(
    published: list[Publication], lateness_s: int, step_events_max: int
) -> None:
    log = sf.open_log("memory://")
    options = sf.Settings(step_events_max=step_events_max, partitions=3)
    result = run(log, published, options, lateness_s=lateness_s, sliding=False)
    counted = rows(log)
    assert sum(row[2] for row in counted) + result.total("dropped") == len(all_events(published))
    expected = {row[:2]: row for row in final_rows(all_events(published), SIZE_S * S, SIZE_S * S)}
    assert all(row[2] <= expected[row[:2]][2] for row in counted)


@pytest.mark.parametrize("lateness_s", [0, SPREAD_S])
def test_event_behind_a_promise_is_dropped_or_late(lateness_s: float) -> None:
    log = sf.open_log("memory://")
    make_topic(log)
    shape: dict[str, Any] = {"lateness_s": lateness_s, "sliding": False}
    publish(log, Publication([Event("a", 1, 0)], 0, False, False))
    sf.Publisher(log, "in").advance_watermark(10 * S)
    pipeline(log, sf.Settings(), **shape).run(until="drained")
    assert [row[:3] for row in rows(log)] == [("a", 0, 1)]
    publish(log, Publication([Event("a", 2, 5 * S)], 0, False, False))
    end_topic(log)
    result = pipeline(log, sf.Settings(), **shape).run()
    assert (result.total("dropped"), result.total("late")) == ((0, 1) if lateness_s else (1, 0))
    assert [row[:3] for row in rows(log)] == [("a", 0, 2 if lateness_s else 1)]


MANY = [
    Publication(
        [Event("abcdefgh"[(i * j) % 8], i - j, (i * 977 + j * 331) % SPREAD_S * S) for i in range(50)],
        j % 4,
        j % 2 == 0,
        False,
    )
    for j in range(8)
]
EXPECTED = final_rows(all_events(MANY), SIZE_S * S, SIZE_S * S)
WAYS = {
    "default": sf.Settings(),
    "rows only": sf.Settings(rows_only=True),
    "steps of one record": sf.Settings(step_events_max=1),
    "steps of few bytes": sf.Settings(step_bytes_max=1),
    "commits after each step": sf.Settings(commit_events_max=1),
    "one partition": sf.Settings(partitions=1),
    "four partitions": sf.Settings(partitions=4),
    "compaction all the time": sf.Settings(step_events_max=1, compact_segments=0),
    "state on disk": sf.Settings(step_events_max=10, state_bytes_max=0),
    "state on disk, rows only": sf.Settings(step_events_max=10, state_bytes_max=0, compact_segments=2, rows_only=True),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("place", ["memory", "folder"])
def test_however_a_pipeline_is_run_its_answer_is_the_same(way: str, place: str, tmp_path: Path) -> None:
    log = sf.open_log("memory://" if place == "memory" else tmp_path / "log")
    run(log, MANY, WAYS[way], lateness_s=SPREAD_S, sliding=False)
    assert rows(log) == EXPECTED
    log.close()


@given(published=publications, rows_only=st.booleans())
@settings(max_examples=8)
def test_memory_and_folder_give_the_same_rows(published: list[Publication], rows_only: bool) -> None:
    options = sf.Settings(partitions=2, rows_only=rows_only)
    memory = sf.open_log("memory://")
    run(memory, published, options, lateness_s=SPREAD_S, sliding=True)
    with tempfile.TemporaryDirectory() as folder:
        embedded = sf.open_log(folder)
        run(embedded, published, options, lateness_s=SPREAD_S, sliding=True)
        assert rows(embedded) == rows(memory) == final_rows(all_events(published), SIZE_S * S, PERIOD_S * S)
        embedded.close()


@given(published=publications, lateness_s=st.sampled_from([0, 7, SPREAD_S]))
def test_row_path_and_column_path_give_the_same_panes(published: list[Publication], lateness_s: int) -> None:
    logs = [sf.open_log("memory://"), sf.open_log("memory://")]
    results = [
        run(log, published, sf.Settings(partitions=2, rows_only=only), lateness_s=lateness_s, sliding=False)
        for log, only in zip(logs, (False, True), strict=True)
    ]
    assert rows(logs[0]) == rows(logs[1])
    for name in ("events_in", "late", "dropped"):
        assert results[0].counters["totals"].get(name) == results[1].counters["totals"].get(name)


KEYS = [1, 2, None, 1.0, 2.5, 2, True, 0, False]


@pytest.mark.parametrize("partitions", [1, 4, 16])
@pytest.mark.parametrize("batch", [1, 2, 9])
def test_equal_keys_meet_whatever_number_type_their_batch_gave_them(partitions: int, batch: int) -> None:
    log = sf.open_log("memory://")
    make_topic(log)
    for i in range(0, len(KEYS), batch):
        publish_json(log, [{"k": key} for key in KEYS[i : i + batch]], partition=i % 4)
    end_topic(log)
    p = sf.Pipeline(on=log, settings=sf.Settings(partitions=partitions, step_events_max=1))
    read = p | sf.ReadFromTopic("in", bounded=True)
    read | sf.Aggregate(by=["k"], n=sf.Count()) | sf.WriteToTopic("out")
    p.run()
    counts: dict[Any, int] = {}
    for row in read_events(log):
        assert row["k"] not in counts
        counts[row["k"]] = row["n"]
    assert counts == {1: 3, 2: 2, None: 1, 2.5: 1, 0: 2}


@pytest.mark.parametrize("partitions", [1, 4])
def test_text_and_categories_are_one_key(partitions: int) -> None:
    log = sf.open_log("memory://")
    make_topic(log)
    names = ["x", "y", "z", "x"]
    for i, dtype in enumerate((pl.String(), pl.Categorical(), pl.Enum(["x", "y", "z"]))):
        publish_frame(log, pl.DataFrame({"k": pl.Series(names, dtype=dtype)}), partition=i)
    end_topic(log)
    p = sf.Pipeline(on=log, settings=sf.Settings(partitions=partitions, step_events_max=1))
    read = p | sf.ReadFromTopic("in", bounded=True)
    read | sf.Aggregate(by=["k"], n=sf.Count()) | sf.WriteToTopic("out")
    p.run()
    assert ordered((row["k"], row["n"]) for row in read_events(log)) == [("x", 6), ("y", 3), ("z", 3)]


def test_filter_by_a_function_keeps_the_types_of_the_columns() -> None:
    log = sf.open_log("memory://")
    make_topic(log)
    publish_json(log, [{"k": None, "v": 1}, {"k": None, "v": 2}])
    end_topic(log)
    p = sf.Pipeline(on=log)
    read = p | sf.ReadFromTopic("in", schema={"k": pl.String, "v": pl.Int8}, bounded=True)
    kept = read | sf.Filter(lambda row: row["v"] > 1) | sf.WithColumns(length=sf.col("k").str.len_chars())
    kept | sf.WriteToTopic("out")
    result = p.run()
    assert (read_events(log), result.total("dead_lettered")) == ([{"k": None, "v": 2, "length": None}], 0)
