"""Keyed state of one task: (key, window, name) → bytes, held whole in memory, durable with the step that changed it.

    state = KeyedState(ledger, gone_at, claim.state.watermark_us, settings.compact_segments)
    state.put(key, window, b"count", b"1")       # seen by the next get, durable with the step's commit
    state.get(key, window, b"count")             # b"1"; None if there is no such entry
    state.entries(key, window)                   # all names of one key and window
    state.delete(key, window, b"count")
    state.mark(); …; state.undo()                # takes back what was changed since the mark: a bad event
    state.expire(watermark_us)                   # once per step, after the watermark has moved
    delta = state.delta(stamp, watermark_us)     # at the end of the step; goes into its StepCommit

What a step has changed is one frame, written as a state segment with the step's commit: it exists if and only if the
step does, so nothing is lost and nothing counted twice. A task that is claimed reads its segments in order, the newest
value of an entry wins, and a null value (tombstone) says that it was deleted. Windows that the watermark has left
behind need no tombstones: whoever reads the segments knows the watermark, and leaves them out.

Whoever keeps counters, lists or timers in it chooses names and encodings; the store looks at neither.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import polars as pl

from streamflow.engine.ledger import Delta, Ledger
from streamflow.engine.memory import StateMemory
from streamflow.engine.slices import ALL
from streamflow.model.window import WINDOW_END, WINDOW_START, IntervalWindow
from streamflow.topics.frames import write_compact
from streamflow.topics.protocol import SegmentInfo, StateSegment

_KEY, _NAME, _VALUE = "_key", "_name", "_value"
_ENTRY = (_KEY, WINDOW_START, WINDOW_END, _NAME)
_SCHEMA: dict[str, Any] = {
    _KEY: pl.Binary,
    WINDOW_START: pl.Int64,
    WINDOW_END: pl.Int64,
    _NAME: pl.Binary,
    _VALUE: pl.Binary,
}
_UNCUT_BYTES = 1 << 62
"""Compaction need not be cut into slices: the whole state is in memory anyway."""
_BESIDE_BYTES = 150
"""What an entry takes in memory besides the bytes of its name and value: Python's objects, its place in the dict."""
_ENDS_SPARE = 1_000
"""How many groups that have gone may be in the heap, besides as many as there are, before it is made anew."""

_NONE: Mapping[bytes, bytes] = MappingProxyType({})


@dataclass(slots=True, eq=False)
class _Group:
    """`changed`: names that the step has put or deleted."""

    key: bytes
    window: IntervalWindow
    names: dict[bytes, bytes] = field(default_factory=dict)
    changed: set[bytes] = field(default_factory=set)


