"""Heads: how a stage takes in what it reads. A source decodes, a grouping keeps windows, a sink writes to its store.

A head first *absorbs* the records of a step, then *fires*: it gives the batches that go down the stage's tree, knowing
how far the watermark has moved.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import polars as pl

from streamflow.base.errors import DataError
from streamflow.engine.combine.columns import ColumnCombiner
from streamflow.engine.combine.contract import Combiner, pane_columns
from streamflow.engine.context import StepContext
from streamflow.engine.held import HeldState, window_ends
from streamflow.engine.history import without_rows
from streamflow.engine.ledger import Delta, Ledger
from streamflow.engine.memory import StateMemory
from streamflow.engine.sessions import SessionState
from streamflow.engine.slices import ALL
from streamflow.engine.source import SourceDecoder, newest_marker, offsets_of, with_offsets
from streamflow.engine.state import WindowState
from streamflow.engine.stores import Sink, SinkWriter
from streamflow.model.batch import OFFSET, Batch, Elements, OnBad, public, tell, together
from streamflow.model.time import MAX_US, MIN_US
from streamflow.model.watermark import BoundedDisorder, MarkerColumn, PublishedMarkers, WatermarkPolicy
from streamflow.model.window import TIME
from streamflow.model.windowing import Windowing
from streamflow.topics import codec
from streamflow.topics.frames import write_compact
from streamflow.topics.protocol import Kind, Record, SegmentInfo, StateSegment

_Layout = tuple[list[str], list[pl.DataType]]
Late = Callable[[Batch, StepContext], None]
"""Takes records of what a head has dropped as too late."""


class Head(Protocol):
    time_max_us: int | None
    """The newest event time absorbed so far, or the last marker where the watermark goes by these; None for heads that
    do not decode events."""

    @property
    def due_us(self) -> int | None:
        """The wall time from which on there is something to do though nothing comes in; None if there is nothing."""

    @property
    def hold_us(self) -> int:
        """The event time of the earliest output that is kept back until its wall time has come; `MAX_US` if none is."""

    def absorb(self, records: Sequence[Record], context: StepContext) -> None: ...

    def fire(self, before_us: int, after_us: int, context: StepContext) -> Iterable[Batch]:
        """Batches to be worked off one by one: the next may be made only when it is asked for."""

    def delta(self, stamp: int, watermark_us: int, context: StepContext) -> Delta:
        """State to commit with the step, after all it has fired was worked off; `stamp` is the input offset it
        covers."""

    def close(self) -> None: ...


class _Stateless:
    time_max_us: int | None = None
    due_us: int | None = None
    hold_us: int = MAX_US

    def delta(self, stamp: int, watermark_us: int, context: StepContext) -> Delta:
        return Delta()

    def close(self) -> None: ...


class SourceHead(_Stateless):
    """Events of a user's topic."""

    def __init__(
        self,
        decoder: SourceDecoder,
        label: str,
        first_offset: int,
        from_time_us: int | None,
        policy: WatermarkPolicy | None = None,
    ) -> None:
        self.decoder, self.label, self.policy = decoder, label, policy or BoundedDisorder()
        self.first_offset, self.from_time_us = first_offset, from_time_us
        self._batches: list[Batch] = []

    def absorb(self, records: Sequence[Record], context: StepContext) -> None:
        tell_bad = context.on_bad(self.label)

        def on_bad(value: Any, offset: int, error: Exception) -> None:
            # A record is read whole, also the one in which reading begins.
            if offset >= self.first_offset:
                tell_bad(value, offset, error)

        marks = [record for record in records if record.kind is Kind.MARK]
        events = [record for record in records if record.kind is not Kind.MARK] if marks else records
        if isinstance(self.policy, PublishedMarkers):
            self._seen(max(map(codec.marked_us, marks), default=None))
        for batch in map(self._wanted, self.decoder.decode(events, on_bad)):
            self._batches.append(batch)
            if isinstance(self.policy, MarkerColumn):
                self._seen(newest_marker(batch, self.policy.name))
            elif isinstance(self.policy, BoundedDisorder):
                self._seen(_newest(batch))

    def fire(self, before_us: int, after_us: int, context: StepContext) -> list[Batch]:
        batches, self._batches = self._batches, []
        return batches

    def _seen(self, time_us: int | None) -> None:
        if time_us is not None:
            self.time_max_us = time_us if self.time_max_us is None else max(self.time_max_us, time_us)

    def _wanted(self, batch: Batch) -> Batch:
        """Without the events that lie before the beginning."""
        if not self.first_offset and self.from_time_us is None:
            return batch
        first, from_us = self.first_offset, MIN_US if self.from_time_us is None else self.from_time_us
        if isinstance(batch, pl.DataFrame):
            return batch.filter((pl.col(OFFSET) >= first) & (pl.col(TIME) >= from_us))
        out = Elements()
        for i, (value, time_us, offset) in enumerate(zip(batch.values, batch.times, batch.offsets, strict=True)):
            if offset >= first and time_us >= from_us:
                out.append(value, time_us, offset, batch.window(i))
        return out


