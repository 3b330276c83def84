"""DoFn, and the DoFns that plain functions become: one output for each element, any number, only those that pass, and
those whose exceptions are outputs."""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from streamflow.base.errors import PipelineError, TypeCheckError
from streamflow.model.type_hints import IOTypeHints, WithTypeHints, hints_of
from streamflow.model.types import holds, shown, type_of
from streamflow.model.window import TimestampedValue
from streamflow.transforms.asynchronous import given
from streamflow.transforms.outputs import TaggedOutput, WindowedValue, iterated
from streamflow.transforms.params import ELEMENT, SIDE_INPUT, BundleContextParam, Param, SetupContextParam
from streamflow.transforms.userstate import StateParam, TimerParam


class DoFn(WithTypeHints):
    """Per-element processing with a lifecycle. `process` returns or yields the outputs, or returns None.

    `setup` runs once when a worker takes the stage up, `start_bundle` and `finish_bundle` around each batch,
    `teardown` when the worker lets go. `finish_bundle` may return or yield outputs too, as `WindowedValue`s. A copy is
    made per task; nothing kept on `self` survives a restart. What is to survive is state (`streamflow.transforms
    .userstate`): a DoFn that asks for `DoFn.StateParam(spec)` or `DoFn.TimerParam(spec)` stands behind (key, value)
    pairs, all pairs of a key come to one task, and it runs once for each of an element's windows.

    `process` may be `async def`, with or without `yield`: then many elements of a batch are processed at a time (see
    `ParDo.with_async`). The other methods may be async then too, and all run in the thread of one event loop, which
    goes on between batches.
    """

    ElementParam: Any = ELEMENT
    SideInputParam: Any = SIDE_INPUT
    TimestampParam: Any = Param("TimestampParam")
    WindowParam: Any = Param("WindowParam")
    KeyParam: Any = Param("KeyParam")
    PaneInfoParam: Any = Param("PaneInfoParam")
    DynamicTimerTagParam: Any = Param("DynamicTimerTagParam")
    WindowedValueParam: Any = Param("WindowedValueParam")
    SetupContextParam: Any = SetupContextParam
    BundleContextParam: Any = BundleContextParam
    StateParam: Any = StateParam
    TimerParam: Any = TimerParam

    def setup(self) -> None: ...

    def start_bundle(self) -> None: ...

    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any] | None:
        raise PipelineError(f"{type(self).__name__} must define process(self, element).")

    def finish_bundle(self) -> Iterable[Any] | None: ...

    def teardown(self) -> None: ...

    def default_type_hints(self) -> IOTypeHints | None:
        """By the annotations of `process`."""
        hints = IOTypeHints.from_callable(self.process)
        return None if hints is None else hints.strip_iterable(f"what {type(self).__name__}.process gives")

    def infer_output_type(self, input_type: Any) -> Any:
        """What type the outputs have, for elements of that type, where nothing is said of it. May be overridden."""
        return Any


def asks_window(params: Mapping[str, Param]) -> bool:
    """It runs once for each window of an element."""
    return not {DoFn.WindowParam, DoFn.WindowedValueParam}.isdisjoint(params.values())


class Wrapped(DoFn):
    """A DoFn around another one."""

    fn: DoFn

    def setup(self) -> None:
        self.fn.setup()

    def start_bundle(self) -> None:
        self.fn.start_bundle()

    def finish_bundle(self) -> Iterable[Any] | None:
        return self.fn.finish_bundle()

    def teardown(self) -> None:
        self.fn.teardown()

    def infer_output_type(self, input_type: Any) -> Any:
        return self.fn.infer_output_type(input_type)


