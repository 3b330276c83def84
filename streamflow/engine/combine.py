"""The two ways to combine: on columns by expressions, on rows by a CombineFn. One contract, so that shuffle and state
know only frames: a *partial* frame has the group's key columns, its window, the accumulators, and `_n`, the events
behind them.
"""

import pickle
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Protocol

import polars as pl

from streamflow.base.errors import DataError
from streamflow.engine.history import ROWS, ROWS_TYPE, Origin
from streamflow.model.aggregates import RecordCombineFn
from streamflow.model.batch import PANE, PANE_INFO, Batch, Elements, OnBad, to_elements, to_frame
from streamflow.model.combiner import CombineFn
from streamflow.model.keys import encode_key, key_text
from streamflow.model.panes import PANE_ONLY, PaneInfo, PaneInfoTiming
from streamflow.model.time import EVENT_MAX_US, EVENT_MIN_US, MAX_US, Timestamp
from streamflow.model.window import (
    GLOBAL_WINDOW,
    TIME,
    WINDOW_END,
    WINDOW_START,
    IntervalWindow,
    Windowing,
)
from streamflow.transforms.combine import LATE_EVENTS, WINDOW_COLUMNS, Aggregate
from streamflow.transforms.grouping import Grouping, PerKey

EVENTS = "_n"
ON_TIME = "_ontime"
LATE = "_late"
KEY = "_key"
KEY_VALUE = "_keyvalue"
ACCUMULATOR = "_acc"

GAIN_MIN = 1.25
"""To merge what leaves more than four fifths of its rows costs more than to carry them on."""
_GAIN_ROWS_MIN = 10_000
"""Of fewer rows there is nothing to learn, nor to save."""
_SINGLE_BATCHES = 15
"""Batches that are not grouped before the shuffle after one that was in vain."""

_ROWS_CACHED_MAX = 50_000
"""From here on a table of all groups no longer fits the processor's cache: a window at a time takes half as long."""
WINDOW_ROWS_MIN = 5_000
"""Windows of fewer rows are not worth a query of their own."""

_UTC = pl.Datetime("us", "UTC")
_RESULT_TIME = (pl.col(WINDOW_END).clip(upper_bound=MAX_US) - 1).alias(TIME)
"""The last instant of the window. A result of the global window may be windowed again, beyond the end of time."""


PARTIAL: dict[str, Any] = {
    KEY: pl.Binary,
    WINDOW_START: pl.Int64,
    WINDOW_END: pl.Int64,
    EVENTS: pl.Int64,
    KEY_VALUE: pl.Binary,
    ACCUMULATOR: pl.Binary,
    TIME: pl.Int64,
}
"""The columns of a partial frame on the row path."""


def _result_time(end_us: int) -> int:
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


_INDEX = pl.col(ON_TIME) + pl.col(LATE) - 1
_PANE_INFO = (
    (_INDEX + 1) * (1 << 4)
    + pl.when(pl.col(LATE) > 0).then(PaneInfoTiming.LATE.value << 2).otherwise(PaneInfoTiming.ON_TIME.value << 2)
    + (_INDEX == 0).cast(pl.Int64)
).alias(PANE_INFO)
"""As `PaneInfo.packed` has it. Where lateness is allowed there may always be another pane."""


def pane_columns(windowing: Windowing) -> list[pl.Expr]:
    """Of merged partials that fire: what a pane's history says of each."""
    timing = pl.when(pl.col(LATE) > 0).then(pl.lit("LATE")).otherwise(pl.lit("ON_TIME"))
    is_last = pl.lit(not windowing.allowed_lateness_us)
    return [_INDEX.alias("pane"), timing.alias("timing"), is_last.alias("is_last"), pl.col(EVENTS).alias("events")]


def combiner_of(
    transform: Grouping,
    windowing: Windowing,
    *,
    rows_only: bool,
    pre_aggregation: "PreAggregation | None" = None,
    origin: Origin | None = None,
) -> Combiner:
    """`pre_aggregation`: what is known of grouping before the shuffle, where it is shared with other tasks; `origin`:
    where the events were read, if partials are to carry it."""
    if isinstance(transform, Aggregate):
        if rows_only or not windowing.has_columns:
            return RowAggregate(transform, windowing, origin)
        return ColumnCombiner(transform, windowing, pre_aggregation, origin)
    assert isinstance(transform, PerKey)
    return RowCombiner(transform, windowing, origin)


def _merge_flags(frame: pl.DataFrame) -> list[pl.Expr]:
    merges = [pl.col(WINDOW_END).first(), pl.col(EVENTS).sum()]
    if ON_TIME in frame.columns:
        merges += [pl.col(ON_TIME).max(), pl.col(LATE).sum()]
    return merges


