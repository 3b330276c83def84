"""What all groupings share. Which there are stands in `combine`, and that of side inputs in `views`."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import GenericAlias
from typing import Any

import polars as pl

from streamflow.base.errors import PipelineError, TypeCheckError
from streamflow.model.combiner import CombineFn
from streamflow.model.graph import PCollection, Primitive, Shape, check_no_columns
from streamflow.model.type_hints import IOTypeHints
from streamflow.model.types import Bindings, fits, pair_of, shown
from streamflow.transforms.sides import AsSideInput


def combine_fn(fn: CombineFn | Callable[..., Any], *args: Any, **kwargs: Any) -> CombineFn:
    for value in (*args, *kwargs.values()):
        if isinstance(value, PCollection):
            raise PipelineError(
                f"{value!r} can't be an argument as it is. Say what of it: pvalue.AsSingleton(…), AsList(…), AsDict(…)."
            )
    return CombineFn.of(fn, *args, **kwargs)


def has_sides(*args: Any, **kwargs: Any) -> bool:
    return any(isinstance(value, AsSideInput) for value in (*args, *kwargs.values()))


class Grouping(Primitive):
    """What all groupings share: results carry their window, and an endless input must have windows that close."""

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (pcoll,) = inputs
        shape, windowing = pcoll.shape, pcoll.windowing
        unsafe = pcoll.pipeline.allow_unsafe_triggers
        if windowing.is_global and not shape.bounded and not windowing.trigger.fires_early and not unsafe:
            raise PipelineError(
                "an endless input in the global window would never give a result. Apply e.g. "
                "WindowInto(FixedWindows(60)) before, or read with bounded=True if the topic will be ended."
            )
        if windowing.trigger.may_lose_data(windowing) and not unsafe:
            raise PipelineError(
                f"{windowing.trigger!r} finishes, and what comes to a window after that would be lost. Use Repeatedly("
                "…), AfterWatermark(late=…) where lateness is allowed, or Settings(allow_unsafe_triggers=True)."
            )
        behind = replace(windowing, assigned=True, grouped=True, trigger=windowing.trigger.get_continuation_trigger())
        return Shape(behind, self.columns(shape), shape.bounded)

    def columns(self, shape: Shape) -> dict[str, pl.DataType] | None:
        return None


class PerKey(Grouping):
    """Combines the values of (key, value) pairs. `keyed` False: values alone, as one group; `defaults`: an input
    without any event gives the combination of nothing."""

    keyed = True
    defaults = False

    def __init__(self, fn: CombineFn | Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self.beside = has_sides(*args, **kwargs)
        """Some of its arguments are side inputs: it is a composition then, which groups first and combines after it."""
        self.primitive = not self.beside
        self.args, self.kwargs = args, kwargs
        self.fn = CombineFn.of(fn) if self.beside else combine_fn(fn, *args, **kwargs)

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        if self.keyed:
            check_no_columns(inputs[0], "grouping by key")
        return super().output(inputs)

    def default_type_hints(self) -> IOTypeHints | None:
        """None by annotations: `infer_output_type` knows more."""
        return None

    def infer_output_type(self, input_type: Any) -> Any:
        pair = pair_of(input_type) if self.keyed else (None, input_type)
        key, value = pair or (Any, Any)
        combined = self.fn.output_type_for(value)
        return GenericAlias(tuple, (key, combined)) if self.keyed else combined

    def check_types(self, element: Any, bindings: Bindings) -> None:
        pair = pair_of(element) if self.keyed else (None, element)
        if pair is None:
            raise TypeCheckError(
                f"Type hint violation: {self.default_label()!r} requires (key, value) pairs but got {shown(element)}. "
                "Make pairs with Map, or WithKeys."
            )
        wanted = self.fn.get_type_hints().element
        if wanted is not None and not fits(pair[1], wanted, bindings):
            raise TypeCheckError(
                f"Type hint violation: {self.default_label()!r} requires values of type {shown(wanted)} but got "
                f"{shown(pair[1])}. Map them before, or correct the types."
            )

    def default_label(self) -> str:
        inner = getattr(self.fn, "fn", self.fn)
        name = getattr(inner, "__name__", None) or type(inner).__name__
        return self.label or f"{type(self).__name__}({name})"
