"""A join by time, as the head of its stage: rows of both sides are kept until the watermark says that nothing can come
any more that they could be joined with.

A commit persists the rows that its step has brought and that are still needed after it. They are never changed: what
has become of a row follows from its time and the watermark (see `matching`). So a claimed task reads its rows, and
knows all.
"""

from collections.abc import Iterator, Sequence

import polars as pl

from streamflow.engine.context import StepContext
from streamflow.engine.heads import Late
from streamflow.engine.ledger import Delta, Ledger
from streamflow.engine.matching import LEFT, RIGHT, SEEN, matcher_of
from streamflow.engine.memory import StateMemory
from streamflow.model.batch import Batch
from streamflow.model.time import MAX_US
from streamflow.model.window import TIME
from streamflow.topics import codec
from streamflow.topics.frames import write_compact
from streamflow.topics.protocol import Record, SegmentInfo, StateSegment
from streamflow.transforms.time_joins import FROM_LEFT, TimeJoin

_SLICES = (2, 3)
"""The ledger merges segments of one slice: each side has its own."""
_UNCUT_BYTES = 1 << 62
"""Rows are in memory, so there is nothing to be gained by slices of keys."""
_SPARE_ROWS = 1_000
"""What newer rows have made needless is looked for when there are twice as many as the last time, and these."""
_CHUNKS_MAX = 32
"""Frames of a few rows make every query slow."""


class TimeJoinHead:
    """`watermark_us`: the task's when it was claimed; `memory`: of the worker, which is told what the rows take of it;
    `late`: takes the rows that come too late."""

    time_max_us: int | None = None
    due_us: int | None = None

    def __init__(
        self,
        join: TimeJoin,
        ledger: Ledger,
        watermark_us: int,
        segments_max: int,
        memory: StateMemory,
        late: Late | None = None,
    ) -> None:
        self._join, self._late, self._memory = join, late, memory
        self._matcher, self._ledger, self._segments_max = matcher_of(join), ledger, segments_max
        self._columns = [list(join.left), list(join.right)]
        own = {TIME: pl.Int64(), SEEN: pl.Int64()}
        self._none = [pl.DataFrame(schema={**own, **columns}) for columns in (join.left, join.right)]
        self._kept = list(self._none)
        self._needed = [0, 0]
        """How many rows of each side were needed when that was last looked at."""
        self._fresh = list(self._none)
        self._watermark_us = watermark_us
        segments = ledger.on_disk_only()
        for side in (LEFT, RIGHT):
            frames = [ledger.read(info) for info in segments if info.slice == _SLICES[side]]
            self._keep(side, pl.concat([self._none[side], *frames]))
        ledger.take_up(segments)
        self._bytes_told = int(sum(kept.estimated_size() for kept in self._kept))

    @property
    def hold_us(self) -> int:
        return min(self._held(LEFT), self._held(RIGHT))

    def absorb(self, records: Sequence[Record], context: StepContext) -> None:
        frames = [codec.decode(record) for record in records]
        for side, of_side in ((LEFT, pl.col(FROM_LEFT)), (RIGHT, ~pl.col(FROM_LEFT))):
            rows = [frame for each in frames if (frame := each.filter(of_side)).height]
            seen = pl.lit(self._watermark_us, pl.Int64).alias(SEEN)
            found = [frame.select(TIME, seen, *self._columns[side]) for frame in rows]
            self._fresh[side] = pl.concat([self._none[side], *found])

    def fire(self, before_us: int, after_us: int, context: StepContext) -> Iterator[Batch]:
        fresh = [self._admitted(side, before_us, context) for side in (LEFT, RIGHT)]
        yield from (rows for rows in self._matcher.results(self._kept, fresh, before_us, after_us) if rows.height)
        self._watermark_us = after_us
        for side in (LEFT, RIGHT):
            self._fresh[side] = self._matcher.living(side, fresh[side], after_us) if fresh[side].height else fresh[side]
            self._keep(side, self._fresh[side])
        self._tell_size(context)

    def delta(self, stamp: int, watermark_us: int, context: StepContext) -> Delta:
        delta = Delta(drop=self._ledger.expired(watermark_us, lambda gone_us: gone_us))
        self._ledger.drop(delta.drop)
        run = self._ledger.run_to_merge(self._segments_max, _UNCUT_BYTES, sum(rows.height for rows in self._kept))
        if run:
            side = _SLICES.index(run[0].slice)
            merged = pl.concat([self._ledger.read(info) for info in run])
            sequences = [info.sequence for info in run]
            self._ledger.drop(sequences)
            delta.drop += sequences
            self._persist(delta, side, self._matcher.living(side, merged, watermark_us), stamp)
        for side in (LEFT, RIGHT):
            self._persist(delta, side, self._fresh[side], stamp)
            self._fresh[side] = self._none[side]
        return delta

    def close(self) -> None:
        self._memory.forget(self)

    def _tell_size(self, context: StepContext) -> None:
        size = int(sum(kept.estimated_size() for kept in self._kept))
        self._memory.keep(self, size)
        context.counts["state_bytes_keyed"] += size - self._bytes_told
        self._bytes_told = size

    def _admitted(self, side: int, before_us: int, context: StepContext) -> pl.DataFrame:
        """The rows that have come, but for those that are due already."""
        rows = self._fresh[side]
        if not rows.height:
            return rows
        late = rows.filter(pl.col(TIME) < before_us).height
        if not late:
            return rows
        is_open = self._matcher.due_at(side) > before_us
        open_ = rows.filter(is_open)
        dropped = rows.height - open_.height
        if dropped and self._late is not None:
            self._late(self._join.late(rows.filter(~is_open), left=side == LEFT), context)
        context.counts["dropped"] += dropped
        context.counts["late"] += late - dropped
        return open_

    def _keep(self, side: int, rows: pl.DataFrame) -> None:
        """Beside those that are kept, of which those go that are not needed any more, if they may be half."""
        kept = pl.concat([self._kept[side], rows]) if rows.height else self._kept[side]
        gone = kept.select((self._matcher.gone_at(side) <= self._watermark_us).sum()).item()
        if 2 * gone > kept.height or kept.height > 2 * self._needed[side] + _SPARE_ROWS:
            kept = self._matcher.living(side, kept, self._watermark_us)
            self._needed[side] = kept.height
        self._kept[side] = kept.rechunk() if kept.n_chunks() > _CHUNKS_MAX else kept

    def _held(self, side: int) -> int:
        """The earliest time of a row that is to come out, with that time, when it is due."""
        if not self._matcher.holds(side):
            return MAX_US
        waiting = self._matcher.due_at(side) > self._watermark_us
        earliest = self._kept[side].filter(waiting)[TIME].min()
        return earliest if isinstance(earliest, int) else MAX_US

    def _persist(self, delta: Delta, side: int, rows: pl.DataFrame, stamp: int) -> None:
        if not rows.height:
            return
        gone = self._matcher.gone_at(side)
        low_us, high_us = rows.select(gone.min().alias("low"), gone.max().alias("high")).row(0)
        sequence, size = self._ledger.next_sequence(), int(rows.estimated_size())
        info = SegmentInfo(sequence, stamp, self._watermark_us, rows.height, size, low_us, high_us, _SLICES[side])
        self._ledger.add(info, resident=True)
        delta.add.append(StateSegment(info, write_compact(rows)))
