"""Sessions of one task, merged on columns.

The state is one row for each session of a key that is still needed: its bounds, its accumulators, and the flags that
`state` has for windows. The rows of a key never overlap. A step looks up the sessions of the keys that have come,
merges what overlaps, and puts the results in their place; so a session fires when the watermark passes its row's end.

Rows are held in a few parts of falling size (the logarithmic method of Bentley and Saxe, 1980): a step adds a part, and
marks in the others what it has superseded, so that a small step rewrites little of a large state.

The segments of a step hold the sessions that it made or changed. Of two rows of a key that overlap, the later one holds
the earlier one within its bounds, or has equal bounds and more to say: which rows are superseded can be seen from the
rows alone, in whatever order the segments are read, merged or left out because all in them is gone. Since every step
needs the sessions of its keys, a state that was let go of is read back whole by the next step that has something to do.
"""

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

import polars as pl

from streamflow.engine.combine.columns import ColumnCombiner
from streamflow.engine.combine.contract import EVENTS, LATE, ON_TIME
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
from streamflow.engine.lateness import late_and_dropped
from streamflow.engine.ledger import Ledger
from streamflow.engine.memory import StateMemory
from streamflow.engine.slices import cut, overlap, passes
from streamflow.model.history import Kind
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START
from streamflow.model.windowing import AccumulationMode, Windowing
from streamflow.topics.protocol import SegmentInfo

_SESSION = "_session"
_KEY_ID = "_keyid"
_ORDER = "_order"
_PART, _AT = "_part", "_at"
"""Where a row of the state stands; null in what has just come."""
_SPAN = "_span"
"""How long a session of the state was before; 0 of what has just come."""
_GROWTH = 2
"""A part is merged with the one before it unless that has more than so many times as many rows."""
_BOUNDS = (WINDOW_START, WINDOW_END, EVENTS, ON_TIME, LATE)


