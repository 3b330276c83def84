"""The batch: the only thing that moves inside the engine. A frame of columns, or a list of Python values, with event
times.

Both forms have a value, an event time, the source offset (for dead letters) and perhaps a window per event. A frame
holds these as `_time`, `_offset`, `_wstart`, `_wend`, and of a grouping's results `_pane` (the index) and, if there may
be several, `_paneinfo` (the rest of it); Python values that cross a log are pickled into the one column
`_value`.
"""

import pickle
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from streamflow.base.errors import DataError
from streamflow.model.panes import PANE_ONLY, PANE_UNKNOWN, PaneInfo
from streamflow.model.row import fields_of
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START, IntervalWindow

OFFSET = "_offset"
PANE = "_pane"
PANE_INFO = "_paneinfo"
VALUE = "_value"
RESERVED = (TIME, OFFSET, WINDOW_START, WINDOW_END, PANE, PANE_INFO)


@dataclass(slots=True)
class Elements:
    """Python values, index by index with their event time (µs), source offset, window if assigned, and pane if they
    come from a grouping."""

    values: list[Any] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    windows: list[IntervalWindow] | None = None
    panes: list[PaneInfo] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def append(
        self, value: Any, time_us: int, offset: int, window: IntervalWindow | None, pane: PaneInfo | None = None
    ) -> None:
        self.values.append(value)
        self.times.append(time_us)
        self.offsets.append(offset)
        if window is not None:
            if self.windows is None:
                self.windows = []
            self.windows.append(window)
        if pane is not None or self.panes is not None:
            if self.panes is None:
                self.panes = [PANE_UNKNOWN] * (len(self.values) - 1)
            self.panes.append(pane or PANE_UNKNOWN)

    def window(self, index: int) -> IntervalWindow | None:
        return None if self.windows is None else self.windows[index]

    def pane(self, index: int) -> PaneInfo | None:
        return None if self.panes is None else self.panes[index]


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
        windows = [IntervalWindow.of_us(start, end) for start, end in pairs]
    times = batch[TIME].to_list()
    offsets = batch[OFFSET].to_list() if OFFSET in batch.columns else [-1] * len(times)
    if VALUE in batch.columns:
        values = [pickle.loads(value) for value in batch[VALUE].to_list()]
    else:
        values = public(batch).to_dicts()
    return Elements(values, times, offsets, windows, _panes(batch))


def _panes(frame: pl.DataFrame) -> list[PaneInfo] | None:
    if PANE not in frame.columns:
        return None
    indices = frame[PANE].to_list()
    if PANE_INFO in frame.columns:
        return list(map(PaneInfo.unpacked, indices, frame[PANE_INFO].to_list()))
    return [PANE_ONLY] * len(indices)


def tell(batch: Batch, on_bad: OnBad, error: Exception) -> None:
    """Every event of the batch is bad, for one reason."""
    elements = to_elements(batch)
    for value, offset in zip(elements.values, elements.offsets, strict=True):
        on_bad(value, offset, error)


def to_frame(batch: Batch, on_bad: OnBad, columns: Mapping[str, pl.DataType] | None = None) -> pl.DataFrame:
    """Dicts, Rows and named tuples as columns. What is none of them, or does not fit the types of most others, is told
    to `on_bad` and left out."""
    if isinstance(batch, pl.DataFrame):
        return batch if VALUE not in batch.columns else to_frame(to_elements(batch), on_bad, columns)
    if any(hasattr(value, "_asdict") for value in batch.values):
        batch = replace(batch, values=[value if (f := fields_of(value)) is None else f for value in batch.values])
    keep = [i for i, value in enumerate(batch.values) if isinstance(value, Mapping)]
    if len(keep) < len(batch):
        for i in set(range(len(batch))) - set(keep):
            kind = type(batch.values[i]).__name__
            on_bad(batch.values[i], batch.offsets[i], DataError(f"columns need a dict per element, got {kind}."))
    frame = _whole(batch, keep, columns)
    if frame is None:
        keep = _alike(batch, keep, on_bad)
        frame = _whole(batch, keep, columns)
    if frame is None:
        frame, keep = _row_by_row(batch, keep, on_bad, columns)
    extra = {TIME: [batch.times[i] for i in keep], OFFSET: [batch.offsets[i] for i in keep]}
    if batch.windows is not None:
        extra[WINDOW_START] = [batch.windows[i].start_us for i in keep]
        extra[WINDOW_END] = [batch.windows[i].end_us for i in keep]
    if batch.panes is not None:
        extra[PANE] = [batch.panes[i].index for i in keep]
        extra[PANE_INFO] = [batch.panes[i].packed for i in keep]
    reserved = pl.DataFrame(extra, schema=dict.fromkeys(extra, pl.Int64))
    return pl.concat([frame, reserved], how="horizontal") if frame.width else reserved


def in_windows(batch: Batch, rows: Sequence[int], windows: Sequence[IntervalWindow]) -> Batch:
    """These rows, each of them in the window beside it."""
    if isinstance(batch, pl.DataFrame):
        starts = pl.Series(WINDOW_START, [window.start_us for window in windows], dtype=pl.Int64)
        ends = pl.Series(WINDOW_END, [window.end_us for window in windows], dtype=pl.Int64)
        return batch[list(rows)].with_columns(starts, ends)
    out = Elements()
    for i, window in zip(rows, windows, strict=True):
        out.append(batch.values[i], batch.times[i], batch.offsets[i], window, batch.pane(i))
    return out


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
    if batch.panes is not None:
        data[PANE] = [pane.index for pane in batch.panes]
        data[PANE_INFO] = [pane.packed for pane in batch.panes]
        schema |= {PANE: pl.Int64, PANE_INFO: pl.Int64}
    return pl.DataFrame(data, schema=schema)


