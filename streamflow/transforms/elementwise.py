"""Transforms over Python values, with Apache Beam's names and signatures: ParDo, Map, FlatMap, Filter.

They run on the row path: a function sees one element at a time. An exception sends the element to the dead-letter
topic.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import polars as pl

from streamflow.base.errors import PipelineError, TypeCheckError
from streamflow.model.graph import Graph, PCollection, Primitive, PTransform, Shape, check_no_columns
from streamflow.model.type_hints import IOTypeHints, hints_of, no_annotations, with_output_types
from streamflow.model.types import Bindings, bound, item_of, pair_of, shown
from streamflow.transforms.asynchronous import AsyncOptions, is_async
from streamflow.transforms.columns import Where
from streamflow.transforms.dofn import (
    DoFn,
    FunctionDoFn,
    Guarded,
    If,
    One,
    TypeChecked,
    asks_window,
    awaiting,
    function_of,
    name_of,
)
from streamflow.transforms.outputs import DoOutputsTuple
from streamflow.transforms.params import Param, free_places, named_arguments, params_of
from streamflow.transforms.sides import AsSideInput
from streamflow.transforms.type_checks import by_tag, check_arguments
from streamflow.transforms.userstate import (
    StateParam,
    TimerParam,
    is_stateful_dofn,
    timers_of,
    validate_stateful_dofn,
)
from streamflow.transforms.views import view_of

__all__ = [
    "DoFn",
    "Filter",
    "FlatMap",
    "FlatMapTuple",
    "Map",
    "MapTuple",
    "ParDo",
    "RowFilter",
]


class ParDo(Primitive):
    """Applies a DoFn to each element; each of its outputs becomes an element. Further arguments are handed on, the
    content of other PCollections too (`streamflow.pvalue.AsSingleton`, `AsIter`, `AsList`, `AsDict`)."""

    def __init__(self, fn: DoFn | Callable[..., Iterable[Any] | None], *args: Any, **kwargs: Any) -> None:
        if isinstance(fn, type) and issubclass(fn, DoFn):
            raise PipelineError(f"ParDo takes an instance: ParDo({fn.__name__}()).")
        if not isinstance(fn, DoFn) and not callable(fn):
            raise PipelineError(f"ParDo takes a DoFn or a function, not {fn!r}.")
        self.fn = fn if isinstance(fn, DoFn) else FunctionDoFn(fn)
        self.function: Callable[..., Any] = fn.process if isinstance(fn, DoFn) else fn
        """What is called, whose parameters and annotations count."""
        for value in (*args, *kwargs.values()):
            if isinstance(value, (PCollection, DoOutputsTuple)):
                raise PipelineError(
                    f"{value!r} can't be an argument as it is. Say what of it: pvalue.AsSingleton(…), AsList(…), "
                    "AsDict(…)."
                )
        self.sides = tuple(dict.fromkeys(v for v in (*args, *kwargs.values()) if isinstance(v, AsSideInput)))
        """What it is given of other PCollections; with any it begins a stage of its own."""
        self.tags: tuple[str, ...] | None = None
        """Of the outputs besides the main one, which they follow; None if there is the main one alone."""
        self.main: str | None = None
        self.allow_unknown_tags = False
        self.args, self.kwargs = named_arguments(self.function, args, kwargs)
        self.params = params_of(self.function)
        self.asynchronous: AsyncOptions | None = None
        """How its functions are called, if they are async."""
        self.stateful = is_stateful_dofn(self.fn)
        """It begins a stage of its own, behind a shuffle by key."""
        if self.stateful:
            validate_stateful_dofn(self.fn)
        else:
            _check_asks_no_state(fn, self.params)
        if _is_async_dofn(fn, self.stateful) if isinstance(fn, DoFn) else is_async(fn):
            self._be_async(AsyncOptions())

    def default_label(self) -> str:
        return self.label or f"ParDo({name_of(self.fn)})"

    def default_type_hints(self) -> IOTypeHints | None:
        """What the function says, by decorators or annotations."""
        fn = self.fn.fn if isinstance(self.fn, Guarded) else self.fn
        return by_tag(fn.get_type_hints())

    def infer_output_type(self, input_type: Any) -> Any:
        return self.fn.infer_output_type(input_type)

    def check_types(self, element: Any, bindings: Bindings) -> None:
        if self.stateful and pair_of(element) is None:
            raise TypeCheckError(
                f"state is kept per key, so {self.default_label()!r} requires (key, value) pairs but got "
                f"{shown(element)}. Make pairs with Map, or WithKeys."
            )
        check_arguments(self, element, bindings)

    def checking(self, bindings: Bindings) -> Self:
        if self.stateful or self.asynchronous:
            return self
        hints = self.get_type_hints()
        output = bound(hints.output_types[0][0], bindings) if hints.output_types and hints.output_types[0] else Any
        clone = copy.copy(self)
        clone.fn = TypeChecked(self.fn, Any if hints.element is None else bound(hints.element, bindings), output)
        return clone

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (pcoll,) = inputs
        if self.stateful and pcoll.windowing.is_merging:
            raise PipelineError(
                "state has no window where windows still merge. Group by key before, or use windows that do not merge."
            )
        # A function that asks for the window runs once per window, and its outputs stay in it.
        asks = self.stateful or self.sides_windowed or asks_window(self.params)
        if self.sides_windowed and pcoll.windowing.is_global:
            raise PipelineError(
                "a side input with windows, but the input is in the global window, whose end is in none of them. Apply "
                "WindowInto to the input too, or WindowInto(GlobalWindows()) to the side input."
            )
        if self.stateful:
            check_no_columns(pcoll, "a DoFn with state or timers, which are kept per key,")
        windowing = replace(pcoll.windowing, assigned=True) if asks else pcoll.windowing
        return Shape(windowing, columns=None, bounded=pcoll.shape.bounded)

    @property
    def sides_windowed(self) -> bool:
        """It is given something else in each window, so it runs once for each of an element's."""
        return any(not side.pvalue.windowing.is_global for side in self.sides)

    def side_inputs(self, pipeline: Graph) -> list[PCollection]:
        for side in self.sides:
            if side.pvalue.pipeline is not pipeline:
                raise PipelineError(f"{self.default_label()}: {side!r} is of another pipeline.")
            if side.pvalue.windowing.fn.is_merging():
                raise PipelineError(
                    f"{self.default_label()}: {side!r} has windows that merge, so none belongs to an element. Apply "
                    "another WindowInto to it before."
                )
        if self.sides and self.stateful:
            raise PipelineError(
                f"{self.default_label()}: a DoFn with state can't have side inputs. Put them to the values with a Map "
                "before it."
            )
        return [view_of(side.pvalue) for side in self.sides]

    def result(self, output: PCollection) -> Any:
        if self.tags is None:
            return output
        said = self.get_type_hints().output_types
        return DoOutputsTuple(output, self.tags, self.main, self.allow_unknown_tags, said and said[1])

    def with_outputs(self, *tags: str, main: str | None = None, allow_unknown_tags: bool | None = None) -> Self:
        """Give several PCollections, as a `DoOutputsTuple`: one for each tag of the `TaggedOutput`s that the function
        gives, and the main one of all other outputs, which `main` gives a tag too. Without any tag those that are asked
        for exist."""
        of_others = self.tags or ()
        if not all(isinstance(tag, str) for tag in tags) or len({*tags, *of_others}) < len(tags) + len(of_others):
            raise PipelineError(f"with_outputs takes tags, each a text and given once, not {tags!r}.")
        if main is not None and main in (*tags, *of_others):
            raise PipelineError(f"the main output's tag {main!r} is that of another output. Choose another one.")
        clone = copy.copy(self)
        clone.tags, clone.main = (*tags, *of_others), main if main is not None else self.main
        clone.allow_unknown_tags = not tags if allow_unknown_tags is None else allow_unknown_tags
        return clone

    def with_async(
        self,
        *,
        concurrency: int = 64,
        timeout_s: float = 30.0,
        retries: int = 3,
        ordered: bool = True,
        backoff_s: float = 0.2,
        backoff_max_s: float = 10.0,
        retry_on: type[Exception] | tuple[type[Exception], ...] = Exception,
    ) -> Self:
        """How an async function is called: `Map(fetch).with_async(concurrency=16, timeout_s=5)`. Without it an `async
        def` has the same defaults; a function of another kind, such as a lambda, says by it that it gives awaitables.

        At most `concurrency` elements at a time per task, each try at most `timeout_s`. After an error of `retry_on` or
        a time-out up to `retries` further tries, after random pauses of up to `backoff_s`, which doubles each time up
        to `backoff_max_s`; a DataError is never tried again. What still fails is a bad element, with its last error.
        `ordered`: outputs in the order of the elements, else in that in which the calls end. A batch's outputs are
        committed together once all calls have ended; after a crash or a stop before that they are made again."""
        if self.stateful:
            raise PipelineError(f"{name_of(self.fn)} has state, which {_NO_ASYNC_STATE}")
        clone = copy.copy(self)
        clone._be_async(AsyncOptions(concurrency, timeout_s, retries, ordered, backoff_s, backoff_max_s, retry_on))
        return clone

    def _be_async(self, options: AsyncOptions) -> None:
        self.asynchronous, self.fn = options, awaiting(self.fn)
        self._check_handling()

    def _check_handling(self) -> None:
        if self.asynchronous and isinstance(self.fn, Guarded) and self.fn.partial:
            raise PipelineError(
                "an async function can't handle exceptions with partial=True: a try that fails gives nothing."
            )

    def with_exception_handling(
        self,
        main_tag: str | None = None,
        dead_letter_tag: str = "bad",
        *,
        exc_class: type[Exception] | tuple[type[Exception], ...] = Exception,
        partial: bool = False,
        threshold: float = 1,
        on_failure_callback: Callable[[Exception, Any], Any] | None = None,
        **of_beam: Any,
    ) -> Self:
        """Give two PCollections: `good, bad = pcoll | Map(fn).with_exception_handling()`, under the tags `main_tag` (by
        default that of `with_outputs(main=…)`, or "good") and `dead_letter_tag`. An element for which the function
        raises `exc_class` is in the second one instead of in the dead-letter topic, as `(element, (class of
        the exception, its repr, lines of the traceback))`. `partial`: keep what it had given before it raised.
        `on_failure_callback(error, element)` is called for each; after a crash again. What Beam takes besides
        (processes, time-outs, state) has no meaning here, and is ignored."""
        if self.stateful:
            raise PipelineError("a DoFn with state can't handle exceptions that way. Catch them in its process.")
        if threshold < 1:
            raise PipelineError("there is no threshold of bad elements. Count those of the second output instead.")
        guarded = copy.copy(self)
        guarded.fn = Guarded(self.fn, dead_letter_tag, exc_class, partial, on_failure_callback)
        guarded._check_handling()
        unknown = self.tags is None or self.allow_unknown_tags
        return guarded.with_outputs(dead_letter_tag, main=main_tag or self.main or "good", allow_unknown_tags=unknown)

    def with_error_handler(self, error_handler: Any, **options: Any) -> PTransform:
        """The same, the failed elements going to an ErrorHandler (`streamflow.transforms.error_handling`); what is
        left is the good ones. Without a handler nothing changes."""
        if error_handler is None:
            return self
        return _Handled(self.with_exception_handling(**options), error_handler)


