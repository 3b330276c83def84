"""What a function may give besides plain values, and the PCollections that become of it: outputs with a tag, outputs
with their own time and windows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import GenericAlias
from typing import Any, ClassVar

from streamflow.base.errors import DataError, PipelineError
from streamflow.model.graph import PCollection, Primitive, Shape
from streamflow.model.panes import PANE_UNKNOWN, PaneInfo
from streamflow.model.time import Timestamp, TimestampTypes
from streamflow.model.window import IntervalWindow


@dataclass(frozen=True, slots=True)
class TaggedOutput:
    """An output for the PCollection of that tag instead of the main one. As in Apache Beam: without `with_outputs`, or
    under a tag that nobody reads, it goes nowhere (counted as `outputs_unread` if there is no `with_outputs`)."""

    tag: str
    value: Any

    __class_getitem__: ClassVar[Any] = classmethod(GenericAlias)
    """`TaggedOutput[Literal["tag"], int]`, in an annotation."""


@dataclass(frozen=True, slots=True)
class WindowedValue:
    """An output with its event time (seconds, Timestamp or datetime), its windows and its pane: what `finish_bundle`
    gives. The windows count only where the elements before it have theirs already; else they follow from the time."""

    value: Any
    timestamp: TimestampTypes
    windows: Sequence[IntervalWindow] = ()
    pane_info: PaneInfo = PANE_UNKNOWN

    def __post_init__(self) -> None:
        if not isinstance(self.timestamp, Timestamp):
            object.__setattr__(self, "timestamp", Timestamp.of(self.timestamp))

    def __hash__(self) -> int:
        return hash((self.value, self.timestamp, tuple(self.windows), self.pane_info))

    @property
    def time_us(self) -> int:
        return self.timestamp.micros  # type: ignore[union-attr] # __post_init__ makes it a Timestamp

    def with_value(self, new_value: Any) -> "WindowedValue":
        """Another value at the same place."""
        return replace(self, value=new_value)


def iterated(outputs: Any) -> Sequence[Any]:
    """What a function that gives any number of outputs has given. DataError for what is surely one output instead."""
    if outputs is None:
        return ()
    if isinstance(outputs, (str, bytes, dict)) or not hasattr(type(outputs), "__iter__"):
        kind = type(outputs).__name__
        raise DataError(f"a function must return an iterable of outputs, got a {kind}. Wrap it in a list, or use Map.")
    return list(outputs)


class Tagged(Primitive):
    """Of the outputs before it those with a tag (None: those without), as they are without it."""

    def __init__(self, tag: str | None, of: str, element_type: Any = Any) -> None:
        self.tag, self.of, self.element_type = tag, of, element_type

    def infer_output_type(self, input_type: Any) -> Any:
        return input_type if self.tag is None else self.element_type

    def default_label(self) -> str:
        return f"{self.of}.{'main' if self.tag is None else self.tag}"

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (pcoll,) = inputs
        return Shape(pcoll.windowing, columns=None, bounded=pcoll.shape.bounded)


class DoOutputsTuple:
    """The PCollections of a transform with several outputs: `outputs.tag`, `outputs["tag"]`, the main one as
    `outputs[None]` or under its own tag. It unpacks into the main one, if that has a tag, and then the others in the
    order in which they were given."""

    def __init__(
        self,
        output: PCollection,
        tags: Sequence[str],
        main: str | None,
        allow_unknown: bool,
        types: Mapping[str, Any] | None = None,
    ) -> None:
        """`types`: what is said of the elements by tag."""
        self._output, self._tags, self._main, self._allow_unknown = output, tuple(tags), main, allow_unknown
        self._types = types or {}
        self._made: dict[str | None, PCollection] = {}

    def __iter__(self) -> Iterator[PCollection]:
        if self._main is not None:
            yield self[self._main]
        for tag in self._tags:
            yield self[tag]

    def by_tag(self) -> dict[str | None, PCollection]:
        """All of them, the main one first, under None if it has no tag."""
        tags: list[str | None] = [self._main, *self._tags]
        return {tag: self[tag] for tag in tags}

    def __len__(self) -> int:
        return len(self._tags) + (self._main is not None)

    def __getattr__(self, tag: str) -> PCollection:
        if tag.startswith("__"):
            raise AttributeError(tag)
        return self[tag]

    def __getitem__(self, tag: str | int | None) -> PCollection:
        name = str(tag) if isinstance(tag, int) else tag
        if name is not None and name == self._main:
            name = None
        elif name is not None and name not in self._tags and not self._allow_unknown:
            known = [*self._tags, *([] if self._main is None else [self._main])]
            raise PipelineError(
                f"{self._output.producer.label} has no output {tag!r}, but {known}. Name it in with_outputs(…)."
            )
        if name not in self._made:
            self._made[name] = self._output | Tagged(
                name, self._output.producer.label.rsplit("/", 1)[-1], self._types.get(name or "", Any)
            )
        return self._made[name]

    def __repr__(self) -> str:
        return f"DoOutputsTuple[{self._output.producer.label}: {self._main}, {', '.join(self._tags)}]"
