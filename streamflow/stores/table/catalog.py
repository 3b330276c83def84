"""SQL over the tables of a folder. Reads only: each query gets its own in-memory DuckDB, which sees nothing but
the tables it names, as they were when it began.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import duckdb
import msgspec
import polars as pl
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from streamflow.base.errors import CorruptionError, DataError, NotFoundError
from streamflow.model.batch import OFFSET
from streamflow.stores._common import suggest
from streamflow.stores.table import library
from streamflow.stores.table.remote import Facts, unreadable
from streamflow.stores.table.schema import sql_name, sql_text, sql_type
from streamflow.stores.table.spec import check_readable, stored_spec, table_folder
from streamflow.stores.table.stream import ArrowStream

_STATEMENTS = frozenset({"SELECT", "EXPLAIN", "MULTI"})
"""MULTI is what DuckDB calls PIVOT. DESCRIBE, SUMMARIZE and SHOW count as SELECT."""
_MISSING = re.compile(r"Table with name (.+) does not exist")
_UNREADABLE = ("INTERVAL", "TIMETZ", "TIME WITH TIME ZONE", "BIT", "BIGNUM", "VARIANT")


@dataclass(frozen=True, slots=True)
class TableInfo:
    """`rows`: as stored, so in a table with a key those replaced by newer ones too, until they are read;
    `partitions`: distinct combinations of the partition columns' values (1 without any); `version`: Delta's."""

    name: str
    partition_by: tuple[str, ...]
    key: tuple[str, ...]
    rows: int
    files: int
    bytes: int
    partitions: int
    version: int


class Catalog:
    """The tables under `root`. Usable from several threads. `threads` and `memory_mb` bound one query."""

    def __init__(self, root: Path, *, threads: int | None = None, memory_mb: int | None = None) -> None:
        self._root = root.absolute()
        self._settings: dict[str, str | int | bool] = {
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "TimeZone": "UTC",
            "allow_community_extensions": False,
            # Else a name in the query could be that of a Python variable of the caller.
            "python_enable_replacements": False,
        }
        if threads is not None:
            self._settings["threads"] = threads
        if memory_mb is not None:
            self._settings["memory_limit"] = f"{memory_mb}MB"

    def names(self) -> list[str]:
        """All tables, sorted."""
        return sorted(path.parent.name for path in self._root.glob("*/_delta_log"))

    def tables(self) -> list[TableInfo]:
        """What every table holds, sorted by name."""
        found = ((name, open_table(table_folder(self._root, name))) for name in self.names())
        return [_info(name, table) for name, table in found if table is not None]

    def read(self, name: str) -> pl.DataFrame:
        """The rows of one table as readers see them. NotFoundError if there is none of that name."""
        return self.sql(f"SELECT * FROM {sql_name(name)}")

    def sql(self, query: str) -> pl.DataFrame:
        """The result of one SELECT (or DESCRIBE, SUMMARIZE, PIVOT, EXPLAIN) over the tables, which are views named as
        they are. Points in time are Datetime("us", "UTC"); whole-number sums are Int64 if they fit.

        NotFoundError for a table that does not exist, with the closest names; DataError with DuckDB's message for
        everything else that is wrong with the query; CorruptionError if a table's files can't be read."""
        with duckdb.connect(":memory:") as connection:
            try:
                for setting, value in self._settings.items():
                    connection.execute(f"SET {setting} = {_literal(value)}")
                for name in self._named(connection, query):
                    self._create_view(connection, name)
                # Last: from here on nothing but the files of these tables can be opened.
                folders = {f"{self._root}/", _glob_escape(f"{self._root}/")}
                connection.execute(f"SET allowed_directories = [{', '.join(map(sql_text, folders))}]")
                connection.execute("SET enable_external_access = false")
                connection.execute("SET lock_configuration = true")
                return _result(connection, query)
            except duckdb.CatalogException as error:
                if (missing := _MISSING.search(str(error))) is None:
                    raise DataError(f"the query can't be run: {error}\nCheck it against DuckDB's SQL") from error
                name = missing[1]
                raise NotFoundError(f"table '{name}' does not exist. {suggest(name, self.names())}") from error
            except duckdb.IOException as error:
                raise CorruptionError(f"a table's file can't be read: {error}. Was it deleted?") from error
            except duckdb.Error as error:
                raise DataError(f"the query can't be run: {error}\nCheck it against DuckDB's SQL") from error

    def _named(self, connection: duckdb.DuckDBPyConnection, query: str) -> list[str]:
        """The tables that the query reads."""
        statements = connection.extract_statements(query)
        if len(statements) != 1 or statements[0].type.name not in _STATEMENTS:
            kinds = ", ".join(s.type.name for s in statements) or "nothing"
            raise DataError(f"expected one SELECT statement, got {kinds}. Tables are written by pipelines only")
        known = self.names()
        if query.split()[0].upper() == "SHOW":
            return known
        lower = {name.lower(): name for name in known}
        try:
            wanted = connection.get_table_names(query)
        except duckdb.Error:
            # DuckDB can't name the tables of a PIVOT or a JOIN ... USING without having them: take all that occur.
            return [name for name in known if name.lower() in query.lower()]
        return sorted({n if n in known else lower[n.lower()] for n in wanted if n.lower() in lower})

    def _create_view(self, connection: duckdb.DuckDBPyConnection, name: str) -> None:
        folder = table_folder(self._root, name)
        table = open_table(folder)
        if table is None:
            raise NotFoundError(f"table '{name}' does not exist. {suggest(name, self.names())}")
        connection.execute(f"CREATE VIEW {sql_name(name)} AS {view_sql(table, folder)}")


def open_table(folder: Path) -> DeltaTable | None:
    """The table at its newest version; None if there is none. ConflictError if it uses Delta features whose files can't
    be read as they are (deletion vectors, column mapping); CorruptionError if its log can't be read."""
    try:
        table = DeltaTable(folder.absolute().as_uri())
    except TableNotFoundError:
        return None
    except DeltaError as error:
        raise unreadable(folder.name, error) from error
    check_readable(_facts(table), folder.name)
    return table


