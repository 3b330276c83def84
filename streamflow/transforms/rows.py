"""Elements with named fields, by Apache Beam's names: GroupBy, and Select where it is given functions."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, Self

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.combine_fns import TupleCombineFn
from streamflow.model.combiner import CombineFn
from streamflow.model.graph import PCollection, PTransform
from streamflow.model.row import Row, field_reader, named
from streamflow.transforms.columns import SelectColumns
from streamflow.transforms.combine import CombinePerKey, GroupByKey
from streamflow.transforms.elementwise import Map, MapTuple

Field = str | Callable[[Any], Any]


def Select(*fields: Any, **named_fields: Any) -> PTransform:  # noqa: N802 - Beam's name
    """Just these fields of each element: names, and `name=` expressions or functions of the element. With a function
    among them the results are Rows, without it columns (of Rows: Rows). A function without a name of its own is
    `arg00`, by its place."""
    if any(callable(field) and not isinstance(field, pl.Expr) for field in (*fields, *named_fields.values())):
        return _SelectFields(fields, named_fields)
    return SelectColumns(*fields, **named_fields)


class _SelectFields(PTransform):
    def __init__(self, fields: Sequence[Field], named_fields: dict[str, Field]) -> None:
        names = [field if isinstance(field, str) else f"arg{place:02d}" for place, field in enumerate(fields)]
        self.readers = {name: field_reader(field) for name, field in zip(names, fields, strict=True)}
        self.readers |= {name: field_reader(field) for name, field in named_fields.items()}

    def default_label(self) -> str:
        return self.label or f"Select({', '.join(self.readers)})"

    def expand(self, pcoll: PCollection) -> Any:
        readers = self.readers
        return pcoll | Map(lambda element: Row(**{name: read(element) for name, read in readers.items()}))


class GroupBy(PTransform):
    """Elements by one or several of their fields, which are names or functions: `GroupBy("recipe")` gives
    `(recipe, [element…])`. With several fields, or `name=` ones, the key is a named tuple.

    `aggregate_field` gives named tuples of the fields and of combined ones instead."""

    def __init__(self, *fields: Field, **named_fields: Field) -> None:
        self.as_tuple = len(fields) != 1 or bool(named_fields)
        unnamed = "key{}" if self.as_tuple else "key"
        names = [field if isinstance(field, str) else unnamed.format(place) for place, field in enumerate(fields)]
        self.names = [*names, *named_fields]
        if len({*self.names}) < len(self.names):
            raise PipelineError(f"GroupBy has a field twice among {self.names}. Name one of them: GroupBy(name=…).")
        self.readers = [field_reader(field) for field in (*fields, *named_fields.values())]
        self.aggregates: list[tuple[Callable[[Any], Any], CombineFn, str]] = []

    def default_label(self) -> str:
        return self.label or f"GroupBy({', '.join(self.names)})"

    def force_tuple_keys(self, value: bool = True) -> Self:
        """Make the key a named tuple though there is one field."""
        clone = copy.copy(self)
        clone.as_tuple = value or len(self.readers) != 1
        return clone

    def aggregate_field(self, field: Field, combine_fn: Any, dest: str) -> Self:
        """Combine this field of the elements of a group; the result's field is `dest`. May be called repeatedly."""
        clone = copy.copy(self)
        clone.aggregates = [*self.aggregates, (field_reader(field), CombineFn.of(combine_fn), dest)]
        return clone

    def expand(self, pcoll: PCollection) -> Any:
        if self.aggregates:
            return self._aggregated(pcoll)
        readers, names = self.readers, self.names
        if not self.as_tuple:
            return pcoll | "Pair" >> Map(lambda element: (readers[0](element), element)) | GroupByKey()
        paired = pcoll | "Pair" >> Map(lambda element: (tuple(read(element) for read in readers), element))
        return paired | GroupByKey() | "Name" >> MapTuple(lambda key, group: (named("Key", names, key), group))

    def _aggregated(self, pcoll: PCollection) -> Any:
        keys, values = self.readers, [read for read, _, _ in self.aggregates]
        names = [*self.names, *(dest for _, _, dest in self.aggregates)]
        combined = (
            pcoll
            | "Pair" >> Map(lambda element: (tuple(read(element) for read in keys), [read(element) for read in values]))
            | "Combine" >> CombinePerKey(TupleCombineFn(*(fn for _, fn, _ in self.aggregates)))
        )
        return combined | "Name" >> MapTuple(lambda key, results: named("Result", names, (*key, *results)))
