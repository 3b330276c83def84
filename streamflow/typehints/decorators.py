"""Apache Beam's module of this name."""

from streamflow.typehints import TypeCheckError, with_input_types, with_output_types

__all__ = ["TypeCheckError", "with_input_types", "with_output_types"]
