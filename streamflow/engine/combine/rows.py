"""Combining on rows: a CombineFn, called for the values of each group; keys and accumulators are pickled."""

import pickle
from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from streamflow.base.errors import DataError
from streamflow.engine.combine.contract import (
    ACCUMULATOR,
    EVENTS,
    KEY,
    KEY_VALUE,
    PANE_INDEX,
    PANE_INFO_PACKED,
    merge_flags,
    result_time,
    window_bounds,
)
from streamflow.engine.history import ROWS, ROWS_TYPE, Origin
from streamflow.model.aggregates import RecordCombineFn
from streamflow.model.batch import PANE, Batch, Elements, OnBad, to_elements, to_frame
from streamflow.model.combiner import CombineFn
from streamflow.model.keys import encode_key, key_text
from streamflow.model.panes import PANE_ONLY, PaneInfo
from streamflow.model.time import MAX_US
from streamflow.model.window import GLOBAL_WINDOW, TIME, WINDOW_END, WINDOW_START, IntervalWindow
from streamflow.model.windowing import Windowing
from streamflow.transforms.combine import LATE_EVENTS, Aggregate
from streamflow.transforms.grouping import PerKey

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
                TIME: [result_time(window.end_us) for _, window, *_ in groups],
            },
            schema=PARTIAL,
        )

    def merge(self, frame: pl.DataFrame) -> pl.DataFrame:
        grouped = frame.group_by([KEY, WINDOW_START], maintain_order=True).agg(
            *merge_flags(frame), pl.col(KEY_VALUE).first(), pl.col(ACCUMULATOR)
        )
        merged = [parts[0] if len(parts) == 1 else self.merged(parts) for parts in grouped[ACCUMULATOR].to_list()]
        return grouped.with_columns(pl.Series(ACCUMULATOR, merged, dtype=pl.Binary))

    def merged(self, parts: Sequence[bytes]) -> bytes:
        accumulators = [pickle.loads(part) for part in parts]
        return pickle.dumps(self.fn.compact(self.fn.merge_accumulators(accumulators)), protocol=5)

    def final(self, frame: pl.DataFrame, on_bad: OnBad) -> Batch:
        out = Elements(windows=[])
        columns = (KEY_VALUE, ACCUMULATOR, WINDOW_START, WINDOW_END, PANE_INDEX.alias(PANE), PANE_INFO_PACKED)
        only = None if self.windowing.allowed_lateness_us else PANE_ONLY
        for key, accumulator, start, end, index, info in frame.select(columns).iter_rows():
            window, pane = IntervalWindow.of_us(start, end), only or PaneInfo.unpacked(index, info)
            try:
                result = self.result(pickle.loads(key), self.fn.extract_output(pickle.loads(accumulator)), window)
            except Exception as error:
                on_bad(pickle.loads(key), -1, error)
            else:
                out.append(result, result_time(end), -1, window, pane)
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
                out.append(record | {LATE_EVENTS: events}, result_time(end), -1, None)
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


def _pair(element: Any) -> tuple[Any, Any]:
    if isinstance(element, (tuple, list)) and len(element) == 2:
        return element[0], element[1]
    raise DataError(f"grouping by key needs (key, value) pairs, got {element!r}. Make them with Map.")
