"""Operators: a stage's tree of transforms, compiled to run on batches. Each hands its result to its children; leaves
emit.

A failing event is isolated: rows one by one on the row path, by bisection on the column path.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import polars as pl

from streamflow.base.errors import DataError
from streamflow.engine.asynchronous import AsyncFn
from streamflow.engine.calls import Calls
from streamflow.engine.combine import (
    EVENTS,
    KEY,
    WINDOW_ROWS_MIN,
    ColumnCombiner,
    PreAggregation,
    RowCombiner,
    combiner_of,
    windows_apart,
)
from streamflow.engine.context import StepContext
from streamflow.engine.contexts import Contexts
from streamflow.engine.history import Origin
from streamflow.engine.outputs import (
    Place,
    Placed,
    all_placed,
    finished,
    json_event,
    key_of,
    keyed_rows,
    with_tag,
    without_tags,
)
from streamflow.engine.plan import Step
from streamflow.engine.sides import Beside, Broadcast, Views
from streamflow.engine.slices import SHUFFLE_SEED, hashes
from streamflow.engine.spread import Spread
from streamflow.model.batch import (
    RESERVED,
    VALUE,
    Batch,
    Elements,
    OnBad,
    in_windows,
    public,
    tell,
    to_elements,
    to_frame,
)
from streamflow.model.panes import PANE_UNKNOWN
from streamflow.model.row import Row
from streamflow.model.schema import Schema
from streamflow.model.time import Timestamp
from streamflow.model.user_metrics import at_step
from streamflow.model.window import TIME, WINDOW_START, IntervalWindow, Windowing
from streamflow.transforms.columns import AsColumns, FrameTransform, missing_column
from streamflow.transforms.core import DoFn, ParDo, Reshuffle, RowFilter
from streamflow.transforms.dofn import asks_window
from streamflow.transforms.grouping import Grouping
from streamflow.transforms.io import StoreSink
from streamflow.transforms.outputs import Tagged, WindowedValue
from streamflow.transforms.params import Param
from streamflow.transforms.time_joins import TimeJoin
from streamflow.transforms.views import View
from streamflow.transforms.window import WindowInto

FrameFunction = Callable[[pl.LazyFrame], pl.LazyFrame]
PartitionsOf = Callable[[str], int]

_QUERY_ERRORS = (Exception, pl.exceptions.PanicException)
"""Python functions inside a query raise what they like."""


class Operator(Protocol):
    def run(self, batch: Batch, context: StepContext) -> None: ...

    def close(self) -> None: ...


def compile_steps(
    steps: Sequence[Step],
    partitions_of: PartitionsOf,
    *,
    partition: int,
    rows_only: bool,
    learnt: dict[str, PreAggregation],
    calls: Calls,
    views: Views | None = None,
    origin: Origin | None = None,
) -> list[Operator]:
    """Operators for the tree below a stage's head, as one task (of `partition`) runs them. `learnt`: what the tasks of
    a worker have found out, by label; `calls`: their event loop; `views`: the side inputs of the transform at the
    root; `origin`: where the events were read, if groupings are to know."""
    compiler = _Compiler(partitions_of, partition, rows_only, learnt, calls, views, origin)
    return [compiler.compile(step) for step in steps]


class _Compiler:
    def __init__(
        self,
        partitions_of: PartitionsOf,
        partition: int,
        rows_only: bool,
        learnt: dict[str, PreAggregation],
        calls: Calls,
        views: Views | None,
        origin: Origin | None,
    ) -> None:
        self.partitions_of, self.partition, self.rows_only, self.learnt = partitions_of, partition, rows_only, learnt
        self.calls, self.views, self.origin = calls, views, origin

    def compile(self, step: Step) -> Operator:
        if step.topic is not None:
            return self.leaf(step, step.topic)
        children = [self.compile(child) for child in step.children]
        transform = step.node.transform
        if isinstance(transform, AsColumns):
            return SchemaOperator(step.node.label, transform.schema, children)
        if isinstance(transform, FrameTransform):
            return fused(FrameOperator([(step.node.label, transform.apply_frame)], children))
        if isinstance(transform, Tagged):
            return TaggedOperator(step.node.label, transform.tag, children)
        if isinstance(transform, WindowInto):
            return WindowOperator(step.node.label, transform, step.windowing, children)
        assert isinstance(transform, ParDo)
        operator = FilterOperator if isinstance(transform, RowFilter) and transform.tags is None else RowOperator
        views = self.views if transform.sides else None
        return operator(step.node.label, transform, step.windowing, children, self.calls, views)

    def leaf(self, step: Step, topic: str) -> Operator:
        transform, label = step.node.transform, step.node.label
        if step.side is not None:
            lists = isinstance(step.node.sides[step.side].producer.transform, View)
            return Broadcast(label, topic, self.partitions_of(topic), step.side, lists=lists)
        if isinstance(transform, Grouping):
            known = self.learnt.setdefault(label, PreAggregation())
            combiner = combiner_of(
                transform, step.windowing, rows_only=self.rows_only, pre_aggregation=known, origin=self.origin
            )
            pre_aggregation = combiner.pre_aggregation if isinstance(combiner, ColumnCombiner) else None
            shuffle = Shuffle(topic, combiner.keys, self.partitions_of(topic), pre_aggregation)
            if isinstance(combiner, ColumnCombiner):
                return FrameOperator([(label, combiner.partial_frame)], [shuffle])
            if not step.windowing.is_plain:
                assert isinstance(combiner, RowCombiner)
                return PartialOperator(label, combiner.singles, combiner.close, [shuffle])
            return PartialOperator(label, combiner.partial, combiner.close, [shuffle])
        if isinstance(transform, TimeJoin):
            return Shuffle(topic, transform.keys, self.partitions_of(topic))
        if isinstance(transform, ParDo) and transform.sides:
            partition = self.partition % self.partitions_of(topic)
            return Beside(label, topic, partition, step.windowing, windowed=transform.sides_windowed)
        if isinstance(transform, ParDo):
            return KeyedRows(label, step.windowing, [Shuffle(topic, [KEY], self.partitions_of(topic))])
        if isinstance(transform, StoreSink):
            return FrameOperator([(label, transform.prepare)], [Spread(label, topic, 1, 0)])
        if isinstance(transform, Reshuffle):
            return Spread(label, topic, self.partitions_of(topic), self.partition)
        return Publish(label, topic, self.partition % self.partitions_of(topic))


def fused(operator: "FrameOperator") -> "FrameOperator":
    """A frame operator whose only child is one too becomes a single query."""
    if len(operator.children) == 1 and isinstance(child := operator.children[0], FrameOperator):
        return FrameOperator([*operator.parts, *child.parts], child.children)
    return operator


class _Inner:
    """An operator with children."""

    def __init__(self, label: str, children: Sequence[Operator]) -> None:
        self.label, self.children = label, children

    def hand_on(self, batch: Batch, context: StepContext) -> None:
        if len(batch):
            for child in self.children:
                child.run(batch, context)

    def close(self) -> None:
        for child in self.children:
            child.close()


class FrameOperator(_Inner):
    """One query over the batch, made of one or several transforms: (label, function)."""

    def __init__(self, parts: Sequence[tuple[str, FrameFunction]], children: Sequence[Operator]) -> None:
        super().__init__(parts[0][0], children)
        self.parts = list(parts)

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        for _, function in self.parts:
            frame = function(frame)
        return frame

    def run(self, batch: Batch, context: StepContext) -> None:
        if isinstance(batch, pl.DataFrame) and VALUE in batch.columns:
            batch = to_elements(batch)
        frame = to_frame(batch, context.on_bad(self.label))
        if frame.height:
            good = _isolated(frame, self.apply, lambda bad, error: tell(bad, context.on_bad(self._at(bad)), error))
            named = isinstance(batch, Elements) and hasattr(batch.values[0], "_asdict")
            self.hand_on(_as_rows(good) if named else good, context)

    def _at(self, bad: pl.DataFrame) -> str:
        """The label of the transform at which rows fail that fail as one."""
        lazy = bad.head(1).lazy()
        for label, function in self.parts[:-1]:
            lazy = function(lazy)
            try:
                lazy.collect()
            except _QUERY_ERRORS:
                return label
        return self.parts[-1][0]


def _as_rows(frame: pl.DataFrame) -> Elements:
    """Rows and named tuples become Rows again, for functions that read their fields."""
    elements = to_elements(frame)
    elements.values = [Row(**fields) for fields in elements.values]
    return elements


class SchemaOperator(_Inner):
    """Elements as the columns of a schema."""

    def __init__(self, label: str, schema: Schema, children: Sequence[Operator]) -> None:
        super().__init__(label, children)
        self.schema = schema

    def run(self, batch: Batch, context: StepContext) -> None:
        on_bad = context.on_bad(self.label)
        frame = to_frame(batch, on_bad)
        if frame.height:
            self.hand_on(fitted(frame, self.schema, on_bad), context)


class PartialOperator(_Inner):
    """The partial combine of the row path. `close_fn`: lets go of the CombineFn."""

    def __init__(
        self,
        label: str,
        partial: Callable[[Batch, OnBad], pl.DataFrame],
        close_fn: Callable[[], None],
        children: Sequence[Operator],
    ) -> None:
        super().__init__(label, children)
        self.partial, self.close_fn = partial, close_fn

    def run(self, batch: Batch, context: StepContext) -> None:
        at_step(self.label)
        self.hand_on(self.partial(batch, context.on_bad(self.label)), context)

    def close(self) -> None:
        self.close_fn()
        super().close()


class RowOperator(_Inner):
    """A DoFn over the elements of the batch, one at a time, or if it is async many. `views`: its side inputs, if it has
    any."""

    def __init__(
        self,
        label: str,
        transform: ParDo,
        windowing: Windowing,
        children: Sequence[Operator],
        calls: Calls,
        views: Views | None,
    ) -> None:
        super().__init__(label, children)
        self.fn = copy.deepcopy(transform.fn)
        if transform.asynchronous is not None:
            self.fn = AsyncFn(self.fn, transform.asynchronous, calls)
        self.args, self.kwargs, self.params, self.views = transform.args, transform.kwargs, transform.params, views
        self.tagged = transform.tags is not None
        self.windowing = windowing
        self.asks_key = any(param is DoFn.KeyParam for param in self.params.values())
        self.asks_place = any(param is DoFn.WindowedValueParam for param in self.params.values())
        self.per_window = asks_window(self.params)
        self.fn.setup()
        self.contexts = Contexts(transform.params)

    def run(self, batch: Batch, context: StepContext) -> None:
        self.hand_on(self._outputs(to_elements(batch), context.on_bad(self.label), context), context)

    def _outputs(self, elements: Elements, on_bad: OnBad, context: StepContext) -> Elements:
        out = Elements()
        at_step(self.label)
        with self.contexts.bundle():
            self._bundle(elements, on_bad, context, out)
        if not self.tagged:
            context.counts["outputs_unread"] += without_tags(out)
        return out

    def _bundle(self, elements: Elements, on_bad: OnBad, context: StepContext, out: Elements) -> None:
        self.fn.start_bundle()
        if isinstance(self.fn, AsyncFn):
            self.fn.process_all(elements, self._places, self._process, on_bad, context, out)
        else:
            self._process_each(elements, on_bad, out)
        windowed = self.windowing.assigned or self.per_window
        for result, time_us, window in finished(self.fn, windowed):
            out.append(result, time_us, -1, window)

    def _process_each(self, elements: Elements, on_bad: OnBad, out: Elements) -> None:
        for i, value in enumerate(elements.values):
            results: list[Placed] = []
            try:
                for time_us, window in self._places(elements, i):
                    results += all_placed(self._process(elements, i, window), time_us, window)
            except Exception as error:
                on_bad(value, elements.offsets[i], error)
                continue
            for result, time_us, window in results:
                out.append(result, time_us, elements.offsets[i], window, elements.pane(i))

    def _places(self, elements: Elements, i: int) -> Sequence[Place]:
        """For each time and window that the function is called for the element."""
        time_us, window = elements.times[i], elements.window(i) if self.windowing.assigned else None
        if self.per_window and window is None:
            return [(time_us, each) for each in self.windowing.fn.at(time_us)]
        return ((time_us, window),)

    def _process(self, elements: Elements, i: int, window: IntervalWindow | None) -> Any:
        args, kwargs = (self.args, self.kwargs) if self.views is None else self.views.arguments(window)
        return self.fn.process(elements.values[i], *args, **kwargs, **self._asked(elements, i, window))

    def _asked(self, elements: Elements, i: int, window: IntervalWindow | None) -> dict[str, Any]:
        if not self.params:
            return {}
        value = elements.values[i]
        offers: dict[Param, Any] = {
            DoFn.TimestampParam: Timestamp(micros=elements.times[i]),
            DoFn.WindowParam: window,
            DoFn.ElementParam: value,
            DoFn.KeyParam: key_of(value) if self.asks_key else None,
            DoFn.PaneInfoParam: elements.pane(i) or PANE_UNKNOWN,
            **self.contexts.values,
        }
        if self.asks_place:
            windows = () if window is None else (window,)
            place = WindowedValue(value, offers[DoFn.TimestampParam], windows, offers[DoFn.PaneInfoParam])
            offers[DoFn.WindowedValueParam] = place
        return {name: offers[param] for name, param in self.params.items()}

    def close(self) -> None:
        self.contexts.close()
        self.fn.teardown()
        super().close()


class TaggedOperator(_Inner):
    """One of several outputs."""

    def __init__(self, label: str, tag: str | None, children: Sequence[Operator]) -> None:
        super().__init__(label, children)
        self.tag = tag

    def run(self, batch: Batch, context: StepContext) -> None:
        assert isinstance(batch, Elements)
        self.hand_on(with_tag(batch, self.tag), context)


class WindowOperator(_Inner):
    """Windows given to each element where it comes by: those of a function of the user's own, or other ones where an
    element is in several, each of which goes on by itself."""

    def __init__(self, label: str, transform: WindowInto, before: Windowing, children: Sequence[Operator]) -> None:
        super().__init__(label, children)
        self.windowing, self.before = transform.windowing, before

    def run(self, batch: Batch, context: StepContext) -> None:
        elements, on_bad = to_elements(batch), context.on_bad(self.label)
        rows: list[int] = []
        windows: list[IntervalWindow] = []
        for i, value in enumerate(elements.values):
            time_us = elements.times[i]
            so_far: list[IntervalWindow | None] = [elements.window(i) if self.before.assigned else None]
            if self.before.may_spread:
                so_far[:] = self.before.fn.at(time_us)
            try:
                assigned = [each for window in so_far for each in self.windowing.windows(time_us, value, window)]
            except Exception as error:
                on_bad(value, elements.offsets[i], error)
                continue
            rows += [i] * len(assigned)
            windows += assigned
        self.hand_on(in_windows(batch, rows, windows), context)


class FilterOperator(RowOperator):
    """A function that decides about elements. It takes rows as dicts, but the frame itself goes on."""

    def run(self, batch: Batch, context: StepContext) -> None:
        if isinstance(batch, Elements) or VALUE in batch.columns or self.per_window:
            super().run(batch, context)
            return
        elements = to_elements(batch)
        offsets, on_bad = elements.offsets, context.on_bad(self.label)
        rows = replace(elements, offsets=list(range(len(elements))))
        kept = self._outputs(rows, lambda value, row, error: on_bad(value, offsets[row], error), context)
        self.hand_on(batch[kept.offsets] if len(kept) < batch.height else batch, context)


class KeyedRows(_Inner):
    """(key, value) pairs as rows with the key's encoding, one for each of their windows."""

    def __init__(self, label: str, windowing: Windowing, children: Sequence[Operator]) -> None:
        super().__init__(label, children)
        self.windowing = windowing

    def run(self, batch: Batch, context: StepContext) -> None:
        self.hand_on(keyed_rows(to_elements(batch), self.windowing, context.on_bad(self.label)), context)


