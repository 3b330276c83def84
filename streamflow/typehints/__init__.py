"""Apache Beam's package of this name: what says of which types elements are.

Here types are for readers and for the check that a pipeline gets when it is built: where both sides say a plain class
(`Create` knows the class of its values, `with_output_types` says it) and `with_input_types` wants another one, the
transform is refused. Types with parameters, annotations of functions, and values while it runs are not checked.
"""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Optional, TypeVar, Union

from streamflow.base.errors import TypeCheckError
from streamflow.model.graph import PTransform

__all__ = [
    "KV",
    "Any",
    "Dict",
    "FrozenSet",
    "Generator",
    "Iterable",
    "Iterator",
    "List",
    "Optional",
    "Sequence",
    "Set",
    "Tuple",
    "TypeCheckError",
    "TypeVariable",
    "Union",
    "with_input_types",
    "with_output_types",
]

Dict, FrozenSet, List, Set, Tuple = dict, frozenset, list, set, tuple
KV = Tuple
TypeVariable = TypeVar
_F = TypeVar("_F")


def with_input_types(*types: Any, **of_arguments: Any) -> Callable[[_F], _F]:
    """A decorator: what a transform wants. Of functions and DoFns it is not looked at."""

    def decorate(decorated: _F) -> _F:
        if isinstance(decorated, type) and issubclass(decorated, PTransform):
            decorated.input_type = types[0] if types else None
        return decorated

    return decorate


def with_output_types(*types: Any, **of_tags: Any) -> Callable[[_F], _F]:
    """A decorator: what a transform gives. Of functions and DoFns it is not looked at."""

    def decorate(decorated: _F) -> _F:
        if isinstance(decorated, type) and issubclass(decorated, PTransform):
            decorated.output_type = types[0] if types else None
        return decorated

    return decorate
