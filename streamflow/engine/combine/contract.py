"""What both ways to combine keep to: a *partial* frame has the group's key columns, its window, the accumulators, and
`_n`, the events behind them. Where panes fire, `_ontime` and `_late` number them (`streamflow/engine/state.py`).
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import polars as pl

from streamflow.model.batch import PANE_INFO, Batch, OnBad
from streamflow.model.panes import PaneInfoTiming
from streamflow.model.time import EVENT_MAX_US, EVENT_MIN_US, MAX_US, Timestamp
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START, IntervalWindow
from streamflow.model.windowing import Windowing
from streamflow.transforms.combine import WINDOW_COLUMNS

EVENTS = "_n"
ON_TIME = "_ontime"
LATE = "_late"
KEY = "_key"
KEY_VALUE = "_keyvalue"
ACCUMULATOR = "_acc"

WINDOW_ROWS_MIN = 5_000
"""Windows of fewer rows are not worth a query of their own."""

RESULT_TIME = (pl.col(WINDOW_END).clip(upper_bound=MAX_US) - 1).alias(TIME)
"""The last instant of the window. A result of the global window may be windowed again, beyond the end of time."""


def result_time(end_us: int) -> int:
    """The same of one window."""
    return min(end_us, MAX_US) - 1


class Combiner(Protocol):
    @property
    def keys(self) -> Sequence[str]:
        """The columns that name a group, besides its window."""

    def key_texts(self, frame: pl.DataFrame) -> list[str]:
        """The key of each partial, for people (`key_text`); empty where all is one group."""

    def partial(self, batch: Batch, on_bad: OnBad) -> pl.DataFrame:
        """One row per group and window of the batch."""

    def merge(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of equal key and window become one; `_n` and `_late` add up, `_ontime` is the greater."""

    def final(self, frame: pl.DataFrame, on_bad: OnBad) -> Batch:
        """Merged partials as results, timed at the end of their window. A group without a result is told to
        `on_bad`: its key, without an offset."""

    def late(self, frame: pl.DataFrame, on_bad: OnBad) -> Batch:
        """Partials that came too late for their windows, as records for a topic: the results for these events alone,
        with their windows and how many they are."""

    def empty(self) -> Batch | None:
        """The result for an input without any event, if there is one."""

    def close(self) -> None:
        """Lets go of what it combines with."""


PANE_INDEX = pl.col(ON_TIME) + pl.col(LATE) - 1
PANE_INFO_PACKED = (
    (PANE_INDEX + 1) * (1 << 4)
    + pl.when(pl.col(LATE) > 0).then(PaneInfoTiming.LATE.value << 2).otherwise(PaneInfoTiming.ON_TIME.value << 2)
    + (PANE_INDEX == 0).cast(pl.Int64)
).alias(PANE_INFO)
"""As `PaneInfo.packed` has it. Where lateness is allowed there may always be another pane."""


def pane_columns(windowing: Windowing) -> list[pl.Expr]:
    """Of merged partials that fire: what a pane's history says of each."""
    timing = pl.when(pl.col(LATE) > 0).then(pl.lit("LATE")).otherwise(pl.lit("ON_TIME"))
    is_last = pl.lit(not windowing.allowed_lateness_us)
    return [PANE_INDEX.alias("pane"), timing.alias("timing"), is_last.alias("is_last"), pl.col(EVENTS).alias("events")]


def merge_flags(frame: pl.DataFrame) -> list[pl.Expr]:
    """Within a key and window start, all that is merged besides the accumulators."""
    merges = [pl.col(WINDOW_END).first(), pl.col(EVENTS).sum()]
    if ON_TIME in frame.columns:
        merges += [pl.col(ON_TIME).max(), pl.col(LATE).sum()]
    return merges


def windows_apart(frame: pl.DataFrame, rows_min: int) -> list[pl.DataFrame]:
    """Frames of one window each, unless these would have fewer rows than that on average: then the frame as it is."""
    if of_one_window(frame) or frame[WINDOW_START].n_unique() > frame.height // rows_min:
        return [frame]
    return frame.partition_by(WINDOW_START, maintain_order=False)


def of_one_window(frame: pl.DataFrame) -> bool:
    starts = frame[WINDOW_START]
    return bool(starts.min() == starts.max())


def window_bounds(window: IntervalWindow) -> dict[str, datetime | None]:
    """As columns of a result."""
    return dict(zip(WINDOW_COLUMNS, map(_datetime, (window.start_us, window.end_us)), strict=True))


def _datetime(time_us: int) -> datetime | None:
    """Null for what no datetime can be: windows at the beginning of time, where values of Create are by default."""
    return Timestamp(micros=time_us).as_datetime() if EVENT_MIN_US <= time_us <= EVENT_MAX_US else None
