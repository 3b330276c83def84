"""Transforms on plain values: `[1, 2, 3] | Map(fn)` gives a list, having run a pipeline of its own in this process."""

from collections.abc import Iterator, Mapping
from typing import Any

from streamflow.model.graph import PCollection, PTransform
from streamflow.runtime.pipeline import Pipeline
from streamflow.transforms.collections import Create
from streamflow.transforms.elementwise import Map
from streamflow.transforms.outputs import DoOutputsTuple


def on_values(transform: PTransform, left: Any) -> Any:
    """A list is one collection, a tuple or a dict of lists are several. Of several outputs it gives `ValuesOfTags`, of
    a tuple or dict of PCollections one of lists. An event that fails raises its error."""
    pipeline = Pipeline("values")

    def created(values: Any, place: int) -> Any:
        return pipeline | f"Values-{place}" >> Create(values)

    inputs: Any
    if isinstance(left, Mapping):
        inputs = {name: created(values, place) for place, (name, values) in enumerate(left.items())}
    elif isinstance(left, tuple):
        inputs = tuple(created(values, place) for place, values in enumerate(left))
    else:
        inputs = created(left, 0)
    gathered, values = _gathered(inputs | transform)
    for place, (pcoll, elements) in enumerate(gathered):
        pcoll | f"Gather-{place}" >> Map(elements.append)
    result = pipeline.run()
    if result.first_error is not None:
        raise result.first_error
    return values


class ValuesOfTags:
    """The lists of a transform with several outputs: `values.tag`, `values["tag"]`, in the order of the outputs."""

    def __init__(self, by_tag: Mapping[str | None, list[Any]]) -> None:
        self._by_tag = by_tag

    def __iter__(self) -> Iterator[list[Any]]:
        return iter(values for tag, values in self._by_tag.items() if tag is not None)

    def __getitem__(self, tag: str | int | None) -> list[Any]:
        return self._by_tag[str(tag) if isinstance(tag, int) else tag]

    def __getattr__(self, tag: str) -> list[Any]:
        if tag.startswith("__"):
            raise AttributeError(tag)
        return self[tag]


def _gathered(result: Any) -> tuple[list[tuple[PCollection, list[Any]]], Any]:
    """The PCollections of a result, each beside a list for its elements, and the result made of these lists."""
    if isinstance(result, PCollection):
        elements: list[Any] = []
        return [(result, elements)], elements
    if isinstance(result, DoOutputsTuple):
        pairs, by_tag = _gathered(result.by_tag())
        return pairs, ValuesOfTags(by_tag)
    if isinstance(result, Mapping):
        parts = {name: _gathered(part) for name, part in result.items()}
        return [pair for pairs, _ in parts.values() for pair in pairs], {name: v for name, (_, v) in parts.items()}
    if isinstance(result, (tuple, list)):
        of_places = [_gathered(part) for part in result]
        make = getattr(type(result), "_make", type(result))  # named tuples take their fields one by one
        return [pair for pairs, _ in of_places for pair in pairs], make([values for _, values in of_places])
    return [], result
