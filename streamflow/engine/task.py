"""The task: one stage on one partition. It repeats one step: read a batch at an offset, compute it, hand over the
commit.

    killed before the commit   nothing of the step exists; the next owner reads the same offset again
    killed after the commit    everything of it exists; the next owner goes on behind it
    killed in between (sinks)  the store has the rows and their end offset; it skips them when they are repeated

A task that was fenced learns it from the refused commit, and must be thrown away: its memory is ahead of the truth.
"""

import math
from collections.abc import Mapping, Sequence

import polars as pl

from streamflow.engine.context import StepContext
from streamflow.engine.files import SHARDS_AT_ONCE, FilesHead
from streamflow.engine.heads import SinkHead
from streamflow.engine.history import Origin, PaneRecorder
from streamflow.engine.opening import open_head
from streamflow.engine.operators.compiler import compile_steps
from streamflow.engine.pace import BEHIND_S, CALLING_EVENTS_FIRST, calling_events, rest_s
from streamflow.engine.plan import Stage
from streamflow.engine.setting import Setting
from streamflow.engine.sidehead import SidesHead
from streamflow.engine.sides import closes, mark
from streamflow.engine.sinks import ObjectsHead, commit_first
from streamflow.model.batch import OFFSET, together
from streamflow.model.time import MAX_US
from streamflow.model.user_metrics import add, at_step, is_users, recording
from streamflow.model.watermark import Horizon, advance, source_watermark
from streamflow.topics import codec
from streamflow.topics.protocol import Claim, Kind, Record, Snapshot, StepCommit
from streamflow.transforms.io import ReadFromTopic, WriteToTopic

SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histograms of step and commit times."""
DEAD_LETTERS_RECORD_MAX = 5_000
"""Each holds a traceback: bounds what a step in which everything fails costs in memory, here and for readers."""
HISTORY_RECORD_MAX = 20_000
"""Entries of the history of panes in a record: whoever asks for a window reads few that it does not need."""

ALONE_ROWS_MIN = 500
"""Frames of fewer rows share a record."""
ROWS_WAITING_MAX = 250_000
"""Outputs of a step are encoded once there are so many: a large window gives more rows than memory has room for."""

_KEEPING = ("grouping", "stateful", "join", "sides")
"""Kinds of stages that keep a state of their own."""


class Task:
    """Holds what one claim gives: position, watermark, state. Not shared between threads.

    `stepped_s`: when its last step ended; `rested_s`: from when on it may take the next, which sinks delay."""

    def __init__(self, setting: Setting, stage: Stage, claim: Claim) -> None:
        self.log, self.clock, self.plan, self.stage = setting.log, setting.clock, setting.plan, stage
        self.settings = setting.plan.settings
        self.id, self.epoch = claim.state.task, claim.state.epoch
        self.offset, self.watermark_us = claim.state.offset, claim.state.watermark_us
        self.counters = dict(claim.state.counters)
        self._failed = setting.failed
        self._promised_us = claim.state.output_watermark_us
        """What those behind this task have been promised: it never goes back."""
        self._horizon = Horizon(-1, self.watermark_us)
        self.stepped_s = self.rested_s = self.clock.monotonic_s()
        self._begin()
        self._head = open_head(setting, stage, claim)
        self.needs_commits = stage.kind in _KEEPING or isinstance(self._head, ObjectsHead)
        """Its next step may ask the log for what the one before has committed, or commit something itself."""
        self._operators = compile_steps(
            stage.steps,
            self._partitions,
            partition=self.id.partition,
            rows_only=self.settings.rows_only,
            learnt=setting.pre_aggregations,
            calls=setting.calls,
            views=self._head.views if isinstance(self._head, SidesHead) else None,
            origin=self._origin(),
        )
        self._events_max, self._calling = self.settings.step_events_max, stage.calls_async
        if self._calling:
            self._events_max = min(self._events_max, CALLING_EVENTS_FIRST)

    def _origin(self) -> Origin | None:
        """For the history of panes, where that is kept."""
        if not self.settings.explain_panes:
            return None
        return Origin(self.stage.topic, self.id.partition, has_offsets=self.stage.kind != "files")

    def _begin(self) -> None:
        """A reader that does not begin with the first event commits that before all else: others tell from its offset
        whether it has something to read."""
        transform = self.stage.node.transform
        first = transform.first_offset(self.id.partition) if isinstance(transform, ReadFromTopic) else 0
        if self.offset < first:
            commit_first(self.log, StepCommit(self.id, self.epoch, first, self.watermark_us, counters=self.counters))
            self.offset = first

    def ready(self, snapshot: Snapshot, stage_watermark_us: int, *, busy: bool = False) -> bool:
        """Is there something to do: events to read, a watermark to take up, or something that is due by the clock?
        `busy`: sources are, so that who stands behind them collects for a while."""
        waiting = self.waiting(snapshot)
        if self.held_back(snapshot):
            return False
        if self.stage.kind == "sink":
            # Where nothing more will come there is nothing to wait for.
            rested = self.clock.monotonic_s() >= self.rested_s or stage_watermark_us >= MAX_US
            return waiting > 0 and (rested or waiting >= self.settings.step_events_max)
        self._see(snapshot, stage_watermark_us)
        if busy and self.stage.upstream and waiting < self.settings.step_events_max:
            return (waiting > 0 or self.due_in_s() <= 0) and self.clock.monotonic_s() >= self.stepped_s + BEHIND_S
        return waiting > 0 or self.due_in_s() <= 0 or self._input_watermark() > self.watermark_us

    def due_in_s(self) -> float:
        """Seconds until there is something to do though nothing comes in; infinite if there is nothing."""
        due_us = self._head.due_us
        return math.inf if due_us is None else (due_us - self.clock.now_us()) / 1e6

    def held_back(self, snapshot: Snapshot) -> bool:
        """Are there files to be read before its topic?"""
        files = None if self.stage.behind is None else self.plan.stage(self.stage.behind)
        return files is not None and not _is_read(snapshot, files)

    def waiting(self, snapshot: Snapshot) -> int:
        """Events committed to the input and not yet read; messages, where the log numbers these."""
        behind = snapshot.ends[self.stage.topic, self.id.partition] - self.offset
        return -(-behind // self.log.offset_span)

    def step(self, snapshot: Snapshot, stage_watermark_us: int) -> StepCommit:
        """One round up to its commit. `stage_watermark_us`: of the stage's input at the instant of the snapshot."""
        context = StepContext(now_us=self.clock.now_us())
        with recording(context.counts, context.now_us, self.stage.node.label):
            return self._step(snapshot, stage_watermark_us, context)

    def _step(self, snapshot: Snapshot, stage_watermark_us: int, context: StepContext) -> StepCommit:
        began_s = self.clock.monotonic_s()
        self._see(snapshot, stage_watermark_us)
        if self.settings.explain_panes and self.stage.panes is not None:
            context.panes = PaneRecorder(self.watermark_us, context.now_us)
        records = self._read(snapshot.ends[self.stage.topic, self.id.partition], context)
        self._head.absorb(records, context)
        if isinstance(self._head, FilesHead):
            self.offset = self._head.offset
        outputs: list[Record] = []
        before_us = self.watermark_us
        self.watermark_us = advance(before_us, self._input_watermark())
        for batch in self._head.fire(before_us, self.watermark_us, context):
            if len(batch):
                for operator in self._operators:
                    operator.run(batch, context)
                at_step(self.stage.node.label)
            if context.rows_waiting() >= ROWS_WAITING_MAX:
                outputs += self._encoded(context)
        self.stepped_s = self.rested_s = self.clock.monotonic_s()
        seconds = self.stepped_s - began_s
        if self._calling:
            wanted = calling_events(self._events_max, int(context.counts["events_in"]), seconds)
            self._events_max = min(self.settings.step_events_max, wanted)
        if isinstance(self._head, SinkHead):
            self.rested_s += rest_s(seconds, self._head.writer.rest_min_s, self.settings.sink_interval_s)
        return self._commit([*outputs, *self._encoded(context)], context, seconds)

    def close(self) -> None:
        for operator in self._operators:
            operator.close()
        self._head.close()

    def _read(self, end: int, context: StepContext) -> list[Record]:
        of_files = isinstance(self._head, FilesHead)
        if isinstance(self._head, ObjectsHead) and self._head.until is not None:
            records = self.log.read(self.stage.topic, self.id.partition, self.offset, end=self._head.until)
            return self._took(records, end, context)
        records = self.log.read(
            self.stage.topic,
            self.id.partition,
            self.offset,
            end=end,
            max_events=SHARDS_AT_ONCE if of_files else self._events_max,
            max_bytes=self.settings.step_bytes_max,
        )
        if of_files:
            # What it reads are shards, and the head says how many of them are done.
            return records
        return self._took(records, end, context)

    def _took(self, records: list[Record], end: int, context: StepContext) -> list[Record]:
        # The first record may hold events before the one at which reading began.
        events = sum(record.events_from(self.offset) for record in records)
        marks = sum(record.kind is Kind.MARK for record in records)
        # What retention took before it was read leaves a gap, up to the end if nothing was kept.
        reached = self.log.after(self.stage.topic, self.id.partition, records[-1].end) if records else end
        context.counts["events_in"] += events - marks
        if self.log.offset_span == 1:
            context.counts["expired"] += reached - self.offset - events
        self.offset = reached
        return records

    def _partitions(self, topic: str) -> int:
        return self.log.topic(topic).config.partitions

    def _see(self, snapshot: Snapshot, stage_watermark_us: int) -> None:
        """Pair the watermark with the end of the input at the same instant: it holds for us once we have read that
        far."""
        if self.offset >= self._horizon.offset:
            end = snapshot.ends[self.stage.topic, self.id.partition]
            at_source = not self.stage.upstream
            promise = snapshot.topics[self.stage.topic].watermark_us if at_source else stage_watermark_us
            self._horizon = Horizon(end, promise)

    def _input_watermark(self) -> int:
        promised = self._horizon.watermark_us if self.offset >= self._horizon.offset else None
        transform = self.stage.node.transform
        if isinstance(transform, ReadFromTopic):
            return source_watermark(self._head.time_max_us, transform.watermark.disorder_us, promised)
        return self.watermark_us if promised is None else promised

    def _commit(self, outputs: Sequence[Record], context: StepContext, seconds: float) -> StepCommit:
        context.counts["events_out"] += sum(record.count for record in outputs)
        context.counts["dead_lettered"] += len(context.dead)
        delta = self._head.delta(self.offset, self.watermark_us, context)
        self._count(context.counts, seconds)
        hold_us = max(self._head.hold_us, self._promised_us)
        before_us, self._promised_us = self._promised_us, min(self.watermark_us, hold_us)
        return StepCommit(
            self.id,
            self.epoch,
            self.offset,
            self.watermark_us,
            [*outputs, *self._marks(before_us), *self._dead_letters(context), *self._history(context)],
            delta.add,
            delta.drop,
            dict(self.counters),
            hold_us,
        )

    def _encoded(self, context: StepContext) -> list[Record]:
        """What waits in the context, as records; it is taken out."""
        records = [*self._envelopes(context), *self._json_records(context)]
        context.frames.clear()
        context.events.clear()
        return records

    def _envelopes(self, context: StepContext) -> list[Record]:
        records = []
        outputs = self.stage.outputs
        for (topic, partition), frames in context.frames.items():
            of_users = topic == self.stage.late_to or isinstance(outputs[topic].node.transform, WriteToTopic)
            for alike in _grouped(frames):
                frame = pl.concat(alike, how="diagonal_relaxed") if len(alike) > 1 else alike[0]
                # Partials have none, and to drop nothing from a frame is a query all the same.
                frame = frame.drop(OFFSET) if OFFSET in frame.columns else frame
                records.append(codec.encode_frame(topic, partition, frame, internal=not of_users))
        return records

    def _json_records(self, context: StepContext) -> list[Record]:
        return [
            codec.encode_json(topic, partition, [event for event, _ in events], [time_us for _, time_us in events])
            for (topic, partition), events in context.events.items()
        ]

    def _marks(self, before_us: int) -> list[Record]:
        """For those that have what this task gives as a side input: up to where it is complete from now on."""
        marks: list[Record] = []
        for topic, leaf in self.stage.leaves:
            if leaf.side is not None and closes(leaf.windowing, before_us, self._promised_us):
                marks += mark(topic, self._partitions(topic), leaf.side, self._promised_us)
        return marks

    def _dead_letters(self, context: StepContext) -> list[Record]:
        now_us = self.clock.now_us()
        self._failed += context.dead[: 1 - len(self._failed)]
        records = []
        for begin in range(0, len(context.dead), DEAD_LETTERS_RECORD_MAX):
            part = context.dead[begin : begin + DEAD_LETTERS_RECORD_MAX]
            events = [
                letter.to_json(self.stage.topic, self.id.partition, self._place(letter.offset)) for letter in part
            ]
            records.append(codec.encode_json(self.plan.dead_letter_topic, 0, events, [now_us] * len(events)))
        return records

    def _history(self, context: StepContext) -> list[Record]:
        """What the step has to tell of its panes; in the partition of its own number."""
        entries = None if context.panes is None else context.panes.entries()
        if entries is None or self.stage.panes is None:
            return []
        parts = entries.iter_slices(HISTORY_RECORD_MAX)
        return [codec.encode_frame(self.stage.panes, self.id.partition, part) for part in parts]

    def _place(self, offset: int) -> Mapping[str, int | str]:
        return self._head.place(offset) if isinstance(self._head, FilesHead) else {}

    def _count(self, counts: Mapping[str, float], seconds: float) -> None:
        """Counters are cumulative and part of the commit: exact, whatever is killed."""
        for name, value in {**counts, **histogram("step_seconds", seconds)}.items():
            if value or is_users(name):
                add(self.counters, name, value)

    def count_commit(self, seconds: float) -> None:
        """The time that a commit took is known only after it, so it goes with the next one."""
        for name, value in histogram("commit_seconds", seconds).items():
            self.counters[name] = self.counters.get(name, 0) + value


