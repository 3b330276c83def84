"""Sample: some of the values of a group, chosen by chance. For what is the base of all aggregates, see `aggregates`.

What is chosen must not depend on how events fell into batches, on their order or on the path they take, so all chance
is in a hash of what the group has in the end. A state of `n` values can't do that: where a value occurs again after it
was left out, nobody would know how often it had been there. So it is what Quantiles keep, each value and how often.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.aggregates import ColumnLike
from streamflow.model.collecting import Timed, gathered, listed, order
from streamflow.model.sketches import HASHES
from streamflow.model.window import TIME

_VALUE, _COUNT, _TIMES = "value", "count", "times"
_TIMES_BELOW = (1 << 31) - 1
"""Event times are added up modulo this, so that no group of fewer than four billion events overflows."""

_Runs = dict[Any, tuple[Any, int, int]]
"""Of each value: itself, how often it occurs, and the sum of its event times."""


class Sample(Timed):
    """A list of `n` values without replacement, each event with the same chance, in random order; all if there are
    fewer. Events without a value are skipped.

    The same events give the same sample, in whatever batches and order they come. `seed`: another one gives another
    sample. Event times count as chance too, so that equal values are sampled anew in each window. State: the different
    values of the group.

    How: give each event a number from an exponential distribution, and take the `n` least. Of a value that occurs `c`
    times the least numbers are drawn one after the other, each exponential at rate c, c - 1, … beyond the last (Rényi
    1953), from a hash of the seed, the value, its place among these and the group's event times: so a group costs `n`
    numbers for each of its values, not one for each event."""

    def __init__(self, column: ColumnLike, n: int, *, seed: int = 0) -> None:
        super().__init__(column)
        if n < 1:
            raise PipelineError(f"Sample needs n of 1 or more, got {n}.")
        self.n, self.seed = n, seed

    def partial(self, out: str) -> Sequence[pl.Expr]:
        present = self.expr.is_not_null()
        value, times = self.expr.filter(present), _times().filter(present)
        return [_runs(value, value.is_not_null().cast(pl.Int64), times).alias(out)]

    def single(self, out: str) -> Sequence[pl.Expr]:
        return [listed(_run(self.expr, pl.lit(1), _times()), self.expr.is_not_null()).alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        runs = gathered(out).struct
        return [_runs(runs.field(_VALUE), runs.field(_COUNT), runs.field(_TIMES)).alias(out)]

    def final(self, out: str) -> pl.Expr:
        return pl.col(out).list.eval(self._drawn(pl.element().struct))

    def _drawn(self, runs: Any) -> pl.Expr:
        """Of the runs of one group."""
        count, times = runs.field(_COUNT), runs.field(_TIMES)
        drawn = count.clip(upper_bound=self.n)

        def each(of_run: pl.Expr) -> pl.Expr:
            return of_run.repeat_by(drawn).explode()

        place = pl.int_ranges(0, drawn).explode()
        value = each(runs.field(_VALUE))
        chance = pl.struct(value.alias("0"), place.alias("1"), each(times.sum() + times * 0).alias("2")).hash(self.seed)
        exponential = -((chance.cast(pl.Float64) + 0.5) / (HASHES + 1)).log()
        step = exponential / (each(count) - place)
        summed = step.cum_sum()
        before_run = pl.when(place == 0).then(summed - step).forward_fill()
        return value.sort_by(summed - before_run).head(self.n)

    def create_accumulator(self) -> _Runs:
        return {}

    def add_value(self, accumulator: _Runs, value: Any) -> _Runs:
        time_us, of = value
        return _added(accumulator, of, 1, time_us % _TIMES_BELOW)

    def merge_accumulators(self, accumulators: Iterable[_Runs]) -> _Runs:
        merged = self.create_accumulator()
        for part in accumulators:
            for run in part.values():
                _added(merged, *run)
        return merged

    def extract_output(self, accumulator: _Runs) -> list[Any]:
        if not accumulator:
            return []
        runs_in_order = sorted(accumulator.values(), key=lambda run: order(run[0]))
        values, counts, times = map(list, zip(*runs_in_order, strict=True))
        runs = pl.DataFrame({_VALUE: values, _COUNT: counts, _TIMES: times}, strict=False).to_struct("runs")
        drawn: list[Any] = runs.implode().list.eval(self._drawn(pl.element().struct)).to_list()[0]
        return drawn

    def __repr__(self) -> str:
        return f"Sample({self.column}, {self.n}, seed={self.seed})"


def _times() -> pl.Expr:
    return pl.col(TIME) % _TIMES_BELOW


def _run(value: pl.Expr, count: pl.Expr, times: pl.Expr) -> pl.Expr:
    return pl.struct(value.alias(_VALUE), count.cast(pl.Int64).alias(_COUNT), times.cast(pl.Int64).alias(_TIMES))


def _runs(value: pl.Expr, count: pl.Expr, times: pl.Expr) -> pl.Expr:
    """Equal values become one."""
    ordered = value.sort_by(value)
    last = (ordered != ordered.shift(-1)).fill_null(True)

    def summed(of: pl.Expr) -> pl.Expr:
        below = of.sort_by(value).cum_sum().filter(last)
        return below - below.shift(1, fill_value=0)

    return _run(ordered.filter(last), summed(count), summed(times))


def _added(runs: _Runs, value: Any, count: int, times: int) -> _Runs:
    # One NaN for all: others would not be equal to it. What can't be a key goes by its text.
    key = repr(value) if isinstance(value, (dict, list)) else math.nan if value != value else value
    _, counted, summed = runs.get(key, (value, 0, 0))
    runs[key] = value, counted + count, summed + times
    return runs
