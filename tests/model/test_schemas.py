"""Schemas: every way to write one gives the same fields."""

import datetime as dt
from dataclasses import dataclass
from typing import Any, NamedTuple, NotRequired, TypedDict

import msgspec
import polars as pl
import pytest

from streamflow.base.errors import PipelineError
from streamflow.model.schema import Field, SchemaLike, schema_of


class Typed(TypedDict):
    name: str
    delay: int | None
    note: NotRequired[str]


@dataclass
class Data:
    name: str
    delay: int | None
    note: str = ""


class Struct(msgspec.Struct):
    name: str
    delay: int | None
    note: str = ""


class Named(NamedTuple):
    name: str
    delay: int | None
    note: str = ""


class Torn(TypedDict):
    a: int | str


@pytest.mark.parametrize("like", [Typed, Data, Struct, Named])
def test_every_kind_of_class_gives_the_same_fields(like: SchemaLike) -> None:
    assert schema_of(like).fields == (
        Field("name", pl.String(), str, required=True, nullable=False),
        Field("delay", pl.Int64(), int, required=True, nullable=True),
        Field("note", pl.String(), str, required=False, nullable=True),
    )


def test_mapping_takes_polars_types_and_allows_null() -> None:
    schema = schema_of({"a": pl.Int32, "b": pl.Float64(), "c": str, "d": pl.Datetime("ms", "UTC")})
    assert schema.polars() == {"a": pl.Int32(), "b": pl.Float64(), "c": pl.String(), "d": pl.Datetime("ms", "UTC")}
    assert [field.nullable for field in schema.fields] == [True, True, False, True]


def test_nested_classes_and_lists_become_structs_and_lists() -> None:
    @dataclass
    class Place:
        lat: float
        tags: list[str]

    @dataclass
    class Visit:
        place: Place
        days: list[dt.date]

    assert schema_of(Visit).polars() == {
        "place": pl.Struct({"lat": pl.Float64(), "tags": pl.List(pl.String())}),
        "days": pl.List(pl.Date()),
    }


def test_only_keeps_the_named_fields_in_their_order() -> None:
    assert schema_of(Typed).only({"note", "name"}).names == ["name", "note"]


@pytest.mark.parametrize(
    ("like", "words"),
    [
        ({"a": object}, "field 'a' has type"),
        ({"a": pl.List(pl.Int64)}, "Give the schema as a class"),
        (Torn, "field 'a' has several types"),
        (int, "no annotated fields"),
        (3, "can't read a schema"),
    ],
)
def test_what_no_column_can_hold_is_refused_by_name(like: Any, words: str) -> None:
    with pytest.raises(PipelineError, match=words):
        schema_of(like)
