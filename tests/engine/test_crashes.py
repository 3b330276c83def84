"""A worker that dies at any commit, before or after it was applied, or that goes on though it was replaced: the result
is that of an undisturbed run.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from pipelines import dead_letters, end_topic, make_topic, ordered, publish_frame, publish_json, read_events, records

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.engine import memory
from streamflow.engine.plan import Plan
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker
from streamflow.testing.crashing import Died, WrappedLog, dying
from streamflow.topics.protocol import Assignment, Log
from streamflow.transforms.trigger import AfterCount, AfterWatermark

NAME = "p"
SETTINGS = sf.Settings(partitions=2, step_events_max=4, commit_events_max=1, compact_segments=1)
ON_DISK = replace(SETTINGS, state_bytes_max=0)
"""All state is let go of after each commit, and worked on in slices of a few rows."""


def filled(log: Log) -> Log:
    make_topic(log, partitions=2)
    for i in range(4):
        events = [{"k": "abc"[(i + j) % 3], "v": i * 10 + j, "at": (j * 7 - i) * 1_000_000} for j in range(4)]
        publish_json(log, [*events, b"{"], partition=i % 2)
    publish_frame(log, pl.DataFrame({"k": ["a", "d"], "v": [100, None], "at": [0, 60_000_000]}), partition=1)
    end_topic(log)
    return log


@pytest.fixture(params=["memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Log]]:
    """Opens a log of its own, with the same events in it, each time it is called."""
    opened: list[Log] = []

    def open_log() -> Log:
        log = sf.open_log("memory://" if request.param == "memory" else tmp_path / f"log{len(opened)}")
        opened.append(log)
        return filled(log)

    yield open_log
    for log in opened:
        log.close()


@pytest.fixture(autouse=True)
def _slices_of_a_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PIECE_BYTES_MIN", 200)


def pipeline() -> sf.Pipeline:
    """Two groupings in a row on columns, one on rows behind a reshuffle; the disorder lets no event be late."""
    p = sf.Pipeline(NAME, settings=SETTINGS)
    events = read(p) | sf.WindowInto(sf.FixedWindows(10))
    counts = events | "Counts" >> sf.Aggregate(by=["k"], n=sf.Count(), s=sf.Sum("v"))
    counts | "Out" >> sf.WriteToTopic("out")
    counts | "Totals" >> sf.Aggregate(keys=sf.Count(), n=sf.Sum("n")) | "Out totals" >> sf.WriteToTopic("totals")
    pairs = events | sf.Map(lambda row: (row["k"], row["v"])) | sf.Reshuffle() | "Lists" >> sf.GroupByKey()
    lists = pairs | sf.MapTuple(lambda key, values: {"k": key, "vs": sorted(values, key=repr)})
    lists | "Out lists" >> sf.WriteToTopic("lists")
    return p


def read(p: sf.Pipeline) -> Any:
    return p | sf.ReadFromTopic("in", schema={"k": str, "v": pl.Int64, "at": int}, event_time="at", disorder=100)


def sessions() -> sf.Pipeline:
    """Sessions with early panes, of which the last ones count."""
    p = sf.Pipeline(NAME, settings=SETTINGS)
    windowed = read(p) | sf.WindowInto(
        sf.Sessions(5), AfterWatermark(early=AfterCount(2)), sf.AccumulationMode.ACCUMULATING
    )
    grouped = windowed | sf.Map(lambda row: (row["k"], row["v"])) | sf.GroupByKey()
    grouped | sf.FlatMap(last_pane) | sf.WriteToTopic("sessions")
    return p


def last_pane(
    pair: tuple[str, list[Any]], window: Any = sf.DoFn.WindowParam, pane: Any = sf.DoFn.PaneInfoParam
) -> list[Any]:
    bounds = [int(window.start), int(window.end)]
    return [{"k": pair[0], "in": bounds, "vs": sorted(pair[1], key=repr)}] if pane.is_last else []


def start(log: Log, settings: sf.Settings = SETTINGS, build: Callable[[], sf.Pipeline] = pipeline) -> Plan:
    return launch(build(), log, settings)


def work(plan: Plan, log: Log, clock: ManualClock, worker_id: str) -> None:
    Worker(plan, log, None, worker_id=worker_id, clock=clock, until=lambda snapshot: is_finished(plan, snapshot)).run()


Result = dict[str, Any]


def result(log: Log) -> Result:
    tasks = log.snapshot(NAME).tasks.values()
    there = {info.name for info in log.topics()}
    names = ("events_in", "events_out", "late", "dropped", "dead_lettered")
    return {
        "events": {
            topic: ordered(read_events(log, topic))
            for topic in ("out", "totals", "lists", "sessions")
            if topic in there
        },
        "dead": [(letter["partition"], letter["offset"]) for letter in dead_letters(log, NAME)],
        "counters": {name: sum(task.counters.get(name, 0) for task in tasks) for name in names[:1] + names[2:]},
    }


def undisturbed(
    log: Log, settings: sf.Settings = SETTINGS, build: Callable[[], sf.Pipeline] = pipeline
) -> tuple[Result, int]:
    """And how many commits it takes."""
    wrapped = WrappedLog(log, lambda n, commit: commit())
    work(start(log, settings, build), cast(Log, wrapped), ManualClock(), "only")
    return result(log), wrapped.commits


def normalised(outcome: Result) -> Result:
    return {**outcome, "dead": sorted(outcome["dead"])}


@pytest.mark.parametrize("settings", [SETTINGS, ON_DISK], ids=["state in memory", "state on disk"])
@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
def test_death_at_any_commit_changes_nothing(place: Callable[[], Log], applied: bool, settings: sf.Settings) -> None:
    expected, commits = undisturbed(place(), settings)
    assert commits > 5
    assert len(expected["dead"]) == 4
    assert expected["events"] == undisturbed(place())[0]["events"]
    for k in range(commits):
        log, clock = place(), ManualClock()

        plan = start(log, settings)
        # How many commits there are depends a little on which steps share one.
        with pytest.raises(Died) if k < commits - 3 else suppress(Died):
            work(plan, dying(log, k, applied=applied), clock, "first")
        clock.advance(SETTINGS.lease_s + 1)
        work(start(log, settings), log, clock, "second")
        assert normalised(result(log)) == normalised(expected), f"died at commit {k}"
        log.close()


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
def test_death_at_any_commit_changes_no_last_pane(applied: bool) -> None:
    expected, commits = undisturbed(filled(sf.open_log("memory://")), build=sessions)
    assert len(expected["events"]["sessions"]) == 13
    for k in range(commits):
        log, clock = filled(sf.open_log("memory://")), ManualClock()
        plan = start(log, build=sessions)
        # How many commits there are depends a little on which steps share one.
        with pytest.raises(Died) if k < commits - 3 else suppress(Died):
            work(plan, dying(log, k, applied=applied), clock, "first")
        clock.advance(SETTINGS.lease_s + 1)
        work(start(log, build=sessions), log, clock, "second")
        assert normalised(result(log)) == normalised(expected), f"died at commit {k}"


def test_dying_again_and_again_still_comes_to_the_same_end(place: Callable[[], Log]) -> None:
    """Every worker dies at its second commit, whose effect is there every other time."""
    expected, commits = undisturbed(place())
    log, clock = place(), ManualClock()
    lives = 0
    while lives <= commits:
        lives += 1
        plan = start(log)
        try:
            work(plan, dying(log, 1, applied=lives % 2 == 1), clock, f"life {lives}")
        except Died:
            clock.advance(SETTINGS.lease_s + 1)
        else:
            break
    assert 3 < lives <= commits
    assert normalised(result(log)) == normalised(expected)


@pytest.mark.parametrize("k", [0, 2, 5])
def test_commit_of_a_stale_epoch_changes_nothing(place: Callable[[], Log], k: int) -> None:
    """The first worker is taken for dead, another one finishes its work, and then the first one's commit comes."""
    expected, _ = undisturbed(place())
    log, clock = place(), ManualClock()
    stale: list[bool] = []

    def everything() -> list[Any]:
        return [[(r.offset, r.payload) for r in records(log, info.name)] for info in log.topics()] + [
            log.snapshot(NAME).tasks
        ]

    def on_commit(n: int, commit: Callable[[], list[bool]]) -> list[bool]:
        if n != k:
            return commit()
        log.reassign(NAME, lambda snapshot: Assignment(dead=frozenset({"zombie"})))
        work(plan, log, clock, "successor")
        before = everything()
        held = commit()
        stale.extend(held)
        assert everything() == before
        return held

    plan = start(log)
    work(plan, cast(Log, WrappedLog(log, on_commit)), clock, "zombie")
    assert stale
    assert not any(stale)
    assert normalised(result(log)) == normalised(expected)


