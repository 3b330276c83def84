"""Store sinks inside pipelines: rows they can't hold, late panes, and what readers see."""

from pathlib import Path

import orjson
import polars as pl

import streamflow as sf
from streamflow.stores.table import Catalog
from streamflow.stores.widerow import WideRowStore, row_folder, rows_as_dicts
from streamflow.topics import codec
from streamflow.topics.protocol import Log, TopicConfig


def events(log: Log, rows: list[dict[str, object]], topic: str = "in") -> None:
    """Publish rows, whose `t` is the event time in seconds, and end the topic."""
    log.create_topic(topic, TopicConfig(partitions=1))
    publisher = sf.Publisher(log, topic)
    times = [int(str(row["t"])) * 1_000_000 for row in rows]
    publisher.publish_batch([orjson.dumps(row) for row in rows], times)
    publisher.end()


def dead_letters(log: Log, pipeline: str) -> list[dict[str, object]]:
    records = log.read(f"{pipeline}.dead-letter", 0, 0)
    return [orjson.loads(raw) for record in records for raw in codec.decode(record)[codec.JSON].to_list()]


def test_rows_without_a_row_key_are_dead_letters_and_the_others_are_stored(tmp_path: Path) -> None:
    log = sf.open_log("memory://")
    events(log, [{"t": 1, "user": "ann", "n": 1}, {"t": 2, "user": None, "n": 2}, {"t": 3, "user": "bob", "n": 3}])
    p = sf.Pipeline("p", on=log, data=tmp_path)
    read = p | sf.ReadFromTopic("in", schema={"user": pl.String, "n": pl.Int64})
    read | sf.WriteToRows("users", row_key="user", family="f", columns=["n"])
    result = p.run()
    with WideRowStore(row_folder(tmp_path / "rows", "users"), readonly=True) as store:
        assert [(row["row"], row["cells"][0]["value"]) for row in rows_as_dicts(store)] == [("ann", 1), ("bob", 3)]
    (letter,) = dead_letters(log, "p")
    assert letter["transform"] == "Rows-users"
    assert letter["input"] == {"n": 2}
    assert result.total("dead_lettered") == 1


def test_a_column_of_another_type_than_the_tables_is_dead_lettered_as_a_whole(tmp_path: Path) -> None:
    log = sf.open_log("memory://")
    events(log, [{"t": 1, "n": 1}])
    first = sf.Pipeline("first", on=log, data=tmp_path)
    first | sf.ReadFromTopic("in", schema={"n": pl.Int64}) | sf.WriteToTable("numbers")
    first.run()
    events(log, [{"t": i, "n": "many"} for i in range(500)], topic="text")
    second = sf.Pipeline("second", on=log, data=tmp_path)
    second | sf.ReadFromTopic("text", schema={"n": pl.String}) | sf.WriteToTable("numbers")
    result = second.run()
    assert result.total("dead_lettered") == 500
    assert "expected Int64" in str(dead_letters(log, "second")[0]["error"])
    assert Catalog(tmp_path / "tables").read("numbers").rows() == [(1,)]


def test_readers_of_a_keyed_table_see_the_newest_pane_of_each_window(tmp_path: Path) -> None:
    """Ten events of one window, each committed for itself, the watermark far ahead: ten panes, one row."""
    log = sf.open_log("memory://")
    log.create_topic("in", TopicConfig(partitions=1))
    publisher = sf.Publisher(log, "in")
    publisher.publish({"user": "zoe"}, event_time_us=50_000_000)
    for second in range(10):
        publisher.flush()
        publisher.publish({"user": "ann"}, event_time_us=second * 1_000_000)
    publisher.end()
    p = sf.Pipeline("p", on=log, data=tmp_path, settings=sf.Settings(step_events_max=1, partitions=1))
    (
        p
        | sf.ReadFromTopic("in", schema={"user": pl.String})
        | sf.WindowInto(sf.FixedWindows(10), allowed_lateness=3600, accumulation_mode=sf.AccumulationMode.ACCUMULATING)
        | sf.Aggregate(by=["user"], n=sf.Count())
        | sf.WriteToTable("counts", key=["user", "window_start"])
    )
    result = p.run()
    counts = Catalog(tmp_path / "tables").sql("select user, n from counts order by user")
    assert counts.rows() == [("ann", 10), ("zoe", 1)]
    assert result.total("late") > 0
    assert result.total("dropped") == 0


def test_cells_are_timed_by_their_window_so_that_writing_again_is_writing_the_same(tmp_path: Path) -> None:
    log = sf.open_log("memory://")
    events(log, [{"t": t, "user": "ann"} for t in (1, 2, 11)])
    for name in ("once", "again"):
        p = sf.Pipeline(name, on=log, data=tmp_path)
        (
            p
            | sf.ReadFromTopic("in", schema={"user": pl.String})
            | sf.WindowInto(sf.FixedWindows(10))
            | sf.Aggregate(by=["user"], n=sf.Count())
            | sf.WriteToRows("counts", row_key="user", family="f", columns=["n"])
        )
        p.run()
    with WideRowStore(row_folder(tmp_path / "rows", "counts"), readonly=True) as store:
        row = store.read_row(b"ann")
    assert row is not None
    assert [cell.timestamp_us for cell in row.families["f"][b"n"]] == [10_000_000, 0]
