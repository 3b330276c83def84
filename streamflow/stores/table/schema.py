"""Which frame fits which table: types, evolution, lossless casts. Pure: no table, no file is touched here.

A cast never changes a value: what can't be stored as it is raises DataError instead, because Delta itself would cast
silently (a string to a double, for one).
"""

from collections.abc import Mapping

import polars as pl

from streamflow.base.errors import DataError
from streamflow.model.batch import OFFSET, RESERVED

DATETIME = pl.Datetime("us", "UTC")
"""The one type of points in time. Naive datetimes are UTC, as everywhere in StreamFlow."""

_WIDTH: dict[type[pl.DataType], int] = {pl.Int8: 8, pl.Int16: 16, pl.Int32: 32, pl.Int64: 64}
_MANTISSA: dict[type[pl.DataType], int] = {pl.Float32: 24, pl.Float64: 53}
_STORED_AS_IS = (*_WIDTH, *_MANTISSA, pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Decimal, pl.Null)
_STORED_AS: dict[type[pl.DataType], pl.DataType] = {
    pl.UInt8: pl.Int16(),
    pl.UInt16: pl.Int32(),
    pl.UInt32: pl.Int64(),
    pl.UInt64: pl.Int64(),
    pl.Categorical: pl.String(),
    pl.Enum: pl.String(),
}
_SQL = {
    pl.Int8: "TINYINT",
    pl.Int16: "SMALLINT",
    pl.Int32: "INTEGER",
    pl.Int64: "BIGINT",
    pl.Float32: "FLOAT",
    pl.Float64: "DOUBLE",
    pl.Boolean: "BOOLEAN",
    pl.String: "VARCHAR",
    pl.Binary: "BLOB",
    pl.Date: "DATE",
}
_PARTITION_TYPES = (*_WIDTH, pl.String, pl.Date, pl.Boolean)