class _Handled(PTransform):
    """A transform with exceptions as its second output, which a handler takes."""

    def __init__(self, transform: ParDo, handler: Any) -> None:
        self.transform, self.handler = transform, handler

    def default_label(self) -> str:
        return self.label or self.transform.default_label()

    def expand(self, pcoll: PCollection) -> Any:
        good, bad = pcoll | self.transform
        self.handler.add_error_pcollection(bad)
        return good


class _CallableTransform(ParDo):
    """Map, FlatMap and the row form of Filter: ParDo with a way to read the function's result."""

    wrap: type[FunctionDoFn] = FunctionDoFn

    def __init__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        if not callable(fn):
            raise PipelineError(f"{name} takes a function, not {fn!r}.")
        super().__init__(self.wrap(fn), *args, **kwargs)
        self.function = fn
        self.args, self.kwargs = named_arguments(fn, args, kwargs)
        self.params = params_of(fn)
        _check_asks_no_state(fn, self.params)
        self.name = f"{name}({name_of(fn)})"
        if is_async(fn):
            self._be_async(AsyncOptions())

    def _be_async(self, options: AsyncOptions) -> None:
        super()._be_async(options)
        if self.wrap is not FunctionDoFn and inspect.isasyncgenfunction(function_of(self.fn)):
            raise PipelineError(f"{self.name} needs one result for each element, and the function yields. Use FlatMap.")

    def default_label(self) -> str:
        return self.label or self.name


