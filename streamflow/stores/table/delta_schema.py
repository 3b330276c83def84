"""Delta's JSON of a schema (PROTOCOL.md of github.com/delta-io/delta, "Schema Serialization Format") and the types of a
frame, one from the other. Pure: knows neither tables nor the Delta library.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson
import polars as pl

from streamflow.base.errors import ConflictError
from streamflow.stores.table.schema import DATETIME, instance

_PRIMITIVES: dict[str, pl.DataType] = {
    "byte": pl.Int8(),
    "short": pl.Int16(),
    "integer": pl.Int32(),
    "long": pl.Int64(),
    "float": pl.Float32(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
    "string": pl.String(),
    "binary": pl.Binary(),
    "date": pl.Date(),
    "timestamp": DATETIME,
    "timestamp_ntz": pl.Datetime("us"),
}
_NAMES = {dtype: name for name, dtype in _PRIMITIVES.items()}
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")


def to_delta(schema: Mapping[str, pl.DataType]) -> str:
    """Of columns as `storage_schema` gives them, without Null; all may be null."""
    return orjson.dumps(_struct(schema)).decode()


def from_delta(table: str, schema: str) -> dict[str, pl.DataType]:
    """ConflictError for a type of which no frame has columns (map, void, variant); the table named `table` is in the
    message."""
    try:
        return _fields(orjson.loads(schema))
    except _UnknownTypeError as error:
        raise ConflictError(
            f"table '{table}' has a column of type {error}, which StreamFlow does not store. "
            "Write to a table of its own and merge there"
        ) from None


class _UnknownTypeError(Exception):
    pass


def _struct(fields: Mapping[str, pl.DataType]) -> dict[str, Any]:
    described = [
        {"name": name, "type": _type(dtype), "nullable": True, "metadata": {}} for name, dtype in fields.items()
    ]
    return {"type": "struct", "fields": described}


def _type(dtype: pl.DataType) -> object:
    if isinstance(dtype, pl.Decimal):
        return f"decimal({dtype.precision or 38},{dtype.scale})"
    if isinstance(dtype, pl.List):
        return {"type": "array", "elementType": _type(instance(dtype.inner)), "containsNull": True}
    if isinstance(dtype, pl.Struct):
        return _struct({field.name: instance(field.dtype) for field in dtype.fields})
    return _NAMES[dtype]


def _fields(struct: Mapping[str, Any]) -> dict[str, pl.DataType]:
    return {field["name"]: _dtype(field["type"]) for field in struct["fields"]}


def _dtype(kind: Any) -> pl.DataType:
    if isinstance(kind, str):
        if decimal := _DECIMAL.fullmatch(kind):
            return pl.Decimal(int(decimal[1]), int(decimal[2]))
        if (primitive := _PRIMITIVES.get(kind)) is None:
            raise _UnknownTypeError(kind)
        return primitive
    if kind["type"] == "array":
        return pl.List(_dtype(kind["elementType"]))
    if kind["type"] == "struct":
        return pl.Struct(_fields(kind))
    raise _UnknownTypeError(kind["type"])
