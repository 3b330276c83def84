"""The pipeline as a graph: transforms applied to PCollections. Building is lazy and checks what can be checked.

Primitives are what the engine knows; a transform with `expand` composes them. This module knows no particular
transform.
"""

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import GenericAlias
from typing import Any, ClassVar, Self

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.type_checks import TypeChecks, Typed, check_inputs, check_result
from streamflow.model.type_hints import IOTypeHints, WithTypeHints
from streamflow.model.types import Bindings, bound, union_of
from streamflow.model.windowing import Windowing

Columns = Mapping[str, pl.DataType]


class PTransform(WithTypeHints):
    """A step of a pipeline. Subclass and define `expand` to compose others; `"label" >> transform` names it.

    Labels name stages, and stages name their state: a pipeline that is to go on from stored state keeps its labels.
    """

    primitive = False
    label: str | None = None
    on_values: Callable[["PTransform", Any], Any] | None = None
    """How a transform is applied to plain values; set by the layer that can run pipelines."""

    def __init__(self, label: str | None = None) -> None:
        if label is not None:
            self.label = label

    def expand(self, pcoll: Any) -> Any:
        """The composition: takes what stood left of `|`, returns what the whole gives."""
        raise PipelineError(f"{type(self).__name__} must define expand(pcoll).")

    def default_label(self) -> str:
        return self.label or type(self).__name__

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(PTransform) label=[{self.default_label()}]>"

    def __rrshift__(self, label: str) -> "PTransform":
        named = copy.copy(self)
        named.label = label
        return named

    def default_type_hints(self) -> IOTypeHints | None:
        """By the annotations of `expand`: `def expand(self, pcoll: PCollection[int]) -> PCollection[str]`."""
        hints = IOTypeHints.from_callable(self.expand)
        return None if hints is None else hints.strip_pcoll()

    def infer_output_type(self, input_type: Any) -> Any:
        """What type the results have, for elements of that type, where nothing is said of it."""
        return Any

    def with_resource_hints(self, **hints: Any) -> Self:
        """Apache Beam's hints for the machines that a runner chooses; here none is chosen."""
        return self

    def __or__(self, right: "PTransform") -> "PTransform":
        """One after the other, as one transform: `Map(fn) | Filter(other)`."""
        if not isinstance(right, PTransform):
            return NotImplemented
        return _Chained(self, right)

    def __ror__(self, left: Any) -> Any:
        parts = _pcollections(left)
        run = type(self).on_values
        if not parts and run is not None and _holds_values(left):
            return run(self, left)
        if not parts:
            raise PipelineError(
                f"{self.default_label()} can't be applied to {left!r}. Left of `|` stands a PCollection."
            )
        return parts[0].pipeline.apply(self, left)


class _Chained(PTransform):
    """Two transforms, the second applied to what the first gives."""

    def __init__(self, first: PTransform, second: PTransform) -> None:
        self.first, self.second = first, second

    def default_label(self) -> str:
        return self.label or f"{self.first.default_label()}|{self.second.default_label()}"

    def expand(self, pcoll: Any) -> Any:
        return pcoll | self.first | self.second


class Primitive(PTransform):
    """A transform that the engine runs itself."""

    primitive = True
    arity: int | None = 1
    """How many PCollections stand left of it; None for any number."""
    terminal = False
    """A sink: nothing can follow it."""

    def output(self, inputs: Sequence["PCollection"]) -> "Shape":
        """Shape of the result, having checked that the inputs fit; PipelineError if they can't work."""
        return inputs[0].shape

    def side_inputs(self, pipeline: "Graph") -> Sequence["PCollection"]:
        """What it is given whole beside its input."""
        return ()

    def check_types(self, element: Any, bindings: Bindings) -> None:
        """TypeCheckError if elements of that type don't fit further types than those of `with_input_types`."""

    def checking(self, bindings: Bindings) -> Self:
        """The same transform looking at each element's type while it runs, where types are said."""
        return self

    def result(self, output: "PCollection") -> Any:
        """What `pcoll | transform` gives: the output, or several made of it."""
        return output