class KeyedState:
    """`ledger`: the durable segments, read when the state is first asked for something; `gone_at`: the watermark at
    which a window with that end is not needed any more; `watermark_us`: the task's when it was claimed;
    `segments_max`: about how many segments there may be before some are merged; `memory`: of the worker, which is told
    what the state takes of it. Not shared between threads."""

    def __init__(
        self,
        ledger: Ledger,
        gone_at: Callable[[int], int],
        watermark_us: int,
        segments_max: int,
        memory: StateMemory | None = None,
    ) -> None:
        self._ledger, self._gone_at, self._segments_max, self._memory = ledger, gone_at, segments_max, memory
        self._watermark_us = watermark_us
        self._groups: dict[tuple[bytes, IntervalWindow], _Group] = {}
        self._at: tuple[bytes, IntervalWindow, _Group] | None = None
        """The group last asked for, with the very objects it was asked for by: mostly it is also the next."""
        self._changed: list[_Group] = []
        self._ends: list[tuple[int, int, _Group]] = []
        """A heap of (window's end, number, group), which may have groups that are gone."""
        self._created = 0
        self._size = 0
        self._bytes = self._bytes_told = 0
        self._before: list[tuple[_Group, bytes, bytes | None]] | None = None
        self._loaded = not len(ledger)

    def __len__(self) -> int:
        """How many entries there are."""
        self._load()
        return self._size

    def get(self, key: bytes, window: IntervalWindow, name: bytes) -> bytes | None:
        group = self._group(key, window)
        return None if group is None else group.names.get(name)

    def entries(self, key: bytes, window: IntervalWindow) -> Mapping[bytes, bytes]:
        """By name; changes with the state, so copy it before you change what you iterate over."""
        group = self._group(key, window)
        return _NONE if group is None else group.names

    def groups(self) -> Iterator[tuple[bytes, IntervalWindow]]:
        """Every key and window with entries, to rebuild an index from after a claim. Change nothing meanwhile."""
        self._load()
        return (place for place, group in self._groups.items() if group.names)

    def put(self, key: bytes, window: IntervalWindow, name: bytes, value: bytes) -> None:
        group = self._group(key, window) or self._create(key, window)
        self._change(group, name, value)

    def delete(self, key: bytes, window: IntervalWindow, name: bytes) -> None:
        """Nothing happens if there is no such entry."""
        group = self._group(key, window)
        if group is not None:
            self._change(group, name, None)

    def mark(self) -> None:
        """From here on changes can be taken back by `undo`, until the next mark or the end of the step."""
        self._before = []

    def undo(self) -> None:
        """Everything is as it was at the mark."""
        before, self._before = self._before or [], None
        for group, name, value in reversed(before):
            self._change(group, name, value)

    def expire(self, watermark_us: int) -> list[tuple[bytes, IntervalWindow]]:
        """Forget the windows that are not needed any more at that watermark; which keys and windows these were."""
        self._load()
        self._watermark_us, self._at = max(self._watermark_us, watermark_us), None
        gone = []
        while self._ends and self._gone_at(self._ends[0][0]) <= self._watermark_us:
            _, _, group = heapq.heappop(self._ends)
            if self._groups.get(place := (group.key, group.window)) is group:
                del self._groups[place]
                self._size -= len(group.names)
                self._bytes -= sum(map(_bytes_of, group.names, group.names.values()))
                gone += [place] if group.names else []
        return gone

    def delta(self, stamp: int, watermark_us: int) -> Delta:
        """What the step's commit must persist; `stamp`: the input offset that it covers."""
        delta = Delta(drop=self._ledger.expired(watermark_us, self._gone_at))
        self._ledger.drop(delta.drop)
        self._before = None
        if self._loaded:
            self._compact(delta, stamp, watermark_us)
        if (changed := self._changes(watermark_us)).height:
            delta.add.append(self._segment(changed, stamp, watermark_us))
        if self._memory is not None:
            self._memory.keep(self, self._bytes)
        return delta

    def grown_bytes(self) -> int:
        """By how much it takes more memory than when this was last asked, or than when it was claimed. So the sum over
        all of a task's owners is what it takes now."""
        told, self._bytes_told = self._bytes_told, self._bytes
        return self._bytes - told

    def close(self) -> None:
        if self._memory is not None:
            self._memory.forget(self)

    def _compact(self, delta: Delta, stamp: int, watermark_us: int) -> None:
        """Merge the newest segments, if there are too many; older ones stay before them, so order is kept."""
        run = self._ledger.run_to_merge(self._segments_max, _UNCUT_BYTES, self._size)
        if not run:
            return
        merged = _newest([self._ledger.read(info) for info in run])
        if len(run) == len(self._ledger):
            merged = merged.filter(pl.col(_VALUE).is_not_null())
        sequences = [info.sequence for info in run]
        self._ledger.drop(sequences)
        delta.drop += sequences
        if (merged := self._living(merged, watermark_us)).height:
            delta.add.append(self._segment(merged, stamp, watermark_us))

    def _changes(self, watermark_us: int) -> pl.DataFrame:
        """What the step has changed, as rows. Groups that it has left empty are forgotten."""
        changed, self._changed, self._at = self._changed, [], None
        rows: list[tuple[bytes, int, int, bytes, bytes | None]] = []
        for group in changed:
            start_us, end_us = group.window.start_us, group.window.end_us
            rows += [(group.key, start_us, end_us, name, group.names.get(name)) for name in group.changed]
            group.changed = set()
            if not group.names and self._groups.get(place := (group.key, group.window)) is group:
                del self._groups[place]
        if len(self._ends) > 2 * len(self._groups) + _ENDS_SPARE:
            self._ends = [(g.window.end_us, n, g) for n, g in enumerate(self._groups.values())]
            heapq.heapify(self._ends)
            self._created = len(self._ends)
        return self._living(pl.DataFrame(rows, schema=_SCHEMA, orient="row"), watermark_us)

    def _segment(self, frame: pl.DataFrame, stamp: int, watermark_us: int) -> StateSegment:
        ends, sequence = frame[WINDOW_END], self._ledger.next_sequence()
        low_us, high_us = ends.min(), ends.max()
        assert isinstance(low_us, int)
        assert isinstance(high_us, int)
        size = int(frame.estimated_size())
        info = SegmentInfo(sequence, stamp, watermark_us, frame.height, size, low_us, high_us, ALL)
        self._ledger.add(info, resident=True)
        return StateSegment(info, write_compact(frame))

    def _living(self, frame: pl.DataFrame, watermark_us: int) -> pl.DataFrame:
        ends = frame[WINDOW_END].unique().to_list()
        gone = [end for end in ends if self._gone_at(end) <= watermark_us]
        return frame.filter(~pl.col(WINDOW_END).is_in(gone)) if gone else frame

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        segments = self._ledger.on_disk_only()
        newest = _newest([self._ledger.read(info) for info in segments]).filter(pl.col(_VALUE).is_not_null())
        for key, start, end, name, value in self._living(newest, self._watermark_us).iter_rows():
            window = IntervalWindow.of_us(start, end)
            (self._group(key, window) or self._create(key, window)).names[name] = value
        names = [group.names for group in self._groups.values()]
        self._size = sum(map(len, names))
        self._bytes = self._bytes_told = sum(_bytes_of(*entry) for of_group in names for entry in of_group.items())
        self._ledger.take_up(segments)

    def _group(self, key: bytes, window: IntervalWindow) -> _Group | None:
        if self._at is not None and self._at[0] is key and self._at[1] is window:
            return self._at[2]
        self._load()
        group = self._groups.get((key, window))
        self._at = None if group is None else (key, window, group)
        return group

    def _create(self, key: bytes, window: IntervalWindow) -> _Group:
        group = self._groups[key, window] = _Group(key, window)
        self._at = key, window, group
        heapq.heappush(self._ends, (window.end_us, self._created, group))
        self._created += 1
        return group

    def _change(self, group: _Group, name: bytes, value: bytes | None) -> None:
        old = group.names.get(name)
        if old == value:
            return
        if self._before is not None:
            self._before.append((group, name, old))
        if not group.changed:
            self._changed.append(group)
        group.changed.add(name)
        self._size += (old is None) - (value is None)
        self._bytes += (0 if value is None else _bytes_of(name, value)) - (0 if old is None else _bytes_of(name, old))
        if value is None:
            del group.names[name]
        else:
            group.names[name] = value


def _bytes_of(name: bytes, value: bytes) -> int:
    return len(name) + len(value) + _BESIDE_BYTES


def _newest(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row per entry: that of the last frame which has it."""
    return pl.concat([pl.DataFrame(schema=_SCHEMA), *frames]).unique(_ENTRY, keep="last", maintain_order=True)