def windows_apart(frame: pl.DataFrame, rows_min: int) -> list[pl.DataFrame]:
    """Frames of one window each, unless these would have fewer rows than that on average: then the frame as it is."""
    if _of_one_window(frame) or frame[WINDOW_START].n_unique() > frame.height // rows_min:
        return [frame]
    return frame.partition_by(WINDOW_START, maintain_order=False)


def _of_one_window(frame: pl.DataFrame) -> bool:
    starts = frame[WINDOW_START]
    return bool(starts.min() == starts.max())


class PreAggregation:
    """Whether to group a batch before the shuffle: not where nearly every event is a group of its own. Pure."""

    def __init__(self) -> None:
        self._singles = 0

    @property
    def worthwhile(self) -> bool:
        return not self._singles

    def seen(self, events: int, rows: int) -> None:
        """So many events of a batch became so many rows, by grouping or one by one."""
        if self._singles:
            self._singles -= 1
        elif rows >= _GAIN_ROWS_MIN and events < GAIN_MIN * rows:
            self._singles = _SINGLE_BATCHES


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
            return windowed.select(*named, WINDOW_START, WINDOW_END, one, *self._single, *alone, _RESULT_TIME)
        grouped = windowed.group_by([*named, WINDOW_START]).agg(
            pl.col(WINDOW_END).first(), pl.len().cast(pl.Int64).alias(EVENTS), *self._partial, *rows
        )
        return grouped.with_columns(_RESULT_TIME)

    def partial(self, batch: Batch, on_bad: OnBad) -> pl.DataFrame:
        return self.partial_frame(to_frame(batch, on_bad).lazy()).collect()

    def merge(self, frame: pl.DataFrame) -> pl.DataFrame:
        if frame.height < _ROWS_CACHED_MAX:
            return self._merged(frame)
        return pl.concat([self._merged(part) for part in windows_apart(frame, WINDOW_ROWS_MIN)])

    def _merged(self, frame: pl.DataFrame) -> pl.DataFrame:
        flags = _merge_flags(frame)
        if self.keys and _of_one_window(frame):  # a key less takes a fifth less
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
            _RESULT_TIME,
            WINDOW_START,
            WINDOW_END,
            _INDEX.alias(PANE),
            *([_PANE_INFO] if self.windowing.allowed_lateness_us else []),
        )

    def late(self, frame: pl.DataFrame, on_bad: OnBad) -> Batch:
        merged = self.merge(frame).with_columns(pl.lit(1).alias(ON_TIME), pl.lit(0).alias(LATE))
        results = self.final(merged, on_bad)
        assert isinstance(results, pl.DataFrame)
        return results.with_columns(merged[EVENTS].alias(LATE_EVENTS))

    def empty(self) -> Batch | None:
        return None


