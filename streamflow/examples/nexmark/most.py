"""An aggregate of our own that runs on columns: not the greatest value, but the rows that have it."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import polars as pl

import streamflow as sf

Kept = tuple[Any, list[dict[str, Any]]]


class RowsOfMax(sf.AggregateFn):
    """All rows whose `column` is the greatest of the group, as a list of structs of the fields `keep`.

    Several rows may have it, and all are kept, so the answer never depends on the order of events. Rows without a value
    are skipped. A partial is the greatest value so far, and its rows.
    """

    def __init__(self, column: str, keep: Sequence[str]) -> None:
        super().__init__(column)
        self.name, self.keep = column, list(keep)

    def partial(self, out: str) -> Sequence[pl.Expr]:
        most = self.expr.max()
        return [most.alias(f"{out}.most"), pl.struct(self.keep).filter(self.expr == most).alias(out)]

    def single(self, out: str) -> Sequence[pl.Expr]:
        row = pl.concat_list(pl.struct(self.keep))
        return [self.expr.alias(f"{out}.most"), row.list.head(self.expr.is_not_null().cast(pl.Int64)).alias(out)]

    def merge(self, out: str) -> Sequence[pl.Expr]:
        most = pl.col(f"{out}.most")
        return [most.max(), pl.col(out).filter(most == most.max()).explode()]

    def create_accumulator(self) -> Kept:
        return None, []

    def value(self, row: dict[str, Any]) -> Kept | None:
        most = row[self.name]
        return None if most is None else (most, [{name: row[name] for name in self.keep}])

    def add_value(self, accumulator: Kept, value: Kept) -> Kept:
        return self.merge_accumulators([accumulator, value])

    def merge_accumulators(self, accumulators: Iterable[Kept]) -> Kept:
        most, rows = self.create_accumulator()
        for value, more in accumulators:
            if value is None or (most is not None and value < most):
                continue
            rows = rows + more if value == most else list(more)
            most = value
        return most, rows

    def extract_output(self, accumulator: Kept) -> list[dict[str, Any]]:
        return accumulator[1]

    def __repr__(self) -> str:
        return f"RowsOfMax({self.name}, {self.keep})"


class EachRow(sf.PTransform):
    """One row for each of those that `RowsOfMax` has put into the column `column`, with the start of its window.

    `fields`: what it kept, and their types.
    """

    def __init__(self, column: str, fields: dict[str, type]) -> None:
        self.column, self.fields = column, fields

    def expand(self, pcoll: sf.PCollection) -> sf.PCollection:
        def rows(group: dict[str, Any]) -> list[dict[str, Any]]:
            return [{**row, "window_start": group["window_start"]} for row in group[self.column]]

        each: sf.PCollection = pcoll | sf.FlatMap(rows) | sf.AsColumns({**self.fields, "window_start": datetime})
        return each
