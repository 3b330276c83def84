"""Which rows of two sides belong together by their times: pure, frames in, frames out.

A row is *due* at the watermark at which nothing can come any more that it could be joined with; what comes after that
is too late. Which rows were paired follows from the rows and from where the watermark stood when each came (`SEEN`), so
nothing is ever noted of a row that is kept.
"""

from collections.abc import Iterator, Sequence
from typing import Protocol

import polars as pl

from streamflow.model.time import MAX_US
from streamflow.model.window import TIME
from streamflow.transforms.time_joins import AsOf, Interval, TimeJoin

SEEN = "_seen"
"""The watermark when a row came."""
LEFT, RIGHT = 0, 1
ROWS_AT_ONCE = 20_000
"""Of one side, matched in one query: bounds what pairs of frequent keys take in memory."""

Sides = Sequence[pl.DataFrame]
"""A frame of the left, and one of the right."""

_DUE, _LOW, _HIGH, _BUCKET, _OTHER_TIME = "_due", "_low", "_high", "_bucket", "_othertime"
_PLACE = ("_l", "_r")
"""Positions in the frames of the two sides."""


class Matcher(Protocol):
    def due_at(self, side: int) -> pl.Expr:
        """The watermark at which a row of that side is due."""

    def gone_at(self, side: int) -> pl.Expr:
        """The watermark at which it is not needed any more."""

    def holds(self, side: int) -> bool:
        """Whether rows of that side that are not due come out with their own time when they are."""

    def living(self, side: int, rows: pl.DataFrame, watermark_us: int) -> pl.DataFrame:
        """The rows that are still needed."""

    def results(self, kept: Sides, fresh: Sides, before_us: int, after_us: int) -> Iterator[pl.DataFrame]:
        """What comes out of a step that brings `fresh` to the rows that are kept, and moves the watermark."""


def matcher_of(join: TimeJoin) -> Matcher:
    return IntervalMatcher(join, join.match) if isinstance(join.match, Interval) else AsOfMatcher(join, join.match)


def passed(us: int) -> pl.Expr:
    """The watermark that has passed the instant `us` after a row's time; the end of time has passed all."""
    return (pl.col(TIME) + (us + 1)).clip(upper_bound=MAX_US)


