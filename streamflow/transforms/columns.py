"""Transforms over columns, ours: Select, Where, WithColumns, AsColumns over Polars expressions (`sf.col`).

They run on whole batches; no row is ever iterated. Where the columns are known when the pipeline is built (a schema was
given), names and types are checked then.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.expressions import row_expression
from streamflow.model.graph import Columns, PCollection, Primitive, Shape
from streamflow.model.schema import SchemaLike, schema_of
from streamflow.model.window import TIME

RESERVED_PREFIX = "_"


class FrameTransform(Primitive, ABC):
    """A function from a frame to a frame, row by row: each output row comes from one input row."""

    @abstractmethod
    def apply_frame(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The columns that begin with '_' (event time, offset, window) are kept by all."""

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (pcoll,) = inputs
        known = pcoll.shape.columns
        columns = None if known is None else resolve_columns(known, self.apply_frame)
        return Shape(pcoll.windowing, columns, pcoll.shape.bounded)


class Where(FrameTransform):
    """Keeps the rows for which the expression is true (null is not true)."""

    def __init__(self, predicate: pl.Expr) -> None:
        self.predicate = row_expression(predicate)

    def apply_frame(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.filter(self.predicate)


class WithColumns(FrameTransform):
    """Adds or replaces columns: `WithColumns(hour=sf.col("departure").dt.hour())`."""

    def __init__(self, *exprs: pl.Expr, **named: pl.Expr) -> None:
        self.exprs = [*map(row_expression, exprs), *(row_expression(e).alias(_public(n)) for n, e in named.items())]

    def apply_frame(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.with_columns(self.exprs)


class SelectColumns(FrameTransform):
    """Keeps just these columns: names, expressions, or `name=expression`."""

    def __init__(self, *exprs: str | pl.Expr, **named: str | pl.Expr) -> None:
        self.exprs = [*map(row_expression, exprs), *(row_expression(e).alias(_public(n)) for n, e in named.items())]
        if not self.exprs:
            raise PipelineError("Select needs at least one column.")

    def apply_frame(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.select(pl.col("^_.*$"), *self.exprs)


class AsColumns(FrameTransform):
    """Declares the columns of elements that are dicts: what follows is checked against them when the pipeline is built.

    `schema`: a class with annotations, or a mapping of name to Polars type. A row that does not fit goes to the
    dead-letter topic."""

    def __init__(self, schema: SchemaLike) -> None:
        self.schema = schema_of(schema)

    def apply_frame(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        casts = [pl.col(name).cast(dtype, strict=True) for name, dtype in self.schema.polars().items()]
        return frame.select(pl.col("^_.*$"), *casts)

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        (pcoll,) = inputs
        return Shape(pcoll.windowing, self.schema.polars(), pcoll.shape.bounded)


def resolve_columns(known: Columns, apply: Any) -> dict[str, pl.DataType]:
    """The columns that `apply` gives for input columns `known`, without any data. PipelineError if it can't work."""
    empty = pl.LazyFrame(schema={TIME: pl.Int64(), **known})
    try:
        lazy = apply(empty)
        schema = lazy.collect_schema()
        _run_on_nothing(lazy)
    except pl.exceptions.ColumnNotFoundError as error:
        raise PipelineError(missing_column(error, known)) from error
    except pl.exceptions.PolarsError as error:
        raise PipelineError(str(error).splitlines()[0]) from error
    return {name: dtype for name, dtype in schema.items() if not name.startswith(RESERVED_PREFIX)}


def _run_on_nothing(lazy: pl.LazyFrame) -> None:
    """Finds operations that don't fit their column's type, which the schema alone does not show."""
    try:
        lazy.collect()
    except (pl.exceptions.InvalidOperationError, pl.exceptions.SchemaError):
        raise
    except Exception as error:
        # Whatever else fails may do so only because there are no rows.
        if "cannot compare" in str(error):
            raise


def missing_column(error: Exception, known: Mapping[str, Any]) -> str:
    text = str(error)
    name = text.split('"')[1] if '"' in text else text.splitlines()[0].split(";")[0].strip()
    public = [column for column in known if not column.startswith(RESERVED_PREFIX)]
    close = difflib.get_close_matches(name, public, n=1)
    hint = f" Did you mean '{close[0]}'?" if close else f" There are: {', '.join(public)}."
    return f"column '{name}' not found.{hint}"


def _public(name: str) -> str:
    if name.startswith(RESERVED_PREFIX):
        raise PipelineError(f"column '{name}': names that begin with '_' belong to the engine. Choose another.")
    return name
