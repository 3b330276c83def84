"""Window state of one task: a small log-structured merge of partial frames, in memory and in the log. Columns all the
way.

A step adds one frame (the delta), which is written to the log as a segment when the step is committed. What is durable
need not be held: to let go of the state in memory is all it takes to spill it, and only when windows fire, or groups
get late events, are the segments read that have something of these windows: one at a time and, if it is much, one
slice of the keys after the other. A step that only adds events reads nothing.

Two flags make panes exact without any further record: `_ontime` is 1 if the group had events before its window closed,
`_late` counts the steps that brought late ones; the newest pane's index is `_ontime + _late - 1`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import polars as pl

from streamflow.engine.combine import EVENTS, GAIN_MIN, LATE, ON_TIME, Combiner
from streamflow.engine.ledger import Ledger
from streamflow.engine.memory import StateMemory
from streamflow.engine.slices import ALL, contains, cut, overlap, passes
from streamflow.model.time import MAX_US
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START, AccumulationMode, Windowing
from streamflow.topics.protocol import SegmentInfo

_FOREVER_US = (1 << 63) - 1
"""After every end, also those of windows that reach beyond the end of time."""
_LAZY_ROWS_MIN = 10_000
"""Fewer are merged as they come: it costs less than to keep and write them as they are."""
_LAZY_GROWTH = 8
"""Where merging gains little, the tail may outgrow the base so many times before it is tried again."""
_COMPACTION_BITS = 2
"""What is too large to be merged into one piece becomes four: with two there would be more levels, each of which is
written once more."""


@dataclass(frozen=True, slots=True)
class Fired:
    """What a step gives: merged partials that fire now, the delta to persist, and how many events were late or
    dropped. `panes` is to be used up before anything else is done with the state: a frame is made when it is asked
    for, so that there is never more than a slice of a large window."""

    panes: Iterator[pl.DataFrame]
    delta: pl.DataFrame | None
    late: int
    dropped: int


class WindowState:
    """`ledger`: the durable segments; `memory`: shared by all states of the worker."""

    def __init__(self, combiner: Combiner, windowing: Windowing, ledger: Ledger, memory: StateMemory) -> None:
        self.combiner, self.windowing, self.ledger, self.memory = combiner, windowing, ledger, memory
        self.groups = [*combiner.keys, WINDOW_START]
        self.bytes_spilled = 0
        """Let go of since this was last set to 0."""
        self._base: pl.DataFrame | None = None
        self._tail: list[pl.DataFrame] = []
        self._gain = math.inf
        """How many rows became one in the last large merge: known after the first."""
        self._known: pl.DataFrame | None = None

    def step(self, incoming: Sequence[pl.DataFrame], before_us: int, after_us: int) -> Fired:
        """Add partials that arrived while the watermark stood at `before_us`, then let it go to `after_us`."""
        delta, late, dropped = self._admit(incoming, before_us)
        if delta is not None:
            self._tail.append(delta)
            if self._tail_rows() > self._base_rows() * (1 if self._gain >= GAIN_MIN else _LAZY_GROWTH):
                self._merge()
        return Fired(self._panes(delta, before_us, after_us), delta, late, dropped)

    def compacted(self, run: Sequence[SegmentInfo], watermark_us: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """What is still needed of segments of one slice, merged: (slice, frame) for each part of it."""
        parts = passes(_weights(run), self.memory.piece_bytes, run[0].slice, bits=_COMPACTION_BITS)
        # A single one is cut as it is: its step held it too.
        held, on_disk = ([self.ledger.read(run[0])], []) if len(run) == 1 else ([], run)
        return self._merged(held, on_disk, ~self._gone(watermark_us), parts)

    def let_go(self) -> None:
        self.bytes_spilled += self.size_bytes()
        self._base, self._tail = None, []
        self.ledger.let_go()

    def columns(self) -> pl.DataFrame | None:
        """All columns of what is held, in memory or not, without rows; None if nothing is."""
        if not self._frames() and not len(self.ledger):
            self._known = None
        elif self._known is None:
            # The newest has them all: each delta is written with the columns of those before it.
            self._known = self.ledger.read(self.ledger.newest()).clear()
        return self._known

    def rows(self) -> int:
        """In memory."""
        return self._base_rows() + self._tail_rows()

    def size_bytes(self) -> int:
        """In memory."""
        return int(sum(frame.estimated_size() for frame in self._frames()))

    def living(self, frame: pl.DataFrame, watermark_us: int) -> pl.DataFrame:
        """The rows that are still needed when the watermark stands there."""
        if not frame.height or self.gone_at(window_ends(frame)[0]) > watermark_us:
            return frame
        return frame.filter(~self._gone(watermark_us))

    def gone_at(self, end_us: int) -> int:
        """The watermark at which a window that ends there is not needed any more."""
        return self.windowing.gone_at(end_us)

    def _gone(self, watermark_us: int) -> pl.Expr:
        return (pl.col(WINDOW_END) + self.windowing.allowed_lateness_us).clip(upper_bound=MAX_US) <= watermark_us

    def _admit(self, incoming: Sequence[pl.DataFrame], before_us: int) -> tuple[pl.DataFrame | None, int, int]:
        """The incoming partials as one delta with flags, without those whose windows are gone."""
        frames = [frame for frame in incoming if frame.height]
        if not frames:
            return None, 0, 0
        frame = frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")
        total = int(frame[EVENTS].sum())
        frame = self.living(frame, before_us)
        if not frame.height:
            return None, 0, total
        if window_ends(frame)[0] > before_us:
            delta = self._reduced(
                frame.with_columns(pl.lit(1, pl.Int64).alias(ON_TIME), pl.lit(0, pl.Int64).alias(LATE))
            )
            kept, late = int(delta[EVENTS].sum()), 0
        else:
            closed = pl.col(WINDOW_END) <= before_us
            flagged = frame.with_columns((~closed).cast(pl.Int64).alias(ON_TIME), pl.lit(0, pl.Int64).alias(LATE))
            delta = self.combiner.merge(flagged).with_columns(closed.cast(pl.Int64).alias(LATE))
            kept, late = int(delta[EVENTS].sum()), int(delta.filter(closed)[EVENTS].sum())
        delta = self._alike(delta)
        self._known = delta.clear()
        return delta, late, total - kept

    def _reduced(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Merged, unless there are many rows and earlier ones have shown that hardly any have a group in common."""
        if frame.height >= _LAZY_ROWS_MIN and self._gain < GAIN_MIN:
            first = [*self.groups, WINDOW_END, EVENTS, ON_TIME, LATE]
            return frame.select(*first, *(name for name in frame.columns if name not in (*first, TIME)))
        return self._measured(frame)

    def _measured(self, frame: pl.DataFrame) -> pl.DataFrame:
        merged = self.combiner.merge(frame)
        if frame.height >= _LAZY_ROWS_MIN:
            self._gain = frame.height / merged.height
        return merged

    def _alike(self, frame: pl.DataFrame) -> pl.DataFrame:
        """With all columns that are known. They differ only where batches without a schema brought different ones."""
        known = self.columns()
        if known is None or (known.columns == frame.columns and known.dtypes == frame.dtypes):
            return frame
        return pl.concat([known, frame], how="diagonal_relaxed")

    def _panes(self, delta: pl.DataFrame | None, before_us: int, after_us: int) -> Iterator[pl.DataFrame]:
        if delta is not None and window_ends(delta)[0] <= before_us:
            yield self._late_panes(delta.filter(pl.col(WINDOW_END) <= before_us))
        if after_us > before_us:
            yield from self._closing(before_us, after_us)
            self._expire(after_us)
        self.memory.hold(self, self.size_bytes())

    def _late_panes(self, late: pl.DataFrame) -> pl.DataFrame:
        """Groups that got events after their window had closed fire at once."""
        on_disk = self._on_disk(*window_ends(late))
        found = [self._of_groups(frame, late) for frame in self._frames()]
        for info in on_disk:
            found.append(self._of_groups(self.ledger.read(info), late))
            if sum(frame.height for frame in found) > 2 * late.height:
                found = [self.combiner.merge(pl.concat(found, how="diagonal_relaxed"))]
        accumulated = self.combiner.merge(pl.concat(found, how="diagonal_relaxed"))
        if self.windowing.accumulation_mode is AccumulationMode.ACCUMULATING:
            return accumulated
        flags = accumulated.select(*self.groups, ON_TIME, LATE)
        return late.drop(ON_TIME, LATE).join(flags, on=self.groups, how="left", nulls_equal=True)

    def _of_groups(self, frame: pl.DataFrame, groups: pl.DataFrame) -> pl.DataFrame:
        return self._alike(frame).join(groups, on=self.groups, how="semi", nulls_equal=True)

    def _closing(self, before_us: int, after_us: int) -> Iterator[pl.DataFrame]:
        """Windows whose end the watermark passes in this step."""
        # The end of time closes every window, also one that reaches beyond it.
        closing = (pl.col(WINDOW_END) > before_us) & (pl.col(WINDOW_END).clip(upper_bound=MAX_US) <= after_us)
        last_us = after_us if after_us < MAX_US else _FOREVER_US
        on_disk = self._on_disk(before_us + 1, last_us)
        held = [frame for frame in self._frames() if _overlaps(window_ends(frame), before_us + 1, last_us)]
        in_memory = sum(int(frame.estimated_size()) for frame in held)
        if in_memory > self.memory.piece_bytes:
            in_memory = sum(int(frame.estimated_size() * frame.select(closing.mean()).item()) for frame in held)
        parts = passes([(ALL, in_memory), *_weights(on_disk)], self.memory.piece_bytes)
        for _, frame in self._merged(held, on_disk, closing, parts):
            yield frame

    def _on_disk(self, low_us: int, high_us: int) -> list[SegmentInfo]:
        """The segments to be read for windows that end in `[low_us, high_us]`. If there is room for all that is only
        on disk, it is taken up first, and nothing is left to be read."""
        on_disk = self.ledger.on_disk_only()
        wanted = [info for info in on_disk if _overlaps((info.low_us, info.high_us), low_us, high_us)]
        if not wanted or not self.memory.has_room(sum(info.memory_bytes for info in on_disk)):
            return wanted
        self._tail = [*(self.ledger.read(info) for info in on_disk), *self._tail]
        self.ledger.take_up(on_disk)
        self._merge()
        return []

    def _merged(
        self, held: Sequence[pl.DataFrame], on_disk: Sequence[SegmentInfo], wanted: pl.Expr, parts: Sequence[int]
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """The wanted rows of both, merged, one slice after the other: (slice, frame) for each that has any."""
        for part in parts:
            read = ((self.ledger.read(info), info.slice) for info in on_disk if overlap(info.slice, part))
            sources = chain(((frame, ALL) for frame in held), read)
            cuts = (self._cut(frame, of, part).filter(wanted) for frame, of in sources)
            frames = [frame for frame in cuts if frame.height]
            if frames:
                yield part, self.combiner.merge(pl.concat(frames, how="diagonal_relaxed"))

    def _cut(self, frame: pl.DataFrame, of: int, wanted: int) -> pl.DataFrame:
        return frame if contains(wanted, of) else cut(frame, self.groups, wanted)

    def _expire(self, watermark_us: int) -> None:
        if self._base is not None:
            self._base = self.living(self._base, watermark_us)
        self._tail = [frame for f in self._tail if (frame := self.living(f, watermark_us)).height]

    def _merge(self) -> None:
        if self._tail:
            self._base = self._measured(pl.concat(self._frames(), how="diagonal_relaxed"))
            self._tail = []

    def _frames(self) -> list[pl.DataFrame]:
        return [frame for frame in (self._base, *self._tail) if frame is not None and frame.height]

    def _base_rows(self) -> int:
        return 0 if self._base is None else self._base.height

    def _tail_rows(self) -> int:
        return sum(frame.height for frame in self._tail)


def _weights(infos: Sequence[SegmentInfo]) -> list[tuple[int, int]]:
    return [(info.slice, info.memory_bytes) for info in infos]


def window_ends(frame: pl.DataFrame) -> tuple[int, int]:
    """The first and the last of a frame with rows."""
    low, high = frame[WINDOW_END].min(), frame[WINDOW_END].max()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return low, high


def _overlaps(ends: tuple[int, int], low_us: int, high_us: int) -> bool:
    return ends[0] <= high_us and ends[1] >= low_us
