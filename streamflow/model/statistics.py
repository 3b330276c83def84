"""Aggregates that sum up numbers: Variance, StdDev, and two that are near the truth in bounded space, ApproxDistinct
and Quantiles. For what is the base of all, see `aggregates`.

Both sketches depend on nothing but which values there are: any split, any order and any merging give the same answer,
which sketches that toss coins or keep samples do not.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.aggregates import AggregateFn, ColumnLike
from streamflow.model.collecting import gathered, listed
from streamflow.model.sketches import HASHES, distinct_of

_DISTINCT_SEED = 2
"""Another one than those by which keys are spread: of the hashes of one task's keys, bits are always the same."""

_Moments = tuple[int, float, float]
"""How many, their mean, the sum of squared distances from it."""


class Variance(AggregateFn):
    """The variance; null of fewer than `ddof` + 1 values. `ddof` 1 is that of a sample, 0 of all there are.

    Partials are merged by means and sums of squared distances from them (Chan, Golub and LeVeque, 1979), which does not
    lose digits where the mean is large."""

    def __init__(self, column: ColumnLike, *, ddof: int = 1) -> None:
        super().__init__(column)
        self.ddof = ddof

    def partial(self, out: str) -> Sequence[pl.Expr]:
        value = self.expr.cast(pl.Float64)
        squares = ((value - value.mean()) ** 2).sum()
        return [
            value.count().cast(pl.Int64).alias(f"{out}.count"),
            value.mean().alias(f"{out}.mean"),
            squares.alias(out),
        ]

    def single(self, out: str) -> Sequence[pl.Expr]:
        value = self.expr.cast(pl.Float64)
        present = self.expr.is_not_null().cast(pl.Int64)
        return [present.alias(f"{out}.count"), value.alias(f"{out}.mean"), (value - value).fill_null(0.0).alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        count, mean, squares = pl.col(f"{out}.count"), pl.col(f"{out}.mean"), pl.col(out)
        together = pl.when(count.sum() > 0).then((count * mean).sum() / count.sum())
        return [
            count.sum(),
            together.alias(f"{out}.mean"),
            (squares.sum() + (count * (mean - together) ** 2).sum()).alias(out),
        ]

    def final(self, out: str) -> pl.Expr:
        count = pl.col(f"{out}.count")
        return pl.when(count > self.ddof).then(pl.col(out) / (count - self.ddof)).alias(out)

    def create_accumulator(self) -> _Moments:
        return 0, 0.0, 0.0

    def add_value(self, accumulator: _Moments, value: Any) -> _Moments:
        return self.merge_accumulators([accumulator, (1, float(value), 0.0)])

    def merge_accumulators(self, accumulators: Iterable[_Moments]) -> _Moments:
        parts = [part for part in accumulators if part[0]]
        count = sum(n for n, _, _ in parts)
        if not count:
            return self.create_accumulator()
        mean = sum(n * mean for n, mean, _ in parts) / count
        return count, mean, sum(squares + n * (of - mean) ** 2 for n, of, squares in parts)

    def extract_output(self, accumulator: _Moments) -> float | None:
        count, _, squares = accumulator
        return squares / (count - self.ddof) if count > self.ddof else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.column}, ddof={self.ddof})"


class StdDev(Variance):
    """The standard deviation: the square root of the variance."""

    def final(self, out: str) -> pl.Expr:
        return super().final(out).sqrt()

    def extract_output(self, accumulator: _Moments) -> float | None:
        variance = super().extract_output(accumulator)
        return None if variance is None else math.sqrt(variance)