class IntervalMatcher:
    """Pairs at once, rows without a partner when they are due."""

    def __init__(self, join: TimeJoin, match: Interval) -> None:
        self.join, self.match = join, match
        self._wait_us = max(match.upper_us, 0), max(-match.lower_us, 0)
        # To tell that a row of the other side had partners, they are kept until that is due.
        lasting = match.upper_us + self._wait_us[RIGHT], self._wait_us[LEFT] - match.lower_us
        self._keep_us = [lasting[side] if match.outer[1 - side] else self._wait_us[side] for side in (LEFT, RIGHT)]

    def due_at(self, side: int) -> pl.Expr:
        return passed(self._wait_us[side])

    def gone_at(self, side: int) -> pl.Expr:
        return passed(self._keep_us[side])

    def holds(self, side: int) -> bool:
        return self.match.outer[side]

    def living(self, side: int, rows: pl.DataFrame, watermark_us: int) -> pl.DataFrame:
        return rows.filter(self.gone_at(side) > watermark_us)

    def results(self, kept: Sides, fresh: Sides, before_us: int, after_us: int) -> Iterator[pl.DataFrame]:
        for part in _parts(fresh[LEFT]):
            rights = pl.concat([self._near(LEFT, part, kept[RIGHT]), self._near(LEFT, part, fresh[RIGHT])])
            yield self._joined(part, rights)
        for part in _parts(fresh[RIGHT]):
            yield self._joined(self._near(RIGHT, part, kept[LEFT]), part)
        if after_us > before_us:
            for side in (LEFT, RIGHT):
                if self.match.outer[side]:
                    yield from self._alone(side, kept, fresh, before_us, after_us)

    def _joined(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        pairs = self._pairs(left, right)
        rows = left[pairs[_PLACE[LEFT]]], right[pairs[_PLACE[RIGHT]]]
        times = [each[TIME] for each in rows]
        return output(self.join, *rows, pl.select(pl.max_horizontal(times)).to_series())

    def _alone(self, side: int, kept: Sides, fresh: Sides, before_us: int, after_us: int) -> Iterator[pl.DataFrame]:
        """Rows of that side that become due and have had no partner."""
        due = self.due_at(side).is_between(before_us + 1, after_us)
        for part in _parts(pl.concat([kept[side].filter(due), fresh[side].filter(due)])):
            others = pl.concat([self._near(side, part, rows[1 - side]) for rows in (kept, fresh)])
            pairs = self._pairs(part, others) if side == LEFT else self._pairs(others, part)
            partnered = pairs[_PLACE[side]].unique()
            rows = part.filter(~pl.int_range(pl.len(), dtype=pl.UInt32).is_in(partnered.implode()))
            left, right = (rows, None) if side == LEFT else (None, rows)
            yield output(self.join, left, right, rows[TIME])

    def _near(self, side: int, rows: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
        """Those of the other side that have a time at which one of these rows could have a partner."""
        lower, upper = self.match.lower_us, self.match.upper_us
        first, last = (lower, upper) if side == LEFT else (-upper, -lower)
        between = pl.col(TIME).is_between(_time(rows[TIME].min()) + first, _time(rows[TIME].max()) + last)
        return others.filter(between)

    def _pairs(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """The places of the rows that were or are to be paired: neither was due when the other came.

        Times fall into buckets twice as long as the interval, so that only rows of one or two are compared, whatever
        number of rows a key has."""
        size = max(2 * (self.match.upper_us - self.match.lower_us), 1)
        low, high = pl.col(TIME) + self.match.lower_us, pl.col(TIME) + self.match.upper_us
        lefts = self._indexed(left, LEFT, low.alias(_LOW), high.alias(_HIGH), (low // size).alias(_BUCKET))
        last = pl.col(_HIGH) // size
        more = lefts.filter(last != pl.col(_BUCKET)).with_columns(last.alias(_BUCKET))
        rights = self._indexed(right, RIGHT, pl.col(TIME), (pl.col(TIME) // size).alias(_BUCKET))
        both = pl.concat([lefts, more]).join(rights, on=[*self.join.keys, _BUCKET])
        open_ = [pl.col(f"{_DUE}{side}") > pl.col(f"{SEEN}{1 - side}") for side in (LEFT, RIGHT)]
        return both.filter(pl.col(TIME).is_between(_LOW, _HIGH), *open_).select(_PLACE).collect()

    def _indexed(self, rows: pl.DataFrame, side: int, *more: pl.Expr) -> pl.LazyFrame:
        place = pl.int_range(pl.len(), dtype=pl.UInt32).alias(_PLACE[side])
        due, seen = self.due_at(side).alias(f"{_DUE}{side}"), pl.col(SEEN).alias(f"{SEEN}{side}")
        return rows.lazy().select(*self.join.keys, place, due, seen, *more)


class AsOfMatcher:
    """Rows of the left when they are due, each with one of the right or none."""

    def __init__(self, join: TimeJoin, match: AsOf) -> None:
        self.join, self.match = join, match
        self._wait_us = (match.tolerance_us or 0) if match.forward else 0

    def due_at(self, side: int) -> pl.Expr:
        return passed(self._wait_us) if side == LEFT else self.gone_at(RIGHT)

    def gone_at(self, side: int) -> pl.Expr:
        if side == LEFT:
            return self.due_at(LEFT)
        return pl.lit(MAX_US, pl.Int64) if self.match.tolerance_us is None else passed(self.match.tolerance_us)

    def holds(self, side: int) -> bool:
        return side == LEFT

    def living(self, side: int, rows: pl.DataFrame, watermark_us: int) -> pl.DataFrame:
        rows = rows.filter(self.gone_at(side) > watermark_us)
        if side == LEFT or self.match.forward:
            return rows
        # What is still to come of the left is not before the watermark: of what is, it can only want the newest.
        old = pl.col(TIME) < watermark_us
        newest = self._in_order(rows.filter(old)).unique(self.join.keys, keep="last")
        return pl.concat([newest, rows.filter(~old)])

    def results(self, kept: Sides, fresh: Sides, before_us: int, after_us: int) -> Iterator[pl.DataFrame]:
        if after_us <= before_us:
            return
        due = self.due_at(LEFT).is_between(before_us + 1, after_us)
        for part in _parts(pl.concat([kept[LEFT].filter(due), fresh[LEFT].filter(due)])):
            keys = part.select(self.join.keys).unique()
            rights = pl.concat([rows[RIGHT].join(keys, on=self.join.keys, how="semi") for rows in (kept, fresh)])
            yield self._joined(part.sort(TIME), self._in_order(rights))

    def _joined(self, left: pl.DataFrame, right: pl.DataFrame) -> pl.DataFrame:
        """Both in the order of their times."""
        place = pl.int_range(pl.len(), dtype=pl.UInt32).alias(_PLACE[RIGHT])
        places = left.select(*self.join.keys, TIME).join_asof(
            right.select(*self.join.keys, pl.col(TIME).alias(_OTHER_TIME), place),
            left_on=TIME,
            right_on=_OTHER_TIME,
            by=self.join.keys,
            strategy="forward" if self.match.forward else "backward",
            tolerance=self.match.tolerance_us,
            check_sortedness=False,  # of groups Polars can't tell, and would warn
        )[_PLACE[RIGHT]]
        found = right[places]
        there = places.is_not_null()
        if self.match.deleted is not None:
            there &= ~found[f"right.{self.match.deleted}"].fill_null(False)
        rows = output(self.join, left.filter(there), found.filter(there), left.filter(there)[TIME])
        if not self.match.outer:
            return rows
        alone = left.filter(~there)
        return pl.concat([rows, output(self.join, alone, None, alone[TIME])])

    def _in_order(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of the right by their times; of those with the same key and time the greatest."""
        rows, group = rows.sort(TIME), [*self.join.keys, TIME]
        # Most times there are once, and to compare neighbours costs a tenth of looking for equal groups.
        beside = pl.col(TIME) == pl.col(TIME).shift()
        same = rows.select((beside | beside.shift(-1)).fill_null(False)).to_series()
        several = rows.filter(same)
        if not several.select(group).is_duplicated().any():
            return rows
        values = [name for name in self.join.right if name not in self.join.keys]
        several = several.sort(values) if values else several
        one = several.unique(group, keep="last", maintain_order=True)
        return pl.concat([rows.filter(~same), one]).sort(TIME)


def output(join: TimeJoin, left: pl.DataFrame | None, right: pl.DataFrame | None, times: pl.Series) -> pl.DataFrame:
    """Rows of the result at these times: both frames row beside row, null in place of one that is not there."""
    sides = [frame for frame in (left, right) if frame is not None]
    dtypes = join.left | join.right

    def column(name: str, new: str) -> pl.Series:
        for frame in sides:
            if name in frame.columns:
                return frame[name].alias(new)
        return pl.Series(new, [None], dtype=dtypes[name]).new_from_index(0, len(times))

    return pl.DataFrame([times.alias(TIME), *(column(name, new) for name, new in join.names.items())])


def _parts(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    return rows.iter_slices(ROWS_AT_ONCE) if rows.height else iter(())


def _time(value: object) -> int:
    assert isinstance(value, int)
    return value
