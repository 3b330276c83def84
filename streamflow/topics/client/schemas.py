"""What the messages of a topic look like: checks on publish, and which schemas may follow which. Pure.

A *schema* is given as a msgspec Struct, a dataclass, a pydantic model, or a Polars or Arrow schema; messages are JSON.
With the topic is stored, as JSON, which fields there are, of which types, and which of them are required.
"""

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from datetime import date, datetime
from typing import Any

import msgspec
import polars as pl

from streamflow.base.errors import ConflictError, DataError, PipelineError

Check = Callable[[bytes], object]
Fields = dict[str, dict[str, Any]]

_OF_POLARS: list[tuple[Callable[[pl.DataType], bool], Any]] = [
    (lambda dtype: dtype.is_integer(), int),
    (lambda dtype: dtype.is_numeric(), float),
    (lambda dtype: dtype == pl.String, str),
    (lambda dtype: dtype == pl.Boolean, bool),
    (lambda dtype: dtype == pl.Binary, bytes),
    (lambda dtype: dtype == pl.Datetime, datetime),
    (lambda dtype: dtype == pl.Date, date),
    (lambda dtype: dtype == pl.List, list),
    (lambda dtype: dtype == pl.Struct, dict),
]


class MessageSchema:
    """`check` raises DataError for a message that does not fit; PipelineError if `given` is no schema."""

    def __init__(self, given: Any) -> None:
        self.name = getattr(given, "__name__", type(given).__name__)
        if isinstance(given, type) and hasattr(given, "model_validate_json"):
            model: Any = given
            described, self._decode = model.model_json_schema(), model.model_validate_json
        else:
            kind = _as_type(given)
            described, self._decode = msgspec.json.schema(kind), msgspec.json.Decoder(kind).decode
        self._fields = _fields(described)

    def check(self, data: bytes) -> None:
        try:
            self._decode(data)
        except ValueError as error:
            raise DataError(f"a message does not fit schema '{self.name}': {error}. Fix it, or its schema") from error

    def follow(self, topic: str, stored: str | None) -> str:
        """What to store instead of `stored`. Fields may be added if they are optional, may become optional, and their
        types may get wider (integer to number, or more types); else ConflictError."""
        before: Fields = {} if stored is None else msgspec.json.decode(stored)
        for name, field in before.items():
            after = self._fields.get(name)
            if after is None:
                raise _conflict(topic, name, "is missing", "Keep it, as optional")
            if not all(any(_takes(wide, kind) for wide in after["types"]) for kind in field["types"]):
                raise _conflict(topic, name, f"was {field['types']} and is {after['types']}", "Types may only widen")
            if after["required"] and not field["required"]:
                raise _conflict(topic, name, "was optional and is required", "Give it a default")
        for name in self._fields.keys() - before.keys() if stored is not None else ():
            if self._fields[name]["required"]:
                raise _conflict(topic, name, "is new and required", "Give it a default")
        return msgspec.json.encode(self._fields, order="sorted").decode()


def _as_type(given: Any) -> Any:
    if isinstance(given, type) and (issubclass(given, msgspec.Struct) or is_dataclass(given)):
        return given
    if hasattr(given, "empty_table"):
        frame = pl.from_arrow(given.empty_table())
        given = frame.schema if isinstance(frame, pl.DataFrame) else {}
    if not isinstance(given, Mapping):
        raise PipelineError(
            f"{given!r} is no schema. Give a msgspec Struct, a dataclass, a pydantic model, or a Polars or Arrow schema"
        )
    columns = pl.Schema(given)
    return msgspec.defstruct("Row", [(name, _of_polars(dtype) | None, None) for name, dtype in columns.items()])


def _of_polars(dtype: pl.DataType) -> Any:
    return next((kind for matches, kind in _OF_POLARS if matches(dtype)), object)


def _fields(schema: Mapping[str, Any]) -> Fields:
    """Of a JSON schema of an object."""
    definitions = schema.get("$defs", {})
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    required = schema.get("required", ())
    return {
        name: {"types": sorted(_types(field, definitions)), "required": name in required}
        for name, field in schema.get("properties", {}).items()
    }


def _types(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> set[str]:
    """Names of JSON types, each with what it is made of. A field that may be anything has "any"."""
    if "anyOf" in field:
        return {each for one in field["anyOf"] for each in _types(one, definitions)}
    if "$ref" in field:
        return _types(definitions[field["$ref"].rpartition("/")[2]], definitions)
    kind = field.get("type", "any")
    if kind == "object" and "properties" in field:
        inner = {name: sorted(_types(each, definitions)) for name, each in field["properties"].items()}
        return {f"object {msgspec.json.encode(inner, order='sorted').decode()}"}
    if kind == "array" and field.get("items"):
        return {f"array of {' or '.join(sorted(_types(field['items'], definitions)))}"}
    return {f"{kind} {field['format']}" if "format" in field else str(kind)}


def _takes(wide: str, kind: str) -> bool:
    plain = kind.partition(" ")[0]
    return wide in (kind, "any", plain) or (wide, kind) == ("number", "integer")


def _conflict(topic: str, field: str, what: str, hint: str) -> ConflictError:
    return ConflictError(f"field '{field}' of the schema of topic '{topic}' {what}: readers rely on it. {hint}")
