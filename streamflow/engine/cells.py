"""The state of a DoFn as it sees it: each kind of StateSpec as entries of the keyed state of one key and window.

Values are bytes as soon as they are written, so that to take back what a bad element has changed is to take back
entries, and a value that can't be kept is found where it is written.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from streamflow.base.errors import DataError
from streamflow.engine.keyed import KeyedState
from streamflow.model.coders import PickleCoder
from streamflow.model.combiner import CombineFn
from streamflow.model.keys import encode_key
from streamflow.model.time import Timestamp, TimestampTypes, timestamp_us
from streamflow.model.window import IntervalWindow
from streamflow.transforms.userstate import (
    BagStateSpec,
    CombiningValueStateSpec,
    MapStateSpec,
    OrderedListStateSpec,
    ReadModifyWriteStateSpec,
    SetStateSpec,
    StateSpec,
)

PIECE_BYTES_MAX = 4_096
"""Values of a bag lie together up to this size, which is what adding one to it writes at most, besides the value."""
_STATE = b"s"
"""What the names of entries begin with that are no timers."""
_SIZE = struct.Struct("<I")
_TIME = struct.Struct(">Q")
_TIME_BIAS = 1 << 63
"""Makes times into numbers that, as big-endian bytes, are ordered as they are."""

Changed = Callable[[], None]


class Cell:
    """`changed` is told of each write. Names begin with `prefix`, which no other cell's names do."""

    def __init__(
        self, state: KeyedState, key: bytes, window: IntervalWindow, spec: StateSpec, changed: Changed
    ) -> None:
        self._state, self._key, self._window, self._spec, self._changed = state, key, window, spec, changed
        self._prefix = prefix_of(spec.name)

    def clear(self) -> None:
        for name in self._names():
            self._state.delete(self._key, self._window, name)

    def prefetch(self) -> None:
        """As in Apache Beam; all state is in memory."""

    def _names(self, inner: bytes = b"") -> list[bytes]:
        prefix = self._prefix + inner
        return [name for name in self._state.entries(self._key, self._window) if name.startswith(prefix)]

    def _get(self, name: bytes = b"") -> bytes | None:
        return self._state.get(self._key, self._window, self._prefix + name)

    def _put(self, value: bytes, name: bytes = b"") -> None:
        self._state.put(self._key, self._window, self._prefix + name, value)
        self._changed()

    def _delete(self, name: bytes) -> None:
        self._state.delete(self._key, self._window, self._prefix + name)


class ValueCell(Cell):
    def read(self) -> Any:
        encoded = self._get()
        return None if encoded is None else self._spec.coder.decode(encoded)

    def write(self, value: Any) -> None:
        self._put(self._spec.coder.encode(value))


class CombiningCell(Cell):
    """`fn`: the task's own copy."""

    def __init__(
        self,
        state: KeyedState,
        key: bytes,
        window: IntervalWindow,
        spec: StateSpec,
        changed: Changed,
        fn: CombineFn,
    ) -> None:
        super().__init__(state, key, window, spec, changed)
        self._fn = fn

    def read(self) -> Any:
        return self._fn.extract_output(self._accumulator())

    def add(self, value: Any) -> None:
        accumulator = self._fn.add_input(self._accumulator(), value)
        self._put(self._spec.coder.encode(self._fn.compact(accumulator)))

    def _accumulator(self) -> Any:
        encoded = self._get()
        return self._fn.create_accumulator() if encoded is None else self._spec.coder.decode(encoded)


class BagCell(Cell):
    """Pieces with values one after the other; the entry without a number says how many pieces there are."""

    def read(self) -> list[Any]:
        return [self._spec.coder.decode(part) for n in range(self._pieces()) for part in _parts(self._piece(n))]

    def add(self, value: Any) -> None:
        encoded = self._spec.coder.encode(value)
        part = _SIZE.pack(len(encoded)) + encoded
        pieces = self._pieces()
        last = self._piece(pieces - 1) if pieces else b""
        if pieces and len(last) + len(part) <= PIECE_BYTES_MAX:
            self._put(last + part, _SIZE.pack(pieces - 1))
        else:
            self._put(part, _SIZE.pack(pieces))
            self._put(_SIZE.pack(pieces + 1))

    def clear(self) -> None:
        for n in range(self._pieces()):
            self._delete(_SIZE.pack(n))
        self._delete(b"")

    def _pieces(self) -> int:
        encoded = self._get()
        return 0 if encoded is None else int(_SIZE.unpack(encoded)[0])

    def _piece(self, n: int) -> bytes:
        return self._get(_SIZE.pack(n)) or b""