class SessionState(HeldState):
    def __init__(self, combiner: ColumnCombiner, windowing: Windowing, ledger: Ledger, memory: StateMemory) -> None:
        super().__init__(windowing, ledger, memory)
        self.combiner, self.keys = combiner, list(combiner.keys)
        self._parts: list[_Part] = []

    def step(self, incoming: Sequence[pl.DataFrame], before_us: int, after_us: int) -> Fired:
        self._load(bool(incoming), before_us, after_us)
        if not incoming:
            return Fired(self._panes(None, before_us, after_us), [], 0, 0, [])
        arrived = concat(incoming).drop(TIME, strict=False)
        merged, late, lost = self._add(arrived, before_us)
        return Fired(self._panes(merged, before_us, after_us), [merged], late, sum(map(events_of, lost)), lost)

    def compacted(self, run: Sequence[SegmentInfo], watermark_us: int) -> Iterator[tuple[int, pl.DataFrame]]:
        by = self.keys or [WINDOW_START]
        for part in passes(weights(run), self.memory.piece_bytes, run[0].slice, bits=COMPACTION_BITS):
            read = (self.ledger.read(info) for info in run if overlap(info.slice, part))
            cuts = [cut(self.living(frame, watermark_us), by, part) for frame in read]
            if frames := [frame for frame in cuts if frame.height]:
                yield part, newest(concat(frames), self.keys)

    def let_go(self) -> None:
        super().let_go()
        self._parts.clear()

    def rows(self) -> int:
        return sum(part.rows for part in self._parts)

    def _frames(self) -> list[pl.DataFrame]:
        return [part.frame for part in self._parts]

    def _load(self, arrived: bool, before_us: int, after_us: int) -> None:
        """What memory has not, if the step needs it."""
        on_disk = self.ledger.on_disk_only()
        closing = closing_ends(before_us, after_us)
        if not any(arrived or overlaps((info.low_us, info.high_us), *closing) for info in on_disk):
            return
        frames = [frame for info in on_disk if (frame := self.living(self.ledger.read(info), before_us)).height]
        self.ledger.take_up(on_disk)
        if frames:
            self._parts = [_Part(newest(concat([*(part.living() for part in self._parts), *frames]), self.keys))]

    def _add(self, arrived: pl.DataFrame, before_us: int) -> tuple[pl.DataFrame, int, list[pl.DataFrame]]:
        """The sessions that `arrived` has made or changed, how many of its events were late, and those of sessions that
        are gone."""
        fresh = self._alike(arrived.with_columns(_zero(ON_TIME), _zero(LATE)))
        self._known = fresh.clear()
        ordered, late, lost = self._judged(self._together(fresh, before_us), fresh, before_us)
        touched = ordered.filter(pl.col(_AT).is_null() | ~_alone())
        merged = self._alike(self._merged(touched, before_us))
        self._known = merged.clear()
        self._replace(touched, merged)
        return merged, late, lost

    def kinds(self, incoming: Sequence[pl.DataFrame], watermark_us: int) -> list[pl.Expr]:
        # It depends on all that is there, so it is found as if they were added; only where panes are to be explained.
        if not incoming:
            return []
        self._load(True, watermark_us, watermark_us)
        fresh = self._alike(concat(incoming).drop(TIME, strict=False).with_columns(_zero(ON_TIME), _zero(LATE)))
        rows = self._together(fresh, watermark_us)
        ordered = in_sessions(rows.with_row_index(_ORDER), self.keys)
        late, dropped = late_and_dropped(_suspects(ordered, watermark_us), watermark_us, self.gone_at)
        kinds = [Kind.ROW.value] * rows.height
        for number in late:
            kinds[number] = Kind.LATE.value
        for number in dropped:
            kinds[number] = Kind.DROPPED.value
        ends = accumulate((frame.height for frame in incoming), initial=rows.height - fresh.height)
        return [pl.lit(pl.Series(kinds[begin:end], dtype=pl.String)) for begin, end in pairwise(ends)]

    def _together(self, fresh: pl.DataFrame, before_us: int) -> pl.DataFrame:
        """What there is of the keys of `fresh`, and behind it `fresh`."""
        found = [self._given(self._of_keys(part, nth, fresh), before_us) for nth, part in enumerate(self._parts)]
        nowhere = (pl.lit(None, pl.UInt32).alias(name) for name in (_PART, _AT))
        return pl.concat([*found, fresh.with_columns(*nowhere, _zero(_SPAN))], how="diagonal_relaxed")

    def _judged(
        self, rows: pl.DataFrame, fresh: pl.DataFrame, before_us: int
    ) -> tuple[pl.DataFrame, int, list[pl.DataFrame]]:
        """The rows in their sessions but for what is dropped, how many events were late, and what is dropped."""
        if window_ends(fresh)[0] > before_us:
            return in_sessions(rows, self.keys), 0, []
        ordered = in_sessions(rows.with_row_index(_ORDER), self.keys)
        suspects = _suspects(ordered, before_us)
        came_late, dropped = late_and_dropped(suspects, before_us, self.gone_at)
        late = events_of(ordered.filter(pl.col(_ORDER).is_in(came_late))) if came_late else 0
        if not dropped:
            return ordered, late, []
        is_lost = pl.col(_ORDER).is_in(dropped)
        # Without it a session may fall apart.
        return in_sessions(ordered.filter(~is_lost), self.keys), late, [ordered.filter(is_lost)]

    def _of_keys(self, part: "_Part", nth: int, fresh: pl.DataFrame) -> pl.DataFrame:
        """The sessions that keys of `fresh` have in the part, of which some may overlap with it."""
        near = (pl.col(WINDOW_END) > fresh[WINDOW_START].min()) & (pl.col(WINDOW_START) < fresh[WINDOW_END].max())
        part.frame = self._alike(part.frame)
        places = (
            part.frame.select(*self.keys, WINDOW_START, WINDOW_END).with_row_index(_AT).filter(part.is_living, near)
        )
        if self.keys:
            places = places.join(fresh, on=self.keys, how="semi", nulls_equal=True)
        span = pl.col(WINDOW_END) - pl.col(WINDOW_START)
        at, of_part = places[_AT], pl.lit(nth, pl.UInt32).alias(_PART)
        return part.frame[at].with_columns(at, of_part, span.alias(_SPAN))

    def _given(self, found: pl.DataFrame, before_us: int) -> pl.DataFrame:
        """Without what past panes have given already, if it is not to be given again."""
        if self.windowing.accumulation_mode is AccumulationMode.ACCUMULATING or not found.height:
            return found
        held = pl.col(WINDOW_END) > before_us
        own = (*self.keys, *_BOUNDS, _PART, _AT, _SPAN)
        accumulators = [pl.when(held).then(pl.col(name)).alias(name) for name in found.columns if name not in own]
        return found.with_columns(pl.when(held).then(EVENTS).otherwise(0).alias(EVENTS), *accumulators)

    def _merged(self, rows: pl.DataFrame, before_us: int) -> pl.DataFrame:
        """A row for each session. One that is past fires now, so a pane is counted; one with other bounds than before
        begins its panes anew."""
        merged = rows.group_by(_SESSION).agg(
            *(pl.col(key).first() for key in self.keys),
            pl.col(WINDOW_START).min(),
            pl.col(WINDOW_END).max(),
            pl.col(EVENTS, ON_TIME, LATE).sum(),
            pl.col(_SPAN).max(),
            *self.combiner.merges,
        )
        is_past = pl.col(WINDOW_END) <= before_us
        is_same = (pl.col(WINDOW_END) - pl.col(WINDOW_START) == pl.col(_SPAN)).cast(pl.Int64)
        return merged.with_columns(
            pl.when(is_past).then(pl.col(ON_TIME) * is_same).otherwise(1).alias(ON_TIME),
            pl.when(is_past).then(pl.col(LATE) * is_same + 1).otherwise(0).alias(LATE),
        ).drop(_SESSION, _SPAN)

    def _replace(self, touched: pl.DataFrame, merged: pl.DataFrame) -> None:
        places = touched.select(_PART, _AT).drop_nulls().partition_by(_PART, as_dict=True)
        for (nth,), at in places.items():
            self._parts[nth].supersede(at[_AT])
        self._parts = [part for part in self._parts if part.rows]
        if merged.height:
            self._parts.append(_Part(merged))
        while len(self._parts) > 1 and self._parts[-2].rows <= _GROWTH * self._parts[-1].rows:
            *rest, last_but_one, last = self._parts
            self._parts = [*rest, _Part(concat([last_but_one.living(), last.living()]).rechunk())]

    def _panes(self, merged: pl.DataFrame | None, before_us: int, after_us: int) -> Iterator[pl.DataFrame]:
        if merged is not None and (late := merged.filter(pl.col(WINDOW_END) <= before_us)).height:
            yield late
        if after_us > before_us:
            first_us, last_us = closing_ends(before_us, after_us)
            for part in self._parts:
                if (closing := part.ending(first_us, last_us)).height:
                    yield closing
            for part in self._parts:
                part.keep(self._gone(after_us))
            self._parts = [part for part in self._parts if part.rows]
        self.memory.hold(self, self.size_bytes())