class LogHead(_Stateless):
    """Elements from an internal log as they were written there: the values of Create, or what a Reshuffle spreads."""

    def __init__(self) -> None:
        self._batches: list[Batch] = []

    def absorb(self, records: Sequence[Record], context: StepContext) -> None:
        self._batches = [with_offsets(record) for record in records]

    def fire(self, before_us: int, after_us: int, context: StepContext) -> list[Batch]:
        batches, self._batches = self._batches, []
        return batches


class SinkHead(_Stateless):
    """Rows into a store; gives nothing on. Rows that the store can't hold are bad events like others.

    `start`: where the store stood when the task was new. It is added to offsets, so that a pipeline which begins anew
    under its old name (after a reset, or on another log) is not taken for a repetition of the earlier one."""

    def __init__(self, writer: Sink, start: int, label: str) -> None:
        self.writer, self.start, self.label = writer, start, label

    def absorb(self, records: Sequence[Record], context: StepContext) -> None:
        if not records:
            return
        on_bad = context.on_bad(self.label)
        frames = _fitting(None, [with_offsets(record) for record in records], on_bad)
        good = self._storable(pl.concat(frames, how="diagonal_relaxed"), on_bad)
        if good.height:
            self._store(good.with_columns(pl.col(OFFSET) + self.start), records)
        context.counts["events_out"] += good.height

    @abstractmethod
    def _store(self, rows: pl.DataFrame, records: Sequence[Record]) -> None:
        """`rows`: those of the records that can be stored, with their offsets as the store counts them."""

    def _storable(self, frame: pl.DataFrame, on_bad: OnBad) -> pl.DataFrame:
        """The rows that pass the store's check, found by bisection; if not even no rows pass, all are bad at once."""
        try:
            self.writer.check(frame)
        except DataError as error:
            if frame.height == 1 or self._refuses_columns(frame):
                tell(frame, on_bad, error)
                return frame.clear()
            half = frame.height // 2
            parts = (frame.head(half), frame.tail(frame.height - half))
            return pl.concat([self._storable(part, on_bad) for part in parts])
        return frame

    def _refuses_columns(self, frame: pl.DataFrame) -> bool:
        try:
            self.writer.check(frame.clear())
        except DataError:
            return True
        return False

    def fire(self, before_us: int, after_us: int, context: StepContext) -> list[Batch]:
        return []

    def close(self) -> None:
        self.writer.close()


class StoreHead(SinkHead):
    """Into a store that skips what it has."""

    def __init__(self, writer: SinkWriter, start: int, epoch: int, label: str) -> None:
        super().__init__(writer, start, label)
        self._store_writer, self._epoch = writer, epoch

    def _store(self, rows: pl.DataFrame, records: Sequence[Record]) -> None:
        self._store_writer.write(rows, records[-1].end + self.start, self._epoch)


