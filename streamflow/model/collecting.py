"""Aggregates that keep values as they are: First, Last, TopK, CollectList, CollectSet, CollectMap. For what is the base
of all, see `aggregates`.

Where values are equal in what they are chosen or ordered by, the values themselves decide: no answer depends on how
events fell into batches.
"""

import heapq
import math
from abc import ABC
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import polars as pl

from streamflow.base.errors import DataError, PipelineError
from streamflow.model.aggregates import AggregateFn, ColumnLike
from streamflow.model.expressions import row_expression
from streamflow.model.window import TIME

_AT = "time"
_KEY, _VALUE = "key", "value"


def listed(expr: pl.Expr, present: pl.Expr) -> pl.Expr:
    """Row by row a list of one value; null for rows that are not `present`."""
    return pl.when(present).then(pl.concat_list(expr))


def gathered(name: str) -> pl.Expr:
    """The items of all lists of a group."""
    return pl.col(name).explode().drop_nulls()


def order(value: Any) -> tuple[bool, Any]:
    """By which Python sorts values as Polars does: NaN is greater than all numbers, what has no order goes by its
    text."""
    if isinstance(value, (dict, list)):
        return False, repr(value)
    return (True, 0) if value != value else (False, value)


class Timed(AggregateFn, ABC):
    """What needs the event time of each value: on the row path a pair of time (µs) and value."""

    def value(self, row: dict[str, Any]) -> Any:
        if TIME not in row:
            raise DataError(
                f"{self} needs event times, which only Aggregate gives it. For pairs there is Latest.PerKey."
            )
        value = super().value(row)
        return None if value is None else (row[TIME], value)


class _ByTime(Timed):
    """First and Last: the same but for the choice."""

    latest: bool

    def partial(self, out: str) -> Sequence[pl.Expr]:
        present = self.expr.is_not_null()
        return self._chosen(out, self.expr.filter(present), pl.col(TIME).filter(present))

    def single(self, out: str) -> Sequence[pl.Expr]:
        at = pl.when(self.expr.is_not_null()).then(pl.col(TIME))
        return [self.expr.alias(out), at.alias(f"{out}.{_AT}")]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        at = pl.col(f"{out}.{_AT}")
        return self._chosen(out, pl.col(out).filter(at.is_not_null()), at.drop_nulls())

    def _chosen(self, out: str, value: pl.Expr, at: pl.Expr) -> Sequence[pl.Expr]:
        time = at.max() if self.latest else at.min()
        tied = value.filter(at == time).sort()
        return [(tied.last() if self.latest else tied.first()).alias(out), time.alias(f"{out}.{_AT}")]

    def create_accumulator(self) -> tuple[int, Any] | None:
        return None

    def add_value(self, accumulator: tuple[int, Any] | None, value: Any) -> Any:
        return self.merge_accumulators([accumulator, value])

    def merge_accumulators(self, accumulators: Iterable[tuple[int, Any] | None]) -> Any:
        found = [(part[0], order(part[1]), part[1]) for part in accumulators if part is not None]
        if not found:
            return None
        time, _, value = (max if self.latest else min)(found, key=lambda triple: triple[:2])
        return time, value

    def extract_output(self, accumulator: tuple[int, Any] | None) -> Any:
        return None if accumulator is None else accumulator[1]


class First(_ByTime):
    """The value of the earliest event time; null of nothing. Of several at that time, the least."""

    latest = False


class Last(_ByTime):
    """The value of the latest event time; null of nothing. Of several at that time, the greatest."""

    latest = True


class TopK(AggregateFn):
    """A list of the `k` greatest values, the greatest first; with `reverse` of the least, the least first."""

    def __init__(self, column: ColumnLike, k: int, *, reverse: bool = False) -> None:
        super().__init__(column)
        if k < 1:
            raise PipelineError(f"TopK needs k of 1 or more, got {k}.")
        self.k, self.reverse = k, reverse

    def partial(self, out: str) -> Sequence[pl.Expr]:
        return [self._best(self.expr.drop_nulls()).alias(out)]

    def single(self, out: str) -> Sequence[pl.Expr]:
        return [listed(self.expr, self.expr.is_not_null()).alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        return [self._best(gathered(out))]

    def _best(self, values: pl.Expr) -> pl.Expr:
        return values.sort(descending=not self.reverse).head(self.k)

    def create_accumulator(self) -> list[Any]:
        return []

    def add_value(self, accumulator: list[Any], value: Any) -> list[Any]:
        return self.merge_accumulators([accumulator, [value]])

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        choose = heapq.nsmallest if self.reverse else heapq.nlargest
        return choose(self.k, chain.from_iterable(accumulators), key=order)

    def __repr__(self) -> str:
        return f"TopK({self.column}, {self.k}, reverse={self.reverse})"


class CollectList(Timed):
    """A list of all values, in the order of their event times."""

    def partial(self, out: str) -> Sequence[pl.Expr]:
        return [self._pairs().filter(self.expr.is_not_null()).alias(out)]

    def single(self, out: str) -> Sequence[pl.Expr]:
        return [listed(self._pairs(), self.expr.is_not_null()).alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        return [gathered(out)]

    def final(self, out: str) -> pl.Expr:
        return pl.col(out).list.eval(pl.element().sort().struct.field(_VALUE))

    def _pairs(self) -> pl.Expr:
        return pl.struct(pl.col(TIME).alias(_AT), self.expr.alias(_VALUE))

    def create_accumulator(self) -> list[tuple[int, Any]]:
        return []

    def add_value(self, accumulator: list[tuple[int, Any]], value: Any) -> list[tuple[int, Any]]:
        accumulator.append(value)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list[tuple[int, Any]]]) -> list[tuple[int, Any]]:
        return list(chain.from_iterable(accumulators))

    def extract_output(self, accumulator: list[tuple[int, Any]]) -> list[Any]:
        return [value for _, value in sorted(accumulator, key=lambda pair: (pair[0], order(pair[1])))]


