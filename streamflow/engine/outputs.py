"""Outputs of functions on the row path: what is a plain value, what has a tag, a time or windows of its own. Pure."""

import pickle
from collections.abc import Iterator
from typing import Any

import orjson
import polars as pl

from streamflow.base.errors import DataError, PipelineError
from streamflow.engine.combine.contract import KEY
from streamflow.model.batch import OFFSET, VALUE, Elements, OnBad, pickled
from streamflow.model.keys import encode_key
from streamflow.model.time import EARLIEST_US, EVENT_MAX_US, EVENT_MIN_US, MAX_US
from streamflow.model.window import IntervalWindow, TimestampedValue
from streamflow.model.windowing import Windowing
from streamflow.topics import codec
from streamflow.transforms.elementwise import DoFn
from streamflow.transforms.outputs import TaggedOutput, WindowedValue, iterated

SPECIAL = frozenset({TaggedOutput, TimestampedValue, WindowedValue})
"""Types of outputs that are more than a value; nobody derives from them."""

Place = tuple[int, IntervalWindow | None]
"""An event time and a window, if it has one already."""
Placed = tuple[Any, int, IntervalWindow | None]
"""A value (or TaggedOutput of one), its event time and its window, if it has one already."""


def placed(output: Any, time_us: int, window: IntervalWindow | None) -> list[Placed]:
    """An output of an element of that time and window. DataError for a time that is none, or a tag that is no text."""
    if isinstance(output, TaggedOutput):
        if not isinstance(output.tag, str):
            raise DataError(f"the tag of an output must be a text, got {output.tag!r}.")
        return [(TaggedOutput(output.tag, v), at_us, w) for v, at_us, w in placed(output.value, time_us, window)]
    if isinstance(output, TimestampedValue):
        return [(output.value, _checked_time(output), window)]
    if isinstance(output, WindowedValue):
        windows = [None] if window is None else (output.windows or [window])
        return [(output.value, _checked_time(output), each) for each in windows]
    return [(output, time_us, window)]


def all_placed(outputs: Any, time_us: int, window: IntervalWindow | None) -> list[Placed]:
    """The same for all that a function gave for an element."""
    results: list[Placed] = []
    for output in iterated(outputs):
        if type(output) in SPECIAL:
            results += placed(output, time_us, window)
        else:
            results.append((output, time_us, window))
    return results


def finished(fn: DoFn, windowed: bool) -> Iterator[Placed]:
    """The outputs of `finish_bundle`; `windowed`: they need windows. PipelineError if they have none, or no time."""
    for output in iterated(fn.finish_bundle()):
        inner = output.value if isinstance(output, TaggedOutput) else output
        if not isinstance(inner, WindowedValue) or (windowed and not inner.windows):
            raise PipelineError(
                f"{type(fn).__name__}.finish_bundle gave {output!r}, which belongs to no element. Give "
                "WindowedValue(value, timestamp, windows)."
            )
        for window in inner.windows if windowed else (None,):
            for value, time_us, _ in placed(output, 0, None):
                yield value, time_us, window


def with_tag(elements: Elements, tag: str | None) -> Elements:
    """The outputs with that tag, as plain values."""
    out = Elements()
    for i, value in enumerate(elements.values):
        tagged = type(value) is TaggedOutput
        if (value.tag if tagged else None) == tag:
            plain = value.value if tagged else value
            out.append(plain, elements.times[i], elements.offsets[i], elements.window(i), elements.pane(i))
    return out


def without_tags(elements: Elements) -> int:
    """Leave out what has a tag; how many these were."""
    if TaggedOutput not in {*map(type, elements.values)}:
        return 0
    total = len(elements)
    plain = with_tag(elements, None)
    elements.values, elements.times, elements.offsets = plain.values, plain.times, plain.offsets
    elements.windows, elements.panes = plain.windows, plain.panes
    return total - len(plain)


def keyed_rows(elements: Elements, windowing: Windowing, on_bad: OnBad) -> pl.DataFrame:
    """(key, value) pairs as they cross a log: pickled, beside the key's encoding; one row for each window."""
    rows, keys, encodings = Elements(windows=[]), list[bytes](), list[bytes]()
    for i, value in enumerate(elements.values):
        try:
            key, encoded = (
                encode_key(key_of(value, "state and timers are kept per key")),
                pickle.dumps(value, protocol=5),
            )
        except Exception as error:
            on_bad(value, elements.offsets[i], error)
            continue
        window = elements.window(i) if windowing.assigned else None
        for each in [window] if window else windowing.fn.at(elements.times[i]):
            rows.append(None, elements.times[i], elements.offsets[i], each, elements.pane(i))
            keys.append(key)
            encodings.append(encoded)
    columns = [pl.Series(KEY, keys, dtype=pl.Binary), pl.Series(VALUE, encodings, dtype=pl.Binary)]
    return pickled(rows).drop(VALUE, OFFSET).with_columns(columns)


def key_of(value: Any, reason: str = "it asks for the key") -> Any:
    """Of a (key, value) pair. DataError for anything else, with the reason why it is needed."""
    if isinstance(value, (tuple, list)) and len(value) == 2:
        return value[0]
    raise DataError(f"{reason}, so the DoFn needs (key, value) pairs, got {value!r}. Make them with Map before it.")


def json_event(value: Any) -> bytes:
    """A Python value as the bytes of an event. DataError if JSON has no form for it, or if it is too long for one."""
    try:
        options = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
        event = value if isinstance(value, bytes) else orjson.dumps(value, option=options)
    except TypeError as error:
        raise DataError(
            f"{type(value).__name__} can't be published as JSON: {error}. Map it to a dict first."
        ) from error
    if len(event) > codec.EVENT_BYTES_MAX:
        raise DataError(f"an event of {len(event):,} bytes can't be published, at most {codec.EVENT_BYTES_MAX:,} can.")
    return event


def _checked_time(value: TimestampedValue[Any] | WindowedValue) -> int:
    time_us = value.time_us
    # That of what has no time, and the end of the global window are times of their own.
    if not EVENT_MIN_US <= time_us <= EVENT_MAX_US and time_us not in (EARLIEST_US, MAX_US - 1):
        raise DataError(f"the timestamp of {value!r} is beyond the years 1 to 9999. Is its unit seconds?")
    return time_us
