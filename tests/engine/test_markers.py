"""Watermarks by markers of the source's own: published into partitions, or a field of the events."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pipelines import SECOND_US, dead_letters, end_topic, make_topic, publish_frame, publish_json, read_events

import streamflow as sf
from streamflow.model.watermark import WatermarkPolicy
from streamflow.topics.protocol import Log

PARTITIONS = 2
SCHEMA = {"k": str, "at": int, "low": pl.Int64}


@pytest.fixture(params=["memory", "folder"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    opened = sf.open_log("memory://" if request.param == "memory" else tmp_path / "log")
    make_topic(opened, partitions=PARTITIONS)
    yield opened
    opened.close()


def publish(log: Log, *seconds: int, partition: int = 0, low: int | None = None) -> None:
    """An event at each of the seconds; the last one says that no event before `low` follows."""
    events: list[dict[str, Any]] = [{"k": "a", "at": second * SECOND_US, "low": None} for second in seconds]
    events[-1]["low"] = None if low is None else low * SECOND_US
    publish_json(log, events, partition=partition)


def closed(log: Log, policy: WatermarkPolicy, schema: Any = SCHEMA) -> list[int]:
    """Runs until nothing is left to do; the starts, in seconds, of the windows of 10 s that have closed since the
    beginning, with how often each did."""
    p = sf.Pipeline("p", on=log, settings=sf.Settings(partitions=2))
    events = p | sf.ReadFromTopic("in", schema=schema, event_time="at", watermark=policy)
    rows = events | sf.Select("k") if schema else events | sf.Map(lambda event: {"k": event["k"]})
    counted = rows | sf.WindowInto(sf.FixedWindows(10)) | sf.Aggregate(by=["k"], n=sf.Count())
    counted | sf.WriteToTopic("out")
    p.run(until="drained")
    return sorted(int(row["window_start"].timestamp()) for row in read_events(log))


def mark(log: Log, second: int, partition: int | None = None) -> None:
    sf.Publisher(log, "in").mark(second * SECOND_US, partition=partition)


def test_windows_close_by_published_markers_however_new_the_events_are(log: Log) -> None:
    policy = sf.PublishedMarkers()
    publish(log, 1, 12, 500)
    assert closed(log, policy) == []
    mark(log, 10)
    assert closed(log, policy) == [0]
    mark(log, 5)
    assert closed(log, policy) == [0]
    mark(log, 25)
    assert closed(log, policy) == [0, 10]
    end_topic(log)
    assert closed(log, policy) == [0, 10, 500]
    assert dead_letters(log, "p") == []


def test_partition_without_a_marker_holds_back_though_it_was_read_to_its_end(log: Log) -> None:
    publish(log, 1)
    mark(log, 20, partition=0)
    assert closed(log, sf.PublishedMarkers()) == []
    mark(log, 10, partition=1)
    assert closed(log, sf.PublishedMarkers()) == [0]


def test_idle_partition_is_let_go_of_where_the_policy_says_so(log: Log) -> None:
    publish(log, 1)
    mark(log, 20, partition=0)
    assert closed(log, sf.PublishedMarkers(releases_idle=True)) == [0]


def test_events_behind_the_marker_are_late_and_dropped(log: Log) -> None:
    publish(log, 1)
    mark(log, 10)
    assert closed(log, sf.PublishedMarkers()) == [0]
    publish(log, 2, 11)
    assert closed(log, sf.PublishedMarkers()) == [0]
    tasks = log.snapshot("p").tasks.values()
    assert sum(task.counters.get("dropped", 0) for task in tasks) == 1
    assert sum(task.counters.get("events_in", 0) for task in tasks if task.topic == "in") == 3


@pytest.mark.parametrize("schema", [SCHEMA, None], ids=["columns", "dicts"])
def test_windows_close_by_a_field_of_the_events(log: Log, schema: Any) -> None:
    policy = sf.MarkerColumn("low")
    publish(log, 1, 300)
    publish(log, 3, partition=1, low=10)
    assert closed(log, policy, schema) == []
    publish(log, 12, low=10)
    assert closed(log, policy, schema) == [0]
    frame = pl.DataFrame({"k": ["a"], "at": [13 * SECOND_US], "low": [25 * SECOND_US]})
    publish_frame(log, frame, partition=0)
    publish_frame(log, frame, partition=1)
    assert closed(log, policy, schema) == [0, 10]


def test_markers_mean_nothing_to_readers_that_go_by_event_time(log: Log) -> None:
    publish(log, 1, 12)
    mark(log, 1000)
    assert closed(log, sf.BoundedDisorder(5)) == []
    publish(log, 15)
    assert closed(log, sf.BoundedDisorder(5)) == [0]


def test_marker_outlives_the_worker_that_read_it(log: Log) -> None:
    mark(log, 10)
    assert closed(log, sf.PublishedMarkers()) == []
    publish(log, 2, 11, partition=1)
    mark(log, 20, partition=1)
    assert closed(log, sf.PublishedMarkers()) == []
    mark(log, 20, partition=0)
    assert closed(log, sf.PublishedMarkers()) == [10]


@pytest.mark.parametrize("second", [10**15, -(10**15)])
def test_markers_beyond_time_are_refused(log: Log, second: int) -> None:
    with pytest.raises(sf.DataError, match="out of range"):
        mark(log, second)


def test_markers_that_can_not_work_are_refused_when_built(log: Log) -> None:
    with pytest.raises(sf.DataError, match="no partition 2"):
        mark(log, 1, partition=2)
    for options, why in (
        ({"schema": SCHEMA, "watermark": sf.MarkerColumn("lo")}, "MarkerColumn 'lo' is not in the schema"),
        ({"schema": {"low": float}, "watermark": sf.MarkerColumn("low")}, "MarkerColumn 'low' is Float64"),
        ({"with_attributes": True, "watermark": sf.MarkerColumn("low")}, "without fields"),
        ({"disorder": 5, "watermark": sf.PublishedMarkers()}, "at once"),
    ):
        with pytest.raises(sf.PipelineError, match=why):
            sf.ReadFromTopic("in", **options)


def test_explain_names_what_the_watermark_goes_by() -> None:
    for policy, said in (
        (sf.PublishedMarkers(), "watermark: markers published"),
        (sf.MarkerColumn("low", releases_idle=True), "watermark: field low, not needed while idle"),
        (sf.BoundedDisorder(5), "out of order by up to 5 s"),
    ):
        p = sf.Pipeline("p")
        p | sf.ReadFromTopic("in", schema=SCHEMA, watermark=policy) | sf.WriteToTopic("out")
        assert said in p.explain()