def _grouped(frames: Sequence[pl.DataFrame]) -> list[list[pl.DataFrame]]:
    """Small frames whose columns go together, in order; large ones by themselves, as those of one window are cheaper
    alone than mixed with others. Batches without a schema may bring columns of different kinds."""
    groups: list[tuple[pl.DataFrame, list[pl.DataFrame]]] = []
    begin = 0
    for frame in frames:
        if frame.height >= ALONE_ROWS_MIN:
            groups.append((frame, [frame]))
            begin = len(groups)
            continue
        for i, (known, members) in enumerate(groups[begin:], begin):
            if (columns := together(known, frame)) is not None:
                groups[i] = (columns, [*members, frame])
                break
        else:
            groups.append((frame.clear(), [frame]))
    return [members for _, members in groups]


def histogram(name: str, seconds: float) -> dict[str, float]:
    """One observation as counters: how often, how long in all, and how often up to each bound (not cumulative)."""
    bound = next((bound for bound in SECONDS_BUCKETS if seconds <= bound), float("inf"))
    return {f"{name}_count": 1, f"{name}_sum": seconds, f"{name}_le:{bound:g}": 1}


def _is_read(snapshot: Snapshot, files: Stage) -> bool:
    """Whether all shards of a stage of files are there, and finished."""
    listed = snapshot.topics[files.topic].watermark_us >= MAX_US
    return listed and all(
        state.offset >= snapshot.ends[state.topic, task.partition]
        for task, state in snapshot.tasks.items()
        if task.stage == files.name
    )
