"""Side inputs on their way: a function's input and what it is given beside it lie in one log, so that the offset of its
task says all that it knows.

    input rows    kept in the partition of their task, in their windows where these decide about the side
    pane rows     all that is in one window of a side, written to every partition by the one task that collects it
    mark rows     how far a side is complete, written whenever that closes a window of it, in the commit of that step

The order of the log decides which pane an element is given, so it is the same after a replay. What a window of a side
consists of, one task has decided for all. Marks travel like this because an empty window sends no pane, and because the
input's watermark must neither wait for the side's nor run ahead of elements that do (`hold_us`).
"""

import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from streamflow.base.errors import DataError
from streamflow.engine.context import StepContext
from streamflow.engine.keyed import KeyedState
from streamflow.engine.operators.leaves import storable
from streamflow.model.batch import OFFSET, Batch, to_elements
from streamflow.model.time import MAX_US
from streamflow.model.window import GLOBAL_WINDOW, TIME, WINDOW_END, WINDOW_START, IntervalWindow
from streamflow.model.windowing import Windowing
from streamflow.topics import codec
from streamflow.topics.protocol import Record
from streamflow.transforms.elementwise import ParDo
from streamflow.transforms.sides import AsSideInput

SIDE, PANE_VALUES = "_side", "_view"
"""Columns of rows of a side: which one; its pickled elements, null for a mark."""
_SCHEMA: dict[str, Any] = {
    TIME: pl.Int64,
    WINDOW_START: pl.Int64,
    WINDOW_END: pl.Int64,
    SIDE: pl.Int64,
    PANE_VALUES: pl.Binary,
}
_PANE, _MARK = b"pane", b"mark"
"""Keys of the state; names in it are the numbers of the sides."""


class Beside:
    """The input of a function with side inputs, into the log in front of it. `windowed`: a row for each window."""

    def __init__(self, label: str, topic: str, partition: int, windowing: Windowing, *, windowed: bool) -> None:
        self.label, self.topic, self.partition = label, topic, partition
        self.windowing = windowing
        self.to_assign = windowed and not windowing.assigned

    def run(self, batch: Batch, context: StepContext) -> None:
        frame = batch if isinstance(batch, pl.DataFrame) else storable(batch, context.on_bad(self.label))
        if self.to_assign:
            frame = self.windowing.fn.assign_columns(frame.lazy()).collect()
        if frame.height:
            context.frames[self.topic, self.partition].append(frame.drop(OFFSET, strict=False))

    def close(self) -> None: ...


class Broadcast:
    """Panes of a side, into all partitions of the log in front of who is given it. `lists`: each is a list of elements,
    else the only element."""

    def __init__(self, label: str, topic: str, partitions: int, side: int, *, lists: bool) -> None:
        self.label, self.topic, self.partitions, self.side, self.lists = label, topic, partitions, side, lists

    def run(self, batch: Batch, context: StepContext) -> None:
        elements, on_bad = to_elements(batch), context.on_bad(self.label)
        rows: list[tuple[Any, ...]] = []
        for i, value in enumerate(elements.values):
            window = elements.window(i) or GLOBAL_WINDOW
            try:
                values = pickle.dumps(value if self.lists else [value], protocol=5)
            except Exception as error:
                on_bad(value, elements.offsets[i], error)
            else:
                rows.append((elements.times[i], window.start_us, window.end_us, self.side, values))
        if rows:
            frame = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
            for partition in range(self.partitions):
                context.frames[self.topic, partition].append(frame)

    def close(self) -> None: ...


def mark(topic: str, partitions: int, side: int, watermark_us: int) -> list[Record]:
    """For each partition, that the side is complete up to there."""
    frame = pl.DataFrame([(watermark_us, watermark_us, watermark_us, side, None)], schema=_SCHEMA, orient="row")
    return [codec.encode_frame(topic, partition, frame, internal=True) for partition in range(partitions)]


def closes(windowing: Windowing, before_us: int, after_us: int) -> bool:
    """Whether a window has closed, or may have, while the watermark went on."""
    if windowing.is_global or after_us >= MAX_US:
        return after_us >= MAX_US > before_us
    if after_us <= before_us or not windowing.fn.by_time:
        return after_us > before_us
    windows = windowing.fn.at(after_us)
    return not windows or windows != windowing.fn.at(before_us)


class Views:
    """What a task knows of its side inputs: the newest pane of each window, and how far each side is complete. All of
    it is in `state`, which lets go of what no element can ask for any more."""

    def __init__(self, transform: ParDo, state: KeyedState) -> None:
        self._args, self._kwargs, self._state = transform.args, transform.kwargs, state
        self._sides = transform.sides
        self._made: dict[tuple[IntervalWindow | None, ...], tuple[Sequence[Any], Mapping[str, Any]]] = {}

    def take(self, rows: pl.DataFrame) -> None:
        """Panes and marks, in order."""
        for time_us, start_us, end_us, side, values in rows.select(*_SCHEMA).iter_rows():
            name = b"%d" % side
            if values is None:
                self._state.put(_MARK, GLOBAL_WINDOW, name, b"%d" % time_us)
            else:
                self._state.put(_PANE, IntervalWindow.of_us(start_us, end_us), name, values)
        self._made.clear()

    def ready(self, window: IntervalWindow) -> bool:
        """Whether everything is known that an element of that window is given."""
        return all(
            of_side is None
            or self._values(i, of_side) is not None
            or self._complete_us(i) >= min(of_side.end_us, MAX_US)
            for i, of_side in enumerate(self._windows(window))
        )

    def arguments(self, window: IntervalWindow | None) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """The further arguments for an element of that window, the sides in their places. DataError if there is none of
        the form that was asked for."""
        windows = self._windows(window or GLOBAL_WINDOW)
        if (made := self._made.get(windows)) is not None:
            return made
        views = {side: self._view(i, side, windows[i]) for i, side in enumerate(self._sides)}
        args = [views[arg] if isinstance(arg, AsSideInput) else arg for arg in self._args]
        kwargs = {name: views[arg] if isinstance(arg, AsSideInput) else arg for name, arg in self._kwargs.items()}
        self._made[windows] = args, kwargs
        return args, kwargs

    def forget(self) -> None:
        """What was made of state that has expired."""
        self._made.clear()

    def _windows(self, window: IntervalWindow) -> tuple[IntervalWindow | None, ...]:
        """Of each side the one that an element of that window looks into; None if that would be in a gap."""
        found: list[IntervalWindow | None] = []
        for side in self._sides:
            windowing = side.pvalue.windowing
            # Of several the one that starts first, as in Apache Beam.
            windows = windowing.windows(window.end_us - 1, None, window)
            found.append(windows[-1] if windows else None)
        return tuple(found)

    def _view(self, index: int, side: AsSideInput, window: IntervalWindow | None) -> Any:
        if window is None:
            raise DataError(f"the element's window ends where {side!r} has none: its windows leave gaps.")
        values = self._values(index, window)
        return side.made([] if values is None else pickle.loads(values))

    def _values(self, index: int, window: IntervalWindow) -> bytes | None:
        return self._state.get(_PANE, window, b"%d" % index)

    def _complete_us(self, index: int) -> int:
        return int(self._state.get(_MARK, GLOBAL_WINDOW, b"%d" % index) or -MAX_US)
