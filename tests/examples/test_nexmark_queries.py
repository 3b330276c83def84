"""Each query against DuckDB over the same events, however they are published and the pipeline is run."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import collected, end_topic, make_topic, publish_frame, read_events

import streamflow as sf
from loadgen.bench.reference import same
from loadgen.dataset import Dataset, position_in_mixture
from loadgen.pacing import Unpaced, slots
from loadgen.profiles import nexmark
from loadgen.profiles.nexmark import Shape
from loadgen.replay import Feed, Format, replay
from loadgen.report import Tally
from streamflow.base.clock import ManualClock
from streamflow.examples.nexmark.__main__ import QUERIES
from streamflow.examples.nexmark.check import events_of, expected, found, is_right, module_of
from streamflow.examples.nexmark.most import RowsOfMax
from streamflow.topics.protocol import Log

IN_ORDER = Shape(events_per_s=1_000)
OUT_OF_ORDER = Shape(1, events_per_s=1_000, out_of_order=900)
"""0.899 s out of order, which the pipelines' disorder of 1 s covers. Groups of 900 lie across the windows' bounds."""


@dataclass(frozen=True)
class Way:
    """How the events come and the pipeline is run. `runs`: so many, each over the next part of the events."""

    shape: Shape
    settings: sf.Settings
    events: int = 50_000
    partitions: int = 4
    batch: int = 10_000
    format: Format = "envelope"
    runs: int = 1


WAYS = {
    "in order, one partition": Way(IN_ORDER, sf.Settings(partitions=1), partitions=1),
    "out of order, small batches and steps, several runs": Way(
        OUT_OF_ORDER, sf.Settings(partitions=4, step_events_max=5_000, compact_segments=2), batch=1_100, runs=4
    ),
    "out of order, JSON, state on disk": Way(
        OUT_OF_ORDER, sf.Settings(step_events_max=4_000, state_bytes_max=0), 20_000, 3, format="json"
    ),
    "in order, row by row": Way(IN_ORDER, sf.Settings(partitions=2, rows_only=True), 20_000, 2, batch=7_000),
}


@cache
def answer(query: str, events: int, shape: Shape) -> pl.DataFrame:
    return expected(module_of(query).SQL, all_events(events, shape))


@cache
def all_events(events: int, shape: Shape) -> Mapping[str, pl.DataFrame]:
    return events_of(events, shape)


def publish(log: Log, datasets: Mapping[str, Dataset], way: Way, target: int) -> None:
    """As loadgen does: up to event number `target`, beginning where the topics end."""
    feeds = [Feed.resumed(d, sf.Publisher(log, topic, name=d.producer)) for topic, d in datasets.items()]
    first = position_in_mixture(datasets.values(), [feed.done for feed in feeds])
    schedule = slots(Unpaced(), first, target, way.batch)
    replay(feeds, schedule, Tally(first), format=way.format, clock=ManualClock(), wait=lambda _: False)


def run(query: str, way: Way, folder: Path, **build: Any) -> sf.PipelineResult:
    module = module_of(query)
    datasets = nexmark.datasets(way.events, way.shape)
    log = sf.open_log("memory://")
    for topic in datasets:
        make_topic(log, topic, partitions=way.partitions)
    for nth in range(1, way.runs):
        publish(log, datasets, way, way.events * nth // way.runs)
        module.build(settings=way.settings, **build).run(on=log, data=folder, until="drained")
    publish(log, datasets, way, way.events)
    for topic in datasets:
        end_topic(log, topic)
    result: sf.PipelineResult = module.build(settings=way.settings, **build).run(on=log, data=folder)
    return result


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
@pytest.mark.parametrize("query", QUERIES)
def test_a_query_gives_what_duckdb_gives(query: str, way: Way, tmp_path: Path) -> None:
    result = run(query, way, tmp_path)
    right = answer(query, way.events, way.shape)

    assert right.height > 1
    assert is_right(query, found(tmp_path, query), right)
    assert [result.total(name) for name in ("late", "dropped", "dead_lettered")] == [0, 0, 0]


def test_without_the_disorder_events_would_be_dropped(tmp_path: Path) -> None:
    """The events out of order do cross the bounds of windows while these close: the test above is no empty one."""
    way = Way(OUT_OF_ORDER, sf.Settings(partitions=2), 22_000, 1, batch=500, runs=22)
    result = run("q8", way, tmp_path, disorder_s=0)

    assert result.total("dropped") > 0
    assert not same(found(tmp_path, "q8"), answer("q8", way.events, way.shape))


def command(*arguments: object) -> tuple[int, str]:
    whole = [sys.executable, "-m", "streamflow.examples.nexmark", *map(str, arguments)]
    done = subprocess.run(whole, capture_output=True, text=True, timeout=200)
    return done.returncode, done.stdout + done.stderr


def test_two_workers_give_what_duckdb_gives_for_every_query() -> None:
    code, said = command(
        "all", "--events", 50_000, "--event-rate", 1_000, "--out-of-order", 900, "--workers", 2, "--partitions", 4
    )

    assert [query for query in QUERIES if f"{query}: " in said and "DIFFERENT" not in said] == list(QUERIES), said
    assert said.count("rows, equal to DuckDB's answer") == len(QUERIES)
    assert code == 0


def test_a_result_that_duckdb_does_not_give_is_told(tmp_path: Path) -> None:
    log = sf.open_log(tmp_path)
    make_topic(log, "bid", partitions=2)
    [bid] = nexmark.bids(10, 1, Shape()).to_dicts()
    publish_frame(log, pl.DataFrame([bid | {"price": 10**9}]), topic="bid")
    log.close()
    options = ("--events", 500, "--workers", 1, "--partitions", 2, "--data", tmp_path)
    code, said = command("q7", *options)

    assert code == 1
    assert "q7: 1 rows, DIFFERENT from the 1 of DuckDB's answer" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("q6",), "there is no query 'q6'. There are q0, q1"),
        (("q5", "--out-of-order", 20_000), "events up to 1.9999 s out of order would be late: queries wait 1 s."),
    ],
)
def test_what_can_not_work_is_refused(arguments: tuple[object, ...], message: str) -> None:
    code, said = command(*arguments)

    assert code == 1
    assert message in said


rows = st.lists(st.tuples(st.integers(0, 1), st.none() | st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=12)


@settings(max_examples=25)
@given(batches=st.lists(rows, min_size=1, max_size=4), rows_only=st.booleans())
def test_rows_of_max_are_all_that_have_the_greatest_value(
    batches: list[list[tuple[int, int | None, int]]], rows_only: bool
) -> None:
    log = sf.open_log("memory://")
    make_topic(log)
    schema = {"k": pl.Int64, "v": pl.Int64, "id": pl.Int64}
    for nth, batch in enumerate(batches):
        publish_frame(log, pl.DataFrame(batch, schema=schema, orient="row"), partition=nth % 4)
    end_topic(log)
    p = sf.Pipeline(on=log, settings=sf.Settings(step_events_max=1, rows_only=rows_only))
    read = p | sf.ReadFromTopic("in", schema=schema, bounded=True)
    read | sf.Aggregate(by=["k"], most=RowsOfMax("v", ["id", "v"])) | sf.WriteToTopic("out")
    p.run()
    given = [row for batch in batches for row in batch]
    right = {}
    for k in {k for k, _, _ in given}:
        most = max((v for key, v, _ in given if key == k and v is not None), default=None)
        right[k] = sorted((id_, v) for key, v, id_ in given if key == k and v is not None and v == most)

    assert {row["k"]: sorted((r["id"], r["v"]) for r in row["most"]) for row in read_events(log)} == right


@pytest.mark.parametrize("rows_only", [False, True])
def test_rows_of_max_may_be_told_apart_before_the_shuffle_or_not(rows_only: bool) -> None:
    """So many groups of one event each that events are no longer grouped before the shuffle."""
    events = [{"k": k, "v": None if k % 3 == 0 else k % 7} for k in range(25_000)]
    found = collected(
        lambda p: p | sf.Create(events) | sf.AsColumns({"k": int, "v": pl.Int64})
        | sf.Aggregate(by=["k"], most=RowsOfMax("v", ["v"])),
        sf.Settings(rows_only=rows_only, partitions=1),
    )  # fmt: skip

    assert {row["k"]: row["most"] for row in found} == {
        event["k"]: [] if event["v"] is None else [{"v": event["v"]}] for event in events
    }
