"""Apache Beam's package of this name: what says of which types elements are.

A pipeline is checked when it is built. What is known of a transform's input (by `Create`'s values, by
`with_output_types`, by annotations of functions, of `process` and of `expand`) is compared with what it wants (by
`with_input_types`, by annotations), and TypeCheckError names both. With the option `runtime_type_check` each element is
looked at too while it runs. Python's own types are what is said: `tuple[str, int]`, `Iterable[T]`, `Optional[int]`.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, Optional, TypeVar, Union

from streamflow.base.errors import TypeCheckError
from streamflow.model.type_hints import (
    IOTypeHints,
    WithTypeHints,
    get_type_hints,
    no_annotations,
    with_input_types,
    with_output_types,
)

__all__ = [
    "KV",
    "Any",
    "Dict",
    "FrozenSet",
    "Generator",
    "IOTypeHints",
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
    "WithTypeHints",
    "get_type_hints",
    "no_annotations",
    "with_input_types",
    "with_output_types",
]

Dict, FrozenSet, List, Set, Tuple = dict, frozenset, list, set, tuple
KV = Tuple
TypeVariable = TypeVar
