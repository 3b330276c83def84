"""A function with side inputs, as the head of its stage: it lets elements through to the function once their sides are
known, and keeps those that must wait.

Elements wait in the task's state, in memory too, in the order in which they came, and hold the watermark of what comes
after them. A row of a side lets go at once those it has made ready, before the next element is looked at. What a window
of a side holds is kept until the input's watermark has passed all windows that look into it, with their allowed
lateness; elements of such a window that come later are dropped and counted, as groupings do.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import groupby

import polars as pl

from streamflow.engine.combine.contract import window_bounds
from streamflow.engine.context import StepContext
from streamflow.engine.heads import Late
from streamflow.engine.keyed import KeyedState
from streamflow.engine.ledger import Delta
from streamflow.engine.sides import PANE_VALUES, SIDE, Views
from streamflow.engine.source import with_offsets
from streamflow.model.batch import OFFSET, Batch, Elements, to_elements
from streamflow.model.time import MAX_US
from streamflow.model.window import GLOBAL_WINDOW, TIME, WINDOW_END, WINDOW_START, IntervalWindow
from streamflow.model.windowing import Windowing
from streamflow.topics.frames import read_stream, write_stream
from streamflow.topics.protocol import Record
from streamflow.transforms.combine import LATE_EVENTS
from streamflow.transforms.elementwise import ParDo

_WAITING = b"waiting"
"""Key of the state; names in it are the offset of the first row, and what the rows hold the watermark at."""
_NAME = struct.Struct(">qq")


class SidesHead:
    """`windowing`: of the input; `state`: as it was at the task's output watermark, since what waits needs it; `late`:
    takes records of the elements that are dropped."""

    time_max_us: int | None = None
    due_us: int | None = None

    def __init__(self, transform: ParDo, windowing: Windowing, state: KeyedState, late: Late | None = None) -> None:
        self.views = Views(transform, state)
        self._windowing, self._state, self._late = windowing, state, late
        self._windowed = transform.sides_windowed
        self._records: Sequence[Record] = ()
        self._waiting: dict[IntervalWindow, list[bytes]] = {}
        for key, window in state.groups():
            if key == _WAITING:
                self._waiting[window] = list(state.entries(key, window))

    @property
    def hold_us(self) -> int:
        return min((_NAME.unpack(name)[1] for names in self._waiting.values() for name in names), default=MAX_US)

    def absorb(self, records: Sequence[Record], context: StepContext) -> None:
        self._records = records

    def fire(self, before_us: int, after_us: int, context: StepContext) -> Iterator[Batch]:
        records, self._records = self._records, ()
        for record in records:
            frame = with_offsets(record)
            if SIDE in frame.columns:
                of_side = pl.col(SIDE).is_not_null()
                self.views.take(frame.filter(of_side))
                yield from self._released()
                frame = self._without_sides(frame.filter(~of_side))
            if frame.height:
                yield from self._admitted(frame, before_us, context)
        if self._state.expire(self._kept_us(after_us)):
            self.views.forget()

    def delta(self, stamp: int, watermark_us: int, context: StepContext) -> Delta:
        context.counts["state_bytes_keyed"] += self._state.grown_bytes()
        return self._state.delta(stamp, self._kept_us(watermark_us))

    def close(self) -> None:
        self._state.close()

    def _kept_us(self, watermark_us: int) -> int:
        """Up to where state is not needed any more."""
        return min(watermark_us, self.hold_us)

    def _without_sides(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Rows of the input that one step has written together with rows of a side."""
        has_windows = self._windowed or self._windowing.assigned
        return frame.drop(SIDE, PANE_VALUES, *(() if has_windows else (WINDOW_START, WINDOW_END)))

    def _admitted(self, frame: pl.DataFrame, before_us: int, context: StepContext) -> Iterator[pl.DataFrame]:
        ready = []
        parts = self._parts(frame)
        for window, part in parts:
            if self._windowed and self._windowing.gone_at(window.end_us) <= before_us:
                context.counts["dropped"] += part.height
                if self._late is not None:
                    self._late(_late_records(part, window), context)
            elif self.views.ready(window):
                ready.append(part)
            else:
                self._wait(window, part)
        if len(ready) == len(parts):
            yield frame
        elif ready:
            yield pl.concat(ready).sort(OFFSET, maintain_order=True)

    def _parts(self, frame: pl.DataFrame) -> list[tuple[IntervalWindow, pl.DataFrame]]:
        """By the windows that decide about the sides."""
        if not self._windowed:
            return [(GLOBAL_WINDOW, frame)]
        parts = frame.partition_by(WINDOW_START, WINDOW_END, as_dict=True, maintain_order=True)
        return [(IntervalWindow.of_us(start_us, end_us), part) for (start_us, end_us), part in parts.items()]

    def _wait(self, window: IntervalWindow, rows: pl.DataFrame) -> None:
        held = [rows[TIME].min()]
        if WINDOW_END in rows.columns:
            held.append((rows[WINDOW_END] - 1).min())
        name = _NAME.pack(rows[OFFSET][0], min(time_us for time_us in held if isinstance(time_us, int)))
        self._state.put(_WAITING, window, name, write_stream(rows))
        self._waiting.setdefault(window, []).append(name)

    def _released(self) -> Iterator[pl.DataFrame]:
        """What was made ready, in the order in which it came."""
        chunks: list[tuple[int, pl.DataFrame]] = []
        for window in [window for window in self._waiting if self.views.ready(window)]:
            for name in self._waiting.pop(window):
                payload = self._state.get(_WAITING, window, name)
                assert payload is not None
                chunks.append((_NAME.unpack(name)[0], read_stream(payload)))
                self._state.delete(_WAITING, window, name)
        frames = [frame for _, frame in sorted(chunks, key=lambda chunk: chunk[0])]
        for _, alike in groupby(frames, key=lambda frame: frame.schema):
            yield pl.concat(list(alike)).sort(OFFSET, maintain_order=True)


def _late_records(rows: pl.DataFrame, window: IntervalWindow) -> Elements:
    elements = to_elements(rows)
    records = [{"value": value, **window_bounds(window), LATE_EVENTS: 1} for value in elements.values]
    return Elements(records, elements.times, elements.offsets)
