"""The pipeline as a graph: transforms applied to PCollections. Building is lazy and checks what can be checked.

Primitives are what the engine knows; a transform with `expand` composes them. This module knows no particular
transform.
"""

import copy
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import polars as pl

from streamflow.base.errors import PipelineError, TypeCheckError
from streamflow.model.windowing import Windowing

Columns = Mapping[str, pl.DataType]


class PTransform:
    """A step of a pipeline. Subclass and define `expand` to compose others; `"label" >> transform` names it.

    Labels name stages, and stages name their state: a pipeline that is to go on from stored state keeps its labels.
    """

    primitive = False
    label: str | None = None
    input_type: Any = None
    output_type: Any = None
    """What `with_input_types` and `with_output_types` have said. Plain classes are checked when it is applied."""
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

    def __rrshift__(self, label: str) -> "PTransform":
        named = copy.copy(self)
        named.label = label
        return named

    def with_input_types(self, *types: Any, **of_arguments: Any) -> Self:
        """Says what type the elements must have, as in Apache Beam. A plain class is compared with what is known of
        the input when the transform is applied: TypeCheckError if that is another class."""
        self.input_type = types[0] if types else None
        return self

    def with_output_types(self, *types: Any, **of_tags: Any) -> Self:
        """Says what type the results have, as in Apache Beam. What follows is checked against a plain class."""
        self.output_type = types[0] if types else None
        return self

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
class PCollection:
    """A collection of events, each with an event time and windows; perhaps without end."""

    pipeline: "Graph"
    producer: Node
    shape: Shape

    def __or__(self, transform: PTransform) -> Any:
        return self.pipeline.apply(transform, self)

    def apply(self, transform: PTransform) -> Any:
        return self.pipeline.apply(transform, self)

    @property
    def windowing(self) -> Windowing:
        return self.shape.windowing

    @property
    def is_bounded(self) -> bool:
        return self.shape.bounded

    @property
    def element_type(self) -> Any:
        """The class of its elements as far as `with_output_types` or the transform says; None if nothing."""
        return self.producer.transform.output_type

    def __repr__(self) -> str:
        return f"PCollection[{self.producer.label}]"


class Graph:
    """Nodes in the order in which they were applied, which is a topological order."""

    allow_unsafe_triggers = False
    """Whether triggers may finish, so that what comes after is lost."""

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
        _check_types(transform, inputs)
        label = self._unique_label(transform)
        if transform.primitive:
            assert isinstance(transform, Primitive)
            sides = tuple(transform.side_inputs(self))
            node = Node(label, transform, tuple(inputs), tuple(self._scope), sides)
            node.output = PCollection(self, node, _checked_shape(node))
            self.nodes.append(node)
            return transform.result(node.output)
        self._scope.append(label.rsplit("/", 1)[-1])
        try:
            return transform.expand(left)
        finally:
            self._scope.pop()

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


def _check_types(transform: PTransform, inputs: Sequence[PCollection]) -> None:
    wanted = transform.input_type
    for pcoll in inputs:
        given = pcoll.element_type
        # typing's forms are no plain classes, and an int will do for a float, as everywhere in Python.
        if type(wanted) is not type or type(given) is not type or issubclass(given, wanted):
            continue
        if not (given is int and wanted in (float, complex)):
            raise TypeCheckError(
                f"Type hint violation for '{transform.default_label()}': requires {wanted.__name__} but got "
                f"{given.__name__} from '{pcoll.producer.label}'. Map the elements before, or correct the types."
            )


_NO_PAIRS = (int, float, complex, bool, str, bytes, dict, set, frozenset, type(None))


def check_pairs(pcoll: PCollection, needs: str) -> None:
    """PipelineError if it is known of the elements that they are no (key, value) pairs. `needs`: who wants them."""
    if pcoll.shape.columns is not None:
        raise PipelineError(
            f"{needs} needs (key, value) pairs, but the input has columns. Apply Map(lambda row: (row['…'], row)) "
            "before."
        )
    if pcoll.element_type in _NO_PAIRS:
        raise TypeCheckError(
            f"{needs} needs (key, value) pairs, but '{pcoll.producer.label}' gives {pcoll.element_type.__name__}. Make "
            "them before, e.g. with Map(lambda element: (element, 1)) or WithKeys(…)."
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