def public(frame: pl.DataFrame) -> pl.DataFrame:
    """Without the engine's own columns."""
    return frame.select([name for name in frame.columns if not name.startswith("_")])


def _from_dicts(rows: list[Any], columns: Mapping[str, pl.DataType] | None) -> pl.DataFrame:
    if not rows:
        return pl.DataFrame(schema=dict(columns or {}))
    frame = pl.DataFrame(rows, infer_schema_length=None, strict=True)
    return frame.rename({name: name.lstrip("_") for name in frame.columns if name.startswith("_")})


def together(known: pl.DataFrame, frame: pl.DataFrame) -> pl.DataFrame | None:
    """The columns of both, without rows; None if a column is of another kind in one than in the other.

    Without a schema each batch has the types of its own values, and Polars would make text of numbers to put them
    beside texts."""
    if known.columns == frame.columns and known.dtypes == frame.dtypes:  # far cheaper than two schemas
        return known
    for name, dtype in frame.schema.items():
        other = known.schema.get(name, dtype)
        if pl.Null not in (dtype, other) and _family(dtype) != _family(other):
            return None
    try:
        return pl.concat([known.clear(), frame.clear()], how="diagonal_relaxed")
    except pl.exceptions.PolarsError:
        return None


def _family(dtype: pl.DataType) -> object:
    if dtype.is_numeric() or dtype == pl.Boolean:
        return "number"
    return "text" if dtype in (pl.String, pl.Categorical, pl.Enum) else dtype.base_type()


_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((int, float, Decimal), "number"),
    (str, "text"),
    ((bytes, bytearray), "bytes"),
    (datetime, "datetime"),
    (date, "date"),
    (time, "time"),
    (timedelta, "duration"),
    (Mapping, "mapping"),
    ((list, tuple), "list"),
)


def _kind(value: Any) -> str | None:
    """What values of one column must have in common; None for null, which goes with all."""
    return _kind_of(type(value))


def _kind_of(type_: type) -> str | None:
    if type_ is type(None):
        return None
    return next((kind for types, kind in _KINDS if issubclass(type_, types)), type_.__name__)


def _whole(batch: Elements, keep: list[int], columns: Mapping[str, pl.DataType] | None) -> pl.DataFrame | None:
    """All rows as one frame; None if they do not fit together. Polars would make text of a number beside a text, and
    null of what stands beside a struct."""
    rows = [batch.values[i] for i in keep]
    try:
        frame = _from_dicts(rows, columns)
    except (pl.exceptions.PolarsError, TypeError, OverflowError, ValueError):
        return None
    for name, dtype in frame.schema.items():
        if dtype == pl.Object:
            return None
        if dtype in _MIXED:
            kinds = {_kind_of(type_) for type_ in {type(row.get(name)) for row in rows}}
            if len(kinds - {None}) > 1:
                return None
    return frame


_MIXED = (pl.String, pl.Binary, pl.Struct, pl.Datetime, pl.Date)
"""Types that Polars gives to columns of different kinds of values."""


def _alike(batch: Elements, keep: list[int], on_bad: OnBad) -> list[int]:
    """The rows whose values have in each column the kind that most have there."""
    kinds: dict[str, Counter[str]] = {}
    for i in keep:
        for name, value in batch.values[i].items():
            if (kind := _kind(value)) is not None:
                kinds.setdefault(name, Counter())[kind] += 1
    usual = {name: counts.most_common(1)[0][0] for name, counts in kinds.items()}
    alike: list[int] = []
    for i in keep:
        row = batch.values[i]
        odd = next((name for name, value in row.items() if (_kind(value) or usual.get(name)) != usual.get(name)), None)
        if odd is None:
            alike.append(i)
        else:
            error = DataError(f"'{odd}' is a {_kind(row[odd])}, in most events of the batch a {usual[odd]}.")
            on_bad(row, batch.offsets[i], error)
    return alike


def _row_by_row(
    batch: Elements, keep: list[int], on_bad: OnBad, columns: Mapping[str, pl.DataType] | None
) -> tuple[pl.DataFrame, list[int]]:
    """The slow way: rows that go with those before them are good."""
    good: list[int] = []
    frames: list[pl.DataFrame] = []
    known = pl.DataFrame()
    for i in keep:
        try:
            row = _from_dicts([batch.values[i]], columns)
            if pl.Object in row.dtypes:
                raise DataError(f"a column can't hold a value of {batch.values[i]!r}. Map it to plain values.")
            known = pl.concat([known, row.clear()], how="diagonal_relaxed")
        except (pl.exceptions.PolarsError, TypeError, OverflowError, ValueError, DataError) as error:
            on_bad(batch.values[i], batch.offsets[i], error)
        else:
            frames.append(row)
            good.append(i)
    return (pl.concat(frames, how="diagonal_relaxed") if frames else _from_dicts([], columns)), good
