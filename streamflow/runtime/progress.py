"""How far a pipeline has come, read from one snapshot: watermarks, backlog, whether it is drained or finished. Pure."""

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from streamflow.engine.plan import Plan, Stage
from streamflow.model.time import MAX_US
from streamflow.model.watermark import SourceMark, merged_watermark
from streamflow.topics.protocol import Snapshot, TaskState
from streamflow.transforms.io import ReadFromTopic


class AnyStage(Protocol):
    """Of a plan, or of its outline."""

    @property
    def kind(self) -> str: ...

    @property
    def upstream(self) -> Sequence[str]: ...


def stage_tasks(snapshot: Snapshot, stage: str) -> list[TaskState]:
    return [state for task, state in snapshot.tasks.items() if task.stage == stage]


def stage_watermarks(plan: Plan, snapshot: Snapshot) -> dict[str, int]:
    """The watermark of each stage's input at the instant of the snapshot; of a source, what its publishers promise."""
    marks: dict[str, int] = {}
    by_stage: dict[str, list[TaskState]] = {}
    for task, state in snapshot.tasks.items():
        by_stage.setdefault(task.stage, []).append(state)
    for stage in plan.stages:
        if not stage.upstream:
            marks[stage.name] = snapshot.topics[stage.topic].watermark_us
            continue
        upstream = [plan.stage(name) for name in stage.upstream]
        sources = [s for up in upstream if may_idle(up) for s in by_stage.get(up.name, ())]
        between = [s.output_watermark_us for up in upstream if not may_idle(up) for s in by_stage.get(up.name, ())]
        waiting = waiting_sources(plan)
        marks[stage.name] = merged_watermark((source_mark(state, snapshot, waiting) for state in sources), between)
    return marks


def waiting_sources(plan: Plan) -> set[str]:
    """The stages whose watermark policy waits also for a partition that has been read to its end."""
    transforms = {stage.name: stage.node.transform for stage in plan.stages}
    return {
        name
        for name, each in transforms.items()
        if isinstance(each, ReadFromTopic) and not each.watermark.releases_idle
    }


def source_mark(state: TaskState, snapshot: Snapshot, waiting: Collection[str] = ()) -> SourceMark:
    """`waiting`: stages of which no task is idle."""
    caught_up = state.offset >= snapshot.ends[state.topic, state.task.partition]
    return SourceMark(state.watermark_us, idle=caught_up and state.task.stage not in waiting)


def backlog_events(snapshot: Snapshot, stages: Iterable[Stage]) -> int:
    """Events committed to the stages' inputs and not yet read by them."""
    names = {stage.name for stage in stages}
    return sum(
        snapshot.ends[state.topic, task.partition] - state.offset
        for task, state in snapshot.tasks.items()
        if task.stage in names
    )


def is_drained(plan: Plan, snapshot: Snapshot) -> bool:
    """Everything published so far has gone all the way: no backlog anywhere, no watermark still to be taken up."""
    if not snapshot.tasks or backlog_events(snapshot, plan.stages):
        return False
    marks = stage_watermarks(plan, snapshot)
    return all(
        state.watermark_us >= marks[task.stage]
        for task, state in snapshot.tasks.items()
        if plan.stage(task.stage).kind != "sink"
    )


def is_finished(plan: Plan, snapshot: Snapshot) -> bool:
    """Drained, every input has been ended by its publishers, and nothing more comes by the clock."""
    ended = all(snapshot.topics[stage.topic].watermark_us >= MAX_US for stage in plan.stages if not stage.upstream)
    return ended and not awaits_clock(plan, snapshot) and is_drained(plan, snapshot)


def awaits_clock(plan: Plan, snapshot: Snapshot) -> bool:
    """Whether a periodic stage has something to give later."""
    periodic = [
        state for stage in plan.stages if stage.kind == "periodic" for state in stage_tasks(snapshot, stage.name)
    ]
    return any(state.output_watermark_us < MAX_US for state in periodic)


def may_idle(stage: AnyStage) -> bool:
    """Whether nothing to read means that it holds nobody back. Of given values it is known when they are complete."""
    return not stage.upstream and stage.kind != "create"
