"""Backfill: files first, then the topic from an exact position, under one watermark."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from pipelines import end_topic, make_topic, ordered, publish_frame, publish_json, read_events

import streamflow as sf
from streamflow import io
from streamflow.base.clock import ManualClock
from streamflow.base.errors import PipelineError
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker
from streamflow.testing.crashing import Died, WrappedLog, dying
from streamflow.topics.protocol import Assignment, Log, WorkerInfo

pytestmark = pytest.mark.filterwarnings("ignore:Exception in thread heartbeat", "ignore:unclosed file")
"""Whose process is gone has no heartbeat left, and closes nothing."""

SETTINGS = sf.Settings(partitions=2, step_events_max=7, commit_events_max=1, shard_bytes=200)
SCHEMA = {"v": int, "at": int}
SECOND_US = 1_000_000


def events(begin: int, end: int) -> list[dict[str, Any]]:
    """One a second."""
    return [{"v": i, "at": i * SECOND_US} for i in range(begin, end)]


def topic(log: Log, *, ended: bool = True) -> None:
    """Two partitions, each with all events from 40 to 80, in records of ten that no position need respect."""
    make_topic(log, partitions=2)
    for partition in range(2):
        for begin in range(40, 80, 10):
            part = events(begin, begin + 10)
            if partition:
                publish_frame(log, pl.DataFrame(part), partition=1)
            else:
                publish_json(log, part, partition=0)
    if ended:
        end_topic(log)


def backfilled(folder: Path, **options: Any) -> sf.Pipeline:
    pl.DataFrame(events(0, 50)).write_ndjson(folder / "x.ndjson")
    p = sf.Pipeline("p", settings=SETTINGS)
    files = io.ReadFromJson(folder / "x.ndjson", schema=SCHEMA, event_time="at")
    then = sf.ReadFromTopic("in", schema=SCHEMA, event_time="at")
    rows = p | io.Backfill(files, then=then, **options)
    rows | sf.WithColumns(double=sf.col("v") * 2) | "Rows" >> sf.WriteToTopic("rows")
    rows | sf.WindowInto(sf.FixedWindows(20)) | "Counts" >> sf.Aggregate(n=sf.Count()) | sf.WriteToTopic("out")
    return p


def run(p: sf.Pipeline, log: Log, worker_id: str = "only", clock: ManualClock | None = None) -> None:
    plan = launch(p, log, SETTINGS)
    until = lambda snapshot: is_finished(plan, snapshot)  # noqa: E731
    Worker(plan, log, None, worker_id=worker_id, clock=clock or ManualClock(), until=until).run()


def values(log: Log) -> list[int]:
    return sorted(row["v"] for row in read_events(log, "rows"))


POSITIONS: dict[str, tuple[dict[str, Any], Sequence[int]]] = {
    "everything": ({}, [*range(50), *range(40, 80), *range(40, 80)]),
    "from an offset amid a record": ({"from_offset": 13}, [*range(50), *range(53, 80), *range(53, 80)]),
    "by partition": ({"from_offset": {0: 10, 1: 40}}, [*range(50), *range(50, 80)]),
    "from a time": ({"from_time": sf.Timestamp(50)}, [*range(50), *range(50, 80), *range(50, 80)]),
}


@pytest.mark.parametrize("position", POSITIONS)
def test_files_and_the_topic_behind_them_are_one_collection(tmp_path: Path, position: str) -> None:
    options, expected = POSITIONS[position]
    log = sf.open_log("memory://")
    topic(log)
    run(backfilled(tmp_path, **options), log)
    assert values(log) == sorted(expected)
    windows: dict[int, int] = {}
    for value in expected:
        windows[value // 20] = windows.get(value // 20, 0) + 1
    counted = {int(row["window_start"].timestamp()) // 20: row["n"] for row in read_events(log)}
    assert counted == windows
    assert sum(task.counters.get("late", 0) for task in log.snapshot("p").tasks.values()) == 0


def test_no_event_of_the_topic_is_read_before_the_files_are(tmp_path: Path) -> None:
    log = sf.open_log("memory://")
    topic(log)
    behind: list[bool] = []

    def on_commit(n: int, commit: Any) -> list[bool]:
        done: list[bool] = commit()
        tasks = log.snapshot("p").tasks
        files = [state for task, state in tasks.items() if task.stage.endswith("x-ndjson")]
        unread = any(state.offset < log.end(state.topic, state.task.partition) for state in files)
        if unread:
            behind.append(all(state.offset == 0 for state in tasks.values() if state.topic == "in"))
        return done

    run(backfilled(tmp_path), cast(Log, WrappedLog(log, on_commit)))
    assert len(behind) > 3
    assert all(behind)


def test_windows_stay_open_until_the_live_topic_has_passed_them(tmp_path: Path) -> None:
    log = sf.open_log("memory://")
    topic(log, ended=False)
    p = backfilled(tmp_path, from_offset=40)
    assert p.run(on=log, until="drained").total("late") == 0
    assert read_events(log) == []
    for partition in range(2):
        publish_json(log, [{"v": 81, "at": 81 * SECOND_US}], partition=partition)
    p.run(on=log, until="drained")
    assert sorted(row["n"] for row in read_events(log)) == [10, 20, 20]


def test_death_at_any_commit_changes_nothing(tmp_path: Path) -> None:
    def fresh() -> tuple[sf.Pipeline, Log]:
        log = sf.open_log("memory://")
        topic(log)
        return backfilled(tmp_path, from_offset={0: 13, 1: 38}), log

    p, log = fresh()
    wrapped = WrappedLog(log, lambda n, commit: commit())
    run(p, cast(Log, wrapped))
    expected = (values(log), ordered(read_events(log)))
    assert len(expected[0]) == 50 + 27 + 2
    for k in range(wrapped.commits):
        p, log = fresh()
        clock = ManualClock()
        with pytest.raises(Died):
            run(p, dying(log, k, applied=k % 2 == 0), "first", clock)
        clock.advance(SETTINGS.lease_s + 1)
        run(p, log, "second", clock)
        assert (values(log), ordered(read_events(log))) == expected, f"died at commit {k}"


def test_plan_says_which_files_a_topic_stands_behind(tmp_path: Path) -> None:
    text = backfilled(tmp_path).explain()
    assert f"files '{tmp_path}/x.ndjson' (json)" in text
    assert "read behind 'Backfill-in/ReadFromJson-x.ndjson'" in text


def test_positions_that_are_not_there_are_refused(tmp_path: Path) -> None:
    log = sf.open_log("memory://")
    topic(log)
    with pytest.raises(PipelineError, match="from_offset is 41 for partition 0 of topic 'in', which has 40 events"):
        run(backfilled(tmp_path, from_offset=41), log)
    with pytest.raises(PipelineError, match="from_offset can't be negative, got -1"):
        backfilled(tmp_path, from_offset=-1)
    with pytest.raises(PipelineError, match="Backfill takes a file source and the topic behind it"):
        io.Backfill(sf.ReadFromTopic("in"), then=sf.ReadFromTopic("in"))  # type: ignore[arg-type]


def test_worker_that_holds_only_what_waits_for_files_sleeps_meanwhile(tmp_path: Path) -> None:
    """Another one reads the files; what waits for that has a backlog, and nothing to do."""
    log = sf.open_log("memory://")
    topic(log)
    plan = launch(backfilled(tmp_path), log, SETTINGS)
    log.join(WorkerInfo("w", "p", os.getpid(), 0.0, 0))
    mine = [task for task, state in log.snapshot("p").tasks.items() if state.topic == "in"]
    log.reassign("p", lambda snapshot: Assignment(moves=dict.fromkeys(mine, "w")))
    worker = Worker(plan, log, None, worker_id="w", clock=ManualClock())
    worker._own(snapshot := log.snapshot("p"))
    assert [task.waiting(snapshot) for task in worker._tasks.values()] == [40, 40]
    assert not worker._step_all(snapshot)
    assert worker._pause_s(snapshot) == SETTINGS.poll_s