class _Part:
    """Sessions, and which of them are neither superseded nor gone."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._hold(frame)

    def _hold(self, frame: pl.DataFrame) -> None:
        self.frame, self.rows = frame, frame.height
        self.is_living = pl.repeat(True, frame.height, eager=True)
        self._ends = window_ends(frame)

    def supersede(self, at: pl.Series) -> None:
        self.is_living.scatter(at, False)
        self._left(self.rows - at.len())

    def keep(self, gone: pl.Expr) -> None:
        self.is_living = self.frame.select(~gone & self.is_living).to_series()
        self._left(int(self.is_living.sum()))

    def living(self) -> pl.DataFrame:
        return self.frame if self.rows == self.frame.height else self.frame.filter(self.is_living)

    def ending(self, first_us: int, last_us: int) -> pl.DataFrame:
        """Those that end in `[first_us, last_us]`."""
        if not overlaps(self._ends, first_us, last_us):
            return self.frame.clear()
        return self.frame.filter(self.is_living, pl.col(WINDOW_END).is_between(first_us, last_us))

    def _left(self, rows: int) -> None:
        self.rows = rows
        if 0 < 2 * rows < self.frame.height:
            self._hold(self.living())


def in_sessions(frame: pl.DataFrame, keys: Sequence[str], *longest: str) -> pl.DataFrame:
    """The rows by key and start, numbered by what overlaps: rows of a key that only touch stay apart. Among those of
    one start, the ones that have the most of `longest` come first."""
    of_key = pl.col(_KEY_ID).first()
    named = frame.with_row_index(_KEY_ID).with_columns(of_key.over(keys) if keys else of_key)
    ordered = named.sort(_KEY_ID, WINDOW_START, *longest, descending=[False, False, *(True for _ in longest)])
    reached = pl.col(WINDOW_END).cum_max().over(_KEY_ID).shift()
    begins = (pl.col(_KEY_ID) != pl.col(_KEY_ID).shift()) | (pl.col(WINDOW_START) >= reached)
    return ordered.with_columns(begins.fill_null(True).cum_sum().alias(_SESSION)).drop(_KEY_ID)


def newest(frame: pl.DataFrame, keys: Sequence[str]) -> pl.DataFrame:
    """Without the rows that are superseded: of those that overlap, the one that holds all others, and of equal bounds
    the one with the most late panes, then events, for these only grow."""
    ordered = in_sessions(frame, keys, WINDOW_END, LATE, EVENTS)
    return ordered.filter(pl.col(_SESSION) != pl.col(_SESSION).shift(fill_value=0)).drop(_SESSION)


def _suspects(ordered: pl.DataFrame, before_us: int) -> pl.DataFrame:
    """The rows of sessions that an event has come to whose own window is past, in the order in which they came."""
    came_late = pl.col(_AT).is_null() & (pl.col(WINDOW_END) <= before_us)
    suspects = ordered.filter(came_late.any().over(_SESSION)).sort(_ORDER)
    return suspects.select(_ORDER, _SESSION, WINDOW_START, WINDOW_END, pl.col(_AT).is_null())


def _alone() -> pl.Expr:
    session = pl.col(_SESSION)
    return (session != session.shift(fill_value=0)) & (session != session.shift(-1, fill_value=0))


def _zero(name: str) -> pl.Expr:
    return pl.lit(0, pl.Int64).alias(name)
