"""Window state of one task: a small log-structured merge of partial frames. Columns all the way, no I/O.

A step adds one frame (the delta); frames are merged when the tail has outgrown the base. What a step must persist is
the delta alone; now and then everything is written as one piece instead (compaction), and pieces whose windows are
all gone are dropped.

Two flags make panes exact without any further record: `_ontime` is 1 if the group had events before its window closed,
`_late` counts the steps that brought late ones; the newest pane's index is `_ontime + _late - 1`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from streamflow.engine.combine import EVENTS, LATE, ON_TIME, Combiner
from streamflow.model.time import MAX_US
from streamflow.model.window import WINDOW_END, WINDOW_START, AccumulationMode, Windowing


@dataclass(frozen=True, slots=True)
class Fired:
    """What a step gives: merged partials that fire now, the delta to persist, and how many events were late or
    dropped."""

    panes: pl.DataFrame | None
    delta: pl.DataFrame | None
    late: int
    dropped: int


@dataclass(slots=True)
class WindowState:
    combiner: Combiner
    windowing: Windowing
    base: pl.DataFrame | None = None
    tail: list[pl.DataFrame] = field(default_factory=list)

    def restore(self, frames: Sequence[pl.DataFrame], watermark_us: int) -> None:
        """Take up persisted deltas, in the order in which they were written."""
        self.tail = [frame for frame in frames if frame.height]
        self._merge()
        self._expire(watermark_us)

    def step(self, incoming: Sequence[pl.DataFrame], before_us: int, after_us: int) -> Fired:
        """Add partials that arrived while the watermark stood at `before_us`, then let it go to `after_us`."""
        delta, late, dropped = self._admit(incoming, before_us)
        if delta is not None:
            self.tail.append(delta)
            if self._tail_rows() > self._base_rows():
                self._merge()
        panes = [
            frame
            for frame in (self._late_panes(delta, before_us), self._closing(before_us, after_us))
            if frame is not None
        ]
        if after_us > before_us:
            self._expire(after_us)
        merged = pl.concat(panes, how="diagonal_relaxed") if panes else None
        return Fired(merged if merged is not None and merged.height else None, delta, late, dropped)

    def compacted(self) -> pl.DataFrame | None:
        """Everything held, as one frame."""
        self._merge()
        return self.base

    def columns(self) -> pl.DataFrame | None:
        """What is held, without rows; None if nothing is."""
        frames = self._frames()
        return pl.concat([frame.clear() for frame in frames], how="diagonal_relaxed") if frames else None

    def rows(self) -> int:
        return self._base_rows() + self._tail_rows()

    def expires_us(self, frame: pl.DataFrame) -> int:
        """The watermark at which nothing of the frame is needed any more."""
        newest = frame[WINDOW_END].max()
        assert isinstance(newest, int)
        return self._gone_at(newest)

    def _gone_at(self, end_us: int) -> int:
        return min(end_us + self.windowing.allowed_lateness_us, MAX_US)

    def _gone_column(self) -> pl.Expr:
        return (pl.col(WINDOW_END) + self.windowing.allowed_lateness_us).clip(upper_bound=MAX_US)

    def _admit(self, incoming: Sequence[pl.DataFrame], before_us: int) -> tuple[pl.DataFrame | None, int, int]:
        """The incoming partials as one delta with flags, without those whose windows are gone."""
        frames = [frame for frame in incoming if frame.height]
        if not frames:
            return None, 0, 0
        frame = pl.concat(frames, how="diagonal_relaxed")
        gone = self._gone_column() <= before_us
        total = int(frame[EVENTS].sum())
        frame = frame.filter(~gone)
        kept = int(frame[EVENTS].sum())
        if not frame.height:
            return None, 0, total
        closed = pl.col(WINDOW_END) <= before_us
        flagged = frame.with_columns((~closed).cast(pl.Int64).alias(ON_TIME), pl.lit(0, pl.Int64).alias(LATE))
        delta = self.combiner.merge(flagged).with_columns(closed.cast(pl.Int64).alias(LATE))
        late = int(delta.filter(closed)[EVENTS].sum())
        return delta, late, total - kept

    def _late_panes(self, delta: pl.DataFrame | None, before_us: int) -> pl.DataFrame | None:
        """Groups that got events after their window had closed fire at once."""
        if delta is None:
            return None
        late = delta.filter(pl.col(WINDOW_END) <= before_us)
        if not late.height:
            return None
        groups = [*self.combiner.keys, WINDOW_START]
        whole = pl.concat(
            [f.join(late, on=groups, how="semi", nulls_equal=True) for f in self._frames()],
            how="diagonal_relaxed",
        )
        accumulated = self.combiner.merge(whole)
        if self.windowing.accumulation_mode is AccumulationMode.ACCUMULATING:
            return accumulated
        flags = accumulated.select(*groups, ON_TIME, LATE)
        return late.drop(ON_TIME, LATE).join(flags, on=groups, how="left", nulls_equal=True)

    def _closing(self, before_us: int, after_us: int) -> pl.DataFrame | None:
        """Windows whose end the watermark passes in this step."""
        if after_us <= before_us:
            return None
        # The end of time closes every window, also one that reaches beyond it.
        closing = (pl.col(WINDOW_END) > before_us) & (pl.col(WINDOW_END).clip(upper_bound=MAX_US) <= after_us)
        frames = [part for frame in self._frames() if (part := frame.filter(closing)).height]
        return self.combiner.merge(pl.concat(frames, how="diagonal_relaxed")) if frames else None

    def _expire(self, watermark_us: int) -> None:
        gone = self._gone_column() <= watermark_us
        if self.base is not None:
            self.base = self.base.filter(~gone)
        self.tail = [frame for f in self.tail if (frame := f.filter(~gone)).height]

    def _merge(self) -> None:
        if self.tail:
            self.base = self.combiner.merge(pl.concat(self._frames(), how="diagonal_relaxed"))
            self.tail = []

    def _frames(self) -> list[pl.DataFrame]:
        return [*([] if self.base is None else [self.base]), *self.tail]

    def _base_rows(self) -> int:
        return 0 if self.base is None else self.base.height

    def _tail_rows(self) -> int:
        return sum(frame.height for frame in self.tail)
