"""Groupings: GroupByKey, CombinePerKey, CombineGlobally as in Apache Beam, and Aggregate on columns.

Each is one primitive, `Grouping`: a partial combine before the shuffle, the shuffle, a merge after it, and a result
per key and window when the trigger fires.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.aggregates import AggregateFn, ColumnLike, misfit
from streamflow.model.combiner import CombineFn, ListCombineFn, MergingCombineFn, PartialCombineFn
from streamflow.model.expressions import row_expression
from streamflow.model.graph import PCollection, PTransform, Shape
from streamflow.model.windowing import AccumulationMode
from streamflow.transforms.columns import RESERVED_PREFIX, resolve_columns
from streamflow.transforms.elementwise import DoFn, Map, MapTuple, ParDo
from streamflow.transforms.grouping import Grouping, PerKey, combine_fn, has_sides
from streamflow.transforms.sides import AsSingleton
from streamflow.transforms.window import Restated

WINDOW_COLUMNS = ("window_start", "window_end")
LATE_EVENTS = "late_events"
"""Of a record of what came too late: how many events it stands for."""


class CombinePerKey(PerKey):
    """(key, value) pairs → (key, combined value) per key and window.

    `fn`: a CombineFn, or a function over an iterable such as `sum`; further arguments go to each of its methods."""

    def expand(self, pcoll: PCollection) -> Any:
        return pcoll | GroupByKey() | CombineValues(self.fn, *self.args, **self.kwargs)

    def with_hot_key_fanout(self, fanout: int | Callable[[Any], int]) -> PTransform:
        """The same result by way of `fanout` parts of each key, which different tasks combine: for keys that have more
        values than one task can take. A function says of a key how many; 1 or less leaves it whole."""
        return self if self.beside else _HotKeyFanout(self.fn, fanout)


class GroupByKey(PerKey):
    """(key, value) pairs → (key, list of values) per key and window. The order of the values is not defined."""

    def __init__(self, label: str | None = None) -> None:
        super().__init__(ListCombineFn())
        self.label = label

    def default_label(self) -> str:
        return self.label or "GroupByKey"


class CombineGlobally(PerKey):
    """All values of a window → one combined value.

    An empty input in the global window gives the combination of nothing (0 for `sum`), unless `without_defaults()`; a
    window without events gives nothing, so other windows demand `without_defaults()`, as in Apache Beam, or
    `as_singleton_view()`."""

    keyed = False
    defaults = True
    as_view = False

    def without_defaults(self) -> "CombineGlobally":
        clone = copy.copy(self)
        clone.defaults = False
        return clone

    def as_singleton_view(self) -> "CombineGlobally":
        """Give an `AsSingleton`, to be an argument of another transform. Its default is the combination of nothing,
        unless `without_defaults()`."""
        clone = copy.copy(self)
        clone.as_view = True
        return clone

    def result(self, output: PCollection) -> Any:
        if not self.as_view:
            return output
        return AsSingleton(output, self.fn.apply([])) if self.defaults else AsSingleton(output)

    def with_fanout(self, fanout: int) -> PTransform:
        """The same result by way of `fanout` parts, which different tasks combine."""
        return self if self.beside else _GlobalFanout(self, fanout)

    def expand(self, pcoll: PCollection) -> Any:
        whole = CombineGlobally(ListCombineFn())
        values = pcoll | "Group" >> (whole if self.defaults and not self.as_view else whole.without_defaults())
        combined = values | "Combine" >> Map(_combined, self.fn, *self.args, **self.kwargs)
        return AsSingleton(combined) if self.as_view else combined

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        if self.defaults and not self.as_view and not inputs[0].windowing.is_global:
            raise PipelineError("a window without events has no default. Write CombineGlobally(…).without_defaults().")
        return super().output(inputs)


def _combined(values: Any, fn: CombineFn, *args: Any, **kwargs: Any) -> Any:
    """The whole of a group at once, with what the side inputs hold."""
    of_group = CombineFn.of(fn, *args, **kwargs)
    of_group.setup()
    try:
        return of_group.apply(values)
    finally:
        of_group.teardown()


class CombineValues(PTransform):
    """(key, iterable of values) → (key, combined value): the elements of a GroupByKey, one at a time."""

    def __init__(self, fn: CombineFn | Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.fn, self.args, self.kwargs = CombineFn.of(fn), args, kwargs
        if not has_sides(*args, **kwargs):
            self.fn, self.args, self.kwargs = combine_fn(fn, *args, **kwargs), (), {}

    def expand(self, pcoll: PCollection) -> Any:
        def combined(key: Any, values: Any, *args: Any, **kwargs: Any) -> Any:
            return key, _combined(values, self.fn, *args, **kwargs)

        return pcoll | MapTuple(combined, *self.args, **self.kwargs)


class _Spread(DoFn):
    """(key, value) → ((key, part), value), the parts in turn: the same in every repetition of a step."""

    def __init__(self, fanout: int | Callable[[Any], int]) -> None:
        self.fanout = fanout

    def start_bundle(self) -> None:
        self._turn = 0

    def process(self, element: Any) -> list[Any]:
        key, value = element
        parts = self.fanout(key) if callable(self.fanout) else self.fanout
        self._turn += 1
        return [((key, self._turn % max(1, parts)), value)]


class _Panes(Restated):
    """The same windows with panes of the given kind."""

    def __init__(self, mode: AccumulationMode) -> None:
        self.mode = mode

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (pcoll,) = inputs
        return replace(pcoll.shape, windowing=replace(pcoll.windowing, accumulation_mode=self.mode))


class _HotKeyFanout(PTransform):
    """Accumulators of the parts of each key, then what they merge to.

    Late panes of the parts hold only what is new: merged into all so far, which is what the second half keeps, more
    would be counted twice."""

    def __init__(self, fn: CombineFn, fanout: int | Callable[[Any], int]) -> None:
        self.fn, self.fanout = fn, fanout

    def expand(self, pcoll: PCollection) -> Any:
        if not pcoll.windowing.is_plain:
            # Parts would merge their windows, and count their elements, each for itself.
            return pcoll | CombinePerKey(self.fn)
        parts = (
            pcoll
            | "Spread" >> ParDo(_Spread(self.fanout))
            | "Discarding" >> _Panes(AccumulationMode.DISCARDING)
            | "CombineParts" >> CombinePerKey(PartialCombineFn(self.fn))
            | "Unspread" >> MapTuple(lambda key_part, accumulator: (key_part[0], accumulator))
            | "Panes" >> _Panes(pcoll.windowing.accumulation_mode)
        )
        return parts | "MergeParts" >> CombinePerKey(MergingCombineFn(self.fn))


class _GlobalFanout(PTransform):
    """CombineGlobally in two halves."""

    def __init__(self, whole: CombineGlobally, fanout: int) -> None:
        self.whole, self.fanout = whole, fanout

    def without_defaults(self) -> "_GlobalFanout":
        return _GlobalFanout(self.whole.without_defaults(), self.fanout)

    def expand(self, pcoll: PCollection) -> Any:
        if not pcoll.windowing.is_plain:
            return pcoll | self.whole
        parts = (
            pcoll
            | "Pair" >> Map(lambda value: (None, value))
            | "Spread" >> ParDo(_Spread(self.fanout))
            | "Discarding" >> _Panes(AccumulationMode.DISCARDING)
            | "CombineParts" >> CombinePerKey(PartialCombineFn(self.whole.fn))
            | "Unspread" >> MapTuple(lambda _, accumulator: accumulator)
            | "Panes" >> _Panes(pcoll.windowing.accumulation_mode)
        )
        merge = CombineGlobally(MergingCombineFn(self.whole.fn))
        return parts | "MergeParts" >> (merge if self.whole.defaults else merge.without_defaults())


class Aggregate(Grouping):
    """Named aggregates per group and window, on columns.

        flights | sf.WindowInto(sf.FixedWindows(3600)) | sf.Aggregate(by=["origin"], flights=sf.Count())

    gives the columns of `by`, `window_start` and `window_end` (UTC; not in the global window), and one per aggregate.
    `by`: column names, or expressions with an alias.
    """

    def __init__(self, by: Sequence[ColumnLike] | str = (), **aggregates: AggregateFn) -> None:
        keys = [by] if isinstance(by, (str, pl.Expr)) else list(by)
        self.by = [row_expression(key) for key in keys]
        self.keys = [key if isinstance(key, str) else key.meta.output_name() for key in keys]
        self.aggregates = aggregates
        if not aggregates:
            raise PipelineError("no aggregate given. Write e.g. Aggregate(by=['origin'], flights=Count()).")
        for name, fn in aggregates.items():
            if not isinstance(fn, AggregateFn):
                raise PipelineError(f"'{name}' must be an aggregate such as Count() or Mean('delay'), not {fn!r}.")
        names = [*self.keys, *aggregates, *WINDOW_COLUMNS]
        for name in names:
            if names.count(name) > 1 or name.startswith(RESERVED_PREFIX):
                raise PipelineError(f"column '{name}' is given twice, or is reserved. Choose another name.")

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        if inputs[0].windowing.late_to is not None and LATE_EVENTS in (*self.keys, *self.aggregates):
            raise PipelineError(f"column '{LATE_EVENTS}' says what came too late (late_to). Choose another name.")
        return super().output(inputs)

    def columns(self, shape: Shape) -> dict[str, pl.DataType] | None:
        if shape.columns is None:
            return None
        known = {**shape.columns, **self.window_columns(shape)}
        try:
            return resolve_columns(known, lambda frame: self.whole(frame, shape))
        except PipelineError as error:
            raise PipelineError(misfit(self.aggregates, shape.columns) or str(error)) from error.__cause__

    def window_columns(self, shape: Shape) -> dict[str, pl.DataType]:
        dtype = pl.Datetime("us", "UTC")
        return {} if shape.windowing.is_global else dict.fromkeys(WINDOW_COLUMNS, dtype)

    def whole(self, frame: pl.LazyFrame, shape: Shape) -> pl.LazyFrame:
        """All three steps over one frame: what the engine's result looks like."""
        windows = list(self.window_columns(shape))
        partial = [e for name, fn in self.aggregates.items() for e in fn.partial(name)]
        final = [fn.final(name) for name, fn in self.aggregates.items()]
        keys: list[ColumnLike] = [*self.by, *windows]
        grouped = frame.group_by(keys or [pl.lit(0).alias(f"{RESERVED_PREFIX}all")]).agg(partial)
        return grouped.select(*self.keys, *windows, *final)
