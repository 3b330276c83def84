"""What sinks commit beside their steps: where they began, and in front of an object store, which can neither lock nor
rename, what they are about to write.

settle    which offsets the next object holds becomes part of the task's state, in a commit of its own
write     the object, whose name and content follow from the offsets
commit    the step, which lets go of what was settled

killed before the settling     nothing of the step exists
killed before the commit       the next owner reads just these offsets, and writes the same object again
taken for dead                 it can settle nothing any more; what it still writes is what the owner writes too
"""

from collections.abc import Sequence

import polars as pl

from streamflow.base.errors import FencedError
from streamflow.engine.context import StepContext
from streamflow.engine.heads import SinkHead
from streamflow.engine.ledger import Delta
from streamflow.engine.stores import ObjectsSink, Sink
from streamflow.topics.protocol import Claim, Log, Record, SegmentInfo, StateSegment, StepCommit


class ObjectsHead(SinkHead):
    """`claim`: its first segment says where the sink began, a second one what was settled."""

    def __init__(self, writer: ObjectsSink, start: int, log: Log, claim: Claim, label: str) -> None:
        super().__init__(writer, start, label)
        self._objects, self._log, self._state = writer, log, claim.state
        self._sequence = max((info.sequence for info in claim.segments), default=0)
        self.until: int | None = None
        """The end of the offsets that were settled, if there are any: the step must read up to there and no further."""
        if len(claim.segments) > 1:
            self.until = _read(log, claim, self._sequence)

    def absorb(self, records: Sequence[Record], context: StepContext) -> None:
        if records and self.until is None:
            self._settle(records[0].offset, records[-1].end)
        super().absorb(records, context)

    def delta(self, stamp: int, watermark_us: int, context: StepContext) -> Delta:
        if self.until is None:
            return Delta()
        self.until = None
        return Delta(drop=[self._sequence])

    def _settle(self, begin: int, end: int) -> None:
        segment = StateSegment(SegmentInfo(self._sequence + 1, begin, self._state.watermark_us), b"%d" % end)
        task = self._state.task
        commit = StepCommit(task, self._state.epoch, begin, self._state.watermark_us, segments_add=[segment])
        commit_first(self._log, commit)
        self._sequence, self.until = self._sequence + 1, end

    def _store(self, rows: pl.DataFrame, records: Sequence[Record]) -> None:
        self._objects.write(rows, records[0].offset + self.start, records[-1].end + self.start)


def sink_start(log: Log, claim: Claim, writer: Sink) -> int:
    """Where the store stood when the task was new: committed before the first row is written, then kept."""
    if claim.segments:
        return _read(log, claim, claim.segments[0].sequence)
    state, start = claim.state, writer.committed()
    segment = StateSegment(SegmentInfo(0, state.offset, state.watermark_us), b"%d" % start)
    first = StepCommit(
        state.task, state.epoch, state.offset, state.watermark_us, segments_add=[segment], counters=state.counters
    )
    commit_first(log, first)
    return start


def commit_first(log: Log, commit: StepCommit) -> None:
    """What must be durable before the step does anything else. FencedError if the task has another owner."""
    if not all(log.commit([commit])):
        raise FencedError(f"task '{commit.task}' was taken over. Drop it, it is run elsewhere")


def _read(log: Log, claim: Claim, sequence: int) -> int:
    (payload,) = log.read_state(claim.state.task, claim.state.epoch, [sequence])
    return int(payload)