class Shuffle:
    """Splits rows by the hash of their key and appends them to the log of the stage behind. `pre_aggregation`: learns
    from the partials of a grouping."""

    def __init__(
        self, topic: str, keys: Sequence[str], partitions: int, pre_aggregation: PreAggregation | None = None
    ) -> None:
        self.topic, self.keys, self.partitions = topic, list(keys), partitions
        self.pre_aggregation = pre_aggregation

    def run(self, batch: Batch, context: StepContext) -> None:
        assert isinstance(batch, pl.DataFrame)
        if self.pre_aggregation is not None:
            self.pre_aggregation.seen(int(batch[EVENTS].sum()), batch.height)
        windowed = WINDOW_START in batch.columns
        for frame in windows_apart(batch, WINDOW_ROWS_MIN * self.partitions) if windowed else (batch,):
            for partition, part in self._parts(frame):
                context.frames[self.topic, partition].append(part)

    def _parts(self, frame: pl.DataFrame) -> Iterable[tuple[int, pl.DataFrame]]:
        if self.partitions == 1 or not self.keys:
            return [(0, frame)]
        target = (hashes(frame, self.keys, SHUFFLE_SEED) % self.partitions).alias("_target")
        parts = frame.with_columns(target).partition_by("_target", as_dict=True, include_key=False)
        return ((int(partition), part) for (partition,), part in parts.items())

    def close(self) -> None: ...


