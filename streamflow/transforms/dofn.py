"""DoFn, and the DoFns that plain functions become: one output for each element, any number, only those that pass, and
those whose exceptions are outputs."""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from streamflow.base.errors import PipelineError
from streamflow.transforms.asynchronous import given
from streamflow.transforms.outputs import TaggedOutput, iterated
from streamflow.transforms.params import ELEMENT, SIDE_INPUT, BundleContextParam, Param, SetupContextParam
from streamflow.transforms.userstate import StateParam, TimerParam


class DoFn:
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


def asks_window(params: Mapping[str, Param]) -> bool:
    """It runs once for each window of an element."""
    return not {DoFn.WindowParam, DoFn.WindowedValueParam}.isdisjoint(params.values())


class Guarded(DoFn):
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

    def setup(self) -> None:
        self.fn.setup()

    def start_bundle(self) -> None:
        self.fn.start_bundle()

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

    def finish_bundle(self) -> Iterable[Any] | None:
        return self.fn.finish_bundle()

    def teardown(self) -> None:
        self.fn.teardown()


class FunctionDoFn(DoFn):
    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any] | None:
        result: Iterable[Any] | None = self.fn(element, *args, **kwargs)
        return result


class One(FunctionDoFn):
    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:
        return (self.fn(element, *args, **kwargs),)


class If(FunctionDoFn):
    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:
        return (element,) if self.fn(element, *args, **kwargs) else ()


class AsyncOne(FunctionDoFn):
    async def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:  # type: ignore[override]
        return (await given(self.fn(element, *args, **kwargs)),)


class AsyncIf(FunctionDoFn):
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
    while isinstance(fn, (FunctionDoFn, Guarded)):
        fn = fn.fn
    return fn


def name_of(fn: Any) -> str:
    inner = function_of(fn)
    return getattr(inner, "__name__", None) or type(inner).__name__
