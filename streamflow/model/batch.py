"""The batch: the only thing that moves inside the engine. A frame of columns, or a list of Python values, with event
times.

Both forms have a value, an event time, the source offset (for dead letters) and perhaps a window per event. A frame
holds these as `_time`, `_offset`, `_wstart`, `_wend`; Python values that cross a log are pickled into the one column
`_value`.
"""

import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from streamflow.base.errors import DataError
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START, IntervalWindow

OFFSET = "_offset"
PANE = "_pane"
VALUE = "_value"
RESERVED = (TIME, OFFSET, WINDOW_START, WINDOW_END, PANE)


@dataclass(slots=True)
class Elements:
    """Python values, index by index with their event time (µs), source offset, and window if assigned."""

    values: list[Any] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    windows: list[IntervalWindow] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def append(self, value: Any, time_us: int, offset: int, window: IntervalWindow | None) -> None:
        self.values.append(value)
        self.times.append(time_us)
        self.offsets.append(offset)
        if window is not None:
            if self.windows is None:
                self.windows = []
            self.windows.append(window)

    def window(self, index: int) -> IntervalWindow | None:
        return None if self.windows is None else self.windows[index]


Batch = pl.DataFrame | Elements
OnBad = Callable[[Any, int, Exception], None]
"""Told of each event that can't go on: its value, its source offset, why."""


def to_elements(batch: Batch) -> Elements:
    """Rows as dicts of the public columns, or the pickled values."""
    if isinstance(batch, Elements):
        return batch
    windows = None
    if WINDOW_START in batch.columns:
        pairs = zip(batch[WINDOW_START].to_list(), batch[WINDOW_END].to_list(), strict=True)
        windows = [IntervalWindow(start, end) for start, end in pairs]
    times = batch[TIME].to_list()
    offsets = batch[OFFSET].to_list() if OFFSET in batch.columns else [-1] * len(times)
    if VALUE in batch.columns:
        values = [pickle.loads(value) for value in batch[VALUE].to_list()]
    else:
        values = public(batch).to_dicts()
    return Elements(values, times, offsets, windows)


def tell(batch: Batch, on_bad: OnBad, error: Exception) -> None:
    """Every event of the batch is bad, for one reason."""
    elements = to_elements(batch)
    for value, offset in zip(elements.values, elements.offsets, strict=True):
        on_bad(value, offset, error)


def to_frame(batch: Batch, on_bad: OnBad, columns: Mapping[str, pl.DataType] | None = None) -> pl.DataFrame:
    """Dicts as columns. What is no dict, or does not fit the types of the others, is told to `on_bad` and left out."""
    if isinstance(batch, pl.DataFrame):
        return batch if VALUE not in batch.columns else to_frame(to_elements(batch), on_bad, columns)
    keep = [i for i, value in enumerate(batch.values) if isinstance(value, Mapping)]
    if len(keep) < len(batch):
        for i in set(range(len(batch))) - set(keep):
            kind = type(batch.values[i]).__name__
            on_bad(batch.values[i], batch.offsets[i], DataError(f"columns need a dict per element, got {kind}."))
    try:
        frame = _from_dicts([batch.values[i] for i in keep], columns)
    except (pl.exceptions.PolarsError, TypeError, OverflowError):
        frame, keep = _row_by_row(batch, keep, on_bad, columns)
    extra = {TIME: [batch.times[i] for i in keep], OFFSET: [batch.offsets[i] for i in keep]}
    if batch.windows is not None:
        extra[WINDOW_START] = [batch.windows[i].start_us for i in keep]
        extra[WINDOW_END] = [batch.windows[i].end_us for i in keep]
    reserved = pl.DataFrame(extra, schema=dict.fromkeys(extra, pl.Int64))
    return pl.concat([frame, reserved], how="horizontal") if frame.width else reserved


def pickled(batch: Elements) -> pl.DataFrame:
    """Python values as a frame that can cross a log."""
    data: dict[str, Sequence[Any]] = {
        TIME: batch.times,
        OFFSET: batch.offsets,
        VALUE: [pickle.dumps(value, protocol=5) for value in batch.values],
    }
    schema: dict[str, Any] = {TIME: pl.Int64, OFFSET: pl.Int64, VALUE: pl.Binary}
    if batch.windows is not None:
        data[WINDOW_START] = [window.start_us for window in batch.windows]
        data[WINDOW_END] = [window.end_us for window in batch.windows]
        schema |= {WINDOW_START: pl.Int64, WINDOW_END: pl.Int64}
    return pl.DataFrame(data, schema=schema)


def public(frame: pl.DataFrame) -> pl.DataFrame:
    """Without the engine's own columns."""
    return frame.select([name for name in frame.columns if not name.startswith("_")])


def _from_dicts(rows: list[Any], columns: Mapping[str, pl.DataType] | None) -> pl.DataFrame:
    if not rows:
        return pl.DataFrame(schema=dict(columns or {}))
    frame = pl.DataFrame(rows, infer_schema_length=None, strict=True)
    return frame.rename({name: name.lstrip("_") for name in frame.columns if name.startswith("_")})


def _row_by_row(
    batch: Elements, keep: list[int], on_bad: OnBad, columns: Mapping[str, pl.DataType] | None
) -> tuple[pl.DataFrame, list[int]]:
    """The slow way: the first row that can be a row decides the types, later ones that differ are bad."""
    good: list[int] = []
    frames: list[pl.DataFrame] = []
    for i in keep:
        try:
            row = _from_dicts([batch.values[i]], columns)
            frames.append(pl.concat([frames[0].clear(), row], how="diagonal") if frames else row)
            good.append(i)
        except (pl.exceptions.PolarsError, TypeError, OverflowError) as error:
            on_bad(batch.values[i], batch.offsets[i], error)
    return (pl.concat(frames, how="diagonal") if frames else _from_dicts([], columns)), good