class GroupingHead:
    """Partials into window state; panes of the windows that the watermark has passed, and of late groups."""

    time_max_us: int | None = None
    due_us: int | None = None
    hold_us: int = MAX_US

    def __init__(
        self,
        combiner: Combiner,
        windowing: Windowing,
        ledger: Ledger,
        memory: StateMemory,
        segments_max: int,
        label: str,
        late: Late | None = None,
    ) -> None:
        self.combiner, self.label, self._late = combiner, label, late
        self.segments_max = segments_max
        self.state = _state(combiner, windowing, ledger, memory)
        self._ledger, self._memory = ledger, memory
        self._incoming: list[pl.DataFrame] = []
        self._layout: _Layout | None = None
        """Of the partials last found to go with those before them."""
        self._fresh: Sequence[pl.DataFrame] = ()

    def absorb(self, records: Sequence[Record], context: StepContext) -> None:
        frames = [codec.decode(record) for record in records]
        if any(_layout(frame) != self._layout for frame in frames):
            frames = [frame.with_columns(offsets_of([record])) for frame, record in zip(frames, records, strict=True)]
            fitting = _fitting(self.state.columns(), frames, context.on_bad(self.label))
            frames = [frame.drop(OFFSET) for frame in fitting]
            self._layout = _layout(frames[-1]) if frames else None
        if context.panes is not None:
            kinds = self.state.kinds(list(map(without_rows, frames)), context.panes.watermark_us)
            for frame, kind in zip(frames, kinds, strict=True):
                context.panes.came(self.combiner.key_texts(frame), frame, kind)
        self._incoming = list(map(without_rows, frames))

    def fire(self, before_us: int, after_us: int, context: StepContext) -> Iterator[Batch]:
        fired = self.state.step(self._incoming, before_us, after_us)
        self._incoming, self._fresh = [], fired.deltas
        context.counts["late"] += fired.late
        context.counts["dropped"] += fired.dropped
        if self._late is not None:
            for frame in fired.lost:
                self._late(self.combiner.late(frame, context.on_bad(self.label)), context)
        nothing = True
        for frame in fired.panes:
            nothing = False
            if context.panes is not None:
                panes = frame.with_columns(pane_columns(self.state.windowing))
                context.panes.fired(self.combiner.key_texts(frame), panes, after_us)
            yield self.combiner.final(frame, context.on_bad(self.label))
        if nothing and after_us == MAX_US > before_us and (empty := self.combiner.empty()) is not None:
            yield empty

    def delta(self, stamp: int, watermark_us: int, context: StepContext) -> Delta:
        delta = Delta(drop=self._ledger.expired(watermark_us, self.state.gone_at))
        self._ledger.drop(delta.drop)
        run = self._ledger.run_to_merge(self.segments_max, self._memory.piece_bytes, self.state.rows())
        if run:
            resident = self._ledger.is_resident(run[0])
            sequences = [info.sequence for info in run]
            for part, frame in self.state.compacted(run, watermark_us):
                delta.add.append(self._segment(frame, stamp, watermark_us, part, resident=resident))
            self._ledger.drop(sequences)
            delta.drop += sequences
        for fresh in self._fresh:
            if (living := self.state.living(fresh, watermark_us)).height:
                delta.add.append(self._segment(living, stamp, watermark_us, ALL, resident=True))
        self._fresh = ()
        context.counts["state_bytes_spilled"] += self.state.bytes_spilled
        context.counts["state_bytes_read"] += self._ledger.bytes_read
        self.state.bytes_spilled = self._ledger.bytes_read = 0
        return delta

    def _segment(
        self, frame: pl.DataFrame, stamp: int, watermark_us: int, part: int, *, resident: bool
    ) -> StateSegment:
        size = int(frame.estimated_size())
        sequence = self._ledger.next_sequence()
        info = SegmentInfo(sequence, stamp, watermark_us, frame.height, size, *window_ends(frame), part)
        self._ledger.add(info, resident=resident)
        return StateSegment(info, write_compact(frame))

    def close(self) -> None:
        self._memory.forget(self.state)
        self.combiner.close()


def _state(combiner: Combiner, windowing: Windowing, ledger: Ledger, memory: StateMemory) -> HeldState:
    if windowing.is_plain_sessions:
        assert isinstance(combiner, ColumnCombiner)
        return SessionState(combiner, windowing, ledger, memory)
    return WindowState(combiner, windowing, ledger, memory)


def _layout(frame: pl.DataFrame) -> _Layout:
    return frame.columns, frame.dtypes


def _fitting(known: pl.DataFrame | None, frames: Sequence[pl.DataFrame], on_bad: OnBad) -> list[pl.DataFrame]:
    """The frames whose columns are of the kinds of those before them; the rows of the others are told."""
    fitting: list[pl.DataFrame] = []
    for frame in frames:
        columns = frame.clear() if known is None else together(known, frame)
        if columns is None:
            types = {name: str(dtype) for name, dtype in public(frame).schema.items()}
            tell(frame, on_bad, DataError(f"columns of other kinds than before: {types}. Give a schema to the source."))
            continue
        known = columns
        fitting.append(frame)
    return fitting


def _newest(batch: Batch) -> int | None:
    if isinstance(batch, Elements):
        return max(batch.times, default=None)
    newest = batch[TIME].max()
    return newest if isinstance(newest, int) else None
