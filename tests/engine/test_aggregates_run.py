"""All aggregates in one pipeline: rows and columns, small and large steps, state in memory or on disk: one answer."""

import math
from dataclasses import replace
from pathlib import Path
from statistics import stdev, variance
from typing import Any

import polars as pl
import pytest
from pipelines import end_topic, make_topic, publish_frame, publish_json, read_events

import streamflow as sf
from streamflow.engine import memory
from streamflow.stores.table import Catalog

US = 1_000_000
EVENTS = [{"k": "abc"[i % 3], "v": (i * 37) % 50 if i % 7 else None, "t": (i * 13) % 100} for i in range(90)]
SCHEMA = {"k": str, "v": pl.Int64, "t": int}
SAMPLE = sf.Sample("v", 3, seed=7)
AGGREGATES: dict[str, sf.AggregateFn] = {
    "first": sf.First("v"),
    "last": sf.Last("v"),
    "top": sf.TopK("v", 2),
    "least": sf.TopK("v", 2, reverse=True),
    "all": sf.CollectList("v"),
    "different": sf.CollectSet("v"),
    "by_tens": sf.CollectMap(sf.col("v") // 10, "v"),
    "some": SAMPLE,
    "distinct": sf.ApproxDistinct("v"),
    "median": sf.Quantiles("v", 0.5),
    "ends": sf.Quantiles("v", [0, 1]),
    "variance": sf.Variance("v"),
    "deviation": sf.StdDev("v"),
}
SMALL = sf.Settings(partitions=3, step_events_max=7, compact_segments=2)
WAYS = {
    "large steps": sf.Settings(partitions=2),
    "small steps": SMALL,
    "rows": replace(SMALL, rows_only=True),
    "on disk": replace(SMALL, state_bytes_max=0),
}


def plain(key: str, start: int) -> dict[str, Any]:
    kept = [(e["t"], e["v"]) for e in EVENTS if e["k"] == key and e["t"] // 50 * 50 == start and e["v"] is not None]
    in_time, values = [v for _, v in sorted(kept)], sorted(v for _, v in kept)
    return {
        "k": key,
        "first": in_time[0],
        "last": in_time[-1],
        "top": values[::-1][:2],
        "least": values[:2],
        "all": in_time,
        "different": sorted(set(values)),
        "by_tens": [{"key": key, "value": last} for key, last in sorted({v // 10: v for _, v in sorted(kept)}.items())],
        "some": SAMPLE.apply([{"v": v, "_time": t * US} for t, v in kept]),
        "distinct": len(set(values)),
        "median": float(values[math.ceil(len(values) / 2) - 1]),
        "ends": [float(values[0]), float(values[-1])],
        "variance": pytest.approx(variance(values)),
        "deviation": pytest.approx(stdev(values)),
    }


@pytest.fixture(params=["memory", "folder"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    opened = sf.open_log("memory://" if request.param == "memory" else tmp_path / "log")
    make_topic(opened)
    for begin in range(0, 90, 9):
        part, times = EVENTS[begin : begin + 9], [event["t"] * US for event in EVENTS[begin : begin + 9]]
        if begin % 2:
            publish_frame(opened, pl.DataFrame(part, schema=SCHEMA), times, partition=begin % 4)
        else:
            publish_json(opened, part, times, partition=begin % 4)
    end_topic(opened)
    yield opened
    opened.close()


@pytest.mark.parametrize("typed", [True, False])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_run_gives_the_plain_answer(
    way: str, typed: bool, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PIECE_BYTES_MIN", 200)
    p = sf.Pipeline(on=log, settings=WAYS[way])
    read = p | sf.ReadFromTopic("in", schema=SCHEMA if typed else None, disorder=1000)
    aggregate = sf.Aggregate(by=["k"], **AGGREGATES)
    read | sf.WindowInto(sf.FixedWindows(50)) | aggregate | sf.WriteToTopic("out")
    p.run()
    rows = read_events(log)
    assert len(rows) == 6
    for row in rows:
        start = row.pop("window_start")
        del row["window_end"]
        assert row == plain(row["k"], 50 if "50" in str(start) else 0)


def test_columns_are_known_when_the_pipeline_is_built() -> None:
    read = sf.Pipeline() | sf.ReadFromTopic("in", schema=SCHEMA, bounded=True)
    for by in ([], ["k"]):
        columns = (read | sf.Aggregate(by=by, **AGGREGATES)).shape.columns
        assert {name: str(dtype) for name, dtype in columns.items() if name != "k"} == {
            "first": "Int64",
            "last": "Int64",
            "top": "List(Int64)",
            "least": "List(Int64)",
            "all": "List(Int64)",
            "different": "List(Int64)",
            "by_tens": "List(Struct({'key': Int64, 'value': Int64}))",
            "some": "List(Int64)",
            "distinct": "Int64",
            "median": "Float64",
            "ends": "List(Float64)",
            "variance": "Float64",
            "deviation": "Float64",
        }
    with pytest.raises(sf.PipelineError):
        read | sf.Aggregate(by=["k"], q=sf.Quantiles("nope", 0.5))


def test_lists_can_be_written_to_a_table(log: Any, tmp_path: Path) -> None:
    p = sf.Pipeline(on=log, data=tmp_path / "data")
    read = p | sf.ReadFromTopic("in", schema=SCHEMA, bounded=True)
    read | sf.Aggregate(by=["k"], top=sf.TopK("v", 2), ends=sf.Quantiles("v", [0, 1])) | sf.WriteToTable("lists")
    p.run()
    found = Catalog(tmp_path / "data" / "tables").sql("select top, ends from lists where k = 'a'")
    values = sorted(e["v"] for e in EVENTS if e["k"] == "a" and e["v"] is not None)
    assert found.to_dicts() == [{"top": values[::-1][:2], "ends": [values[0], values[-1]]}]