class Map(_CallableTransform):
    """One output for each element: `Map(fn)` gives `fn(element, *args, **kwargs)`."""

    wrap = One


def _same(elements: Any) -> Any:
    return elements


class FlatMap(_CallableTransform):
    """Any number of outputs for each element: the items of the iterable that the function returns."""

    def __init__(self, fn: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> None:
        super().__init__(_same if fn is None else fn, *args, **kwargs)

    def infer_output_type(self, input_type: Any) -> Any:
        return item_of(input_type, "what it is given") if self.function is _same else Any


class MapTuple(Map):
    """Map for elements that are tuples: `MapTuple(lambda key, value: …)`."""

    def __init__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(_on_tuples(fn), *args, **kwargs)
        self.params = params_of(fn)
        self.name = f"MapTuple({name_of(fn)})"
        if is_async(fn):
            self._be_async(AsyncOptions())


def _on_tuples(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function taking its first arguments as one tuple. It gives what it gives, also by what is said of it."""
    if not callable(fn):
        raise PipelineError(f"MapTuple and FlatMapTuple take a function, not {fn!r}.")
    hints = hints_of(fn).with_defaults(IOTypeHints.from_callable(fn))
    free = free_places(fn)

    @no_annotations
    def untupled(element: Any, *args: Any, **kwargs: Any) -> Any:
        if args and free is not None:
            names = free[len(element) :]
            return fn(*element, **dict(zip(names, args, strict=False)), **kwargs)
        return fn(*element, *args, **kwargs)

    said = hints.output_types
    return with_output_types(*said[0], **said[1])(untupled) if said else untupled


class FlatMapTuple(FlatMap):
    """FlatMap for elements that are tuples: `FlatMapTuple(lambda key, values: …)`."""

    def __init__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(_on_tuples(fn), *args, **kwargs)
        self.params = params_of(fn)
        self.name = f"FlatMapTuple({name_of(fn)})"


class RowFilter(_CallableTransform):
    """Filter by a function; columns stay columns, of the same types."""

    wrap = If

    def __init__(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        super().__init__(fn, *args, **kwargs)
        self.name = f"Filter({name_of(fn)})"

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        shape = super().output(inputs)
        return shape if self.tags else replace(shape, columns=inputs[0].shape.columns)


def Filter(fn: Callable[..., Any] | pl.Expr, *args: Any, **kwargs: Any) -> Primitive:  # noqa: N802 - Beam's name
    """Keeps the elements for which the function is true, or the rows for which the expression is (see `Where`)."""
    return Where(fn) if isinstance(fn, pl.Expr) else RowFilter(fn, *args, **kwargs)


def _check_asks_no_state(fn: Any, params: Mapping[str, Param]) -> None:
    asks = [param for param in params.values() if isinstance(param, (StateParam, TimerParam))]
    if asks:
        raise PipelineError(f"the function {name_of(fn)} asks for {asks[0]!r}. Write a DoFn, whose process may do so.")


_NO_ASYNC_STATE = "changes with one element after the other. Await before it: Map(fetch), then the DoFn with state."


def _is_async_dofn(fn: DoFn, stateful: bool) -> bool:
    """PipelineError if some of its methods are async that can't be."""
    names = [name for name in dir(type(fn)) if not name.startswith("__") and is_async(getattr(type(fn), name))]
    kind = type(fn).__name__
    timers = [name for name in names if timers_of(getattr(fn, name))]
    if stateful and (timers or "process" in names):
        raise PipelineError(f"{kind}.{(timers or ['process'])[0]} is async, but has state, which {_NO_ASYNC_STATE}")
    lifecycle = [name for name in ("setup", "start_bundle", "finish_bundle", "teardown") if name in names]
    if lifecycle and "process" not in names:
        raise PipelineError(f"{kind}.{lifecycle[0]} is async, but process is not. Make it `async def process` too.")
    return "process" in names
