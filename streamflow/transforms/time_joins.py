"""Joins by event time. On columns `left | IntervalJoin(right, on=["user"], …)`, on pairs `(left, right) |
IntervalJoin.Inner(…)`; `AsOfJoin` and `TableJoin` likewise.

All are one primitive, `TimeJoin`, behind the rows of both sides in one log: a row waits in the state of its stage until
the watermark says that nothing can come any more that it could be joined with. Times decide, not windows: a result is
in the windows of the left that its own time falls into. `late_to` of all: a topic for the rows that come too late, by
default that of the left's windows. It is written in the same transaction as the step that dropped them: the row as it
came, with its own time and `late_side` ('left' or 'right'); of pairs `{"key": …, "value": …, "late_side": …}`.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.batch import Batch, Elements
from streamflow.model.graph import Columns, PCollection, Primitive, PTransform, Shape
from streamflow.model.time import EVENT_MAX_US, DurationTypes, duration_us
from streamflow.model.window import TIME
from streamflow.model.windowing import Windowing
from streamflow.transforms.collections import Flatten
from streamflow.transforms.columns import FrameTransform
from streamflow.transforms.join import join_keys, known_columns, right_names
from streamflow.transforms.join_pairs import DELETED, ROW, on_pairs
from streamflow.transforms.ptransform import ptransform_fn
from streamflow.transforms.window import checked_late_to

IntervalHow = Literal["inner", "left", "right", "full"]
AsOfHow = Literal["inner", "left"]
Direction = Literal["backward", "forward"]

FROM_LEFT = "_left"
"""Whether a row in the log is of the left."""
LATE_SIDE = "late_side"
"""Of a record of what came too late."""
_KEY, _LEFT, _RIGHT = "key.", "left.", "right."
"""What the names of columns begin with in the log and in state, so that those of both sides can stand in one frame."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Rows whose times are so far apart: right - left in `[lower_us, upper_us]`. `outer`: whether rows of the left, and
    of the right, come out without a partner too."""

    lower_us: int
    upper_us: int
    outer: tuple[bool, bool]


@dataclass(frozen=True, slots=True)
class AsOf:
    """The newest row of the right up to the time of the left (`forward`: the oldest from then on), at most
    `tolerance_us` away. `deleted`: the column of the right that is true where it says that there is none."""

    tolerance_us: int | None
    forward: bool
    outer: bool
    deleted: str | None = None


class TimeJoin(Primitive):
    """`left`, `right`: the columns besides `on`; `names`: what those of the right are called in the result, if they are
    in it; `late_to`: the topic for rows that come too late; `of_pairs`: whether rows stand for pairs."""

    def __init__(
        self,
        match: Interval | AsOf,
        on: Columns,
        left: Columns,
        right: Columns,
        names: Mapping[str, str],
        late_to: str | None = None,
        *,
        of_pairs: bool = False,
    ) -> None:
        self.match, self.late_to, self._of_pairs = match, late_to, of_pairs
        keys = {f"{_KEY}{name}": dtype for name, dtype in on.items()}
        self.keys = list(keys)
        self.left = keys | {f"{_LEFT}{name}": dtype for name, dtype in left.items()}
        """Columns of a row of the left in the log."""
        self.right = keys | {f"{_RIGHT}{name}": dtype for name, dtype in right.items()}
        self.names = {
            **{f"{_KEY}{name}": name for name in on},
            **{f"{_LEFT}{name}": name for name in left},
            **{f"{_RIGHT}{name}": new for name, new in names.items()},
        }
        """From columns in the log to those of the result, in order."""

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (both,) = inputs
        dtypes = self.left | self.right
        return replace(both.shape, columns={new: dtypes[name] for name, new in self.names.items()})

    def late(self, rows: pl.DataFrame, *, left: bool) -> Batch:
        """Rows of that side that came too late, as records for a topic: with their own columns and times."""
        side = "left" if left else "right"
        if self._of_pairs:
            out = Elements()
            for time_us, row in rows.select(TIME, f"{_LEFT if left else _RIGHT}{ROW}").iter_rows():
                key, value = pickle.loads(row)
                out.append({"key": key, "value": value, LATE_SIDE: side}, time_us, -1, None)
            return out
        own = (pl.col(name).alias(name.split(".", 1)[1]) for name in (self.left if left else self.right))
        return rows.select(TIME, *own, pl.lit(side).alias(LATE_SIDE))


class JoinSide(FrameTransform):
    """Rows as they cross the log: the time, whose they are, and the columns under the names they have there."""

    def __init__(self, left: bool, on: Columns, rest: Columns, windowing: Windowing) -> None:
        self.left, self.windowing = left, windowing
        prefix = _LEFT if left else _RIGHT
        # Without a schema of their own, as behind a grouping, rows have the types of what is in their batch.
        self.columns = [pl.col(name).cast(dtype).alias(f"{_KEY}{name}") for name, dtype in on.items()]
        self.columns += [pl.col(name).cast(dtype).alias(f"{prefix}{name}") for name, dtype in rest.items()]

    def apply_frame(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.select(TIME, pl.lit(self.left).alias(FROM_LEFT), *self.columns)

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        return replace(super().output(inputs), windowing=self.windowing)


class _ByTime(PTransform):
    """What the joins by time share: two sides with known columns, of which one primitive makes rows."""

    of_pairs = False

    def __init__(
        self, right: PCollection, on: str | Sequence[str], suffix: str, match: Interval | AsOf, late_to: str | None
    ) -> None:
        if not isinstance(right, PCollection):
            raise PipelineError(f"{type(self).__name__} joins with a PCollection, not {right!r}.")
        self.right, self.suffix, self.match = right, suffix, match
        self.on, self.late_to = join_keys(type(self).__name__, on), checked_late_to(late_to)

    def expand(self, pcoll: PCollection) -> Any:
        sides, name = (pcoll, self.right), type(self).__name__
        left, right = known_columns(sides, self.on)
        windowing = _windowing(sides)
        on = {column: left.pop(column) for column in self.on}
        for column, dtype in on.items():
            right.pop(column)
            if dtype.is_nested():
                raise PipelineError(f"column '{column}' is {dtype}, which {name} can't join by. Take a field of it.")
        deleted = self.match.deleted if isinstance(self.match, AsOf) else None
        if deleted is not None and right.get(deleted) != pl.Boolean:
            raise PipelineError(f"column '{deleted}' must be a Boolean of the table, true in rows that delete.")
        if (late_to := self.late_to or windowing.late_to) and LATE_SIDE in (*on, *left, *right):
            raise PipelineError(f"column '{LATE_SIDE}' says what came too late (late_to). Rename it before the join.")
        names = right_names(name, (*on, *left), [column for column in right if column != deleted], self.suffix)
        rows = [
            side | label >> JoinSide(label == "Left", on, rest, windowing)
            for label, side, rest in zip(("Left", "Right"), sides, (left, right), strict=True)
        ]
        join = TimeJoin(self.match, on, left, right, names, late_to, of_pairs=self.of_pairs)
        return rows | Flatten() | "Match" >> join


class IntervalJoin(_ByTime):
    """Each row of the left with each row of the right that has the same values in the columns `on`, and a time in
    `[left time + lower, left time + upper]`.

        orders | sf.IntervalJoin(payments, on=["order"], lower=0, upper=sf.Duration(3600), how="left")

    gives the columns `on`, those of the left, then those of the right, with `suffix` if the left has one of that name.
    `lower`, `upper`: seconds, timedelta or Duration, both inclusive, as in Flink. `how`: 'inner'; 'left', 'right' or
    'full' also the rows of that side that have no partner, with null in place of it. Null is equal to nothing.

    A pair comes out at once when the second of its rows is there; its time is the later of the two. A row without a
    partner comes out when the watermark has passed the last instant at which one could come, with its own time: a join
    that is not inner holds the watermark of what comes after it back by that long. A row that comes when that has
    passed already is dropped and counted, or goes to the topic `late_to`; a late row before that is joined with what
    has not passed either. State, in memory: rows until nothing can come any more that they could be joined with; in a
    join that is not inner also until this is true of those that they were joined with.

    On pairs: `(left, right) | IntervalJoin.Inner(lower, upper)`, `.Left`, `.Right` and `.Full` give (key, (left value,
    right value)), with None where there is no partner.
    """

    def __init__(
        self,
        right: PCollection,
        *,
        on: str | Sequence[str],
        lower: DurationTypes,
        upper: DurationTypes,
        how: IntervalHow = "inner",
        suffix: str = "_right",
        late_to: str | None = None,
    ) -> None:
        outer = {
            "inner": (False, False),
            "left": (True, False),
            "right": (False, True),
            "full": (True, True),
        }
        _check_how("IntervalJoin", how, tuple(outer))
        match = Interval(_span_us("lower", lower), _span_us("upper", upper), outer[how])
        if match.lower_us > match.upper_us:
            raise PipelineError(f"the interval from {lower!r} to {upper!r} is empty. Swap lower and upper.")
        super().__init__(right, on, suffix, match, late_to)

    @staticmethod
    @ptransform_fn
    def Inner(pcolls: Any, lower: DurationTypes, upper: DurationTypes, *, late_to: str | None = None) -> Any:  # noqa: N802
        """Pairs of pairs: (key, (left, right)) for all of the same key whose times are so far apart."""
        return _on_interval(pcolls, "inner", lower, upper, late_to)

    @staticmethod
    @ptransform_fn
    def Left(pcolls: Any, lower: DurationTypes, upper: DurationTypes, *, late_to: str | None = None) -> Any:  # noqa: N802
        """As Inner, and (key, (left, None)) for those of the left without a partner."""
        return _on_interval(pcolls, "left", lower, upper, late_to)

    @staticmethod
    @ptransform_fn
    def Right(pcolls: Any, lower: DurationTypes, upper: DurationTypes, *, late_to: str | None = None) -> Any:  # noqa: N802
        """As Inner, and (key, (None, right)) for those of the right without a partner."""
        return _on_interval(pcolls, "right", lower, upper, late_to)

    @staticmethod
    @ptransform_fn
    def Full(pcolls: Any, lower: DurationTypes, upper: DurationTypes, *, late_to: str | None = None) -> Any:  # noqa: N802
        """Left and Right at once."""
        return _on_interval(pcolls, "full", lower, upper, late_to)


class AsOfJoin(_ByTime):
    """Each row of the left with one of the right: of those with the same values in the columns `on` the newest whose
    time is not after its own.

        trades | sf.AsOfJoin(quotes, on=["symbol"], tolerance=60)

    gives the columns `on`, those of the left, then those of the right, with `suffix` if the left has one of that name,
    and the time of the left. `how`: 'left' also rows that find none, with null on the right; 'inner' only the others.
    `tolerance` (seconds, timedelta or Duration): how far apart the times may be, inclusive; None: as far as they are.
    `direction`: 'forward' takes the oldest of the right whose time is not before that of the left, and needs a
    tolerance. Of several at the same time it is the greatest, by its columns in their order, null being the least.

    A row of the left comes out when the watermark has passed its time (forward: and the tolerance, by which it holds
    the watermark back), so what it is joined with does not depend on the order of arrival. One that comes when that has
    passed is dropped and counted, or goes to the topic `late_to`. A late row of the right counts from then on. State,
    in memory: rows of the left that wait, those of the right from the watermark on, and before it the newest of each
    key, if it is within the tolerance.

    On pairs: `(left, right) | AsOfJoin.Left(tolerance, direction)` and `.Inner(…)` give (key, (left value, right
    value)); of several values at the same time that with the greatest pickled form.
    """

    def __init__(
        self,
        right: PCollection,
        *,
        on: str | Sequence[str],
        tolerance: DurationTypes | None = None,
        direction: Direction = "backward",
        how: AsOfHow = "left",
        suffix: str = "_right",
        late_to: str | None = None,
    ) -> None:
        _check_how("AsOfJoin", how, ("inner", "left"))
        if direction not in ("backward", "forward"):
            raise PipelineError(f"the direction can't be {direction!r}. Use 'backward' or 'forward'.")
        if direction == "forward" and tolerance is None:
            raise PipelineError("without a tolerance a row could wait forever for one that follows. Give one.")
        span_us = None if tolerance is None else _span_us("tolerance", tolerance)
        if span_us is not None and span_us < 0:
            raise PipelineError(f"tolerance can't be negative, got {tolerance!r}.")
        super().__init__(right, on, suffix, AsOf(span_us, direction == "forward", how == "left"), late_to)

    @staticmethod
    @ptransform_fn
    def Inner(  # noqa: N802
        pcolls: Any,
        tolerance: DurationTypes | None = None,
        direction: Direction = "backward",
        *,
        late_to: str | None = None,
    ) -> Any:
        """Pairs of pairs: (key, (left, right)) for those of the left that find one."""
        return _on_as_of(pcolls, "inner", tolerance, direction, late_to)

    @staticmethod
    @ptransform_fn
    def Left(  # noqa: N802
        pcolls: Any,
        tolerance: DurationTypes | None = None,
        direction: Direction = "backward",
        *,
        late_to: str | None = None,
    ) -> Any:
        """As Inner, and (key, (left, None)) for the others."""
        return _on_as_of(pcolls, "left", tolerance, direction, late_to)


class TableJoin(_ByTime):
    """Each row of a stream with the row that a table has for its key at that time. The table is given by its changes: a
    row for a key replaces the one before it, from its own event time on.

        orders | sf.TableJoin(rates, on=["currency"], deleted="gone")

    `deleted`: a Boolean column of the changes, true where the key has no row from then on; the result does not have it.
    `how`: 'inner' only rows of the stream for which there is one; 'left' also the others, with null. It is an AsOfJoin,
    with its rules for ties, late rows and state: the newest row of each key is kept, also one that deletes.

    A table that does not change is joined just so: rows of a file or of Create have the earliest time there is, and the
    stream waits until all are read. On pairs: `(stream, table) | TableJoin.Inner()` and `.Left()` give (key, (value,
    value in the table)); None in the table deletes.
    """

    def __init__(
        self,
        table: PCollection,
        *,
        on: str | Sequence[str],
        how: AsOfHow = "inner",
        deleted: str | None = None,
        suffix: str = "_right",
        late_to: str | None = None,
    ) -> None:
        _check_how("TableJoin", how, ("inner", "left"))
        super().__init__(table, on, suffix, AsOf(None, False, how == "left", deleted), late_to)

    @staticmethod
    @ptransform_fn
    def Inner(pcolls: Any, *, late_to: str | None = None) -> Any:  # noqa: N802
        """Pairs of pairs: (key, (value, value in the table)) for the keys that have one at that time."""
        return _on_table(pcolls, "inner", late_to)

    @staticmethod
    @ptransform_fn
    def Left(pcolls: Any, *, late_to: str | None = None) -> Any:  # noqa: N802
        """As Inner, and (key, (value, None)) for the others."""
        return _on_table(pcolls, "left", late_to)


def _check_how(name: str, how: str, hows: Sequence[str]) -> None:
    if how not in hows:
        raise PipelineError(f"{name} can't be {how!r}. Use one of {', '.join(hows)}.")


def _span_us(name: str, value: DurationTypes) -> int:
    try:
        span_us = duration_us(value)
    except (OverflowError, ValueError):
        span_us = EVENT_MAX_US + 1
    if abs(span_us) > EVENT_MAX_US:
        raise PipelineError(f"{name} must be a span of some years at most, got {value!r}.")
    return span_us


def _windowing(sides: Sequence[PCollection]) -> Windowing:
    """Of the results: that of the left, by their own times."""
    for side in sides:
        if side.windowing.grouped and not side.windowing.ends_once:
            raise PipelineError(
                f"{side!r} gives further panes, which would be joined beside those they correct. Use windows that give "
                "one pane."
            )
    windowing = sides[0].windowing
    if not windowing.fn.by_time:
        raise PipelineError(f"{windowing.fn!r} can't tell the windows of a result. Apply WindowInto to the results.")
    return replace(windowing, assigned=False, grouped=False)


def _on_interval(pcolls: Any, how: IntervalHow, lower: DurationTypes, upper: DurationTypes, late_to: str | None) -> Any:
    def join(right: PCollection) -> _ByTime:
        return IntervalJoin(right, on="key", lower=lower, upper=upper, how=how, late_to=late_to)

    return _on_pairs("IntervalJoin", pcolls, join)


def _on_as_of(
    pcolls: Any, how: AsOfHow, tolerance: DurationTypes | None, direction: Direction, late_to: str | None
) -> Any:
    def join(right: PCollection) -> _ByTime:
        return AsOfJoin(right, on="key", tolerance=tolerance, direction=direction, how=how, late_to=late_to)

    return _on_pairs("AsOfJoin", pcolls, join)


def _on_table(pcolls: Any, how: AsOfHow, late_to: str | None) -> Any:
    def join(right: PCollection) -> _ByTime:
        return TableJoin(right, on="key", how=how, deleted=DELETED, late_to=late_to)

    return _on_pairs("TableJoin", pcolls, join)


def _on_pairs(name: str, pcolls: Any, join: Callable[[PCollection], _ByTime]) -> Any:
    def of_pairs(right: PCollection) -> _ByTime:
        by_time = join(right)
        by_time.of_pairs = True
        return by_time

    return on_pairs(name, pcolls, of_pairs)
