"""Accumulators of keys and windows in keyed state, beside what their panes need. No rule of triggers or time is here.

Of each key and window: the panes' numbers (`p`), the key (`k`), and the accumulator as parts (`a…`), to which each step
adds one, so that what a step writes does not grow with what is held. A pane is the parts merged.
"""

import pickle
from collections.abc import Iterator
from typing import Any

import msgspec

from streamflow.engine.combine.rows import RowCombiner
from streamflow.engine.keyed import KeyedState
from streamflow.model.panes import WindowPanes
from streamflow.model.window import IntervalWindow

_PANES, _KEY_VALUE, _PART = b"p", b"k", b"a"
_PARTS_MAX = 16
"""Parts that may be stored before they are merged into one: so often is each written again, at most."""

Place = tuple[bytes, IntervalWindow]
"""A key, encoded, and one of its windows."""


class Accumulators:
    """`state`: of the task. What is added in a step is in the state after `keep`."""

    def __init__(self, combiner: RowCombiner, state: KeyedState) -> None:
        self.combiner, self.state = combiner, state
        self._fresh: dict[Place, list[bytes]] = {}
        self._keys: dict[Place, bytes] = {}

    def stored(self) -> Iterator[tuple[Place, WindowPanes]]:
        """Every key and window there is, with its panes."""
        for place in self.state.groups():
            stored = self.state.get(*place, _PANES)
            assert stored is not None
            yield place, WindowPanes(*msgspec.msgpack.decode(stored))

    def add(self, place: Place, key: bytes, accumulator: bytes) -> None:
        """Both pickled."""
        self._keys.setdefault(place, key)
        self._fresh.setdefault(place, []).append(accumulator)

    def move(self, source: Place, target: Place) -> None:
        """What is held of one window is held of another one of the same key."""
        # A session grows with each event: what is held of it must not be copied each time.
        parts = self._take(source)
        if target in self._fresh:
            self._fresh[target] += parts
        elif parts:
            self._fresh[target] = parts
        self._keys.setdefault(target, self.pickled_key(source))

    def result(self, place: Place, *, clears: bool) -> Any:
        """What is held of it, as a result; `clears`: it is held no longer. Raises what the CombineFn raises."""
        parts = self._take(place) if clears else self._parts(place)
        if not parts:
            accumulator = self.combiner.fn.create_accumulator()
        elif len(parts) == 1:
            accumulator = pickle.loads(parts[0])
        else:
            merged = self.combiner.merged(parts)
            if not clears:
                self._take(place)
                self._fresh[place] = [merged]
            accumulator = pickle.loads(merged)
        result = self.combiner.fn.extract_output(accumulator)
        return self.combiner.result(pickle.loads(self.pickled_key(place)), result, place[1])

    def key(self, place: Place) -> Any:
        return pickle.loads(self.pickled_key(place))

    def keep(self, place: Place, panes: WindowPanes | None) -> None:
        """The end of a step that has changed it; None: nothing of it is needed any more."""
        if panes is None:
            self._fresh.pop(place, None)
            self._keys.pop(place, None)
            for name in list(self.state.entries(*place)):
                self.state.delete(*place, name)
            return
        self.state.put(*place, _PANES, msgspec.msgpack.encode(panes.plain()))
        if (key := self._keys.pop(place, None)) is not None:
            self.state.put(*place, _KEY_VALUE, key)
        names = self._names(place)
        if place in self._fresh and len(names) >= _PARTS_MAX:
            self._fresh[place] = self._take(place)
            names = []
        number = _number(names[-1]) + 1 if names else 0
        for i, part in enumerate(self._merged(self._fresh.pop(place, []))):
            self.state.put(*place, _PART + (number + i).to_bytes(8), part)

    def _merged(self, parts: list[bytes]) -> list[bytes]:
        """One part, unless they can't be merged: that is told when a pane needs them."""
        if len(parts) < 2:
            return parts
        try:
            return [self.combiner.merged(parts)]
        except Exception:
            return parts

    def _names(self, place: Place) -> list[bytes]:
        return sorted(name for name in self.state.entries(*place) if name.startswith(_PART))

    def _parts(self, place: Place) -> list[bytes]:
        entries = self.state.entries(*place)
        return [entries[name] for name in self._names(place)] + self._fresh.get(place, [])

    def _take(self, place: Place) -> list[bytes]:
        """The parts, which are held no longer."""
        fresh = self._fresh.pop(place, [])
        names = self._names(place)
        if names:
            entries = self.state.entries(*place)
            fresh[:0] = [entries[name] for name in names]
            for name in names:
                self.state.delete(*place, name)
        return fresh

    def pickled_key(self, place: Place) -> bytes:
        key = self._keys.get(place) or self.state.get(*place, _KEY_VALUE)
        assert key is not None
        return key


def _number(name: bytes) -> int:
    return int.from_bytes(name[len(_PART) :])