class TypeChecked(Wrapped):
    """Gives what `fn` gives; an element or a main output that is not of its type is a bad one."""

    def __init__(self, fn: DoFn, element_type: Any, output_type: Any) -> None:
        self.fn, self.element_type, self.output_type = fn, element_type, output_type

    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:
        self._check(element, self.element_type, "its input")
        outputs = self.fn.process(element, *args, **kwargs)
        for output in outputs if isinstance(outputs, Iterator) else iterated(outputs):
            value = output.value if isinstance(output, (TimestampedValue, WindowedValue)) else output
            if not isinstance(output, TaggedOutput):
                self._check(value, self.output_type, "its output")
            yield output

    def _check(self, value: Any, wanted: Any, what: str) -> None:
        if not holds(value, wanted):
            raise TypeCheckError(
                f"{name_of(self.fn)}: {what} should be {shown(wanted)} by its type hints, but {value!r} is "
                f"{shown(type_of(value))}. Correct the value, or the hint."
            )


class Guarded(Wrapped):
    """Gives what `fn` gives; an element that makes it raise becomes an output with the tag."""

    def __init__(
        self,
        fn: DoFn,
        tag: str,
        exc_class: type[Exception] | tuple[type[Exception], ...],
        partial: bool,
        on_failure: Callable[[Exception, Any], Any] | None = None,
    ) -> None:
        self.fn, self.tag, self.exc_class, self.partial = fn, tag, exc_class, partial
        self.on_failure = on_failure

    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:
        outputs_given: list[Any] = []
        try:
            outputs = self.fn.process(element, *args, **kwargs)
            if isinstance(outputs, Iterator):
                outputs_given.extend(outputs)
            else:
                outputs_given.extend(iterated(outputs))
        except self.exc_class as error:
            return [*(outputs_given if self.partial else ()), self.letter(element, error)]
        return outputs_given

    def letter(self, element: Any, error: Exception) -> TaggedOutput:
        if self.on_failure is not None:
            self.on_failure(error, element)
        return TaggedOutput(self.tag, (element, (type(error), repr(error), traceback.format_exception(error))))


class FunctionDoFn(DoFn):
    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def default_type_hints(self) -> IOTypeHints | None:
        """What the decorators and the annotations of the function say."""
        hints = self.of_function()
        return None if hints is None else hints.strip_iterable(f"what {name_of(self)} gives")

    def of_function(self) -> IOTypeHints | None:
        return hints_of(self.fn).with_defaults(IOTypeHints.from_callable(self.fn))

    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any] | None:
        result: Iterable[Any] | None = self.fn(element, *args, **kwargs)
        return result


class One(FunctionDoFn):
    def default_type_hints(self) -> IOTypeHints | None:
        return self.of_function()

    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:
        return (self.fn(element, *args, **kwargs),)


class If(FunctionDoFn):
    def default_type_hints(self) -> IOTypeHints | None:
        """What passes is what comes."""
        hints = self.of_function()
        return hints and IOTypeHints(hints.input_types)

    def infer_output_type(self, input_type: Any) -> Any:
        return input_type

    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:
        return (element,) if self.fn(element, *args, **kwargs) else ()


class AsyncOne(One):
    async def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:  # type: ignore[override]
        return (await given(self.fn(element, *args, **kwargs)),)


class AsyncIf(If):
    async def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:  # type: ignore[override]
        return (element,) if await given(self.fn(element, *args, **kwargs)) else ()


def awaiting(fn: DoFn) -> DoFn:
    """The same for a function that gives awaitables."""
    if isinstance(fn, Guarded):
        return Guarded(awaiting(fn.fn), fn.tag, fn.exc_class, fn.partial, fn.on_failure)
    if isinstance(fn, One):
        return AsyncOne(fn.fn)
    return AsyncIf(fn.fn) if isinstance(fn, If) else fn


def function_of(fn: Any) -> Any:
    while isinstance(fn, (FunctionDoFn, Wrapped)):
        fn = fn.fn
    return fn


def name_of(fn: Any) -> str:
    inner = function_of(fn)
    return getattr(inner, "__name__", None) or type(inner).__name__
