"""Queries over rows of which some may fail: the good rows go on, and the bad ones, found by bisection, are told."""

from collections.abc import Callable

import polars as pl

from streamflow.base.errors import DataError
from streamflow.model.batch import RESERVED, OnBad, tell
from streamflow.model.schema import Schema
from streamflow.transforms.columns import missing_column

FrameFunction = Callable[[pl.LazyFrame], pl.LazyFrame]

QUERY_ERRORS = (Exception, pl.exceptions.PanicException)
"""Python functions inside a query raise what they like."""


def guarded(frame: pl.DataFrame, apply: FrameFunction, on_bad: OnBad) -> pl.DataFrame:
    """`apply` on the frame; if rows make it fail, on all rows but these, which are told to `on_bad`.

    A query that can't work on any row of such columns is bad for all rows at once. Bad rows are found by bisection: k
    of n cost about k·log2(n) queries."""
    return isolated(frame, apply, lambda bad, error: tell(bad, on_bad, error))


def isolated(
    frame: pl.DataFrame, apply: FrameFunction, found: Callable[[pl.DataFrame, Exception], None]
) -> pl.DataFrame:
    """As `guarded`. `found`: takes each frame of rows that fail as one, with their error."""
    lazy = apply(frame.lazy())
    try:
        lazy.collect_schema()
    except pl.exceptions.PolarsError as error:
        found(frame, error)
        return pl.DataFrame()
    try:
        return lazy.collect()
    except QUERY_ERRORS as error:
        if frame.height == 1:
            found(frame, error)
            return pl.DataFrame()
    half = frame.height // 2
    parts = [isolated(part, apply, found) for part in (frame.head(half), frame.tail(frame.height - half))]
    good = [part for part in parts if part.width]
    return pl.concat(good, how="diagonal_relaxed") if good else pl.DataFrame()


def fitted(frame: pl.DataFrame, schema: Schema, on_bad: OnBad) -> pl.DataFrame:
    """The columns of the schema, cast to its types, and the engine's own; rows that do not fit are told."""
    missing = [field.name for field in schema.fields if field.required and field.name not in frame.columns]
    if missing:
        tell(frame, on_bad, DataError(missing_column(Exception(f'"{missing[0]}"'), frame.schema)))
        return frame.clear()
    dtypes = schema.polars()
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in dtypes.items() if name not in frame.columns]
    own = [name for name in RESERVED if name in frame.columns]
    wanted = frame.with_columns(absent).select(*schema.names, *own)
    if any(wanted.schema[name] != dtype for name, dtype in dtypes.items()):
        casts = [pl.col(name).cast(dtype, strict=True) for name, dtype in dtypes.items()]
        wanted = guarded(wanted, lambda lazy: lazy.with_columns(casts), on_bad)
    not_null = [field.name for field in schema.fields if not field.nullable]
    if any(wanted[name].null_count() for name in not_null if wanted.width):
        null = pl.any_horizontal(pl.col(name).is_null() for name in not_null)
        tell(wanted.filter(null), on_bad, DataError(f"a field of {not_null} is null."))
        wanted = wanted.filter(~null)
    return wanted