class RowCombiner:
    """(key, value) pairs through a CombineFn. Keys are compared by their deterministic encoding."""

    keys: tuple[str, ...] = (KEY,)

    def __init__(self, transform: PerKey, windowing: Windowing, origin: Origin | None = None) -> None:
        self.origin = origin
        self.fn: CombineFn = transform.fn
        self.keyed = transform.keyed
        self.windowing = windowing
        self.defaults = transform.defaults and windowing.is_global
        self.fn.setup()

    def close(self) -> None:
        self.fn.teardown()

    def pairs(self, batch: Batch, on_bad: OnBad) -> Elements:
        """Elements whose values are (key, value)."""
        return to_elements(batch)

    def key_texts(self, frame: pl.DataFrame) -> list[str]:
        return list(map(self.key_text, frame[KEY_VALUE].to_list()))

    def key_text(self, key: bytes) -> str:
        """Of a pickled key."""
        return key_text(pickle.loads(key)) if self.keyed else ""

    def partial(self, batch: Batch, on_bad: OnBad) -> pl.DataFrame:
        elements = self.pairs(batch, on_bad)
        keys: dict[bytes, bytes] = {}
        groups: dict[tuple[bytes, IntervalWindow], list[tuple[int, Any]]] = {}
        for i, element in enumerate(elements.values):
            try:
                key, value = _pair(element) if self.keyed else (None, element)
                encoded = encode_key(key) if self.keyed else b""
                if encoded not in keys:
                    keys[encoded] = pickle.dumps(key, protocol=5)
            except Exception as error:
                on_bad(element, elements.offsets[i], error)
                continue
            window = elements.window(i) if self.windowing.assigned else None
            for each in [window] if window else self.windowing.fn.at(elements.times[i]):
                groups.setdefault((encoded, each), []).append((i, value))
        bad: dict[int, Exception] = {}
        combined = {group: self._combined(inputs, bad) for group, inputs in groups.items()}
        for i, reason in bad.items():
            on_bad(elements.values[i], elements.offsets[i], reason)
        frame = self._frame([(k, w, keys[k], n, acc) for (k, w), (n, acc) in combined.items() if n])
        if self.origin is None:
            return frame
        good = ([i for i, _ in groups[group] if i not in bad] for group, (n, _) in combined.items() if n)
        return self._with_rows(frame, elements, good)

    def _with_rows(self, frame: pl.DataFrame, elements: Elements, groups: Iterable[Sequence[int]]) -> pl.DataFrame:
        """With the input rows of each partial: indexes of elements."""
        assert self.origin is not None
        row, offsets, times = self.origin.row, elements.offsets, elements.times
        rows = [[row(offsets[i], times[i]) for i in group] for group in groups]
        return frame.with_columns(pl.Series(ROWS, rows, dtype=ROWS_TYPE))

    def singles(self, batch: Batch, on_bad: OnBad) -> pl.DataFrame:
        """One row per event and window of the batch, in its order: for triggers, which see one event at a time. `_time`
        is that of the event."""
        elements = self.pairs(batch, on_bad)
        rows: list[tuple[Any, ...]] = []
        sources: list[int] = []
        for i, element in enumerate(elements.values):
            try:
                key, value = _pair(element) if self.keyed else (None, element)
                encoded = encode_key(key) if self.keyed else b""
                kept, accumulator = pickle.dumps(key, protocol=5), self.accumulated([value])
            except Exception as error:
                on_bad(element, elements.offsets[i], error)
                continue
            time_us, window = elements.times[i], elements.window(i) if self.windowing.assigned else None
            windows = [window] if window else self.windowing.fn.at(time_us)
            rows += [(encoded, each.start_us, each.end_us, 1, kept, accumulator, time_us) for each in windows]
            sources += [i] * len(windows)
        frame = pl.DataFrame(rows, schema=PARTIAL, orient="row")
        return frame if self.origin is None else self._with_rows(frame, elements, ([i] for i in sources))

    def _combined(self, inputs: Sequence[tuple[int, Any]], bad: dict[int, Exception]) -> tuple[int, bytes]:
        """How many of the inputs (index, value) could be combined, and their accumulator; `bad` gets the others."""
        try:
            return len(inputs), self.accumulated([value for _, value in inputs])
        except Exception as error:
            if len(inputs) == 1:
                bad[inputs[0][0]] = error
                return 0, b""
        good = [each for each in inputs if self._combined([each], bad)[0]]
        if len(good) == len(inputs):
            return self._one_after_the_other(good, bad)
        return self._combined(good, bad) if good else (0, b"")

    def _one_after_the_other(self, inputs: Sequence[tuple[int, Any]], bad: dict[int, Exception]) -> tuple[int, bytes]:
        """Each could be combined alone, but not all together: what does not go with those before it is bad."""
        accumulated = self.accumulated([inputs[0][1]])
        count = 1
        for i, value in inputs[1:]:
            try:
                accumulated = self.merged([accumulated, self.accumulated([value])])
                count += 1
            except Exception as error:
                bad[i] = error
        return count, accumulated

    def accumulated(self, values: Sequence[Any]) -> bytes:
        """Made in one go: an accumulator that has seen a failure may be half changed, and is never used again."""
        return pickle.dumps(self.fn.compact(self.fn.add_inputs(self.fn.create_accumulator(), values)), protocol=5)

    def _frame(self, groups: list[tuple[bytes, IntervalWindow, bytes, int, bytes]]) -> pl.DataFrame:
        return pl.DataFrame(
            {
                KEY: [key for key, *_ in groups],
                WINDOW_START: [window.start_us for _, window, *_ in groups],
                WINDOW_END: [window.end_us for _, window, *_ in groups],
                EVENTS: [count for *_, count, _ in groups],
                KEY_VALUE: [value for _, _, value, *_ in groups],
                ACCUMULATOR: [accumulator for *_, accumulator in groups],
                TIME: [_result_time(window.end_us) for _, window, *_ in groups],
            },
            schema=PARTIAL,
        )

    def merge(self, frame: pl.DataFrame) -> pl.DataFrame:
        grouped = frame.group_by([KEY, WINDOW_START], maintain_order=True).agg(
            *_merge_flags(frame), pl.col(KEY_VALUE).first(), pl.col(ACCUMULATOR)
        )
        merged = [parts[0] if len(parts) == 1 else self.merged(parts) for parts in grouped[ACCUMULATOR].to_list()]
        return grouped.with_columns(pl.Series(ACCUMULATOR, merged, dtype=pl.Binary))

    def merged(self, parts: Sequence[bytes]) -> bytes:
        accumulators = [pickle.loads(part) for part in parts]
        return pickle.dumps(self.fn.compact(self.fn.merge_accumulators(accumulators)), protocol=5)

    def final(self, frame: pl.DataFrame, on_bad: OnBad) -> Batch:
        out = Elements(windows=[])
        columns = (KEY_VALUE, ACCUMULATOR, WINDOW_START, WINDOW_END, _INDEX.alias(PANE), _PANE_INFO)
        only = None if self.windowing.allowed_lateness_us else PANE_ONLY
        for key, accumulator, start, end, index, info in frame.select(columns).iter_rows():
            window, pane = IntervalWindow.of_us(start, end), only or PaneInfo.unpacked(index, info)
            try:
                result = self.result(pickle.loads(key), self.fn.extract_output(pickle.loads(accumulator)), window)
            except Exception as error:
                on_bad(pickle.loads(key), -1, error)
            else:
                out.append(result, _result_time(end), -1, window, pane)
        return out

    def result(self, key: Any, result: Any, window: IntervalWindow) -> Any:
        return (key, result) if self.keyed else result

    def late(self, frame: pl.DataFrame, on_bad: OnBad) -> Batch:
        out = Elements()
        columns = (KEY_VALUE, ACCUMULATOR, WINDOW_START, WINDOW_END, EVENTS)
        for key, accumulator, start, end, events in self.merge(frame).select(columns).iter_rows():
            try:
                result = self.fn.extract_output(pickle.loads(accumulator))
                record = self.record(pickle.loads(key), result, IntervalWindow.of_us(start, end))
            except Exception as error:
                on_bad(pickle.loads(key), -1, error)
            else:
                out.append(record | {LATE_EVENTS: events}, _result_time(end), -1, None)
        return out

    def record(self, key: Any, result: Any, window: IntervalWindow) -> dict[str, Any]:
        """A late result."""
        return {**({"key": key} if self.keyed else {}), "value": result, **window_bounds(window)}

    def empty(self) -> Batch | None:
        if not self.defaults:
            return None
        value = self.fn.extract_output(self.fn.create_accumulator())
        return Elements([value], [MAX_US - 1], [-1], [GLOBAL_WINDOW], [PANE_ONLY])


