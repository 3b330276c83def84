"""Transforms over Python values, with Apache Beam's names and signatures: Create, ParDo, Map, FlatMap, Filter, Flatten.

They run on the row path: a function sees one element at a time. An exception sends the element to the dead-letter
topic.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, TypeVar

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.graph import PCollection, Primitive, Shape
from streamflow.model.time import DurationTypes, duration_us
from streamflow.model.trigger import DefaultTrigger, TriggerFn, checked
from streamflow.model.window import (
    AccumulationMode,
    ClosingBehavior,
    OnTimeBehavior,
    TimestampCombiner,
    WindowFn,
    Windowing,
)
from streamflow.transforms.columns import Where

_E = TypeVar("_E", bound=Enum)


class _Param:
    """A default value that asks the engine for something: `def process(self, element, time=DoFn.TimestampParam)`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"DoFn.{self.name}"


class DoFn:
    """Per-element processing with a lifecycle. `process` returns or yields the outputs, or returns None.

    `setup` runs once when a worker takes the stage up, `start_bundle` and `finish_bundle` around each batch,
    `teardown` when the worker lets go. A copy is made per task; nothing kept on `self` survives a restart.
    """

    ElementParam: Any = _Param("ElementParam")
    TimestampParam: Any = _Param("TimestampParam")
    WindowParam: Any = _Param("WindowParam")

    def setup(self) -> None: ...

    def start_bundle(self) -> None: ...

    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any] | None:
        raise PipelineError(f"{type(self).__name__} must define process(self, element).")

    def finish_bundle(self) -> None: ...

    def teardown(self) -> None: ...


class Create(Primitive):
    """A bounded PCollection of the given values (of any Python type; `TimestampedValue` sets the event time)."""

    arity = 0

    def __init__(self, values: Iterable[Any], reshuffle: bool = True) -> None:
        if isinstance(values, (str, bytes)):
            raise PipelineError(f"Create takes an iterable of values, not {values!r}. Write Create([{values!r}]).")
        self.values = list(values.items()) if isinstance(values, dict) else list(values)

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        return Shape()


class ParDo(Primitive):
    """Applies a DoFn to each element; each of its outputs becomes an element."""

    def __init__(self, fn: DoFn | Callable[..., Iterable[Any] | None], *args: Any, **kwargs: Any) -> None:
        if isinstance(fn, type) and issubclass(fn, DoFn):
            raise PipelineError(f"ParDo takes an instance: ParDo({fn.__name__}()).")
        if not isinstance(fn, DoFn) and not callable(fn):
            raise PipelineError(f"ParDo takes a DoFn or a function, not {fn!r}.")
        self.fn = fn if isinstance(fn, DoFn) else _FunctionDoFn(fn)
        for value in (*args, *kwargs.values()):
            if isinstance(value, PCollection):
                raise PipelineError(f"{value!r} can't be an argument: there are no side inputs. Join by key instead.")
        if inspect.isgeneratorfunction(self.fn.finish_bundle):
            raise PipelineError(f"{_name(fn)}.finish_bundle can't yield outputs: give them in process.")
        self.args, self.kwargs = args, kwargs
        self.params = _params(fn.process if isinstance(fn, DoFn) else fn)

    def default_label(self) -> str:
        return self.label or f"ParDo({_name(self.fn)})"

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (pcoll,) = inputs
        # A function that asks for the window runs once per window, and its outputs stay in it.
        asks = any(param is DoFn.WindowParam for param in self.params.values())
        windowing = replace(pcoll.windowing, assigned=True) if asks else pcoll.windowing
        return Shape(windowing, columns=None, bounded=pcoll.shape.bounded)


class _FunctionDoFn(DoFn):
    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any] | None:
        result: Iterable[Any] | None = self.fn(element, *args, **kwargs)
        return result


class _One(_FunctionDoFn):
    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:
        return (self.fn(element, *args, **kwargs),)


class _If(_FunctionDoFn):
    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:
        return (element,) if self.fn(element, *args, **kwargs) else ()


class _CallableTransform(ParDo):
    """Map, FlatMap and the row form of Filter: ParDo with a way to read the function's result."""

    wrap: type[_FunctionDoFn] = _FunctionDoFn

    def __init__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        if not callable(fn):
            raise PipelineError(f"{name} takes a function, not {fn!r}.")
        super().__init__(self.wrap(fn), *args, **kwargs)
        self.params = _params(fn)
        self.name = f"{name}({_name(fn)})"

    def default_label(self) -> str:
        return self.label or self.name


class Map(_CallableTransform):
    """One output for each element: `Map(fn)` gives `fn(element, *args, **kwargs)`."""

    wrap = _One


class FlatMap(_CallableTransform):
    """Any number of outputs for each element: the items of the iterable that the function returns."""

    def __init__(self, fn: Callable[..., Any] = lambda elements: elements, *args: Any, **kwargs: Any) -> None:
        super().__init__(fn, *args, **kwargs)


