"""Schemas: the fields of an event, their Polars types, and which of them must be there and may be null.

A schema is written as a class with annotations (msgspec.Struct, dataclass, TypedDict, NamedTuple) or as a mapping of
name to Polars type. From it comes the strict JSON decoder of the column path.
"""

import datetime as dt
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Annotated, Any

import msgspec
import polars as pl

from streamflow.base.errors import PipelineError

SchemaLike = type | Mapping[str, Any]

_POLARS: dict[Any, pl.DataType] = {
    int: pl.Int64(),
    float: pl.Float64(),
    str: pl.String(),
    bool: pl.Boolean(),
    dt.datetime: pl.Datetime("us", "UTC"),
    dt.date: pl.Date(),
}
_PYTHON: dict[type[pl.DataType], Any] = {
    pl.Float32: float,
    pl.Float64: float,
    pl.String: str,
    pl.Boolean: bool,
    pl.Datetime: dt.datetime,
    pl.Date: dt.date,
}
_BOUNDS: dict[type[pl.DataType], tuple[int, int | None]] = {
    pl.Int8: (-(1 << 7), (1 << 7) - 1),
    pl.Int16: (-(1 << 15), (1 << 15) - 1),
    pl.Int32: (-(1 << 31), (1 << 31) - 1),
    pl.Int64: (-(1 << 63), (1 << 63) - 1),
    pl.UInt8: (0, (1 << 8) - 1),
    pl.UInt16: (0, (1 << 16) - 1),
    pl.UInt32: (0, (1 << 32) - 1),
    pl.UInt64: (0, None),
}
"""Of integers; the upper one of UInt64 is more than the decoder can state."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field. `required`: an event without it is bad; `nullable`: null is a value it may have."""

    name: str
    dtype: pl.DataType
    python: Any
    required: bool = True
    nullable: bool = False


@dataclass(frozen=True)
class Schema:
    fields: tuple[Field, ...]

    @property
    def names(self) -> list[str]:
        return [field.name for field in self.fields]

    def polars(self) -> dict[str, pl.DataType]:
        return {field.name: field.dtype for field in self.fields}

    def only(self, names: set[str]) -> "Schema":
        """The schema of the named fields, in the original order."""
        return Schema(tuple(field for field in self.fields if field.name in names))

    def struct(self) -> type[msgspec.Struct]:
        """A Struct with these fields, for strict decoding: unknown fields are skipped without being parsed."""
        required: list[Any] = [f for f in self.fields if f.required]
        optional: list[Any] = [f for f in self.fields if not f.required]
        # Struct demands that fields without a default come first; names may be no identifiers, so they are renamed.
        ordered = required + optional
        renames = {f"f{i}": f.name for i, f in enumerate(ordered)}
        specs: list[Any] = []
        for i, f in enumerate(ordered):
            bounded = _bounded(f.python, f.dtype)
            python = bounded | None if f.nullable else bounded
            specs.append((f"f{i}", python) if f.required else (f"f{i}", python, None))
        return msgspec.defstruct("Event", specs, rename=renames, gc=False)

    def attribute_order(self) -> list[tuple[str, str]]:
        """(field name, Struct attribute) in schema order."""
        ordered = [f for f in self.fields if f.required] + [f for f in self.fields if not f.required]
        attribute = {f.name: f"f{i}" for i, f in enumerate(ordered)}
        return [(f.name, attribute[f.name]) for f in self.fields]


def schema_of(like: SchemaLike) -> Schema:
    """Read a schema from a class or a mapping. PipelineError names the field whose type has no column type."""
    if isinstance(like, Mapping):
        return Schema(tuple(_from_mapping(str(name), kind) for name, kind in like.items()))
    try:
        hints = typing.get_type_hints(like)
    except (TypeError, NameError) as error:
        raise PipelineError(f"can't read a schema from {like!r}: {error}. Give a class with annotations.") from error
    if not hints:
        raise PipelineError(f"{like!r} has no annotated fields. Write e.g. `class Flight(TypedDict): origin: str`.")
    optional = _optional_names(like)
    return Schema(tuple(_from_hint(name, hint, name not in optional) for name, hint in hints.items()))


def _optional_names(like: type) -> set[str]:
    if is_dataclass(like):
        return {f.name for f in fields(like) if f.default is not MISSING or f.default_factory is not MISSING}
    if isinstance(like, type) and issubclass(like, msgspec.Struct):
        return {f.name for f in msgspec.structs.fields(like) if not f.required}
    defaults = getattr(like, "_field_defaults", {})
    return set(defaults) | set(getattr(like, "__optional_keys__", ()))


def _from_hint(name: str, hint: Any, required: bool) -> Field:
    nullable = False
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
        nullable = len(arms) < len(typing.get_args(hint))
        if len(arms) != 1:
            raise PipelineError(f"field '{name}' has several types ({hint}). A column has one; `| None` is allowed.")
        hint = arms[0]
    return Field(name, _column_type(name, hint), hint, required, nullable or not required)


def _bounded(hint: Any, dtype: pl.DataType) -> Any:
    """What the decoder is to accept: JSON's integers have no end, a column's have, and so on into nested values."""
    if (bounds := _BOUNDS.get(type(dtype))) is not None:
        return Annotated[int, msgspec.Meta(ge=bounds[0], le=bounds[1])]
    if isinstance(dtype, pl.List):
        inner: Any = dtype.inner
        return types.GenericAlias(list, (_bounded(typing.get_args(hint)[0], inner),))
    return schema_of(hint).struct() if isinstance(dtype, pl.Struct) else hint


def _column_type(name: str, hint: Any) -> pl.DataType:
    if typing.get_origin(hint) is list:
        return pl.List(_column_type(name, typing.get_args(hint)[0]))
    if hint in _POLARS:
        return _POLARS[hint]
    if isinstance(hint, type) and (
        is_dataclass(hint) or issubclass(hint, msgspec.Struct) or hasattr(hint, "__total__")
    ):
        return pl.Struct(schema_of(hint).polars())
    known = ", ".join(kind.__name__ for kind in _POLARS)
    raise PipelineError(
        f"field '{name}' has type {hint!r}, which no column holds. Use {known}, list[...] or a nested class."
    )


def _from_mapping(name: str, kind: Any) -> Field:
    """Mappings are lenient about null: `{"delay": pl.Int64}` says nothing of it."""
    if not (isinstance(kind, pl.DataType) or (isinstance(kind, type) and issubclass(kind, pl.DataType))):
        return _from_hint(name, kind, required=True)
    dtype = kind() if isinstance(kind, type) else kind
    python = int if dtype.is_integer() else _PYTHON.get(type(dtype))
    if python is None:
        raise PipelineError(
            f"field '{name}': {dtype} can't be read from JSON by a mapping. Give the schema as a class."
        )
    return Field(name, dtype, python, required=True, nullable=True)
