"""Row: an element with named fields, and what its fields are read by."""

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from operator import attrgetter
from typing import Any

from streamflow.base.errors import PipelineError


class Row:
    """An element with named fields, as in Apache Beam: `Row(x=3, y=4).x`. Equal to a Row or named tuple of the same
    fields in the same order with equal values. It iterates over its values. Column transforms take it, and
    give Rows then."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def as_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)

    _asdict = as_dict

    def __iter__(self) -> Iterator[Any]:
        return iter(self.__dict__.values())

    def __eq__(self, other: object) -> bool:
        if not hasattr(other, "_asdict"):
            return NotImplemented
        return list(self.__dict__.items()) == list(other._asdict().items())

    def __hash__(self) -> int:
        return hash(tuple(self.__dict__.values()))

    def __getattr__(self, name: str) -> Any:
        """For type checkers: which fields there are is known when it runs."""
        raise AttributeError(f"Row has no field '{name}', but {', '.join(self.__dict__)}.")

    def __repr__(self) -> str:
        return f"Row({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"


def fields_of(element: Any) -> Mapping[str, Any] | None:
    """The fields of a dict, a Row or a named tuple by name; None of what has none."""
    if isinstance(element, Mapping):
        return element
    return element._asdict() if hasattr(element, "_asdict") else None


def named(name: str, fields: Iterable[str], values: Iterable[Any]) -> Any:
    """A named tuple, of a class made for its fields, which can be pickled all the same."""
    return _tuple_type(name, tuple(fields))(*values)


@cache
def _tuple_type(name: str, fields: tuple[str, ...]) -> Any:
    return type(name, (namedtuple(name, fields),), {"__slots__": (), "__reduce__": _reduced})


def _reduced(self: Any) -> Any:
    return named, (type(self).__name__, self._fields, tuple(self))


def field_reader(field: str | Callable[[Any], Any]) -> Callable[[Any], Any]:
    """What gives the field of an element: an attribute (of a dict, what stands under that name), or a function."""
    if callable(field):
        return field
    if not isinstance(field, str):
        raise PipelineError(f"a field is a name or a function, not {field!r}.")
    attribute = attrgetter(field)
    return lambda element: element[field] if isinstance(element, Mapping) else attribute(element)