class MapTuple(Map):
    """Map for elements that are tuples: `MapTuple(lambda key, value: …)`."""

    def __init__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(lambda element, *a, **kw: fn(*element, *a, **kw), *args, **kwargs)
        self.name = f"MapTuple({_name(fn)})"


class RowFilter(_CallableTransform):
    """Filter by a function; columns stay columns, of the same types."""

    wrap = _If

    def __init__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(fn, *args, **kwargs)
        self.name = f"Filter({_name(fn)})"

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        return replace(super().output(inputs), columns=inputs[0].shape.columns)


def Filter(fn: Callable[..., Any] | pl.Expr, *args: Any, **kwargs: Any) -> Primitive:  # noqa: N802 - Beam's name
    """Keeps the elements for which the function is true, or the rows for which the expression is (see `Where`)."""
    return Where(fn) if isinstance(fn, pl.Expr) else RowFilter(fn, *args, **kwargs)


class Flatten(Primitive):
    """The union of several PCollections: `(a, b) | Flatten()`."""

    arity = None

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        if not inputs:
            raise PipelineError("nothing to flatten. Write `(a, b) | Flatten()`.")
        first = inputs[0].shape
        if any(pcoll.windowing != first.windowing for pcoll in inputs):
            raise PipelineError("the inputs have different windows. Apply the same WindowInto to each before.")
        same = all(pcoll.shape.columns == first.columns for pcoll in inputs)
        return Shape(
            first.windowing,
            columns=first.columns if same else None,
            bounded=all(pcoll.shape.bounded for pcoll in inputs),
        )


class WindowInto(Primitive):
    """Sets how the groupings that follow divide event time.

    `allowed_lateness` (seconds, or Duration): how long after a window has closed an event may still change it; later
    ones are dropped and counted. With lateness a window gives further panes: only what is new
    (`AccumulationMode.DISCARDING`, the
    default) or everything so far (`ACCUMULATING`).

    `trigger`: when a window gives a pane, by default when the watermark passes its end, then for late events; another
    one needs an `accumulation_mode`. `timestamp_combiner`: the event time of results. `on_time_behavior`,
    `closing_behavior`: whether panes without anything new are given.
    """

    def __init__(
        self,
        windowfn: WindowFn,
        trigger: TriggerFn | None = None,
        accumulation_mode: AccumulationMode | None = None,
        timestamp_combiner: TimestampCombiner | None = None,
        allowed_lateness: DurationTypes = 0,
        *,
        on_time_behavior: OnTimeBehavior = OnTimeBehavior.FIRE_ALWAYS,
        closing_behavior: ClosingBehavior = ClosingBehavior.FIRE_IF_NON_EMPTY,
    ) -> None:
        if not isinstance(windowfn, WindowFn):
            raise PipelineError(f"WindowInto takes a window function, e.g. FixedWindows(60), not {windowfn!r}.")
        lateness_us = duration_us(allowed_lateness)
        if lateness_us < 0:
            raise PipelineError(f"allowed_lateness can't be negative, got {allowed_lateness!r}.")
        chosen = DefaultTrigger() if trigger is None else checked(trigger)
        if accumulation_mode is None:
            if chosen != DefaultTrigger():
                raise PipelineError(
                    f"the panes of {chosen!r} need an accumulation_mode: AccumulationMode.ACCUMULATING for everything "
                    "so far, DISCARDING for what is new."
                )
            accumulation_mode = AccumulationMode.DISCARDING
        self.windowing = Windowing(
            windowfn,
            lateness_us,
            _member(AccumulationMode, accumulation_mode, "accumulation_mode"),
            not windowfn.by_time,
            chosen,
            _member(TimestampCombiner, timestamp_combiner or TimestampCombiner.OUTPUT_AT_EOW, "timestamp_combiner"),
            _member(OnTimeBehavior, on_time_behavior, "on_time_behavior"),
            _member(ClosingBehavior, closing_behavior, "closing_behavior"),
        )

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (pcoll,) = inputs
        return Shape(self.windowing, pcoll.shape.columns, pcoll.shape.bounded)


def _member(enum: type[_E], value: _E, name: str) -> _E:
    if not isinstance(value, enum):
        raise PipelineError(f"{name} must be one of {enum.__name__}, got {value!r}.")
    return value


def _params(fn: Callable[..., Any]) -> dict[str, _Param]:
    """The parameters that ask for the timestamp or window, by name."""
    try:
        signature = inspect.signature(fn)
    except (TypeError, ValueError):
        return {}
    return {name: p.default for name, p in signature.parameters.items() if isinstance(p.default, _Param)}


def _name(fn: Any) -> str:
    inner = fn.fn if isinstance(fn, _FunctionDoFn) else fn
    return getattr(inner, "__name__", None) or type(inner).__name__
