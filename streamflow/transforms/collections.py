"""Transforms that call no function: Create, Impulse, Flatten, Reshuffle, with Apache Beam's names."""

from collections.abc import Iterable, Sequence
from typing import Any

from streamflow.base.errors import PipelineError
from streamflow.model.graph import Graph, PCollection, Primitive, Shape
from streamflow.model.types import type_of_all

__all__ = ["Create", "Flatten", "Impulse", "Reshuffle"]


class Create(Primitive):
    """A bounded PCollection of the given values (of any Python type; `TimestampedValue` sets the event time)."""

    arity = 0
    given_later = False
    """Whether its values come while the pipeline runs and not when it is launched, as a test wants it."""

    def __init__(self, values: Iterable[Any], reshuffle: bool = True) -> None:
        if isinstance(values, (str, bytes)):
            raise PipelineError(f"Create takes an iterable of values, not {values!r}. Write Create([{values!r}]).")
        if not isinstance(values, Iterable):
            raise PipelineError(f"Create takes an iterable of values, not {values!r}. Write Create([…]).")
        self.values = list(values.items()) if isinstance(values, dict) else list(values)

    def infer_output_type(self, input_type: Any) -> Any:
        return type_of_all(self.values)

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        return Shape()


class Impulse(Create):
    """One element, `b""`: what a pipeline of one's own sources begins with."""

    def __init__(self) -> None:
        super().__init__([b""])


class Flatten(Primitive):
    """The union of several PCollections: `(a, b) | Flatten()`."""

    arity = None

    def __init__(self, pipeline: Graph | None = None) -> None:
        """`pipeline`: where the result is, if there may be nothing to flatten."""
        self.pipeline = pipeline

    def __ror__(self, left: Any) -> Any:
        if self.pipeline is not None and not left and isinstance(left, (tuple, list)):
            return self.pipeline | self.default_label() >> Create([])
        return super().__ror__(left)

    def infer_output_type(self, input_type: Any) -> Any:
        return input_type

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


class Reshuffle(Primitive):
    """The same elements with their event times and windows, spread anew over tasks by way of a log: what follows runs
    in a stage of its own, and after a crash goes on without repeating what stands before."""

    def infer_output_type(self, input_type: Any) -> Any:
        return input_type
