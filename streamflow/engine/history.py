"""What a grouping's step has to tell of its panes, for `streamflow why`: which input rows came, and which were late or
dropped; which panes fired. Only where panes are to be explained (`Settings.explain_panes`).

A partial then carries its input rows (`_rows`: where each was read, and its event time) across the shuffle. The head
behind it tells the recorder of the step what becomes of them, in the order in which it happens; state holds nothing of
it:

    if context.panes is not None:                                            # off: nothing is told, nothing carried
        context.panes.came(combiner.key_texts(frame), frame, kinds)          # a frame of partials, all at once
        context.panes.fired(combiner.key_texts(frame), panes, watermark_us)  # a frame of panes
        context.panes.row_came(key, window, row, kind, watermark_us)         # or one row after the other
        context.panes.pane_fired(key, window, pane, events, watermark_us)
    frames = map(without_rows, frames)                                       # always

What was told is one frame (`model/history.py`), written to a log of the stage's own in the step's commit: it exists
if and only if the step does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from streamflow.model.batch import OFFSET
from streamflow.model.history import ENTRY, Kind
from streamflow.model.panes import PaneInfo
from streamflow.model.time import MAX_US
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START, IntervalWindow

ROWS = "_rows"
_ROW = {"topic": pl.String(), "partition": pl.Int64(), "offset": pl.Int64(), "time_us": pl.Int64()}
ROWS_TYPE = pl.List(pl.Struct(_ROW))
_PANE = ("pane", "timing", "is_last", "events")

InputRow = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a stage's events were read. `has_offsets`: the number of an event is its offset there, which of files it is
    not."""

    topic: str
    partition: int
    has_offsets: bool = True

    def columns(self, frame: pl.LazyFrame) -> pl.Expr:
        """A struct for each event of the frame. Results of an earlier grouping have no offset: -1."""
        known = self.has_offsets and OFFSET in frame.collect_schema()
        values = (pl.lit(self.topic), pl.lit(self.partition), pl.col(OFFSET) if known else pl.lit(-1), pl.col(TIME))
        named = (value.cast(dtype).alias(name) for value, (name, dtype) in zip(values, _ROW.items(), strict=True))
        return pl.struct(*named).alias(ROWS)

    def row(self, offset: int, time_us: int) -> InputRow:
        known = offset if self.has_offsets else -1
        return {"topic": self.topic, "partition": self.partition, "offset": known, "time_us": time_us}


def without_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """What a head goes on with: also partials written while panes were to be explained may come later."""
    return frame.drop(ROWS) if ROWS in frame.columns else frame


class PaneRecorder:
    """Of one step. `watermark_us`: before it; `now_us`: its wall time."""

    def __init__(self, watermark_us: int, now_us: int) -> None:
        self.watermark_us, self._now_us = watermark_us, now_us
        self._frames: list[pl.DataFrame] = []
        self._singles: list[dict[str, Any]] = []

    def came(self, keys: Sequence[str], partials: pl.DataFrame, kind: pl.Expr) -> None:
        """Partials with their input rows have come. `keys`: as text, one for each; `kind`: of each."""
        if ROWS not in partials.columns:
            return
        entries = partials.select(pl.Series("key", keys, pl.String), *_BOUNDS, kind.alias("kind"), ROWS)
        self._add(entries.explode(ROWS).unnest(ROWS), self.watermark_us)

    def fired(self, keys: Sequence[str], panes: pl.DataFrame, watermark_us: int) -> None:
        """Panes have fired. `panes`: windows, and `pane`, `timing`, `is_last`, `events` of each."""
        kind = pl.lit(Kind.PANE.value).alias("kind")
        self._add(panes.select(pl.Series("key", keys, pl.String), *_BOUNDS, kind, *_PANE), watermark_us)

    def row_came(self, key: str, window: IntervalWindow, row: InputRow, kind: Kind, watermark_us: int) -> None:
        """The same for a single row, in the window of which it became part."""
        self._single(key, window, kind, watermark_us, row)

    def pane_fired(self, key: str, window: IntervalWindow, pane: PaneInfo, events: int, watermark_us: int) -> None:
        values = (pane.index, pane.timing.name, pane.is_last, events)
        self._single(key, window, Kind.PANE, watermark_us, dict(zip(_PANE, values, strict=True)))

    def entries(self) -> pl.DataFrame | None:
        """All that was told, in order, with `_time`: the last instant of the window. None if nothing was."""
        self._flush()
        if not self._frames:
            return None
        last = (pl.col("end_us").clip(upper_bound=MAX_US) - 1).alias(TIME)
        return pl.concat(self._frames, how="vertical").with_columns(last)

    def _single(
        self, key: str, window: IntervalWindow, kind: Kind, watermark_us: int, values: Mapping[str, Any]
    ) -> None:
        place = {"key": key, "start_us": window.start_us, "end_us": window.end_us, "kind": kind.value}
        self._singles.append({**place, "watermark_us": watermark_us, "now_us": self._now_us, **values})

    def _flush(self) -> None:
        if self._singles:
            self._frames.append(pl.DataFrame(self._singles, schema=ENTRY))
            self._singles = []

    def _add(self, entries: pl.DataFrame, watermark_us: int) -> None:
        self._flush()
        at = (pl.lit(watermark_us).alias("watermark_us"), pl.lit(self._now_us).alias("now_us"))
        absent = (
            pl.lit(None).alias(name) for name in ENTRY if name not in (*entries.columns, "watermark_us", "now_us")
        )
        whole = entries.with_columns(*at, *absent)
        self._frames.append(whole.select(pl.col(name).cast(dtype) for name, dtype in ENTRY.items()))


_BOUNDS = (pl.col(WINDOW_START).alias("start_us"), pl.col(WINDOW_END).alias("end_us"))