@dataclass(frozen=True)
class Shape:
    """What is known of a PCollection when it is built. `columns`: names and types, None if its elements are Python
    values;
    `bounded`: it ends by itself."""

    windowing: Windowing = field(default_factory=Windowing)
    columns: Columns | None = None
    bounded: bool = True


@dataclass(eq=False)
class Node:
    """One primitive at its place in the graph."""

    label: str
    transform: Primitive
    inputs: tuple["PCollection", ...]
    scope: tuple[str, ...] = ()
    """The composites it stands in, outermost first."""
    sides: tuple["PCollection", ...] = ()
    output: "PCollection" = field(init=False)

    @property
    def slug(self) -> str:
        """The label as part of a stage or topic name."""
        return re.sub(r"[^A-Za-z0-9]+", "-", self.label).strip("-").lower() or "step"


@dataclass(eq=False)
class PCollection(Typed):
    """A collection of events, each with an event time and windows; perhaps without end."""

    pipeline: "Graph"
    producer: Node
    shape: Shape
    element_type: Any = Any
    """Of its elements, as far as it is known."""

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)
    """`PCollection[int]`, in an annotation."""

    def __or__(self, transform: PTransform) -> Any:
        return self.pipeline.apply(transform, self)

    def apply(self, transform: PTransform, label: str | None = None) -> Any:
        return self.pipeline.apply(transform, self, label)

    @property
    def windowing(self) -> Windowing:
        return self.shape.windowing

    @property
    def is_bounded(self) -> bool:
        return self.shape.bounded

    def __repr__(self) -> str:
        return f"PCollection[{self.producer.label}]"


class Graph:
    """Nodes in the order in which they were applied, which is a topological order."""

    allow_unsafe_triggers = False
    """Whether triggers may finish, so that what comes after is lost."""
    type_checks = TypeChecks()

    def __init__(self, name: str = "pipeline") -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
            raise PipelineError(f"pipeline name {name!r} must be 1-64 letters, digits, '_' or '-'.")
        self.name = name
        self.nodes: list[Node] = []
        self.checks: list[Callable[[], None]] = []
        """What must hold when it is run: each raises PipelineError if it does not."""
        self._scope: list[str] = []
        self._labels: set[str] = set()

    def __or__(self, transform: PTransform) -> Any:
        return self.apply(transform, self)

    @property
    def pipeline(self) -> "Graph":
        """Itself: what stands left of a transform has a pipeline, also where nothing stands before it."""
        return self

    def apply(self, transform: PTransform, left: Any = None, label: str | None = None) -> Any:
        """What `left | transform` does. `left`: this pipeline (the default), a PCollection, or a tuple, list or dict of
        them. `label`: as in `label >> transform`."""
        left = self if left is None else left
        if label is not None:
            transform = label >> transform
        if not isinstance(transform, PTransform):
            raise PipelineError(f"{transform!r} is no transform. Right of `|` stands one, e.g. `| sf.Map(fn)`.")
        inputs = _pcollections(left)
        if isinstance(left, (tuple, list)) and len(inputs) < len(left):
            raise PipelineError(f"{transform.default_label()} can't be applied to {left!r}: not all are PCollections.")
        if any(pcoll.pipeline is not self for pcoll in inputs):
            raise PipelineError(f"{transform.default_label()} mixes PCollections of different pipelines.")
        bindings: Bindings = {}
        if self.type_checks.at_build:
            check_inputs(transform, left, bindings)
            if inputs and isinstance(transform, Primitive) and transform.primitive:
                transform.check_types(_type_of_all(inputs), bindings)
        label = self._unique_label(transform)
        if transform.primitive:
            assert isinstance(transform, Primitive)
            return self._apply_primitive(transform, label, inputs, bindings)
        self._scope.append(label.rsplit("/", 1)[-1])
        try:
            result = transform.expand(left)
        finally:
            self._scope.pop()
        check_result(transform, result, inputs, bindings, self.type_checks)
        return result

    def _apply_primitive(
        self, transform: Primitive, label: str, inputs: Sequence[PCollection], bindings: Bindings
    ) -> Any:
        said = transform.get_type_hints()
        if self.type_checks.at_run:
            transform = transform.checking(bindings)
        sides = tuple(transform.side_inputs(self))
        node = Node(label, transform, tuple(inputs), tuple(self._scope), sides)
        node.output = PCollection(self, node, _checked_shape(node))
        if said.has_simple_output_type():
            node.output.element_type = bound(said.simple_output_type(), bindings)
        else:
            node.output.element_type = transform.infer_output_type(_type_of_all(inputs))
        self.nodes.append(node)
        result = transform.result(node.output)
        check_result(transform, result, inputs, bindings, self.type_checks)
        return result

    @property
    def applied_labels(self) -> set[str]:
        """The labels that are taken."""
        return set(self._labels)

    def consumers(self, pcoll: PCollection) -> list[Node]:
        """A node that takes it twice, as Flatten may, stands here twice."""
        return [node for node in self.nodes for taken in node.inputs if taken is pcoll]

    def side_consumers(self, pcoll: PCollection) -> list[tuple[Node, int]]:
        """The nodes that have it as a side input, and as which of theirs."""
        return [(node, i) for node in self.nodes for i, taken in enumerate(node.sides) if taken is pcoll]

    def _unique_label(self, transform: PTransform) -> str:
        own = transform.default_label()
        if not isinstance(own, str):
            raise PipelineError(
                f"{own!r} can't be the label of {type(transform).__name__}, which is a text: "
                f"`'label' >> {type(transform).__name__}(…)`. Or was it meant as an argument? It takes none there."
            )
        label = "/".join([*self._scope, own])
        if label in self._labels:
            if transform.label is not None:
                raise PipelineError(f"label {label!r} is used twice. Labels name state, so each is used once.")
            numbers = iter(range(2, 1_000_000))
            label = next(f"{label}-{n}" for n in numbers if f"{label}-{n}" not in self._labels)
        self._labels.add(label)
        return label


