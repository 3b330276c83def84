"""The history of panes that a pipeline keeps when it is asked to: on columns and on rows, also when it is killed."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pipelines import SECOND_US, make_topic, publish_json, read_events, records

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker
from streamflow.testing.crashing import Died, dying
from streamflow.topics import codec
from streamflow.topics.protocol import Log
from streamflow.transforms.trigger import AfterCount, AfterWatermark

SETTINGS = sf.Settings(partitions=2, step_events_max=2, commit_events_max=1, compact_segments=1, explain_panes=True)
LATENESS = 20


@pytest.fixture(params=["memory", "folder"])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Log]:
    opened = sf.open_log("memory://" if request.param == "memory" else tmp_path / "log")
    make_topic(opened, partitions=2)
    yield opened
    opened.close()


def publish(log: Log, *events: tuple[str, int], partition: int = 0) -> None:
    """(key, second)."""
    publish_json(log, [{"k": k, "at": at * SECOND_US} for k, at in events], partition=partition)


def read(p: sf.Pipeline) -> Any:
    return p | sf.ReadFromTopic("in", schema={"k": str, "at": int}, event_time="at")


def columns(p: sf.Pipeline, mode: sf.AccumulationMode = sf.AccumulationMode.DISCARDING) -> Any:
    windowed = read(p) | sf.WindowInto(sf.FixedWindows(10), None, mode, allowed_lateness=LATENESS)
    return windowed | "Count" >> sf.Aggregate(by=["k"], n=sf.Count())


def rows(p: sf.Pipeline) -> Any:
    windowed = read(p) | sf.WindowInto(sf.FixedWindows(10), allowed_lateness=LATENESS)
    counted = windowed | sf.Map(lambda row: (row["k"], 1)) | "Count" >> sf.CombinePerKey(sum)
    return counted | sf.MapTuple(lambda k, n: {"k": k, "n": n})


def triggered(p: sf.Pipeline) -> Any:
    """Every late event is a pane of its own, as it is by default, but here the machine of triggers decides."""
    trigger = AfterWatermark(late=AfterCount(1))
    windowed = read(p) | sf.WindowInto(
        sf.FixedWindows(10), trigger, sf.AccumulationMode.DISCARDING, allowed_lateness=LATENESS
    )
    return windowed | "Count" >> sf.Aggregate(by=["k"], n=sf.Count())


def sessions(p: sf.Pipeline) -> Any:
    windowed = read(p) | sf.WindowInto(
        sf.Sessions(5), AfterWatermark(early=AfterCount(2)), sf.AccumulationMode.ACCUMULATING
    )
    return windowed | "Count" >> sf.Aggregate(by=["k"], n=sf.Count())


Build = Callable[[sf.Pipeline], Any]
BUILDS = pytest.mark.parametrize("build", [columns, rows, triggered])


def pipeline(build: Build) -> sf.Pipeline:
    p = sf.Pipeline("p", settings=SETTINGS)
    build(p) | sf.WriteToTopic("out")
    return p


def entries(log: Log) -> pl.DataFrame:
    """All of the grouping, in the order of the log, partition by partition."""
    return pl.concat(map(codec.decode, records(log, "p.count.panes")))


def of_key(log: Log, key: str) -> list[tuple[Any, ...]]:
    """(kind, window's start in s, topic/partition/offset or pane, timing and events, watermark in s)."""
    told: list[tuple[Any, ...]] = []
    for entry in entries(log).filter(key=key).iter_rows(named=True):
        place = f"{entry['topic']}/{entry['partition']}/{entry['offset']}"
        pane = f"{entry['pane']} {entry['timing']} {entry['events']}"
        what = pane if entry["kind"] == "pane" else place
        told.append((entry["kind"], entry["start_us"] // SECOND_US, what, entry["watermark_us"] // SECOND_US))
    return told


@BUILDS
def test_history_has_each_row_with_what_became_of_it_and_each_pane(log: Log, build: Build) -> None:
    def run() -> None:
        pipeline(build).run(on=log, until="drained")

    publish(log, ("a", 1), ("b", 2))
    publish(log, ("a", 3), partition=1)
    run()
    publish(log, ("b", 12))
    publish(log, ("b", 13), partition=1)
    run()
    publish(log, ("a", 4))
    run()
    publish(log, ("b", 40), partition=0)
    publish(log, ("b", 41), partition=1)
    run()
    publish(log, ("a", 5))
    run()
    told = of_key(log, "a")
    assert sorted(told[:2]) == sorted([("row", 0, "in/0/0", told[0][3]), ("row", 0, "in/1/0", told[1][3])])
    assert told[2][:3] == ("pane", 0, "0 ON_TIME 2")
    assert told[2][3] in (12, 13)
    assert [each[:3] for each in told[3:]] == [
        ("late", 0, "in/0/3"),
        ("pane", 0, "1 LATE 1"),
        ("dropped", 0, "in/0/5"),
    ]
    assert told[5][3] in (40, 41)
    assert entries(log).filter(kind="row", key="b")["time_us"].sort().to_list()[0] == 2 * SECOND_US


def test_late_pane_that_accumulates_holds_all_events(log: Log) -> None:
    for at in (1, 12, 4):
        publish(log, ("a", at))
        pipeline(lambda p: columns(p, sf.AccumulationMode.ACCUMULATING)).run(on=log, until="drained")
    assert [each[2] for each in of_key(log, "a") if each[0] == "pane"] == ["0 ON_TIME 1", "1 LATE 2"]


@BUILDS
def test_nothing_is_kept_and_nothing_crosses_the_shuffle_unless_asked_for(log: Log, build: Build) -> None:
    publish(log, ("a", 1))
    plain = pipeline(build)
    plain.settings = replace(SETTINGS, explain_panes=False)
    plain.run(on=log, until="drained")
    assert "p.count.panes" not in {info.name for info in log.topics()}
    assert not any("_rows" in codec.decode(record).columns for record in records(log, "p.count"))


@BUILDS
def test_it_can_be_switched_on_and_off_between_runs(log: Log, build: Build) -> None:
    for n, wanted in enumerate((False, True, False, True)):
        publish(log, ("a", n))
        pipeline(build).run(on=log, until="drained", explain_panes=wanted)
    publish(log, ("a", 100))
    sf.Publisher(log, "in").end()
    pipeline(build).run(on=log)
    told = [each[:3] for each in of_key(log, "a")]
    assert told[:3] == [("row", 0, "in/0/1"), ("row", 0, "in/0/3"), ("row", 100, "in/0/4")]
    assert sorted(told[3:]) == [("pane", 0, "0 ON_TIME 4"), ("pane", 100, "0 ON_TIME 1")]
    assert sorted(event["n"] for event in read_events(log)) == [1, 4]


def test_reset_forgets_it(log: Log) -> None:
    publish(log, ("a", 1))
    pipeline(columns).run(on=log, until="drained")
    log.reset_pipeline("p")
    assert {info.name for info in log.topics()} == {"in", "out", "p.dead-letter"}


def test_it_is_pruned_when_its_time_is_over(tmp_path: Path) -> None:
    for where in ("memory://", tmp_path / "log"):
        clock = ManualClock()
        with_clock = sf.open_log(where, clock=clock)
        make_topic(with_clock, partitions=2)
        publish(with_clock, ("a", 1))
        pipeline(columns).run(on=with_clock, until="drained")
        clock.advance(SETTINGS.explain_retention_s - 1)
        with_clock.prune()
        assert entries(with_clock).height == 1
        clock.advance(2)
        with_clock.prune()
        assert not records(with_clock, "p.count.panes")
        with_clock.close()


def filled(log: Log) -> Log:
    make_topic(log, partitions=2)
    for i in range(3):
        publish(log, *[("ab"[(i + j) % 2], j * 7 + i) for j in range(4)], partition=i % 2)
    sf.Publisher(log, "in").end()
    return log


def work(log: Log, build: Build, clock: ManualClock, worker_id: str, *, on: Log | None = None) -> None:
    plan = launch(pipeline(build), log, SETTINGS)
    finished = Worker(
        plan, on or log, None, worker_id=worker_id, clock=clock, until=lambda snapshot: is_finished(plan, snapshot)
    )
    finished.run()


@pytest.mark.parametrize("build", [columns, rows, sessions])
@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
def test_death_at_any_commit_neither_loses_nor_doubles_history(build: Build, applied: bool) -> None:
    """Every input row is told once, and as many panes as there are results, with as many events as these say."""
    k = 0
    died = True
    while died:
        log, clock = filled(sf.open_log("memory://")), ManualClock()
        try:
            work(log, build, clock, "first", on=dying(log, k, applied=applied))
            died = False
        except Died:
            clock.advance(SETTINGS.lease_s + 1)
            work(log, build, clock, "second")
        told = entries(log)
        came = told.filter(pl.col("kind") != "pane").select("partition", "offset").rows()
        assert sorted(came) == [(0, n) for n in range(8)] + [(1, n) for n in range(4)], f"died at commit {k}"
        panes = told.filter(kind="pane")
        assert sorted(panes["events"]) == sorted(event["n"] for event in read_events(log)), f"died at commit {k}"
        k += 1
    assert k > 5