def test_values_of_create_are_published_once_however_often_it_is_launched() -> None:
    log = sf.open_log("memory://")
    for _ in range(3):
        p = sf.Pipeline("p", on=log)
        p | sf.Create(range(25_000)) | sf.CombineGlobally(sum) | sf.WriteToTopic("out")
        p.run()
    assert read_events(log) == [sum(range(25_000))]


def test_step_that_keeps_failing_raises_its_error_and_leaves_the_log_as_it_was() -> None:
    class Broken(sf.DoFn):
        def process(self, element: int) -> list[int]:
            return [element]

        def start_bundle(self) -> None:
            raise RuntimeError("broken bundle")

    log = sf.open_log("memory://")
    make_topic(log)
    publish_json(log, [b"1", b"2"])
    end_topic(log)
    p = sf.Pipeline("p", on=log)
    p | sf.ReadFromTopic("in") | sf.ParDo(Broken()) | sf.WriteToTopic("out")
    plan = launch(p, log, sf.Settings())
    clock = _Hurried()
    with pytest.raises(RuntimeError, match="broken bundle"):
        Worker(plan, log, None, clock=clock, until=lambda snapshot: is_finished(plan, snapshot)).run()
    snapshot = log.snapshot("p")
    assert all(task.offset == 0 and task.owner is None for task in snapshot.tasks.values() if task.task.partition == 0)
    assert snapshot.workers == {}
    assert read_events(log) == []


class _Hurried(ManualClock):
    """Time flies, so that waiting before a retry takes none."""

    def monotonic_s(self) -> float:
        self.advance(1)
        return super().monotonic_s()


def test_pipeline_of_another_shape_is_refused_on_the_same_log() -> None:
    log = sf.open_log("memory://")
    make_topic(log)
    end_topic(log)
    for size, works in ((10, True), (10, True), (20, False)):
        p = sf.Pipeline("p", on=log)
        p | sf.ReadFromTopic("in") | sf.WindowInto(sf.FixedWindows(size)) | sf.Aggregate(n=sf.Count())
        if works:
            p.run()
        else:
            with pytest.raises(sf.ConflictError, match="pipeline 'p' has state of another shape"):
                p.run()