class SetCell(Cell):
    """An entry per value, named by it."""

    def read(self) -> set[Any]:
        entries = self._state.entries(self._key, self._window)
        return {self._spec.coder.decode(entries[name]) for name in self._names()}

    def add(self, value: Any) -> None:
        self._put(self._spec.coder.encode(value), encode_key(value))


_KEYS = PickleCoder()


class MapCell(Cell):
    """An entry per key, named by it: the key and the value."""

    def put(self, key: Any, value: Any) -> None:
        encoded = _KEYS.encode(key)
        self._put(_SIZE.pack(len(encoded)) + encoded + self._spec.coder.encode(value), encode_key(key))

    def get(self, key: Any, default: Any = None) -> Any:
        encoded = self._get(encode_key(key))
        return default if encoded is None else self._pair(encoded)[1]

    def remove(self, key: Any) -> None:
        self._delete(encode_key(key))

    def entries(self) -> list[tuple[Any, Any]]:
        entries = self._state.entries(self._key, self._window)
        return [self._pair(entries[name]) for name in self._names()]

    def keys(self) -> list[Any]:
        return [key for key, _ in self.entries()]

    def values(self) -> list[Any]:
        return [value for _, value in self.entries()]

    def _pair(self, encoded: bytes) -> tuple[Any, Any]:
        begin = _SIZE.size + _SIZE.unpack_from(encoded)[0]
        return _KEYS.decode(encoded[_SIZE.size : begin]), self._spec.coder.decode(encoded[begin:])


class OrderedListCell(Cell):
    """An entry per timestamp, named by it so that names are in its order: the values that have it."""

    def read(self) -> list[tuple[Timestamp, Any]]:
        return list(self._read(self._names()))

    def read_range(self, min_time_stamp: TimestampTypes, limit_time_stamp: TimestampTypes) -> list[Any]:
        """From `min_time_stamp` on, before `limit_time_stamp`."""
        return list(self._read(self._between(min_time_stamp, limit_time_stamp)))

    def clear_range(self, min_time_stamp: TimestampTypes, limit_time_stamp: TimestampTypes) -> None:
        """The same range."""
        for name in self._between(min_time_stamp, limit_time_stamp):
            self._delete(name.removeprefix(self._prefix))

    def add(self, value: tuple[TimestampTypes, Any]) -> None:
        if not isinstance(value, tuple) or len(value) != 2:
            raise DataError(f"an ordered list takes (timestamp, value) pairs, not {value!r}.")
        name, encoded = _TIME.pack(timestamp_us(value[0]) + _TIME_BIAS), self._spec.coder.encode(value[1])
        self._put((self._get(name) or b"") + _SIZE.pack(len(encoded)) + encoded, name)

    def _read(self, names: Iterable[bytes]) -> Iterator[tuple[Timestamp, Any]]:
        for name in sorted(names):
            time = Timestamp(micros=_TIME.unpack(name.removeprefix(self._prefix))[0] - _TIME_BIAS)
            for part in _parts(self._get(name.removeprefix(self._prefix)) or b""):
                yield time, self._spec.coder.decode(part)

    def _between(self, low: TimestampTypes, limit: TimestampTypes) -> list[bytes]:
        first, last = (self._prefix + _TIME.pack(timestamp_us(at) + _TIME_BIAS) for at in (low, limit))
        return [name for name in self._names() if first <= name < last]


_CELLS: dict[type[StateSpec], type[Cell]] = {
    ReadModifyWriteStateSpec: ValueCell,
    BagStateSpec: BagCell,
    SetStateSpec: SetCell,
    MapStateSpec: MapCell,
    OrderedListStateSpec: OrderedListCell,
}


def prefix_of(name: str) -> bytes:
    """What the names of this state's entries begin with."""
    encoded = name.encode()
    return _STATE + _SIZE.pack(len(encoded)) + encoded


def state_bytes(entries: Mapping[bytes, bytes]) -> int:
    """How much a key and window have in state; their timers do not count."""
    return sum(len(name) + len(value) for name, value in entries.items() if name.startswith(_STATE))


def cell_of(
    state: KeyedState,
    key: bytes,
    window: IntervalWindow,
    spec: StateSpec,
    changed: Changed,
    combiners: dict[str, CombineFn],
) -> Cell:
    """`combiners`: the task's copies, by the name of the state."""
    if isinstance(spec, CombiningValueStateSpec):
        return CombiningCell(state, key, window, spec, changed, combiners[spec.name])
    return _CELLS[type(spec)](state, key, window, spec, changed)


def _parts(piece: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(piece):
        begin = at + _SIZE.size
        at = begin + _SIZE.unpack_from(piece, at)[0]
        yield piece[begin:at]