class CollectSet(AggregateFn):
    """A list of the different values, in their order."""

    def partial(self, out: str) -> Sequence[pl.Expr]:
        return [self.expr.drop_nulls().unique().alias(out)]

    def single(self, out: str) -> Sequence[pl.Expr]:
        return [listed(self.expr, self.expr.is_not_null()).alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        return [gathered(out).unique()]

    def final(self, out: str) -> pl.Expr:
        return pl.col(out).list.sort()

    def create_accumulator(self) -> set[Any]:
        return set()

    def add_value(self, accumulator: set[Any], value: Any) -> set[Any]:
        # One NaN for all: others would not be equal to it.
        accumulator.add(math.nan if value != value else value)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[set[Any]]) -> set[Any]:
        merged = self.create_accumulator()
        for value in chain.from_iterable(accumulators):
            self.add_value(merged, value)
        return merged

    def extract_output(self, accumulator: set[Any]) -> list[Any]:
        return sorted(accumulator, key=order)


class CollectMap(Timed):
    """A list of `{key, value}` in the order of the keys, for columns have no dicts: of each key the value of the latest
    event time; of several at that time, the greatest. Events without a key or a value are skipped."""

    def __init__(self, key: ColumnLike, column: ColumnLike) -> None:
        super().__init__(column)
        self.key, self.key_expr = key, row_expression(key)

    def partial(self, out: str) -> Sequence[pl.Expr]:
        return [self._newest(self._entries().filter(self._present())).alias(out)]

    def single(self, out: str) -> Sequence[pl.Expr]:
        return [listed(self._entries(), self._present()).alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        return [self._newest(gathered(out))]

    def final(self, out: str) -> pl.Expr:
        entry = pl.element()
        return pl.col(out).list.eval(pl.struct(entry.struct.field(_KEY), entry.struct.field(_VALUE)))

    def _present(self) -> pl.Expr:
        return self.key_expr.is_not_null() & self.expr.is_not_null()

    def _entries(self) -> pl.Expr:
        return pl.struct(self.key_expr.alias(_KEY), pl.col(TIME).alias(_AT), self.expr.alias(_VALUE))

    def _newest(self, entries: pl.Expr) -> pl.Expr:
        ordered = entries.sort()
        key = ordered.struct.field(_KEY)
        return ordered.filter((key != key.shift(-1)).fill_null(True))

    def value(self, row: dict[str, Any]) -> Any:
        timed = super().value(row)
        key = row[self.key] if isinstance(self.key, str) else pl.DataFrame([row]).select(self.key_expr).item()
        return None if timed is None or key is None else (key, *timed)

    def create_accumulator(self) -> dict[Any, tuple[int, Any]]:
        return {}

    def add_value(self, accumulator: dict[Any, tuple[int, Any]], value: Any) -> dict[Any, tuple[int, Any]]:
        key, time, newer = value
        known = accumulator.get(key)
        if known is None or (time, order(newer)) > (known[0], order(known[1])):
            accumulator[key] = time, newer
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[Any, tuple[int, Any]]]) -> dict[Any, tuple[int, Any]]:
        merged = self.create_accumulator()
        for part in accumulators:
            for key, (time, value) in part.items():
                self.add_value(merged, (key, time, value))
        return merged

    def extract_output(self, accumulator: dict[Any, tuple[int, Any]]) -> list[dict[str, Any]]:
        return [{_KEY: key, _VALUE: accumulator[key][1]} for key in sorted(accumulator, key=order)]

    def __repr__(self) -> str:
        return f"CollectMap({self.key}, {self.column})"
