"""Apache Beam's module of this name."""

from streamflow.base.errors import TypeCheckError
from streamflow.model.type_hints import (
    IOTypeHints,
    WithTypeHints,
    get_signature,
    get_type_hints,
    no_annotations,
    with_input_types,
    with_output_types,
)

__all__ = [
    "IOTypeHints",
    "TypeCheckError",
    "WithTypeHints",
    "get_signature",
    "get_type_hints",
    "no_annotations",
    "with_input_types",
    "with_output_types",
]