class Publish:
    """WriteToTopic: columns as an envelope, Python values as JSON events."""

    def __init__(self, label: str, topic: str, partition: int) -> None:
        self.label, self.topic, self.partition = label, topic, partition

    def run(self, batch: Batch, context: StepContext) -> None:
        if isinstance(batch, pl.DataFrame) and VALUE not in batch.columns:
            frame = public(batch).with_columns(batch[TIME])
            context.frames[self.topic, self.partition].append(frame)
            return
        elements, on_bad = to_elements(batch), context.on_bad(self.label)
        for value, offset, time_us in zip(elements.values, elements.offsets, elements.times, strict=True):
            try:
                event = json_event(value)
            except DataError as error:
                on_bad(value, offset, error)
            else:
                context.events[self.topic, self.partition].append((event, time_us))

    def close(self) -> None: ...


def guarded(frame: pl.DataFrame, apply: FrameFunction, on_bad: OnBad) -> pl.DataFrame:
    """`apply` on the frame; if rows make it fail, on all rows but these, which are told to `on_bad`.

    A query that can't work on any row of such columns is bad for all rows at once. Bad rows are found by bisection: k
    of n cost about k·log2(n) queries."""
    return _isolated(frame, apply, lambda bad, error: tell(bad, on_bad, error))


