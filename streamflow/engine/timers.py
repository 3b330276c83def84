"""Timers of one task: entries of its keyed state, with heaps beside them that say which is the next. An item of a heap
counts only if the entry still says the same, so that to set, clear or undo is a matter of the entries alone.
"""

import heapq
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from streamflow.engine.keyed import KeyedState
from streamflow.model.time import MAX_US
from streamflow.model.window import IntervalWindow
from streamflow.transforms.timeutil import TimeDomain

EVENT, CLOCK, EXPIRY = b"e", b"p", b"x"
"""The kinds, which begin the names of their entries: by the watermark, by the clock, and the end of a state's life."""
KINDS = {TimeDomain.WATERMARK: EVENT, TimeDomain.REAL_TIME: CLOCK}
_TIMES = struct.Struct("<qq")
_SIZE = struct.Struct("<I")
_SPARE = 1_000
"""How many items that do not count any more a heap may have, besides as many as there are entries."""

FOREVER_US = (1 << 63) - 1
"""After every time of a timer."""

_Item = tuple[int, bytes, IntervalWindow, bytes]
"""(its time, key, window, name): what is due at the same time comes in the order of the rest, after a claim too."""


@dataclass(frozen=True, slots=True)
class Timer:
    """`fire_us`: of its domain; `output_us`: event time of what it gives; `user_key`: pickled; `name`: of its spec."""

    kind: bytes
    key: bytes
    window: IntervalWindow
    name: str
    tag: str
    fire_us: int
    output_us: int
    user_key: bytes

    @property
    def entry(self) -> bytes:
        name = self.name.encode()
        return self.kind + _SIZE.pack(len(name)) + name + self.tag.encode()


class Timers:
    """`gone_at`: the watermark at which nothing of a window with that end is needed any more."""

    def __init__(self, state: KeyedState, gone_at: Callable[[int], int]) -> None:
        self._state, self._gone_at = state, gone_at
        self._heaps: dict[bytes, list[_Item]] = {EVENT: [], CLOCK: [], EXPIRY: []}
        self._holds: list[_Item] = []
        """Of those by the clock: their times are those of the outputs."""
        self._closings: list[_Item] = []
        """The same: their times are those at which their windows go."""
        self._build()

    def set(self, timer: Timer) -> None:
        """In place of what was set under the same name and tag."""
        self._put(timer)
        self._push(timer)

    def prolong(self, timer: Timer) -> None:
        """Like `set`, where a timer that there is already is never set earlier."""
        before = self._state.get(timer.key, timer.window, timer.entry)
        if before is None:
            self.set(timer)
        elif _TIMES.unpack_from(before)[0] < timer.fire_us:
            self._put(timer)

    def clear(self, timer: Timer) -> None:
        self._state.delete(timer.key, timer.window, timer.entry)

    def take(self, kind: bytes, until_us: int) -> Timer | None:
        """The first that is due by then; it is no longer set."""
        if self.next_us(kind, until_us) is None:
            return None
        _, key, window, entry = heapq.heappop(self._heaps[kind])
        timer = self._found(key, window, entry)
        assert timer is not None
        self.clear(timer)
        return timer

    def next_us(self, kind: bytes, until_us: int = FOREVER_US) -> int | None:
        """When the first is due; None if none is by then."""
        heap = self._heaps[kind]
        while heap and heap[0][0] <= until_us:
            time_us, key, window, entry = heap[0]
            timer = self._found(key, window, entry)
            if timer is not None and timer.fire_us == time_us:
                return time_us
            heapq.heappop(heap)
            if timer is not None and kind == EXPIRY:
                self._push(timer)
        return None

    def hold_us(self) -> int:
        """The earliest event time of what timers that go by the clock will give; `MAX_US` if there are none."""
        while self._holds:
            output_us, key, window, entry = self._holds[0]
            timer = self._found(key, window, entry)
            if timer is not None and timer.output_us == output_us:
                return output_us
            heapq.heappop(self._holds)
        return MAX_US

    def closing(self, watermark_us: int) -> list[Timer]:
        """Those by the clock whose windows go at that watermark; they are no longer set."""
        closing = []
        while self._closings and self._closings[0][0] <= watermark_us:
            _, key, window, entry = heapq.heappop(self._closings)
            if (timer := self._found(key, window, entry)) is not None:
                self.clear(timer)
                closing.append(timer)
        return sorted(closing, key=lambda timer: timer.fire_us)

    def tidy(self) -> None:
        """Make heaps anew that are mostly of items that do not count any more."""
        items = sum(map(len, self._heaps.values())) + len(self._holds) + len(self._closings)
        if items > 4 * len(self._state) + _SPARE:
            self._build()

    def _build(self) -> None:
        self._heaps, self._holds, self._closings = {kind: [] for kind in self._heaps}, [], []
        for timer in self._all():
            self._push(timer)

    def _all(self) -> Iterator[Timer]:
        for key, window in self._state.groups():
            for entry in self._state.entries(key, window):
                if entry[:1] in self._heaps and (timer := self._found(key, window, entry)) is not None:
                    yield timer

    def _put(self, timer: Timer) -> None:
        value = _TIMES.pack(timer.fire_us, timer.output_us) + timer.user_key
        self._state.put(timer.key, timer.window, timer.entry, value)

    def _push(self, timer: Timer) -> None:
        rest = (timer.key, timer.window, timer.entry)
        heapq.heappush(self._heaps[timer.kind], (timer.fire_us, *rest))
        if timer.kind == CLOCK:
            heapq.heappush(self._holds, (timer.output_us, *rest))
            heapq.heappush(self._closings, (self._gone_at(timer.window.end_us), *rest))

    def _found(self, key: bytes, window: IntervalWindow, entry: bytes) -> Timer | None:
        value = self._state.get(key, window, entry)
        if value is None:
            return None
        begin = 1 + _SIZE.size
        end = begin + _SIZE.unpack_from(entry, 1)[0]
        fire_us, output_us = _TIMES.unpack_from(value)
        name, tag = entry[begin:end].decode(), entry[end:].decode()
        return Timer(entry[:1], key, window, name, tag, fire_us, output_us, value[_TIMES.size :])