def _type_of_all(pcolls: Sequence[PCollection]) -> Any:
    return union_of(pcoll.element_type for pcoll in pcolls)


def check_no_columns(pcoll: PCollection, needs: str) -> None:
    """PipelineError if the elements are rows of columns and so no (key, value) pairs. `needs`: who wants pairs."""
    if pcoll.shape.columns is not None:
        raise PipelineError(
            f"{needs} needs (key, value) pairs, but the input has columns. Apply Map(lambda row: (row['…'], row)) "
            "before."
        )


def _holds_values(left: Any) -> bool:
    """Plain values instead of PCollections, or several collections of them, by name or place. No collections at all
    have no values."""
    if isinstance(left, (tuple, Mapping)):
        return bool(left)
    return isinstance(left, (list, set, range, Iterator))


def _pcollections(left: Any) -> list[PCollection]:
    if isinstance(left, PCollection):
        return [left]
    if isinstance(left, Mapping):
        left = left.values()
    if isinstance(left, Iterable) and not isinstance(left, (str, bytes)):
        return [pcoll for pcoll in left if isinstance(pcoll, PCollection)]
    return []


def _checked_shape(node: Node) -> Shape:
    arity, given = node.transform.arity, len(node.inputs)
    if arity is not None and given != arity:
        hint = {0: "Begin with it: `pipeline | …`", 1: "Join several with `(a, b) | Flatten()`"}.get(arity, "")
        raise PipelineError(f"{node.label}: stands behind {given} PCollections instead of {arity}. {hint}.")
    for pcoll in node.inputs:
        if pcoll.producer.transform.terminal:
            raise PipelineError(
                f"{node.label}: nothing comes out of '{pcoll.producer.label}'. Apply it to what is written there."
            )
    try:
        return node.transform.output(node.inputs)
    except PipelineError as error:
        raise type(error)(f"{node.label}: {error}") from error.__cause__
