"""What DuckDB says to a query over all events at once, and whether a table says the same."""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from loadgen.bench.reference import same
from loadgen.profiles import nexmark
from streamflow.engine.stores import tables_folder
from streamflow.stores.table import Catalog
from streamflow.stores.table.stream import ArrowStream


def events_of(count: int, shape: nexmark.Shape) -> dict[str, pl.DataFrame]:
    """The first `count` events: topic → frame."""
    return {topic: part.read(0, part.events) for topic, part in nexmark.datasets(count, shape).items()}


def expected(sql: str, events: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The answer of DuckDB, whose tables are the kinds of events. Points in time are UTC, without saying so."""
    with duckdb.connect() as connection:
        for kind, frame in events.items():
            connection.register("events", ArrowStream(without_zone(frame).__arrow_c_stream__()))
            connection.execute(f"CREATE TABLE {kind} AS SELECT * FROM events")
        return pl.DataFrame(ArrowStream(connection.sql(sql).__arrow_c_stream__()))


def found(data: Path, query: str) -> pl.DataFrame:
    """The rows of a query's table, in the form of `expected`."""
    return without_zone(Catalog(tables_folder(data)).read(f"nexmark_{query}"))


def is_right(query: str, answer: pl.DataFrame, right: pl.DataFrame) -> bool:
    """Whether the rows of a query's table are those, as far as the query leaves no choice."""
    settled = getattr(module_of(query), "settled", None)
    return same(answer if settled is None else settled(answer), right)


def module_of(query: str) -> Any:
    return import_module(f"streamflow.examples.nexmark.{query}")


def without_zone(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.selectors.datetime(time_zone="UTC").dt.replace_time_zone(None))
