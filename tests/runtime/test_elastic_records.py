"""From snapshots to observations, from observations to the log of decisions, and from there to a replay."""

from dataclasses import replace
from pathlib import Path

import pytest
from runtime.test_progress import TOPICS, plan

from streamflow.model.time import MIN_US
from streamflow.runtime import decisions
from streamflow.runtime.autoscaler import Decision, Observation, Policy, WorkerSeen
from streamflow.runtime.decisions import Entry
from streamflow.runtime.observing import Observer, heaviest
from streamflow.runtime.what_if import as_it_was, what_if
from streamflow.topics.protocol import Snapshot, TaskId, TaskState, TopicConfig, TopicInfo, WorkerInfo

READ = [TaskId("p", "read", partition) for partition in range(2)]


def snapshot(
    read: list[tuple[int, int, float]], owners: list[str | None], *, epoch: int = 0, once: tuple[int, float] = (0, 0.0)
) -> Snapshot:
    """`read`: (offset, end, busy seconds) of each partition of the source; `once`: events and busy seconds behind."""
    tasks: dict[TaskId, TaskState] = {}
    ends = {}
    for task, (offset, end, busy_s), owner in zip(READ, read, owners, strict=True):
        counters = {"step_seconds_sum": busy_s}
        tasks[task] = TaskState(task, "in", offset, MIN_US, epoch, owner, owner, counters)
        ends["in", task.partition] = end
    for stage in ("once", "twice", "keep"):
        events, busy_s = once if stage == "once" else (0, 0.0)
        task = TaskId("p", stage, 0)
        counters = {"step_seconds_sum": busy_s}
        tasks[task] = TaskState(task, TOPICS[stage], events, MIN_US, epoch, owners[0], owners[0], counters)
        ends[TOPICS[stage], 0] = events
    workers = {owner: WorkerInfo(owner, "p", 1, 1.0, 0) for owner in owners if owner}
    return Snapshot(ends, {"in": TopicInfo("in", TopicConfig(), MIN_US)}, tasks, workers)


def test_rates_are_of_the_span_and_by_owner_and_each_stage_counts_with_its_cost() -> None:
    observer = Observer(plan())
    assert observer.observe(snapshot([(0, 10, 0.0), (0, 10, 0.0)], ["a", "b"]), 10.0, 2, ["a", "b"], []) is None
    # 300 events of the source took 3 s, 10 of the stage behind 1 s: one of these counts as ten.
    after = snapshot([(200, 210, 2.0), (100, 150, 1.0)], ["a", "b"], once=(10, 1.0))
    seen = observer.observe(after, 14.0, 2, ["a", "b"], [13.0])
    assert seen is not None
    assert seen.span_s == 4
    assert [(w.id, w.processed, w.busy_s) for w in seen.workers] == [("a", 300, 3.0), ("b", 100, 1.0)]
    assert seen.backlog == (10, 50)
    assert seen.arrivals == pytest.approx(((200 + 100) / 4, 140 / 4))
    assert seen.starting == (1.0,), "started a second ago, and a start takes two"
    assert seen.owners == (0, 1)
    assert not seen.idle


def test_what_a_task_did_before_it_moved_is_nobodys() -> None:
    observer = Observer(plan())
    observer.observe(snapshot([(0, 10, 0.0), (0, 10, 0.0)], ["a", "b"]), 0.0, 2, ["a", "b"], [])
    moved = snapshot([(10, 10, 1.0), (10, 10, 1.0)], ["b", None], epoch=1)
    seen = observer.observe(moved, 1.0, 2, ["b"], [])
    assert seen is not None
    assert [(w.id, w.processed) for w in seen.workers] == [("b", 0)]
    assert seen.owners == (0, -1)
    assert seen.paused == 1 / 5


def test_starts_and_moves_are_measured() -> None:
    observer = Observer(plan(), start_s=2.0, pause_s=0.5)
    free = snapshot([(0, 0, 0), (0, 0, 0)], ["a", None])
    observer.notice(free, 10.0, {"b": 9.0})
    observer.notice(free, 10.4, {"b": 9.0})
    observer.notice(snapshot([(0, 0, 0), (0, 0, 0)], ["a", "b"]), 10.9, {"b": 9.0})
    assert observer.pause_s == pytest.approx((0.5 + 0.9) / 2)
    assert observer.start_s == pytest.approx((2.0 + 1.9) / 2)


def test_the_longest_backlog_is_found() -> None:
    seen = snapshot([(0, 10, 0), (0, 30, 0)], ["a", "a"])
    found = heaviest(seen, ["read"])
    assert found is not None
    assert found.task == READ[1]
    assert heaviest(snapshot([(5, 5, 0), (3, 3, 0)], ["a", "a"]), ["read"]) is None


def entry(second: int, load: float, workers: int = 2) -> Entry:
    """A second in which workers did what came, at 100 events/s each when busy."""
    seen = Observation(
        now_s=second,
        span_s=1.0,
        wanted=workers,
        workers=tuple(WorkerSeen(f"w{i}", load / workers, load / workers / 100, 100.0) for i in range(workers)),
        starting=(),
        arrivals=(load / 8,) * 8,
        backlog=(0.0,) * 8,
        owners=tuple(p % workers for p in range(8)),
        age_s=0.0,
        paused=0.0,
        start_s=2.0,
        pause_s=0.5,
    )
    return Entry(second * 1_000_000, seen, Policy(1, 8), Decision(workers, "stay"))


def test_what_is_recorded_is_read_again_and_torn_lines_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [entry(second, 150) for second in range(3)]
    decisions.append(tmp_path, "p", entries[0])
    with decisions.decisions_file(tmp_path, "p").open("ab") as log:
        log.write(b'\n{"at_us": 7, "seen": {"no')
    decisions.append(tmp_path, "p", entries[1])
    assert decisions.read(tmp_path, "p") == entries[:2]
    assert decisions.recorded(tmp_path) == ["p"]
    monkeypatch.setattr(decisions, "FILE_BYTES_MAX", 1_000)
    for again in range(20):
        decisions.append(tmp_path, "p", entry(again, 150))
    assert 1 <= len(decisions.read(tmp_path, "p")) <= 4, "the older file and the newest"


def test_a_replay_says_what_other_settings_would_have_cost() -> None:
    load = [150.0] * 30 + [600.0] * 60 + [100.0] * 60
    entries = [entry(second, events) for second, events in enumerate(load)]
    generous, tight = what_if(entries, Policy(1, 8, 5)), what_if(entries, Policy(1, 2, 5))
    assert tight.over_s > 60 > 10 > generous.over_s
    assert tight.worker_s < generous.worker_s
    _, before, decision = generous.changes[0]
    assert decision.workers > before
    was = as_it_was(entries, 5)
    assert (was.worker_s, was.over_s, was.changes) == (2 * len(load), 0, [])
    late = [replace(each, seen=replace(each.seen, age_s=9)) for each in entries]
    assert as_it_was(late, 5).over_s == len(load)
    assert what_if([], Policy(1, 8)).changes == []
