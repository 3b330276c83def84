"""A worker that dies at any commit while it reads and writes files, a launch that dies at any line, several workers:
the result is that of an undisturbed run.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from pipelines import dead_letters, ordered, read_events

import streamflow as sf
from streamflow import io
from streamflow.base.clock import ManualClock
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker
from streamflow.testing.crashing import Died, WrappedLog, dying
from streamflow.topics.protocol import Log

pytestmark = pytest.mark.filterwarnings("ignore:Exception in thread heartbeat", "ignore:unclosed file")
"""Whose process is gone has no heartbeat left, and closes nothing."""

NAME = "p"
SETTINGS = sf.Settings(partitions=2, step_events_max=5, commit_events_max=1, shard_bytes=120, sink_interval_s=0.0)
SOURCES: dict[str, Any] = {
    "ndjson": io.ReadFromJson,
    "csv": io.ReadFromCsv,
    "ndjson.gz": io.ReadFromJson,
    "parquet": io.ReadFromParquet,
}


@pytest.fixture
def place(kind: str, tmp_path: Path) -> Iterator[Callable[[], Log]]:
    """Opens a log of its own each time it is called; for one kind of files one in a folder."""
    opened: list[Log] = []

    def open_log() -> Log:
        opened.append(sf.open_log(tmp_path / f"log{len(opened)}" if kind == "ndjson" else "memory://"))
        return opened[-1]

    yield open_log
    for log in opened:
        log.close()


@pytest.fixture(params=SOURCES)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of the files that there are: a large one, of several shards, and small ones. Some of their rows are bad."""
    events = [{"k": "abc"[i % 3], "v": i if i % 7 else None, "at": (i * 37 % 40) * 1_000_000} for i in range(24)]
    for part, (begin, end) in enumerate([(0, 17), (17, 18), (18, 24)]):
        frame, path = pl.DataFrame(events[begin:end]), tmp_path / f"in{part}.{request.param}"
        if request.param == "parquet":
            frame.write_parquet(path)
        elif request.param == "csv":
            frame.write_csv(path)
        else:
            frame.write_ndjson(path, compression="gzip" if path.suffix == ".gz" else "uncompressed")
    return str(request.param)


def pipeline(folder: Path, kind: str, out: Path) -> sf.Pipeline:
    p = sf.Pipeline(NAME, settings=SETTINGS)
    schema = {"k": str, "v": int, "at": int}
    events = p | "Read" >> SOURCES[kind](f"{folder}/in*.{kind}", schema=schema, event_time="at")
    windows = events | sf.WindowInto(sf.FixedWindows(10))
    windows | "Counts" >> sf.Aggregate(by=["k"], n=sf.Count(), s=sf.Sum("v")) | "Out" >> sf.WriteToTopic("out")
    events | "Rows" >> io.WriteToCsv(out / "rows")
    events | sf.Map(lambda row: row["v"]) | "Text" >> io.WriteToText(out / "text")
    return p


def work(p: sf.Pipeline, log: Log, clock: ManualClock, worker_id: str) -> None:
    plan = launch(p, log, SETTINGS)
    Worker(plan, log, None, worker_id=worker_id, clock=clock, until=lambda snapshot: is_finished(plan, snapshot)).run()


def result(log: Log, out: Path) -> dict[str, Any]:
    tasks = log.snapshot(NAME).tasks.values()
    lines = [line for path in out.glob("text*") for line in path.read_text().splitlines()]
    rows = [row for path in out.glob("rows*") for row in pl.read_csv(path).rows()]
    assert not list(out.glob(".*.draft"))
    return {
        "events": ordered(read_events(log)),
        "lines": sorted(map(int, lines)),
        "rows": sorted(rows),
        "dead": sorted((letter["file"], letter.get("line") or letter["row"]) for letter in dead_letters(log, NAME)),
        "read": sum(task.counters.get("events_in", 0) for task in tasks if task.task.stage == "read"),
    }


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
def test_death_at_any_commit_changes_nothing(
    place: Callable[[], Log], tmp_path: Path, kind: str, applied: bool
) -> None:
    log, out = place(), tmp_path / "quiet"
    wrapped = WrappedLog(log, lambda n, commit: commit())
    work(pipeline(tmp_path, kind, out), cast(Log, wrapped), ManualClock(), "only")
    expected = result(log, out)
    assert expected["lines"] == [i for i in range(24) if i % 7]
    assert (len(expected["dead"]), expected["read"]) == (4, 24)
    assert wrapped.commits > 8
    for k in range(wrapped.commits):
        log, clock, out = place(), ManualClock(), tmp_path / f"died at {k}"
        p = pipeline(tmp_path, kind, out)
        with pytest.raises(Died):
            work(p, dying(log, k, applied=applied), clock, "first")
        clock.advance(SETTINGS.lease_s + 1)
        work(p, log, clock, "second")
        assert result(log, out) == expected, f"died at commit {k}"


@pytest.mark.parametrize("at", ["register_pipeline", "publish", "advance_watermark"])
@pytest.mark.parametrize("applied", [False, True], ids=["before", "after"])
def test_launch_that_dies_is_made_up_for_by_the_next(tmp_path: Path, at: str, applied: bool) -> None:
    (tmp_path / "in0.csv").write_text("k,v,at\na,1,0\n")
    log = sf.open_log("memory://")

    class Dying:
        def __getattr__(self, name: str) -> Any:
            if name != at:
                return getattr(log, name)
            return self.die

        def die(self, *arguments: Any) -> None:
            if applied:
                getattr(log, at)(*arguments)
            raise Died

    p = pipeline(tmp_path, "csv", tmp_path / "out")
    with pytest.raises(Died):
        launch(p, cast(Log, Dying()), SETTINGS)
    (tmp_path / "in1.csv").write_text("k,v,at\na,2,0\n")
    work(p, log, ManualClock(), "only")
    listed_before = (applied and at == "publish") or at == "advance_watermark"
    assert result(log, tmp_path / "out")["lines"] == ([1] if listed_before else [1, 2])


def test_several_workers_share_the_shards_of_one_file(tmp_path: Path) -> None:
    pl.DataFrame({"k": ["a"] * 400, "v": range(400), "at": [0] * 400}).write_csv(tmp_path / "in.csv")
    log, out = sf.open_log(tmp_path / "log"), tmp_path / "out"
    p = pipeline(tmp_path, "csv", out)
    plan = launch(p, log, SETTINGS)
    workers = [
        Worker(plan, sf.open_log(tmp_path / "log"), None, worker_id=f"w{i}", until=lambda s: is_finished(plan, s))
        for i in range(3)
    ]
    threads = [threading.Thread(target=worker.run) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = result(log, out)
    assert found["lines"] == list(range(400))
    assert [(event["k"], event["n"], event["s"]) for event in found["events"]] == [("a", 400, 79_800)]
    assert found["read"] == 400
    read = [
        task.counters.get("events_in", 0) for task in log.snapshot(NAME).tasks.values() if task.task.stage == "read"
    ]
    assert len(read) == 2
    assert min(read) > 150
    for worker in workers:
        worker.log.close()
    log.close()
