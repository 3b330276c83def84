"""Aggregates: one computation stated twice, as a CombineFn on rows and as three expressions on columns.

`partial` runs over a batch of events before the shuffle, `merge` over partials after it, `final` over merged
partials. `single` gives the same as `partial` where each event is a group of its own, without any grouping. A property
test holds rows and columns equal. Nulls are skipped, as in SQL; a group without values gives null, Count and Sum 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from streamflow.base.errors import DataError
from streamflow.model.combiner import CombineFn
from streamflow.model.expressions import row_expression
from streamflow.model.window import TIME

ColumnLike = str | pl.Expr


class AggregateFn(CombineFn, ABC):
    """Base of the aggregates. `column`: a field's name, or an expression over the event's fields."""

    def __init__(self, column: ColumnLike) -> None:
        self.expr = row_expression(column)
        self.column = column

    @abstractmethod
    def partial(self, out: str) -> Sequence[pl.Expr]:
        """Over the events of a batch; columns named `out` or `out` with a suffix."""

    @abstractmethod
    def single(self, out: str) -> Sequence[pl.Expr]:
        """Row by row: the partials of one event each."""

    @abstractmethod
    def merge(self, out: str) -> Sequence[pl.Expr]:
        """Over partials, giving partials of the same names."""

    def final(self, out: str) -> pl.Expr:
        """Over merged partials, named `out`."""
        return pl.col(out)

    def value(self, row: dict[str, Any]) -> Any:
        """What one event contributes, on the row path."""
        if isinstance(self.column, str):
            return row[self.column]
        return pl.DataFrame([row]).select(self.expr).item()

    def add_input(self, accumulator: Any, element: dict[str, Any]) -> Any:
        value = self.value(element)
        return accumulator if value is None else self.add_value(accumulator, value)

    @abstractmethod
    def add_value(self, accumulator: Any, value: Any) -> Any: ...

    def extract_output(self, accumulator: Any) -> Any:
        return accumulator

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.column})"


class Count(AggregateFn):
    """How many events; with a column, how many in which it is not null."""

    def __init__(self, column: ColumnLike | None = None) -> None:
        super().__init__(pl.lit(1) if column is None else column)
        self.every = column is None

    def partial(self, out: str) -> Sequence[pl.Expr]:
        count = pl.len() if self.every else self.expr.count()
        return [count.cast(pl.Int64).alias(out)]

    def single(self, out: str) -> Sequence[pl.Expr]:
        return [(pl.lit(1, pl.Int64) if self.every else self.expr.is_not_null().cast(pl.Int64)).alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        return [pl.col(out).sum()]

    def value(self, row: dict[str, Any]) -> Any:
        return 1 if self.every else super().value(row)

    def create_accumulator(self) -> int:
        return 0

    def add_value(self, accumulator: int, value: Any) -> int:
        return accumulator + 1

    def merge_accumulators(self, accumulators: Iterable[int]) -> int:
        return sum(accumulators)


class Sum(AggregateFn):
    """The sum; 0 of nothing. Integers are summed as 64-bit."""

    def partial(self, out: str) -> Sequence[pl.Expr]:
        return [_widened(self.expr).sum().alias(out)]

    def single(self, out: str) -> Sequence[pl.Expr]:
        return [_widened(self.expr).fill_null(0).alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        return [pl.col(out).sum()]

    def create_accumulator(self) -> Any:
        return 0

    def add_value(self, accumulator: Any, value: Any) -> Any:
        return accumulator + value

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        return sum(accumulators)


class Mean(AggregateFn):
    """The arithmetic mean, from a sum and a count, so that partials merge without error for integers."""

    def partial(self, out: str) -> Sequence[pl.Expr]:
        return [_widened(self.expr).sum().alias(f"{out}.sum"), self.expr.count().cast(pl.Int64).alias(f"{out}.count")]

    def single(self, out: str) -> Sequence[pl.Expr]:
        present = self.expr.is_not_null().cast(pl.Int64)
        return [_widened(self.expr).fill_null(0).alias(f"{out}.sum"), present.alias(f"{out}.count")]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        return [pl.col(f"{out}.sum").sum(), pl.col(f"{out}.count").sum()]

    def final(self, out: str) -> pl.Expr:
        total, count = pl.col(f"{out}.sum"), pl.col(f"{out}.count")
        return pl.when(count > 0).then(total / count).alias(out)

    def create_accumulator(self) -> tuple[Any, int]:
        return 0, 0

    def add_value(self, accumulator: tuple[Any, int], value: Any) -> tuple[Any, int]:
        return accumulator[0] + value, accumulator[1] + 1

    def merge_accumulators(self, accumulators: Iterable[tuple[Any, int]]) -> tuple[Any, int]:
        total, count = 0, 0
        for part in accumulators:
            total, count = total + part[0], count + part[1]
        return total, count

    def extract_output(self, accumulator: tuple[Any, int]) -> Any:
        total, count = accumulator
        return total / count if count else None


class _Extreme(AggregateFn, ABC):
    """Min and Max: the same but for the choice. NaN is chosen only if there is nothing else."""

    def partial(self, out: str) -> Sequence[pl.Expr]:
        return [self.column_choice(self.expr).alias(out)]

    def single(self, out: str) -> Sequence[pl.Expr]:
        return [self.expr.alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        return [self.column_choice(pl.col(out))]

    @abstractmethod
    def column_choice(self, expr: pl.Expr) -> pl.Expr: ...

    @abstractmethod
    def row_choice(self, left: Any, right: Any) -> Any: ...

    def create_accumulator(self) -> Any:
        return None

    def add_value(self, accumulator: Any, value: Any) -> Any:
        if accumulator is None or accumulator != accumulator:
            return value
        return accumulator if value != value else self.row_choice(accumulator, value)

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        merged = None
        for part in accumulators:
            if part is not None:
                merged = self.add_value(merged, part)
        return merged


class Min(_Extreme):
    """The smallest value; null of nothing."""

    def column_choice(self, expr: pl.Expr) -> pl.Expr:
        return expr.min()

    def row_choice(self, left: Any, right: Any) -> Any:
        return min(left, right)


class Max(_Extreme):
    """The largest value; null of nothing."""

    def column_choice(self, expr: pl.Expr) -> pl.Expr:
        return expr.max()

    def row_choice(self, left: Any, right: Any) -> Any:
        return max(left, right)


class RecordCombineFn(CombineFn):
    """Several named aggregates over one record: a record of results. The row path of `Aggregate`. Of a record, `_time`
    is its event time (µs)."""

    def __init__(self, aggregates: dict[str, AggregateFn]) -> None:
        self.aggregates = aggregates

    def create_accumulator(self) -> list[Any]:
        return [fn.create_accumulator() for fn in self.aggregates.values()]

    def add_input(self, accumulator: list[Any], element: dict[str, Any]) -> list[Any]:
        pairs = zip(self.aggregates.items(), accumulator, strict=True)
        return [self._added(name, fn, part, element) for (name, fn), part in pairs]

    def _added(self, name: str, fn: AggregateFn, part: Any, element: dict[str, Any]) -> Any:
        try:
            return fn.add_input(part, element)
        except (TypeError, ValueError) as error:
            value = fn.value(element)
            raise DataError(f"'{name}': {fn} can't take {value!r} ({type(value).__name__}): {error}") from error

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        columns = zip(*accumulators, strict=True)
        pairs = zip(self.aggregates.values(), columns, strict=True)
        return [fn.merge_accumulators(parts) for fn, parts in pairs]

    def compact(self, accumulator: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
        return [fn.compact(part) for fn, part in zip(self.aggregates.values(), accumulator, strict=True)]

    def extract_output(self, accumulator: list[Any]) -> dict[str, Any]:
        pairs = zip(self.aggregates.items(), accumulator, strict=True)
        return {name: fn.extract_output(part) for (name, fn), part in pairs}


def misfit(aggregates: Mapping[str, AggregateFn], columns: Mapping[str, pl.DataType]) -> str | None:
    """Which of the aggregates can't work on columns of such types, why, and what helps; None if it is none of them."""
    empty = pl.LazyFrame(schema={TIME: pl.Int64(), **columns})
    for name, fn in aggregates.items():
        try:
            empty.select(fn.partial(name)).collect_schema()
        except pl.exceptions.ColumnNotFoundError:
            return None
        except pl.exceptions.PolarsError as error:
            dtype = empty.select(fn.expr.alias(name)).collect_schema()[name]
            said = f"'{name}': {fn} can't take {dtype}: {str(error).splitlines()[0]}."
            if dtype == pl.String and isinstance(fn.column, str):
                cast = f"WithColumns({fn.column}=sf.col('{fn.column}').cast(float))"
                return f"{said} If column '{fn.column}' is numbers as text, apply {cast} before."
            return f"{said} Give it a column of another type, or cast it."
    return None


def _widened(expr: pl.Expr) -> pl.Expr:
    """Narrow integers as Int64, nulls without a type too: Polars would sum Int32 as Int32, and wrap around."""
    return expr * pl.lit(1, pl.Int64)