def _isolated(
    frame: pl.DataFrame, apply: FrameFunction, found: Callable[[pl.DataFrame, Exception], None]
) -> pl.DataFrame:
    lazy = apply(frame.lazy())
    try:
        lazy.collect_schema()
    except pl.exceptions.PolarsError as error:
        found(frame, error)
        return pl.DataFrame()
    try:
        return lazy.collect()
    except _QUERY_ERRORS as error:
        if frame.height == 1:
            found(frame, error)
            return pl.DataFrame()
    half = frame.height // 2
    parts = [_isolated(part, apply, found) for part in (frame.head(half), frame.tail(frame.height - half))]
    good = [part for part in parts if part.width]
    return pl.concat(good, how="diagonal_relaxed") if good else pl.DataFrame()


def fitted(frame: pl.DataFrame, schema: Schema, on_bad: OnBad) -> pl.DataFrame:
    """The columns of the schema, cast to its types, and the engine's own; rows that do not fit are told."""
    missing = [field.name for field in schema.fields if field.required and field.name not in frame.columns]
    if missing:
        tell(frame, on_bad, DataError(missing_column(Exception(f'"{missing[0]}"'), frame.schema)))
        return frame.clear()
    dtypes = schema.polars()
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in dtypes.items() if name not in frame.columns]
    own = [name for name in RESERVED if name in frame.columns]
    wanted = frame.with_columns(absent).select(*schema.names, *own)
    if any(wanted.schema[name] != dtype for name, dtype in dtypes.items()):
        casts = [pl.col(name).cast(dtype, strict=True) for name, dtype in dtypes.items()]
        wanted = guarded(wanted, lambda lazy: lazy.with_columns(casts), on_bad)
    not_null = [field.name for field in schema.fields if not field.nullable]
    if any(wanted[name].null_count() for name in not_null if wanted.width):
        null = pl.any_horizontal(pl.col(name).is_null() for name in not_null)
        tell(wanted.filter(null), on_bad, DataError(f"a field of {not_null} is null."))
        wanted = wanted.filter(~null)
    return wanted
