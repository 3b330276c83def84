"""Window state of one task: a small log-structured merge of partial frames, in memory and in the log. Columns all the
way.

A step adds frames (the deltas), which are written to the log as segments when the step is committed: one for each
window that arrives in frames of its own, one for all the others. What is durable need not be held: to let go of the
state in memory is all it takes to spill it, and only when windows fire, or groups get late events, are the segments
read that have something of these windows: one at a time and, if it is much, one slice of the keys after the other. A
step that only adds events reads nothing.

Two flags make panes exact without any further record: `_ontime` is 1 if the group had events before its window closed,
`_late` counts the steps that brought late ones; the newest pane's index is `_ontime + _late - 1`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import polars as pl

from streamflow.engine.combine.contract import EVENTS, LATE, ON_TIME, WINDOW_ROWS_MIN, Combiner
from streamflow.engine.combine.pre_aggregation import GAIN_MIN
from streamflow.engine.held import (
    COMPACTION_BITS,
    Fired,
    HeldState,
    closing_ends,
    concat,
    events_of,
    overlaps,
    weights,
    window_ends,
)
from streamflow.engine.ledger import Ledger
from streamflow.engine.memory import StateMemory
from streamflow.engine.slices import ALL, contains, cut, overlap, passes
from streamflow.model.history import Kind
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START
from streamflow.model.windowing import AccumulationMode, Windowing
from streamflow.topics.protocol import SegmentInfo

_Choice = Callable[[pl.DataFrame], pl.DataFrame]
"""The rows of a frame that are wanted."""
_LAZY_ROWS_MIN = 10_000
"""Fewer are merged as they come: it costs less than to keep and write them as they are."""
_LAZY_GROWTH = 8
"""Where merging gains little, the tail may outgrow the base so many times before it is tried again."""


class _Pile:
    """Frames of the same window, or of many: what was merged, and what came after it."""

    def __init__(self) -> None:
        self.base: pl.DataFrame | None = None
        self.tail: list[pl.DataFrame] = []

    def frames(self) -> list[pl.DataFrame]:
        return [frame for frame in (self.base, *self.tail) if frame is not None and frame.height]

    def base_rows(self) -> int:
        return 0 if self.base is None else self.base.height

    def tail_rows(self) -> int:
        return sum(frame.height for frame in self.tail)

    def keep(self, living: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        self.base = None if self.base is None else living(self.base)
        self.tail = [frame for f in self.tail if (frame := living(f)).height]


class WindowState(HeldState):
    def __init__(self, combiner: Combiner, windowing: Windowing, ledger: Ledger, memory: StateMemory) -> None:
        super().__init__(windowing, ledger, memory)
        self.combiner = combiner
        self.groups = [*combiner.keys, WINDOW_START]
        self._piles: dict[int | None, _Pile] = {}
        """By the end of their one window; None for frames of several."""
        self._gain = math.inf
        """How many rows became one in the last large merge: known after the first."""

    def step(self, incoming: Sequence[pl.DataFrame], before_us: int, after_us: int) -> Fired:
        deltas, late, lost = self._admit(incoming, before_us)
        for delta in deltas:
            pile = self._pile_of(delta)
            pile.tail.append(delta)
            if pile.tail_rows() > pile.base_rows() * (1 if self._gain >= GAIN_MIN else _LAZY_GROWTH):
                self._merge(pile)
        return Fired(self._panes(deltas, before_us, after_us), deltas, late, sum(map(events_of, lost)), lost)

    def compacted(self, run: Sequence[SegmentInfo], watermark_us: int) -> Iterator[tuple[int, pl.DataFrame]]:
        parts = passes(weights(run), self.memory.piece_bytes, run[0].slice, bits=COMPACTION_BITS)
        # A single one is cut as it is: its step held it too.
        held, on_disk = ([self.ledger.read(run[0])], []) if len(run) == 1 else ([], run)
        return self._merged(held, on_disk, lambda frame: self.living(frame, watermark_us), parts)

    def let_go(self) -> None:
        super().let_go()
        self._piles.clear()

    def kinds(self, incoming: Sequence[pl.DataFrame], watermark_us: int) -> list[pl.Expr]:
        late = (
            pl.when(pl.col(WINDOW_END) <= watermark_us).then(pl.lit(Kind.LATE.value)).otherwise(pl.lit(Kind.ROW.value))
        )
        return [pl.when(self._gone(watermark_us)).then(pl.lit(Kind.DROPPED.value)).otherwise(late) for _ in incoming]

    def _admit(
        self, incoming: Sequence[pl.DataFrame], before_us: int
    ) -> tuple[list[pl.DataFrame], int, list[pl.DataFrame]]:
        """The incoming partials as deltas with flags, how many of their events were late, and those whose windows are
        gone."""
        deltas: list[pl.DataFrame] = []
        lost: list[pl.DataFrame] = []
        late = 0
        many = sum(frame.height for frame in incoming) >= _LAZY_ROWS_MIN
        for frame in map(concat, _by_window(incoming).values()):
            living = self.living(frame, before_us)
            if living.height < frame.height:
                lost.append(frame.filter(self._gone(before_us)) if living.height else frame)
            if living.height:
                delta, of_closed = self._flagged(living, before_us, many=many)
                late += of_closed
                deltas.append(self._alike(delta))
                self._known = deltas[-1].clear()
        return deltas, late, lost

    def _flagged(self, frame: pl.DataFrame, before_us: int, *, many: bool) -> tuple[pl.DataFrame, int]:
        """Merged, groups of closed windows marked as late, and how many events are of these."""
        if window_ends(frame)[0] > before_us:
            flags = (pl.lit(1, pl.Int64).alias(ON_TIME), pl.lit(0, pl.Int64).alias(LATE))
            return self._reduced(frame.with_columns(flags), many=many), 0
        closed = pl.col(WINDOW_END) <= before_us
        flagged = frame.with_columns((~closed).cast(pl.Int64).alias(ON_TIME), pl.lit(0, pl.Int64).alias(LATE))
        return self.combiner.merge(flagged).with_columns(closed.cast(pl.Int64).alias(LATE)), events_of(
            frame.filter(closed)
        )

    def _reduced(self, frame: pl.DataFrame, *, many: bool) -> pl.DataFrame:
        """Merged, unless many rows have come and earlier ones have shown that hardly any have a group in common."""
        if many and self._gain < GAIN_MIN:
            first = [*self.groups, WINDOW_END, EVENTS, ON_TIME, LATE]
            return frame.select(*first, *(name for name in frame.columns if name not in (*first, TIME)))
        return self._measured(frame)

    def _measured(self, frame: pl.DataFrame) -> pl.DataFrame:
        merged = self.combiner.merge(frame)
        if frame.height >= _LAZY_ROWS_MIN:
            self._gain = frame.height / merged.height
        return merged

    def _panes(self, deltas: Sequence[pl.DataFrame], before_us: int, after_us: int) -> Iterator[pl.DataFrame]:
        late = [delta for delta in deltas if window_ends(delta)[0] <= before_us]
        if late:
            yield self._late_panes(pl.concat(late, how="diagonal_relaxed").filter(pl.col(WINDOW_END) <= before_us))
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
        first_us, last_us = closing_ends(before_us, after_us)
        on_disk = self._on_disk(first_us, last_us)
        held = [cut for frame in self._frames() if (cut := _ending(frame, first_us, last_us)).height]
        in_memory = sum(int(frame.estimated_size()) for frame in held)
        parts = passes([(ALL, in_memory), *weights(on_disk)], self.memory.piece_bytes)
        for _, frame in self._merged(held, on_disk, lambda frame: _ending(frame, first_us, last_us), parts):
            yield frame

    def _on_disk(self, low_us: int, high_us: int) -> list[SegmentInfo]:
        """The segments to be read for windows that end in `[low_us, high_us]`. If there is room for all that is only
        on disk, it is taken up first, and nothing is left to be read."""
        on_disk = self.ledger.on_disk_only()
        wanted = [info for info in on_disk if overlaps((info.low_us, info.high_us), low_us, high_us)]
        if not wanted or not self.memory.has_room(sum(info.memory_bytes for info in on_disk)):
            return wanted
        for info in on_disk:
            frame = self.ledger.read(info)
            self._pile_of(frame).tail.append(frame)
        self.ledger.take_up(on_disk)
        for pile in self._piles.values():
            self._merge(pile)
        return []

    def _merged(
        self, held: Sequence[pl.DataFrame], on_disk: Sequence[SegmentInfo], wanted: _Choice, parts: Sequence[int]
    ) -> Iterator[tuple[int, pl.DataFrame]]:
        """The wanted rows of both, merged, one slice after the other: (slice, frame) for each that has any."""
        for part in parts:
            read = ((self.ledger.read(info), info.slice) for info in on_disk if overlap(info.slice, part))
            sources = chain(((frame, ALL) for frame in held), read)
            cuts = (self._cut(frame, of, part) for frame, of in sources)
            frames = [frame for cut in cuts if cut.height and (frame := wanted(cut)).height]
            for together in _to_merge(frames):
                yield part, self.combiner.merge(concat(together))

    def _cut(self, frame: pl.DataFrame, of: int, wanted: int) -> pl.DataFrame:
        return frame if contains(wanted, of) else cut(frame, self.groups, wanted)

    def _expire(self, watermark_us: int) -> None:
        for end_us, pile in list(self._piles.items()):
            pile.keep(lambda frame: self.living(frame, watermark_us))
            if not pile.frames():
                del self._piles[end_us]

    def _merge(self, pile: _Pile) -> None:
        if pile.tail:
            pile.base = self._measured(pl.concat(pile.frames(), how="diagonal_relaxed"))
            pile.tail = []

    def _pile_of(self, frame: pl.DataFrame) -> _Pile:
        return self._piles.setdefault(_end_of_all(frame), _Pile())

    def _frames(self) -> list[pl.DataFrame]:
        return [frame for pile in self._piles.values() for frame in pile.frames()]


def _by_window(frames: Sequence[pl.DataFrame]) -> dict[int | None, list[pl.DataFrame]]:
    """By the end of the one window that a frame has; None for those of several."""
    found: dict[int | None, list[pl.DataFrame]] = {}
    for frame in frames:
        if frame.height:
            found.setdefault(_end_of_all(frame), []).append(frame)
    return found


def _to_merge(frames: Sequence[pl.DataFrame]) -> list[list[pl.DataFrame]]:
    """What is to be merged with each other: windows apart if each has frames of its own, and many rows."""
    found = _by_window(frames)
    if None in found or sum(frame.height for frame in frames) < WINDOW_ROWS_MIN * len(found):
        return [list(frames)] if frames else []
    return list(found.values())


def _end_of_all(frame: pl.DataFrame) -> int | None:
    low, high = window_ends(frame)
    return low if low == high else None


def _ending(frame: pl.DataFrame, first_us: int, last_us: int) -> pl.DataFrame:
    """The rows whose windows end in `[first_us, last_us]`."""
    low, high = window_ends(frame)
    if first_us <= low and high <= last_us:
        return frame
    inside = pl.col(WINDOW_END).is_between(first_us, last_us)
    return frame.filter(inside) if overlaps((low, high), first_us, last_us) else frame.clear()
