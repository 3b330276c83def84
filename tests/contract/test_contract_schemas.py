"""Schemas of topics: what fits, and which may follow which."""

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl
import pytest

import streamflow as sf
from streamflow.base.errors import ConflictError, DataError, PipelineError
from streamflow.topics.client.schemas import MessageSchema

pytestmark = pytest.mark.contract


class Click(msgspec.Struct):
    user: str
    count: int


@dataclass
class ClickData:
    user: str
    count: int = 0


CLICK_COLUMNS = {"user": pl.String, "count": pl.Int64}


def arrow_schema():
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.schema([("user", pyarrow.string()), ("count", pyarrow.int64())])


@pytest.mark.parametrize("schema", [Click, ClickData, CLICK_COLUMNS, pl.Schema(CLICK_COLUMNS), arrow_schema])
def test_message_is_checked_against_each_kind_of_schema(schema):
    schema = schema() if schema is arrow_schema else schema
    checked = MessageSchema(schema)
    checked.check(b'{"user": "ann", "count": 3, "more": [1]}')
    for wrong in (b'{"user": 1, "count": 3}', b'{"user": "ann", "count": "x"}', b"[]", b"{"):
        with pytest.raises(DataError, match="does not fit"):
            checked.check(wrong)


def test_pydantic_model_is_a_schema():
    pydantic = pytest.importorskip("pydantic")
    checked = MessageSchema(pydantic.create_model("Click", user=(str, ...), count=(int, ...)))
    checked.check(b'{"user": "ann", "count": 3}')
    with pytest.raises(DataError, match="'Click'"):
        checked.check(b'{"user": "ann"}')
    assert checked.follow("t", MessageSchema(Click).follow("t", None))


def test_what_is_no_schema_is_refused():
    with pytest.raises(PipelineError, match="is no schema"):
        MessageSchema(3)


BEFORE = [("user", str), ("count", int), ("note", str | None, None)]


@pytest.mark.parametrize(
    ("after", "says"),
    [
        (BEFORE, None),
        ([*BEFORE, ("extra", int, 0)], None),
        ([("user", str | None), ("count", int), ("note", str | None, None)], None),
        ([("user", str), ("count", float), ("note", str | int | None, None)], None),
        ([("user", str), ("count", int, 0), ("note", str | None, None)], None),
        ([*BEFORE, ("extra", int)], "'extra'.*new and required"),
        ([("user", str), ("count", int)], "'note'.*missing"),
        ([("user", str), ("count", str), ("note", str | None, None)], "'count'.*was"),
        ([("user", str), ("count", int), ("note", str, "")], "'note'.*was"),
        ([("user", str), ("count", int), ("note", str | None)], "'note'.*required"),
    ],
)
def test_schema_may_add_optional_fields_and_widen_types_only(after, says):
    def schema(fields):
        fields = sorted(fields, key=len)
        return MessageSchema(msgspec.defstruct("T", fields))

    stored = schema(BEFORE).follow("t", None)
    if says is None:
        assert schema(after).follow("t", stored)
    else:
        with pytest.raises(ConflictError, match=says):
            schema(after).follow("t", stored)


@pytest.mark.parametrize("kind", ["memory", "folder"])
def test_schema_is_stored_with_the_topic_and_checked_on_publish(kind: str, tmp_path: Path):
    url = f"memory://{secrets.token_hex(4)}" if kind == "memory" else tmp_path

    async def story() -> None:
        async with sf.connect(url) as client:
            await client.create_topic("t", partitions=1)
            async with client.publisher("t", schema=Click) as publisher:
                assert await publisher.publish(b'{"user": "ann", "count": 1}') == "0-0"
                with pytest.raises(DataError, match="'Click'"):
                    await publisher.publish(b'{"user": "ann"}')
            assert await client.topic_schema("t") == {
                "user": {"types": ["string"], "required": True},
                "count": {"types": ["integer"], "required": True},
            }
        async with sf.connect(url) as client:
            client.publisher("t", schema=ClickData)
            with pytest.raises(ConflictError, match="'count'"):
                client.publisher("t", schema=Click)
            await client.delete_topic("t")
            await client.create_topic("t")
            client.publisher("t", schema=Click)

    asyncio.run(story())
