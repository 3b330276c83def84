"""What `why` finds out: which window is meant, how it stands, what holds it back, what it took."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pipelines import SECOND_US, make_topic, publish_json

import streamflow as sf
from streamflow.model.history import Kind
from streamflow.model.watermark import WatermarkPolicy
from streamflow.runtime.holders import KeptBack, SourcePartition, holder_of, source_holder, source_partitions
from streamflow.runtime.outline import read_outline
from streamflow.runtime.why import Why, why
from streamflow.topics.protocol import Log
from streamflow.transforms.trigger import AfterCount, AfterWatermark

SETTINGS = sf.Settings(partitions=2, explain_panes=True)
SCHEMA = {"k": str, "n": int, "at": int}


@pytest.fixture
def log() -> Iterator[Log]:
    opened = sf.open_log("memory://")
    make_topic(opened, partitions=2)
    yield opened
    opened.close()


def publish(log: Log, *events: tuple[str, int], partition: int = 0) -> None:
    publish_json(log, [{"k": k, "n": 1, "at": at * SECOND_US} for k, at in events], partition=partition)


def run(
    log: Log,
    windows: sf.WindowInto | None = None,
    *,
    by: tuple[str, ...] = ("k",),
    watermark: WatermarkPolicy | None = None,
    more: Callable[[Any], Any] = lambda counted: counted,
    explain: bool = True,
) -> None:
    p = sf.Pipeline("p", settings=SETTINGS)
    events = p | sf.ReadFromTopic("in", schema=SCHEMA, event_time="at", watermark=watermark)
    windowed = events | (windows or sf.WindowInto(sf.FixedWindows(10), allowed_lateness=20))
    more(windowed | "Count" >> sf.Aggregate(by=by, c=sf.Count())) | sf.WriteToTopic("out")
    p.run(on=log, until="drained", explain_panes=explain)


def asked(log: Log, second: int, key: str = "a", **more: Any) -> Why:
    return why(log, "p", key, f"1970-01-01T00:00:{second:02d}", **more)


def bounds(found: Why) -> tuple[int, int]:
    assert found.window is not None
    return found.window.start_us // SECOND_US, found.window.end_us // SECOND_US


@pytest.mark.parametrize(
    ("until", "state"), [(5, "open"), (9, "open"), (10, "fired"), (29, "fired"), (30, "gone"), (99, "gone")]
)
@pytest.mark.parametrize("explain", [True, False], ids=["with its history", "without"])
def test_window_is_open_then_fired_then_gone(log: Log, until: int, state: str, explain: bool) -> None:
    publish(log, ("a", 1), ("b", until))
    run(log, explain=explain)
    found = asked(log, 4)
    assert (bounds(found), found.state, found.gone_us) == ((0, 10), state, 30 * SECOND_US)
    assert found.watermark_us == until * SECOND_US
    assert (found.history is not None) == explain


def test_rows_and_panes_of_the_key_and_window_alone(log: Log) -> None:
    publish(log, ("a", 1), ("b", 2), ("a", 3), ("a", 12))
    run(log)
    publish(log, ("a", 4))
    run(log)
    publish(log, ("b", 50))
    run(log)
    publish(log, ("a", 5), ("b", 6))
    run(log)
    history = asked(log, 9).history
    assert history is not None
    offsets = {kind: [row.offset for row in history.of(kind)] for kind in (Kind.ROW, Kind.LATE, Kind.DROPPED)}
    assert offsets == {Kind.ROW: [0, 2], Kind.LATE: [4], Kind.DROPPED: [6]}
    assert [(pane.timing, pane.events) for pane in history.panes] == [("ON_TIME", 2), ("LATE", 1)]


def test_partition_that_is_behind_holds_back(log: Log) -> None:
    publish(log, ("a", 1), ("a", 8))
    publish(log, ("a", 5), partition=1)
    run(log)
    publish(log, ("a", 6), partition=1)
    found = asked(log, 1)
    assert isinstance(found.holder, SourcePartition)
    holder = found.holder
    assert (holder.topic, holder.partition, holder.backlog_events, holder.idle) == ("in", 1, 1, False)
    assert holder.newest_us == 5 * SECOND_US
    assert [each.idle for each in found.sources] == [True, False]
    assert source_holder(read_outline(log, "p"), log.snapshot("p")) == holder


def test_newest_speaks_where_all_are_idle(log: Log) -> None:
    publish(log, ("a", 1), ("a", 8))
    publish(log, ("a", 5), partition=1)
    run(log, watermark=sf.BoundedDisorder(2))
    holder = asked(log, 1).holder
    assert isinstance(holder, SourcePartition)
    assert (holder.partition, holder.idle) == (0, True)
    assert (holder.newest_us, holder.watermark_us) == (8 * SECOND_US, 6 * SECOND_US)


def test_partition_without_a_marker_holds_back(log: Log) -> None:
    publish(log, ("a", 1))
    sf.Publisher(log, "in").mark(30 * SECOND_US, partition=0)
    run(log, watermark=sf.PublishedMarkers())
    found = asked(log, 1)
    assert found.state == "open"
    assert isinstance(found.holder, SourcePartition)
    assert (found.holder.partition, found.holder.backlog_events, found.holder.marker_us) == (1, 0, None)
    assert [each.marker_us for each in found.sources] == [30 * SECOND_US, None]


def test_given_values_are_never_idle_and_hold_nothing_back_once_they_are_read(log: Log) -> None:
    """As `progress` has it, which the engine goes by."""
    p = sf.Pipeline("p", settings=SETTINGS)
    windows = sf.FixedWindows(10)
    given = p | sf.Create([{"k": "a", "n": 1, "at": 0}]) | "Given" >> sf.WindowInto(windows)
    events = p | sf.ReadFromTopic("in", schema=SCHEMA, event_time="at") | sf.Map(dict) | sf.WindowInto(windows)
    (given, events) | sf.Flatten() | "Count" >> sf.Aggregate(by="k", c=sf.Count()) | sf.WriteToTopic("out")
    publish(log, ("a", 7))
    p.run(on=log, until="drained")
    snapshot, outline = log.snapshot("p"), read_outline(log, "p")
    kinds = {each.stage: each.idle for each in source_partitions(outline, snapshot, "count")}
    assert kinds == {"Create": False, "Read-in": True}
    holder = holder_of(outline, snapshot, "count")
    assert isinstance(holder, SourcePartition)
    assert (holder.stage, holder.watermark_us) == ("Read-in", 7 * SECOND_US)


def test_nothing_holds_back_once_all_has_ended(log: Log) -> None:
    publish(log, ("a", 1))
    sf.Publisher(log, "in").end()
    run(log)
    found = asked(log, 1)
    assert (found.state, found.holder) == ("gone", None)


def test_holder_is_found_through_the_grouping_before(log: Log) -> None:
    def totals(counted: Any) -> Any:
        return counted | "Totals" >> sf.Aggregate(c=sf.Sum("c"))

    publish(log, ("a", 1), ("b", 12))
    run(log, sf.WindowInto(sf.FixedWindows(10)), more=totals)
    found = asked(log, 1, "", step="Totals")
    assert found.state == "gone"
    assert found.history is not None
    assert [(row.topic, row.offset) for row in found.history.rows] == [("p.count", -1)]
    assert found.labels["p.count"] == "Count"
    assert found.holder == asked(log, 1, step="count").holder
    with pytest.raises(sf.NotFoundError, match="groups in several steps: 'Count', 'Totals'"):
        asked(log, 1)
    with pytest.raises(sf.NotFoundError, match="no grouping 'Other'"):
        asked(log, 1, step="Other")


def test_result_that_is_kept_back_holds_back_what_comes_after(log: Log) -> None:
    trigger = sf.trigger.Repeatedly(AfterCount(10))
    windows = sf.WindowInto(
        sf.FixedWindows(10), trigger, sf.AccumulationMode.DISCARDING, allowed_lateness=40,
        timestamp_combiner=sf.TimestampCombiner.OUTPUT_AT_EARLIEST,
    )  # fmt: skip
    publish(log, ("a", 1), ("a", 12))
    run(log, windows, more=lambda c: c | sf.WindowInto(sf.FixedWindows(10)) | "T" >> sf.Aggregate(c=sf.Sum("c")),
        explain=False)  # fmt: skip
    holder = asked(log, 1, "", step="T").holder
    assert isinstance(holder, KeptBack)
    assert (holder.stage, holder.watermark_us) == ("Count", SECOND_US)


def test_sessions_are_found_by_any_instant_in_them(log: Log) -> None:
    sessions = sf.WindowInto(sf.Sessions(5), AfterWatermark(early=AfterCount(2)), sf.AccumulationMode.ACCUMULATING)
    publish(log, ("a", 1), ("a", 20), ("a", 4), ("a", 7))
    run(log, sessions)
    assert bounds(asked(log, 11)) == (1, 12)
    assert bounds(asked(log, 21)) == (20, 25)
    with pytest.raises(sf.NotFoundError, match=r"no window at .*15. The nearest are: 1970-01-01T00:00:20Z/"):
        asked(log, 15)


def test_sliding_window_is_named_by_its_start_and_an_instant_in_several_is_refused(log: Log) -> None:
    publish(log, ("a", 12))
    run(log, sf.WindowInto(sf.SlidingWindows(10, 5)))
    assert bounds(asked(log, 5)) == (5, 15)
    assert bounds(why(log, "p", "a", "1970-01-01T00:00:10/1970-01-01T00:00:20Z")) == (10, 20)
    with pytest.raises(sf.DataError, match="lies in 2 windows of key 'a'"):
        asked(log, 12)


def test_keys_are_typed_as_they_are_printed(log: Log) -> None:
    publish(log, ("a", 1), ("b", 2))
    run(log, by=("k", "n"))
    for typed in ('["a",1]', '["a", 1]'):
        assert asked(log, 1, typed).key == '["a",1]'
    with pytest.raises(sf.NotFoundError, match=r"no event of key 'a' .*there: "):
        asked(log, 1)


def test_global_window(log: Log) -> None:
    publish(log, ("a", 1), ("b", 2))
    p = sf.Pipeline("p", settings=SETTINGS)
    events = p | sf.ReadFromTopic("in", schema=SCHEMA, event_time="at", bounded=True)
    events | sf.Select(pl.col("n")) | sf.Aggregate(c=sf.Count()) | sf.WriteToTopic("out")
    p.run(on=log, until="drained")
    found = why(log, "p", "", "global")
    assert found.state == "open"
    assert found.history is not None
    assert len(found.history.rows) == 2


@pytest.mark.parametrize("window", ["noon", "", "1970-01-01/later", "12"])
def test_what_names_no_window_is_refused(log: Log, window: str) -> None:
    publish(log, ("a", 1))
    run(log)
    with pytest.raises(sf.DataError, match="names no window"):
        why(log, "p", "a", window)


def test_pipeline_without_an_outline_or_a_grouping(log: Log, tmp_path: Path) -> None:
    with pytest.raises(sf.NotFoundError, match="left no outline"):
        why(log, "other", "a", "global")
    p = sf.Pipeline("p", on=log)
    p | sf.ReadFromTopic("in") | sf.WriteToTopic("out")
    p.run(until="drained")
    with pytest.raises(sf.NotFoundError, match="groups nothing"):
        why(log, "p", "a", "global")
