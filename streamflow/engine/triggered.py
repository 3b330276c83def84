"""The head of groupings on the row path with triggers of their own or merging windows: one event at a time through the
pane machine, accumulators follow its decisions.

In a step the clock comes first, then the events in the order of the log, then the watermark: what fires does not depend
on how events fall into steps. The machine's windows stand in memory as objects; after a claim they are made from the
keyed state, and the moments at which they want to be asked are put into heaps, whose entries may have become void.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import NamedTuple

import polars as pl

from streamflow.engine.accumulators import Accumulators, Place
from streamflow.engine.combine.contract import ACCUMULATOR, KEY, KEY_VALUE
from streamflow.engine.combine.rows import RowCombiner
from streamflow.engine.context import StepContext
from streamflow.engine.heads import Late
from streamflow.engine.history import ROWS, InputRow
from streamflow.engine.keyed import KeyedState
from streamflow.engine.ledger import Delta
from streamflow.model.batch import Batch, Elements
from streamflow.model.history import Kind
from streamflow.model.panes import Added, Decision, Dropped, Fired, Merged, PaneMachine, Windows
from streamflow.model.time import MAX_US, MIN_US
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START, IntervalWindow
from streamflow.model.windowing import TimestampCombiner, Windowing
from streamflow.topics import codec
from streamflow.topics.protocol import Record

_RESULTS_MAX = 10_000
"""Results handed on at once: bounds what a moment at which very many windows end takes of memory."""


class _Event(NamedTuple):
    """Its key and accumulator, pickled, and its input row, if that is to be told."""

    key: bytes
    accumulator: bytes
    row: InputRow | None


class TriggeredHead:
    """`watermark_us`: of the task when it was claimed."""

    time_max_us: int | None = None

    def __init__(
        self,
        combiner: RowCombiner,
        windowing: Windowing,
        state: KeyedState,
        watermark_us: int,
        label: str,
        late: Late | None = None,
        *,
        by_bundle: bool = False,
    ) -> None:
        """`by_bundle`: the trigger is asked once for all elements of a record."""
        self._by_bundle = by_bundle
        self.combiner, self.label, self.watermark_us, self._late = combiner, label, watermark_us, late
        self.machine = PaneMachine(windowing)
        self._at_end = windowing.timestamp_combiner is TimestampCombiner.OUTPUT_AT_EOW
        self._held = Accumulators(combiner, state)
        self._windows: dict[bytes, Windows] = defaultdict(dict)
        self._ends, self._dues, self._holds = Moments(), Moments(), Moments()
        self._changed: set[Place] = set()
        self._incoming: list[pl.DataFrame] = []
        self._unasked: list[Place] = []
        self._out = Elements()
        self._asked_us = MIN_US
        """The processing time up to which triggers have been asked."""
        self._loaded = False

    @property
    def due_us(self) -> int | None:
        self._load()
        return self._dues.first()

    @property
    def hold_us(self) -> int:
        self._load()
        first = self._holds.first()
        return MAX_US if first is None else first

    def absorb(self, records: Sequence[Record], context: StepContext) -> None:
        self._incoming = [codec.decode(record) for record in records]

    def fire(self, before_us: int, after_us: int, context: StepContext) -> Iterator[Batch]:
        self._load()
        self._asked_us = max(self._asked_us, context.now_us)
        self._by_clock(context)
        for frame in self._incoming:
            self._by_elements(frame, context)
            yield self._taken()
        self._incoming = []
        is_end = after_us == MAX_US > before_us
        if is_end and not any(self._windows.values()) and (empty := self.combiner.empty()) is not None:
            yield empty
        for _ in self._by_watermark(after_us, context):
            if len(self._out) >= _RESULTS_MAX:
                yield self._taken()
        yield self._taken()

    def delta(self, stamp: int, watermark_us: int, context: StepContext) -> Delta:
        for key, window in self._changed:
            self._held.keep((key, window), self._windows.get(key, {}).get(window))
        self._changed.clear()
        self._held.state.expire(watermark_us)
        context.counts["state_bytes_keyed"] += self._held.state.grown_bytes()
        return self._held.state.delta(stamp, watermark_us)

    def close(self) -> None:
        self._held.state.close()
        self.combiner.close()

    def _load(self) -> None:
        """What stands in the keyed state, once, after a claim."""
        if not self._loaded:
            self._loaded = True
            for (key, window), panes in self._held.stored():
                self._windows[key][window] = panes
                self._watch(key, window)

    def _taken(self) -> Elements:
        out, self._out = self._out, Elements()
        return out

    def _by_clock(self, context: StepContext) -> None:
        for key, window in self._dues.until(context.now_us):
            windows = self._windows[key]
            self._follow(key, self.machine.asked(windows, window, self.watermark_us, context.now_us), context)
            self._watch(key, window)

    def _by_elements(self, frame: pl.DataFrame, context: StepContext) -> None:
        columns = frame.select(KEY, WINDOW_START, WINDOW_END, TIME, KEY_VALUE, ACCUMULATOR)
        rows = frame[ROWS].to_list() if context.panes is not None and ROWS in frame.columns else None
        dropped: list[int] = []
        asks = not self._by_bundle
        for i, (key, start, end, time_us, key_value, accumulator) in enumerate(columns.iter_rows()):
            arrived = IntervalWindow.of_us(start, end)
            before = context.counts["dropped"]
            moments = time_us, self.watermark_us, context.now_us
            steps = self.machine.element(self._windows[key], arrived, *moments, asks=asks)
            self._follow(key, steps, context, _Event(key_value, accumulator, None if rows is None else rows[i][0]))
            if context.counts["dropped"] > before:
                dropped.append(i)
            if not self._windows.get(key, True):
                del self._windows[key]
        for key, window in dict.fromkeys(self._unasked):
            if window in self._windows.get(key, {}):
                steps = self.machine.asked(self._windows[key], window, self.watermark_us, context.now_us)
                self._follow(key, steps, context)
        self._unasked.clear()
        if dropped and self._late is not None:
            # In the windows that they arrived in: those that merge would not have stayed so.
            self._late(self.combiner.late(frame[dropped], context.on_bad(self.label)), context)

    def _by_watermark(self, after_us: int, context: StepContext) -> Iterator[None]:
        before_us, self.watermark_us = self.watermark_us, max(self.watermark_us, after_us)
        for key, window in self._ends.until(after_us):
            windows = self._windows[key]
            self._follow(key, self.machine.watermark(windows, window, before_us, after_us, context.now_us), context)
            self._watch(key, window)
            yield

    def _follow(self, key: bytes, steps: Iterable[Decision], context: StepContext, event: _Event | None = None) -> None:
        """Do with the accumulators what the machine decides."""
        for step in steps:
            if isinstance(step, Dropped):
                context.counts["dropped"] += 1
                self._tell(event, step.window, Kind.DROPPED, context)
            elif isinstance(step, Merged):
                for source in step.sources:
                    self._held.move((key, source), (key, step.result))
                    self._watch(key, source)
                self._watch(key, step.result)
            elif isinstance(step, Added):
                assert event is not None
                self._held.add((key, step.window), event.key, event.accumulator)
                if self._by_bundle:
                    self._unasked.append((key, step.window))
                is_late = step.window.end_us <= self.watermark_us
                context.counts["late"] += is_late
                self._tell(event, step.window, Kind.LATE if is_late else Kind.ROW, context)
                self._watch(key, step.window)
            elif isinstance(step, Fired):
                self._give(key, step, context)
                self._watch(key, step.window)

    def _tell(self, event: _Event | None, window: IntervalWindow, kind: Kind, context: StepContext) -> None:
        if context.panes is not None and event is not None and event.row is not None:
            context.panes.row_came(self.combiner.key_text(event.key), window, event.row, kind, self.watermark_us)

    def _give(self, key: bytes, fired: Fired, context: StepContext) -> None:
        place = key, fired.window
        try:
            result = self._held.result(place, clears=fired.clears)
        except Exception as error:
            context.on_bad(self.label)(self._held.key(place), -1, error)
        else:
            self._out.append(result, fired.time_us, -1, fired.window, fired.pane)
            if context.panes is not None:
                text = self.combiner.key_text(self._held.pickled_key(place))
                context.panes.pane_fired(text, fired.window, fired.pane, fired.events, self.watermark_us)

    def _watch(self, key: bytes, window: IntervalWindow) -> None:
        """The window has changed: when it ends or is gone, when its trigger is due, and what it holds back."""
        place = key, window
        self._changed.add(place)
        panes = self._windows[key].get(window)
        if panes is None:
            for moments in (self._ends, self._dues, self._holds):
                moments.set(place, None)
            if not self._windows[key]:
                del self._windows[key]
            return
        ends_us = min(window.end_us, MAX_US)
        is_past = ends_us <= self.watermark_us
        self._ends.set(place, self.machine.gone_at(window) if is_past else ends_us)
        if self.machine.trigger.uses_clock:
            self._dues.set(place, self.machine.trigger.due_us(panes.trigger, self._asked_us))
        # A result at the end of its window holds nothing before that end has passed.
        if is_past or not self._at_end:
            self._holds.set(place, self.machine.hold_us(window, panes))


class Moments:
    """One moment for each of some places, the earliest first; those of equal moments in the order they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Place]] = []
        self._current: dict[Place, tuple[int, int]] = {}
        self._order = count()

    def set(self, place: Place, moment_us: int | None) -> None:
        """None: it has no moment any more."""
        if moment_us is None:
            self._current.pop(place, None)
        elif place not in self._current or self._current[place][0] != moment_us:
            entry = moment_us, next(self._order)
            self._current[place] = entry
            heapq.heappush(self._heap, (*entry, place))

    def first(self) -> int | None:
        while self._heap and self._current.get(self._heap[0][2]) != self._heap[0][:2]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def until(self, last_us: int) -> Iterator[Place]:
        """Those whose moment is not after `last_us`, in order; each has no moment any more when it is given."""
        while (first := self.first()) is not None and first <= last_us:
            _, _, place = heapq.heappop(self._heap)
            del self._current[place]
            yield place
