"""Which Polars expressions a stream can run: those whose value for a row depends on that row alone."""

from typing import Any

import polars as pl

from streamflow.base.errors import PipelineError


def row_expression(value: Any) -> pl.Expr:
    """The expression, or the column of that name. PipelineError for what is none, and for an expression over several
    rows (`max()`, `cum_sum()`, `shift()`…), whose value would depend on how events happen to fall into batches."""
    if isinstance(value, str):
        return pl.col(value)
    if not isinstance(value, pl.Expr):
        raise PipelineError(f"{value!r} is no expression. Use sf.col('name') and operators on it.")
    if not _depends_on_its_row_alone(value):
        raise PipelineError(
            f"{value} looks at several rows, and which rows are together is chance in a stream. "
            "Use Aggregate in a window."
        )
    return value


def _depends_on_its_row_alone(expr: pl.Expr) -> bool:
    try:
        return expr.meta.is_row_separable()
    except pl.exceptions.PolarsError:
        # Polars can't tell for functions of the user's own without knowing the columns.
        return True