class RowAggregate(RowCombiner):
    """Aggregate on rows: the same answer as on columns, an event at a time."""

    def __init__(self, transform: Aggregate, windowing: Windowing, origin: Origin | None = None) -> None:
        super().__init__(PerKey(RecordCombineFn(transform.aggregates)), windowing, origin)
        self.transform = transform

    def key_text(self, key: bytes) -> str:
        values = pickle.loads(key)
        return key_text(values[0] if len(values) == 1 else values) if values else ""

    def pairs(self, batch: Batch, on_bad: OnBad) -> Elements:
        names = [f"{i}" for i in range(len(self.transform.keys))]
        frame = to_frame(batch, on_bad)
        keys = frame.select(by.alias(name) for by, name in zip(self.transform.by, names, strict=True))
        elements = to_elements(frame)
        rows = keys.rows() if names else [()] * len(elements)
        timed = [row | {TIME: time_us} for row, time_us in zip(elements.values, elements.times, strict=True)]
        elements.values = list(zip(rows, timed, strict=True))
        return elements

    def result(self, key: Any, result: Any, window: IntervalWindow) -> Any:
        row = dict(zip(self.transform.keys, key, strict=True))
        if not self.windowing.is_global:
            row |= window_bounds(window)
        return row | result

    def record(self, key: Any, result: Any, window: IntervalWindow) -> dict[str, Any]:
        record: dict[str, Any] = self.result(key, result, window)
        return record


def window_bounds(window: IntervalWindow) -> dict[str, datetime | None]:
    return dict(zip(WINDOW_COLUMNS, map(_datetime, (window.start_us, window.end_us)), strict=True))


def _datetime(time_us: int) -> datetime | None:
    """Null for what no datetime can be: windows at the beginning of time, where values of Create are by default."""
    return Timestamp(micros=time_us).as_datetime() if EVENT_MIN_US <= time_us <= EVENT_MAX_US else None


def _pair(element: Any) -> tuple[Any, Any]:
    if isinstance(element, (tuple, list)) and len(element) == 2:
        return element[0], element[1]
    raise DataError(f"grouping by key needs (key, value) pairs, got {element!r}. Make them with Map.")
