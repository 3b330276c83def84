"""Progress: watermarks of stages, backlog, drained and finished, from one snapshot."""

from dataclasses import replace
from typing import Any

import pytest

import streamflow as sf
from streamflow.engine.plan import Plan, build_plan
from streamflow.model.time import MAX_US, MIN_US
from streamflow.runtime.progress import backlog_events, is_drained, is_finished, stage_watermarks
from streamflow.topics.protocol import Snapshot, TaskId, TaskState, TopicConfig, TopicInfo

Marks = dict[str, list[tuple[int, int, int]]]
"""Stage → per task (offset, end of its input, watermark)."""


def plan() -> Plan:
    p = sf.Pipeline("p")
    events = p | "Read" >> sf.ReadFromTopic("in", schema={"k": str}) | sf.WindowInto(sf.FixedWindows(60))
    once = events | "Once" >> sf.Aggregate(by=["k"], n=sf.Count())
    once | "Twice" >> sf.Aggregate(n=sf.Sum("n")) | "Keep" >> sf.WriteToTable("t")
    return build_plan(p)


TOPICS = {"read": "in", "once": "p.once", "twice": "p.twice", "keep": "p.keep"}


def snapshot(marks: Marks, promised_us: int = MIN_US) -> Snapshot:
    tasks: dict[TaskId, TaskState] = {}
    ends: dict[tuple[str, int], int] = {}
    for stage, of_stage in marks.items():
        for partition, (offset, end, watermark_us) in enumerate(of_stage):
            task = TaskId("p", stage, partition)
            tasks[task] = TaskState(task, TOPICS[stage], offset, watermark_us, 0, None, None)
            ends[TOPICS[stage], partition] = end
    topics = {"in": TopicInfo("in", TopicConfig(), promised_us)}
    return Snapshot(ends, topics, tasks, {})


def test_watermark_of_a_source_is_what_its_publishers_promise() -> None:
    seen = snapshot({"read": [(0, 5, 77)], "once": [(0, 0, 0)], "twice": [(0, 0, 0)], "keep": [(0, 0, 0)]}, 12)
    assert stage_watermarks(plan(), seen)["read"] == 12


@pytest.mark.parametrize(
    ("read", "once"),
    [
        ([(5, 5, 100), (3, 9, 40)], 40),
        ([(5, 5, 100), (0, 0, MIN_US)], 100),
        ([(4, 5, 100), (0, 0, MIN_US)], 100),
        ([(0, 5, MIN_US), (5, 5, 100)], MIN_US),
    ],
    ids=["the busy one decides", "all idle: the newest", "an empty partition is idle", "unread is not idle"],
)
def test_watermark_behind_sources_is_the_least_of_those_that_still_read(
    read: list[tuple[int, int, int]], once: int
) -> None:
    seen = snapshot({"read": read, "once": [(0, 0, 50), (0, 0, 30)], "twice": [(0, 0, 0)], "keep": [(0, 0, 0)]})
    marks = stage_watermarks(plan(), seen)
    assert marks["once"] == once
    assert marks["twice"] == 30


def test_output_that_is_kept_back_holds_the_watermark_of_the_next_stage_but_no_drain() -> None:
    done = [(0, 0, MAX_US)]
    seen = snapshot({"read": done, "once": [(0, 0, MAX_US), (0, 0, MAX_US)], "twice": done, "keep": done})
    task = TaskId("p", "once", 1)
    held = replace(seen, tasks={**seen.tasks, task: replace(seen.tasks[task], hold_us=7)})
    assert stage_watermarks(plan(), held)["twice"] == 7
    assert is_drained(plan(), held)


DONE: Marks = {
    "read": [(5, 5, 100)],
    "once": [(3, 3, 100), (0, 0, 100)],
    "twice": [(2, 2, 100)],
    "keep": [(1, 1, MIN_US)],
}


def changed(**stages: Any) -> Marks:
    return {**DONE, **stages}


def test_drained_when_no_backlog_and_no_watermark_is_left() -> None:
    assert is_drained(plan(), snapshot(DONE))
    assert not is_finished(plan(), snapshot(DONE))


@pytest.mark.parametrize(
    "marks",
    [
        changed(read=[(4, 5, 100)]),
        changed(once=[(2, 3, 100), (0, 0, 100)]),
        changed(twice=[(2, 2, 99)]),
        changed(keep=[(0, 1, MIN_US)]),
        {},
    ],
    ids=["an unread event", "an unread partial", "a watermark not taken up", "an unwritten row", "no tasks yet"],
)
def test_not_drained_while_anything_is_under_way(marks: Marks) -> None:
    assert not is_drained(plan(), snapshot(marks))


def test_finished_when_drained_and_ended() -> None:
    ended = {stage: [(o, e, MAX_US) for o, e, _ in of_stage] for stage, of_stage in DONE.items()}
    assert is_finished(plan(), snapshot(ended, MAX_US))
    assert not is_finished(plan(), snapshot(ended | {"twice": [(1, 2, MAX_US)]}, MAX_US))
    assert not is_finished(plan(), snapshot(DONE, MAX_US))


def test_backlog_counts_the_events_of_the_stages_asked_for() -> None:
    marks = changed(read=[(1, 5, 0), (0, 2, 0)], keep=[(0, 1, 0)])
    stages = {stage.name: stage for stage in plan().stages}
    assert backlog_events(snapshot(marks), [stages["read"]]) == 6
    assert backlog_events(snapshot(marks), plan().stages) == 7