def storage_schema(schema: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """The types in which Delta stores the columns; Null stays Null. DataError for a type Delta has no place for, a
    reserved name, and names that differ only in case (SQL could not tell them apart)."""
    seen: dict[str, str] = {}
    for name in schema:
        if not name or (name in RESERVED and name != OFFSET):
            raise DataError(f"column '{name}' is reserved and can't be stored. Give it another name")
        if other := seen.get(name.lower()):
            raise DataError(f"columns '{other}' and '{name}' differ only in case. Rename one")
        seen[name.lower()] = name
    return {name: _storage_dtype(name, dtype) for name, dtype in schema.items()}


def _storage_dtype(column: str, dtype: pl.DataType) -> pl.DataType:
    base = dtype.base_type()
    if base in _STORED_AS_IS:
        return dtype
    if base in _STORED_AS:
        return _STORED_AS[base]
    if isinstance(dtype, pl.Datetime) and dtype.time_unit != "ns":
        return DATETIME
    if isinstance(dtype, pl.List | pl.Array):
        return pl.List(_storage_dtype(column, instance(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct([pl.Field(f.name, _storage_dtype(column, instance(f.dtype))) for f in dtype.fields])
    raise DataError(
        f"column '{column}' has type {dtype}, which a table can't store. "
        "Cast it, for instance a Datetime to microseconds, a Duration to Int64, anything else to String"
    )


def instance(dtype: object) -> pl.DataType:
    """Of what may be a type's class."""
    return dtype() if isinstance(dtype, type) else dtype  # type: ignore[return-value]  # Polars: class or instance


def without_null(dtype: pl.DataType) -> pl.DataType:
    """The type for a new column: what nothing is known of (all null) becomes String."""
    if dtype == pl.Null:
        return pl.String()
    if isinstance(dtype, pl.List):
        return pl.List(without_null(instance(dtype.inner)))
    if isinstance(dtype, pl.Struct):
        return pl.Struct([pl.Field(f.name, without_null(instance(f.dtype))) for f in dtype.fields])
    return dtype


def columns_to_add(stored: Mapping[str, pl.DataType], table: Mapping[str, pl.DataType]) -> dict[str, pl.DataType]:
    """Columns of a frame (`storage_schema`) that the table does not have yet. DataError if one differs from a column of
    the table only in case."""
    lower = {name.lower(): name for name in table}
    new = {name: without_null(dtype) for name, dtype in stored.items() if name not in table}
    for name in new:
        if other := lower.get(name.lower()):
            raise DataError(f"column '{name}' differs from the table's '{other}' only in case. Rename it")
    return new


def conform(frame: pl.DataFrame, table: Mapping[str, pl.DataType]) -> pl.DataFrame:
    """The frame with exactly the table's columns and types; absent columns are null. DataError, naming column, expected
    and got, where a value would not survive."""
    stored = storage_schema(frame.schema)
    columns = []
    for name, want in table.items():
        if name not in stored:
            columns.append(pl.Series(name, [None], dtype=want).new_from_index(0, frame.height))
            continue
        if not _fits(stored[name], want):
            raise _mismatch(name, want, frame.schema[name])
        columns.append(_cast(frame[name], stored[name], want))
    return pl.DataFrame(columns)


def _cast(series: pl.Series, stored: pl.DataType, want: pl.DataType) -> pl.Series:
    try:
        exact = _to_storage(series, stored)
    except pl.exceptions.PolarsError as error:
        raise _mismatch(series.name, want, series.dtype) from error
    if stored == want:
        return exact
    cast = exact.cast(want, strict=False)
    if stored != pl.Null and not cast.cast(stored, strict=False).equals(exact, null_equal=True):
        raise _mismatch(series.name, want, series.dtype)
    return cast


def _to_storage(series: pl.Series, stored: pl.DataType) -> pl.Series:
    if isinstance(series.dtype, pl.Datetime) and series.dtype.time_zone is None:
        return series.dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    return series if series.dtype == stored else series.cast(stored, strict=True)


def _mismatch(column: str, want: pl.DataType, got: pl.DataType) -> DataError:
    return DataError(
        f"column '{column}': expected {want}, got {got} with values that don't fit it unchanged. "
        f"Cast it to {want}, or use another column name"
    )


def _fits(got: pl.DataType, want: pl.DataType) -> bool:
    """Whether every value may fit; Int64 to a float still has its values compared after the cast."""
    if got in (want, pl.Null):
        return True
    if (width := _WIDTH.get(got.base_type())) is not None:
        wider = _WIDTH.get(want.base_type(), 0) > width
        return wider or _MANTISSA.get(want.base_type(), 0) >= width or (width == 64 and want == pl.Float64)
    if isinstance(got, pl.Decimal) and isinstance(want, pl.Decimal):
        whole, wanted_whole = (got.precision or 38) - got.scale, (want.precision or 38) - want.scale
        return got.scale <= want.scale and whole <= wanted_whole
    if isinstance(got, pl.List) and isinstance(want, pl.List):
        return _fits(instance(got.inner), instance(want.inner))
    if isinstance(got, pl.Struct) and isinstance(want, pl.Struct):
        wanted = {f.name: instance(f.dtype) for f in want.fields}
        fields = {f.name: instance(f.dtype) for f in got.fields}
        return fields.keys() == wanted.keys() and all(_fits(d, wanted[n]) for n, d in fields.items())
    return got == pl.Float32 and want == pl.Float64


def check_partition_types(name: str, partition_by: tuple[str, ...], schema: Mapping[str, pl.DataType]) -> None:
    """DataError if a partition column is absent or of a type whose values can't be folder names."""
    for column in partition_by:
        if column not in schema:
            raise DataError(f"table '{name}': partition column '{column}' is not in the first frame. Add it")
        if schema[column].base_type() not in _PARTITION_TYPES:
            raise DataError(
                f"table '{name}': partition column '{column}' has type {schema[column]}, "
                "expected a string, integer, date or bool. Derive one, for instance the date of a time"
            )


def sql_type(dtype: pl.DataType) -> str:
    """DuckDB's name of a table column's type."""
    if isinstance(dtype, pl.Datetime):
        return "TIMESTAMPTZ" if dtype.time_zone else "TIMESTAMP"
    if isinstance(dtype, pl.Decimal):
        return f"DECIMAL({dtype.precision or 38},{dtype.scale})"
    if isinstance(dtype, pl.List):
        return f"{sql_type(instance(dtype.inner))}[]"
    if isinstance(dtype, pl.Struct):
        fields = ", ".join(f"{sql_name(f.name)} {sql_type(instance(f.dtype))}" for f in dtype.fields)
        return f"STRUCT({fields})"
    try:
        return _SQL[dtype.base_type()]
    except KeyError:
        raise DataError(f"column type {dtype} can't be read with SQL. Rewrite the table without it") from None


def sql_name(name: str) -> str:
    """A quoted identifier."""
    return '"' + name.replace('"', '""') + '"'


def sql_text(text: str) -> str:
    """A quoted string literal."""
    return "'" + text.replace("'", "''") + "'"