def _facts(table: DeltaTable) -> Facts:
    return msgspec.convert(library.facts(table), Facts)


def view_sql(table: DeltaTable, folder: Path) -> str:
    """The SELECT that shows the rows of a table at the version of the handle: in Delta's column order and types, only
    the newest row of each key, without the offset."""
    schema = pl.Schema(table.schema())
    partition_by = set(table.metadata().partition_columns)
    # An empty arm gives names, order and types, also to columns that no file has yet; DuckDB drops it when planning.
    columns = ", ".join(f"NULL::{sql_type(d)} AS {sql_name(c)}" for c, d in schema.items())
    select = f"SELECT {columns} WHERE false"
    if files := [folder / unquote(path) for path in _actions(table)["path"]]:
        hive = ", ".join(f"{sql_text(c)}: {sql_type(d)}" for c, d in schema.items() if c in partition_by)
        options = f"hive_partitioning = true, hive_types = {{{hive}}}" if hive else "hive_partitioning = false"
        paths = ", ".join(sql_text(_glob_escape(str(f))) for f in files)
        select += f" UNION ALL BY NAME SELECT * FROM read_parquet([{paths}], union_by_name = true, {options})"
    if key := stored_spec(_facts(table), folder.name).key:
        by = ", ".join(sql_name(c) for c in key)
        newest = f"row_number() OVER (PARTITION BY {by} ORDER BY {OFFSET} DESC) = 1"
        select = f"SELECT * EXCLUDE ({OFFSET}) FROM ({select}) QUALIFY {newest}"
    return select


def _glob_escape(path: str) -> str:
    # read_parquet takes glob patterns; a path is one with its special characters in brackets.
    return "".join(f"[{c}]" if c in "*?[" else c for c in path)


def _actions(table: DeltaTable) -> pl.DataFrame:
    """The data files of the table's version; `path` is URL-encoded and relative to its folder."""
    return pl.DataFrame(table.get_add_actions(flatten=True))


def _info(name: str, table: DeltaTable) -> TableInfo:
    spec = stored_spec(_facts(table), name)
    actions = _actions(table)
    partitions = actions.select(pl.selectors.starts_with("partition.")) if actions.height else pl.DataFrame()
    return TableInfo(
        name=name,
        partition_by=spec.partition_by,
        key=spec.key,
        rows=int(actions["num_records"].sum()) if actions.height else 0,
        files=actions.height,
        bytes=int(actions["size_bytes"].sum()) if actions.height else 0,
        partitions=partitions.n_unique() if partitions.width else min(actions.height, 1),
        version=table.version(),
    )


def _literal(value: str | int | bool) -> str:
    return sql_text(value) if isinstance(value, str) else str(value).lower()


def _result(connection: duckdb.DuckDBPyConnection, query: str) -> pl.DataFrame:
    relation = connection.sql(query)
    types = dict(zip(relation.columns, (str(t) for t in relation.types), strict=True))
    for column, kind in types.items():
        if unreadable := next((u for u in _UNREADABLE if _mentions(kind, u)), None):
            raise DataError(
                f"column '{column}' of the result has type {unreadable}, which frames don't have. "
                f"Cast it, for instance CAST({sql_name(column)} AS VARCHAR)"
            )
    if len(types) < len(relation.columns):
        raise DataError("the result has two columns of the same name. Give one another name with AS")
    frame = pl.DataFrame(ArrowStream(relation.__arrow_c_stream__()))
    return _whole_numbers(frame, (c for c, kind in types.items() if kind == "HUGEINT"))


def _mentions(kind: str, unreadable: str) -> bool:
    return kind.replace("[]", "") == unreadable or f" {unreadable}" in kind


def _whole_numbers(frame: pl.DataFrame, columns: Iterable[str]) -> pl.DataFrame:
    """Sums of integers come as HUGEINT, and that as Decimal: Int64 wherever nothing is lost."""
    for column in columns:
        narrow = frame[column].cast(pl.Int64, strict=False)
        if narrow.null_count() == frame[column].null_count():
            frame = frame.with_columns(narrow)
    return frame