class ApproxDistinct(AggregateFn):
    """How many different values: exact below `size` of them, beyond it with a standard error of 1/√size (2.2% by
    default), in 8 bytes × `size` at most.

    How: see ApproximateUniqueCombineFn."""

    def __init__(self, column: ColumnLike, *, size: int = 2048) -> None:
        super().__init__(column)
        if size < 16:
            raise PipelineError(f"ApproxDistinct needs a size of 16 or more, got {size}. Its error is about 1/√size.")
        self.size = size

    def partial(self, out: str) -> Sequence[pl.Expr]:
        return [self._least(self.expr.drop_nulls().hash(_DISTINCT_SEED)).alias(out)]

    def single(self, out: str) -> Sequence[pl.Expr]:
        return [listed(self.expr.hash(_DISTINCT_SEED), self.expr.is_not_null()).alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        return [self._least(gathered(out))]

    def _least(self, hashes: pl.Expr) -> pl.Expr:
        return hashes.unique().sort().head(self.size)

    def final(self, out: str) -> pl.Expr:
        kept = pl.col(out).list.len().cast(pl.Int64)
        last = pl.col(out).list.last().cast(pl.Float64)
        estimate = ((self.size - 1) / (last / HASHES)).cast(pl.Int64)
        return pl.when(kept < self.size).then(kept).otherwise(estimate).alias(out)

    def create_accumulator(self) -> set[int]:
        return set()

    def add_value(self, accumulator: set[int], value: Any) -> set[int]:
        accumulator.add(pl.Series([value]).hash(_DISTINCT_SEED)[0])
        return self.compact(accumulator) if len(accumulator) > 2 * self.size else accumulator

    def merge_accumulators(self, accumulators: Iterable[set[int]]) -> set[int]:
        return self.compact(set[int]().union(*accumulators))

    def compact(self, accumulator: set[int], *args: Any, **kwargs: Any) -> set[int]:
        return set(sorted(accumulator)[: self.size])

    def extract_output(self, accumulator: set[int]) -> int:
        return distinct_of(self.compact(accumulator), self.size)

    def __repr__(self) -> str:
        return f"ApproxDistinct({self.column}, size={self.size})"


class Quantiles(AggregateFn):
    """The value below or at which `q` of all values lie (0 to 1; 0.5 is the median), as a list for several `q`; null of
    nothing.

    Values are rounded to `digits` significant digits first, and counted: whole numbers of up to that many digits are
    exact, others off by 0.5% at most with 3. NaN does not count."""

    def __init__(self, column: ColumnLike, q: float | Sequence[float], *, digits: int = 3) -> None:
        super().__init__(column)
        self.q, self.digits = q, digits
        self.several = [q] if isinstance(q, (int, float)) else list(q)
        if not self.several or not all(0 <= each <= 1 for each in self.several):
            raise PipelineError(f"Quantiles needs numbers from 0 to 1, got {q}. The median is 0.5.")
        if not 1 <= digits <= 15:
            raise PipelineError(f"Quantiles needs 1 to 15 digits, got {digits}.")

    def partial(self, out: str) -> Sequence[pl.Expr]:
        runs = self._rounded().drop_nulls().drop_nans().sort().rle()
        return [self._pairs(runs.struct.field("value"), runs.struct.field("len")).alias(out)]

    def single(self, out: str) -> Sequence[pl.Expr]:
        value = self._rounded()
        return [listed(self._pairs(value, pl.lit(1)), value.is_not_null() & value.is_not_nan()).alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        value, count = gathered(out).struct.field("value"), gathered(out).struct.field("count")
        ordered, below = value.sort_by(value), count.sort_by(value).cum_sum()
        last = (ordered != ordered.shift(-1)).fill_null(True)
        counts = below.filter(last) - below.filter(last).shift(1, fill_value=0)
        return [self._pairs(ordered.filter(last), counts).alias(out)]

    def final(self, out: str) -> pl.Expr:
        value, below = pl.element().struct.field("value"), pl.element().struct.field("count").cum_sum()
        found = [value.filter(below >= (below.last() * q - _TIE).ceil().clip(1)).first() for q in self.several]
        if isinstance(self.q, (int, float)):
            return pl.col(out).list.eval(found[0]).list.first()
        whole = pl.concat_list(pl.col(out).list.eval(each).list.first() for each in found)
        return pl.when(pl.col(out).list.len() > 0).then(whole).alias(out)

    def _rounded(self) -> pl.Expr:
        # Added to 0, -0 becomes 0.
        return self.expr.cast(pl.Float64).round_sig_figs(self.digits) + 0.0

    def _pairs(self, value: pl.Expr, count: pl.Expr) -> pl.Expr:
        return pl.struct(value.alias("value"), count.cast(pl.Int64).alias("count"))

    def create_accumulator(self) -> Counter[float]:
        return Counter()

    def add_value(self, accumulator: Counter[float], value: Any) -> Counter[float]:
        rounded = pl.Series([float(value)]).round_sig_figs(self.digits)[0] + 0.0
        if rounded == rounded:
            accumulator[rounded] += 1
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Counter[float]]) -> Counter[float]:
        merged = self.create_accumulator()
        for part in accumulators:
            merged.update(part)
        return merged

    def extract_output(self, accumulator: Counter[float]) -> Any:
        values = sorted(accumulator)
        below = list(accumulate(accumulator[value] for value in values))
        if not values:
            return None
        ranks = [max(1, math.ceil(below[-1] * q - _TIE)) for q in self.several]
        found = [next(value for value, n in zip(values, below, strict=True) if n >= rank) for rank in ranks]
        return found[0] if isinstance(self.q, (int, float)) else found

    def __repr__(self) -> str:
        return f"Quantiles({self.column}, {self.q}, digits={self.digits})"


_TIE = 1e-9
"""So that 0.7 of ten values are seven of them, although 0.7 × 10 is a little more in floating point."""
