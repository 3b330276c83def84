"""Combining on columns: an Aggregate's expressions, as queries over whole frames."""

import polars as pl

from streamflow.base.errors import DataError
from streamflow.engine.combine.contract import (
    EVENTS,
    LATE,
    ON_TIME,
    PANE_INDEX,
    PANE_INFO_PACKED,
    RESULT_TIME,
    WINDOW_ROWS_MIN,
    merge_flags,
    of_one_window,
    windows_apart,
)
from streamflow.engine.combine.pre_aggregation import PreAggregation
from streamflow.engine.history import ROWS, Origin
from streamflow.model.aggregates import misfit
from streamflow.model.batch import PANE, Batch, OnBad, to_frame
from streamflow.model.keys import key_text
from streamflow.model.time import EVENT_MAX_US, EVENT_MIN_US
from streamflow.model.window import WINDOW_END, WINDOW_START
from streamflow.model.windowing import Windowing
from streamflow.transforms.combine import LATE_EVENTS, WINDOW_COLUMNS, Aggregate

_ROWS_CACHED_MAX = 50_000
"""From here on a table of all groups no longer fits the processor's cache: a window at a time takes half as long."""

_UTC = pl.Datetime("us", "UTC")


class ColumnCombiner:
    """Aggregate on columns: three group-bys."""

    def __init__(
        self,
        transform: Aggregate,
        windowing: Windowing,
        pre_aggregation: PreAggregation | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.transform, self.windowing, self.origin = transform, windowing, origin
        self.pre_aggregation = pre_aggregation or PreAggregation()
        self.keys = transform.keys
        self._partial = [e for name, fn in transform.aggregates.items() for e in fn.partial(name)]
        self._single = [e for name, fn in transform.aggregates.items() for e in fn.single(name)]
        self.merges = [e for name, fn in transform.aggregates.items() for e in fn.merge(name)]
        """Of accumulators, within a group."""
        self._final = [fn.final(name) for name, fn in transform.aggregates.items()]

    def key_texts(self, frame: pl.DataFrame) -> list[str]:
        if len(self.keys) == 1:
            return list(map(key_text, frame[self.keys[0]].to_list()))
        return list(map(key_text, frame.select(self.keys).rows())) if self.keys else [""] * frame.height

    def close(self) -> None:
        """There is nothing to let go of."""

    def partial_frame(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The partial step as a query, to be fused with the expressions before it. Events of sessions stay single: each
        may be too late for a session that another one is not too late for."""
        windowed = frame if self.windowing.assigned else self.windowing.fn.assign_columns(frame)
        named = [by.alias(key) for by, key in zip(self.transform.by, self.keys, strict=True)]
        rows = [] if self.origin is None else [self.origin.columns(windowed)]
        if self.windowing.is_merging or not self.pre_aggregation.worthwhile:
            one = pl.lit(1, pl.Int64).alias(EVENTS)
            alone = [pl.concat_list(row).alias(ROWS) for row in rows]
            return windowed.select(*named, WINDOW_START, WINDOW_END, one, *self._single, *alone, RESULT_TIME)
        grouped = windowed.group_by([*named, WINDOW_START]).agg(
            pl.col(WINDOW_END).first(), pl.len().cast(pl.Int64).alias(EVENTS), *self._partial, *rows
        )
        return grouped.with_columns(RESULT_TIME)

    def partial(self, batch: Batch, on_bad: OnBad) -> pl.DataFrame:
        return self.partial_frame(to_frame(batch, on_bad).lazy()).collect()

    def explained(self, frame: pl.LazyFrame, error: Exception) -> Exception:
        """Why `partial_frame` can't work on the columns of such a frame; the error as it is if that is unknown."""
        said = misfit(self.transform.aggregates, frame.collect_schema())
        return error if said is None else DataError(said)

    def merge(self, frame: pl.DataFrame) -> pl.DataFrame:
        if frame.height < _ROWS_CACHED_MAX:
            return self._merged(frame)
        return pl.concat([self._merged(part) for part in windows_apart(frame, WINDOW_ROWS_MIN)])

    def _merged(self, frame: pl.DataFrame) -> pl.DataFrame:
        flags = merge_flags(frame)
        if self.keys and of_one_window(frame):  # a key less takes a fifth less
            return frame.group_by(self.keys).agg(pl.col(WINDOW_START).first(), *flags, *self.merges)
        return frame.group_by([*self.keys, WINDOW_START]).agg(*flags, *self.merges)

    def final(self, frame: pl.DataFrame, on_bad: OnBad) -> Batch:
        public = [
            pl.when(pl.col(bound).is_between(EVENT_MIN_US, EVENT_MAX_US)).then(pl.col(bound)).cast(_UTC).alias(name)
            for bound, name in zip((WINDOW_START, WINDOW_END), WINDOW_COLUMNS, strict=True)
        ]
        return frame.select(
            *self.keys,
            *([] if self.windowing.is_global else public),
            *self._final,
            RESULT_TIME,
            WINDOW_START,
            WINDOW_END,
            PANE_INDEX.alias(PANE),
            *([PANE_INFO_PACKED] if self.windowing.allowed_lateness_us else []),
        )

    def late(self, frame: pl.DataFrame, on_bad: OnBad) -> Batch:
        merged = self.merge(frame).with_columns(pl.lit(1).alias(ON_TIME), pl.lit(0).alias(LATE))
        results = self.final(merged, on_bad)
        assert isinstance(results, pl.DataFrame)
        return results.with_columns(merged[EVENTS].alias(LATE_EVENTS))

    def empty(self) -> Batch | None:
        return None
