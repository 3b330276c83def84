"""Join: two collections by key, within windows. On columns `left | Join(right, on=["user"])`, on pairs
`(left, right) | Join.Inner()`. Both are a grouping of what comes from either side, paired when the window gives a
result."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.collecting import CollectList
from streamflow.model.graph import PCollection, PTransform, Shape
from streamflow.model.windowing import AccumulationMode, Windowing
from streamflow.transforms.collections import Flatten
from streamflow.transforms.columns import FrameTransform, missing_column
from streamflow.transforms.combine import WINDOW_COLUMNS, Aggregate
from streamflow.transforms.elementwise import FlatMapTuple
from streamflow.transforms.ptransform import ptransform_fn
from streamflow.transforms.util import CoGroupByKey

How = Literal["inner", "left", "full"]
_HOWS = ("inner", "left", "full")

_LEFT, _RIGHT = "join.left", "join.right"
_SIDES = (_LEFT, _RIGHT)
_ROW = "join.row"
"""In each struct, true: a row may have no columns but those to join by."""


class Join(PTransform):
    """Each row of the left with each row of the right that has the same values in the columns `on`, in the same window.

    `how`: 'inner' only these; 'left' also rows of the left that have no partner, with null on the right; 'full' also
    those of the right. Null is equal to nothing, not even to null. Both sides have known columns and the same windows;
    results come when a window does. They have the columns `on`, `window_start` and `window_end` (of the join; not in
    the global window), then those of the left, then those of the right, with `suffix` if the left has one of that name.

    On pairs: `(left, right) | Join.Inner()`, `Join.Left()` and `Join.Full()` give (key, (left value, right value)),
    with None where there is no partner.
    """

    def __init__(
        self, other: PCollection, *, on: str | Sequence[str], how: How = "inner", suffix: str = "_right"
    ) -> None:
        if how not in _HOWS:
            raise PipelineError(f"Join can't be {how!r}. Use one of {', '.join(_HOWS)}.")
        self.other, self.how, self.suffix = other, how, suffix
        self.on = join_keys("Join", on)

    def expand(self, pcoll: PCollection) -> Any:
        sides = (pcoll, self.other)
        _check_panes(sides)
        known = known_columns(sides, self.on)
        rest = [pl.Struct(self._values(columns, side)) for columns, side in zip(known, sides, strict=True)]
        assigned = any(side.windowing.assigned for side in sides)
        grouped = any(side.windowing.grouped for side in sides)
        if grouped and any(side.windowing.is_merging for side in sides):
            raise PipelineError(
                "one side comes from a grouping and has its windows, those of the other have yet to merge. Group both, "
                "or apply the WindowInto to both."
            )
        tagged = [
            side | f"Side-{place}" >> _Side(self.on, place, rest, side.windowing if assigned else None, grouped)
            for place, side in enumerate(sides)
        ]
        lists = Aggregate(by=self.on, **{name: CollectList(name) for name in _SIDES})
        return tagged | Flatten() | "Collect" >> lists | "Pair" >> _Pairs(self.on, self.how, rest, self.suffix)

    def _values(self, columns: dict[str, pl.DataType], side: PCollection) -> dict[str, pl.DataType]:
        """Windows of the sides are those of the join."""
        window = () if side.windowing.is_global else WINDOW_COLUMNS
        kept = {name: dtype for name, dtype in columns.items() if name not in (*self.on, *window)}
        return {_ROW: pl.Boolean(), **kept}

    @staticmethod
    @ptransform_fn
    def Inner(pcolls: Any) -> Any:  # noqa: N802
        """Pairs of pairs: (key, (left, right)) for all that have the same key."""
        return pcolls | _pairs("inner")

    @staticmethod
    @ptransform_fn
    def Left(pcolls: Any) -> Any:  # noqa: N802
        """As Inner, and (key, (left, None)) where the right has nothing."""
        return pcolls | _pairs("left")

    @staticmethod
    @ptransform_fn
    def Full(pcolls: Any) -> Any:  # noqa: N802
        """As Left, and (key, (None, right)) where the left has nothing."""
        return pcolls | _pairs("full")


@ptransform_fn
def _pairs(pcolls: Any, how: How) -> Any:
    check_two("Join", pcolls)
    _check_panes(pcolls)

    def pair(key: Any, sides: tuple[list[Any], list[Any]]) -> list[Any]:
        left, right = sides
        left = left or ([None] if how == "full" else [])
        right = right or ([] if how == "inner" else [None])
        return [(key, (one, other)) for one in left for other in right]

    return pcolls | CoGroupByKey() | "Pair" >> FlatMapTuple(pair)


def join_keys(name: str, on: str | Sequence[str]) -> list[str]:
    """The columns to join by. PipelineError if there are none."""
    keys = [on] if isinstance(on, str) else list(on)
    if not keys:
        raise PipelineError(f"{name} needs the columns to join by. Write e.g. {name}(other, on=['user']).")
    return keys


def check_two(name: str, pcolls: Any) -> None:
    """PipelineError for all but two PCollections."""
    if not isinstance(pcolls, (tuple, list)) or len(pcolls) != 2:
        raise PipelineError(f"{name} takes two PCollections of pairs. Write `(left, right) | {name}.Inner()`.")


def known_columns(sides: Sequence[PCollection], on: Sequence[str]) -> list[dict[str, pl.DataType]]:
    """Of either side. PipelineError if they are not known, or lack one of `on`, or have it with another type."""
    known: list[dict[str, pl.DataType]] = []
    for side in sides:
        columns = side.shape.columns
        if columns is None:
            raise PipelineError(f"{side!r} has no known columns. Give its source a schema, or use AsColumns.")
        for name in on:
            if name not in columns:
                raise PipelineError(missing_column(Exception(f'"{name}"'), columns))
        known.append(dict(columns))
    for name in on:
        if known[0][name] != known[1][name]:
            kinds = " and ".join(str(columns[name]) for columns in known)
            raise PipelineError(f"column '{name}' is {kinds}. Cast one of them before the join.")
    return known


def right_names(name: str, taken: Iterable[str], right: Sequence[str], suffix: str) -> dict[str, str]:
    """What the columns of the right are called in the result: with the suffix where the name is taken. PipelineError
    if that is taken too."""
    there = set(taken)
    names = {column: f"{column}{suffix}" if column in there else column for column in right}
    twice = [new for new in names.values() if new in there or list(names.values()).count(new) > 1]
    if twice:
        raise PipelineError(f"column '{twice[0]}' would be there twice. Give {name} another suffix.")
    return names


def _check_panes(sides: Sequence[PCollection]) -> None:
    for side in sides:
        windowing = side.windowing
        if not windowing.ends_once and windowing.accumulation_mode is AccumulationMode.DISCARDING:
            raise PipelineError(
                "a further pane would hold only what is new, and not its partners. Use WindowInto(…, "
                "accumulation_mode=AccumulationMode.ACCUMULATING), or windows that give one pane."
            )


class _Side(FrameTransform):
    """Rows as the keys, and all else in a struct of their side; the struct of the other side is null.

    `windowing`: of rows that must get their windows here, because those of the other side have theirs already;
    `grouped`: from a grouping."""

    def __init__(
        self, on: Sequence[str], place: int, rest: Sequence[pl.Struct], windowing: Windowing | None, grouped: bool
    ) -> None:
        self.on, self.place, self.rest, self.windowing, self.grouped = on, place, rest, windowing, grouped

    def apply_frame(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        if self.windowing is not None and not self.windowing.assigned:
            frame = self.windowing.fn.assign_columns(frame)
        own, other = _SIDES[self.place], _SIDES[1 - self.place]
        mine = pl.struct(pl.lit(True).alias(_ROW), *(field.name for field in self.rest[self.place].fields[1:]))
        nothing = pl.lit(None, self.rest[1 - self.place])
        sides = {own: mine, other: nothing}
        return frame.select(pl.col("^_.*$"), *self.on, *(sides[name].alias(name) for name in _SIDES))

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        shape = super().output(inputs)
        if self.windowing is None:
            return shape
        return replace(shape, windowing=replace(shape.windowing, assigned=True, grouped=self.grouped))


class _Pairs(FrameTransform):
    """Two lists per key as a row for each pair."""

    def __init__(self, on: Sequence[str], how: How, rest: Sequence[pl.Struct], suffix: str) -> None:
        self.on, self.how, self.rest = on, how, rest
        left, right = ([field.name for field in struct.fields[1:]] for struct in rest)
        self.names = right_names("Join", (*on, *left, *WINDOW_COLUMNS), right, suffix)

    def apply_frame(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        typed = frame.with_columns(
            pl.col(side).cast(pl.List(struct)) for side, struct in zip(_SIDES, self.rest, strict=True)
        )
        known = pl.all_horizontal(pl.col(name).is_not_null() for name in self.on)
        parts = [self._paired(typed.filter(known))]
        if self.how != "inner":
            # Null finds no partner: each side is alone.
            parts += [
                self._alone(typed.filter(~known), side) for side in (_SIDES if self.how == "full" else _SIDES[:1])
            ]
        rows = pl.concat(parts)
        left, right = (pl.col(side).struct for side in _SIDES)
        values = [left.field(field.name) for field in self.rest[0].fields[1:]]
        values += [right.field(name).alias(new) for name, new in self.names.items()]
        return rows.with_columns(values).drop(_SIDES)

    def _paired(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        wanted = {"inner": _SIDES, "left": _SIDES[:1], "full": ()}[self.how]
        here = frame.filter(pl.col(side).list.len() > 0 for side in wanted) if wanted else frame
        # Of an empty list nothing would be left; of null, null is.
        filled = here.with_columns(pl.when(pl.col(side).list.len() > 0).then(pl.col(side)) for side in _SIDES)
        return filled.explode(_LEFT).explode(_RIGHT)

    def _alone(self, frame: pl.LazyFrame, side: str) -> pl.LazyFrame:
        other = _SIDES[1 - _SIDES.index(side)]
        here = frame.filter(pl.col(side).list.len() > 0).explode(side)
        return here.with_columns(pl.lit(None, self.rest[_SIDES.index(other)]).alias(other))
