"""What a watermark goes by: the partitions of a stage's sources, and which of them holds it back. Pure, over a snapshot
and the pipeline's outline."""

from collections.abc import Iterator
from dataclasses import dataclass

from streamflow.model.time import MAX_US, MIN_US
from streamflow.model.watermark import SourceMark, merged_watermark, speaking_sources
from streamflow.runtime.outline import Outline, StageOutline, waiting_in
from streamflow.runtime.progress import may_idle, source_mark, stage_tasks
from streamflow.topics.protocol import Snapshot, TaskState


@dataclass(frozen=True, slots=True)
class SourcePartition:
    """A partition that a source reads. `newest_us`: its newest event, where the watermark goes by that and something
    was read; `marker_us`: its last marker, where it goes by these; `promised`: the watermark is what the publishers
    promise for the whole topic; `idle`: proven to be at its end, and not waited for."""

    stage: str
    topic: str
    partition: int
    policy: str
    watermark_us: int
    newest_us: int | None
    marker_us: int | None
    promised: bool
    backlog_events: int
    offset: int
    idle: bool

    @property
    def mark(self) -> SourceMark:
        return SourceMark(self.watermark_us, self.idle)


@dataclass(frozen=True, slots=True)
class KeptBack:
    """A task between the stages that keeps a result back until later."""

    stage: str
    partition: int
    watermark_us: int


Holder = SourcePartition | KeptBack


def source_partitions(outline: Outline, snapshot: Snapshot, stage: str) -> list[SourcePartition]:
    """Of all sources before the stage, however far; in the order of the pipeline."""
    before = set(_before(outline, stage))
    found: list[SourcePartition] = []
    for source in outline.values():
        if source.name in before and not source.upstream:
            found += _partitions(outline, snapshot, source)
    return found


def source_holder(outline: Outline, snapshot: Snapshot) -> SourcePartition | None:
    """The partition that holds back the watermark of the pipeline's topics, all taken together. None if they have
    ended, or there are none."""
    found = [each for source in outline.values() if source.watermark for each in _partitions(outline, snapshot, source)]
    marks = [each.mark for each in found]
    if not found or merged_watermark(marks, ()) >= MAX_US:
        return None
    return found[speaking_sources(marks)[0]]


def holder_of(outline: Outline, snapshot: Snapshot, stage: str) -> Holder | None:
    """What holds back the watermark of the stage's input: the one that it goes by, of the earliest stage to which it
    can be traced. None if all its inputs have ended."""
    upstream = [outline[name] for name in outline[stage].upstream]
    sources = [each for up in upstream if may_idle(up) for each in _partitions(outline, snapshot, up)]
    between = [state for up in upstream if not may_idle(up) for state in stage_tasks(snapshot, up.name)]
    marks = [each.mark for each in sources]
    watermark_us = merged_watermark(marks, (state.output_watermark_us for state in between))
    if watermark_us >= MAX_US:
        return None
    for state in between:
        if state.output_watermark_us == watermark_us:
            of = outline[state.task.stage]
            if not of.upstream:
                return _partition(outline, snapshot, of, state)
            if state.hold_us < state.watermark_us:
                return KeptBack(of.label, state.task.partition, watermark_us)
            return holder_of(outline, snapshot, of.name)
    return sources[speaking_sources(marks)[0]]


def _before(outline: Outline, stage: str) -> Iterator[str]:
    for name in outline[stage].upstream:
        yield name
        yield from _before(outline, name)


def _partitions(outline: Outline, snapshot: Snapshot, source: StageOutline) -> list[SourcePartition]:
    states = sorted(stage_tasks(snapshot, source.name), key=lambda state: state.task.partition)
    return [_partition(outline, snapshot, source, state) for state in states]


def _partition(outline: Outline, snapshot: Snapshot, source: StageOutline, state: TaskState) -> SourcePartition:
    policy, watermark_us = source.watermark, state.watermark_us
    promised = watermark_us > MIN_US and watermark_us == snapshot.topics[state.topic].watermark_us
    known = policy is not None and not promised and MIN_US < watermark_us < MAX_US
    by_markers = policy is not None and policy.disorder_us is None
    return SourcePartition(
        source.label,
        state.topic,
        state.task.partition,
        "what is there, to its end" if policy is None else policy.text,
        watermark_us,
        watermark_us + (policy.disorder_us or 0) if policy and known and not by_markers else None,
        watermark_us if known and by_markers else None,
        promised,
        snapshot.ends[state.topic, state.task.partition] - state.offset,
        state.offset,
        may_idle(source) and source_mark(state, snapshot, waiting_in(outline)).idle,
    )
