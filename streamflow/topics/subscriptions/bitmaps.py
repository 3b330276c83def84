"""Sets of offsets as Roaring bitmaps, and what the machine asks of them. Pure.

pyroaring holds a million scattered offsets in some hundred kB, changes one in 40 ns and joins whole sets in
microseconds; a Python set or an int used as a bitmap does one of these, not all three.
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from pyroaring import BitMap64

Offsets: TypeAlias = BitMap64


def span(start: int, end: int) -> Offsets:
    """All of `[start, end)`."""
    found = BitMap64()
    found.add_range(start, end)
    return found


def runs(offsets: Offsets) -> Iterator[tuple[int, int]]:
    """Maximal `(start, end)` ranges in order; costs what there are ranges."""
    if not offsets:
        return iter(())
    if offsets.max() - offsets.min() + 1 == len(offsets):
        return iter([(offsets.min(), offsets.max() + 1)])
    firsts, lasts = offsets - offsets.shift(1), offsets - offsets.shift(-1)
    return ((first, last + 1) for first, last in zip(firsts, lasts, strict=True))


class Timetable:
    """Which offsets are due when: one set per tick, so that its size depends on the ticks and not on the offsets.

    It may still hold offsets that are settled meanwhile; who takes them out masks them.
    """

    TICK_US = 100_000
    """Moments are rounded up to it: a lease may last 0.1 s longer than asked."""

    def __init__(self, slots: Iterable[tuple[int, Offsets]] = ()) -> None:
        self._slots = dict(slots)
        self._soonest = min(self._slots, default=None)

    def slots(self) -> list[tuple[int, Offsets]]:
        """In time order."""
        return sorted(self._slots.items())

    @property
    def soonest_us(self) -> int | None:
        """When to look again; there may be nothing left to do then."""
        return self._soonest

    def slot(self, when_us: int) -> Offsets:
        """The set of that moment, to be added to at once."""
        tick = -(-when_us // self.TICK_US) * self.TICK_US
        if tick not in self._slots:
            self._slots[tick] = BitMap64()
            if self._soonest is None or tick < self._soonest:
                self._soonest = tick
        return self._slots[tick]

    def remove(self, offsets: Offsets) -> None:
        emptied = []
        for tick, held in self._slots.items():
            held -= offsets
            if not held:
                emptied.append(tick)
        self._forget(emptied)

    def pop_due(self, now_us: int) -> Offsets:
        due = BitMap64()
        if self._soonest is None or self._soonest > now_us:
            return due
        ticks = [tick for tick in self._slots if tick <= now_us]
        for tick in ticks:
            due |= self._slots[tick]
        self._forget(ticks)
        return due

    def _forget(self, ticks: list[int]) -> None:
        if ticks:
            for tick in ticks:
                del self._slots[tick]
            self._soonest = min(self._slots, default=None)


class Failures:
    """How often offsets have failed: one set per count, and nothing for those that never have."""

    def __init__(self, levels: Iterable[tuple[int, Offsets]] = ()) -> None:
        self._levels = dict(levels)

    def __bool__(self) -> bool:
        return bool(self._levels)

    def levels(self) -> list[tuple[int, Offsets]]:
        """(count, offsets), ascending."""
        return sorted(self._levels.items())

    def count(self, offset: int) -> int:
        return next((count for count, offsets in self._levels.items() if offset in offsets), 0)

    def having(self, count: int, offsets: Offsets) -> Offsets:
        """Those of `offsets` that failed exactly so often."""
        if count > 0:
            return offsets & self._levels[count] if count in self._levels else BitMap64()
        return offsets.difference(*self._levels.values())

    def add(self, offsets: Offsets) -> list[tuple[int, Offsets]]:
        """One more failure of each; (new count, offsets) of those given."""
        raised = []
        fresh = offsets.copy()
        for count, held in self.levels():
            moved = held & fresh
            if moved:
                held -= moved
                fresh -= moved
                raised.append((count + 1, moved))
        if fresh:
            raised.append((1, fresh))
        for count, moved in raised:
            self._levels[count] = self._levels[count] | moved if count in self._levels else moved.copy()
        self._drop_empty()
        return raised

    def forget(self, offsets: Offsets) -> None:
        for held in self._levels.values():
            held -= offsets
        self._drop_empty()

    def forget_one(self, offset: int) -> None:
        for held in self._levels.values():
            held.discard(offset)
        self._drop_empty()

    def split(self, offsets: Offsets) -> Iterator[tuple[int, Offsets]]:
        """(count, those of `offsets` that failed so often), 0 first; without empty sets."""
        if not self._levels:
            return iter([(0, offsets)] if offsets else [])
        rest = offsets
        found = []
        for count, held in self.levels():
            here = held & rest
            if here:
                rest = rest - here
                found.append((count, here))
        return iter(([(0, rest)] if rest else []) + found)

    def _drop_empty(self) -> None:
        self._levels = {count: held for count, held in self._levels.items() if held}
