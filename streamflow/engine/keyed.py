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
from types import MappingProxyType
from typing import Any

import polars as pl

from streamflow.engine.ledger import Delta, Ledger
from streamflow.engine.slices import ALL
from streamflow.model.window import WINDOW_END, WINDOW_START, IntervalWindow
from streamflow.topics import codec
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
_ENDS_SPARE = 1_000
"""How many groups that have gone may be in the heap, besides as many as there are, before it is made anew."""

Group = tuple[bytes, IntervalWindow]
_NONE: Mapping[bytes, bytes] = MappingProxyType({})


class KeyedState:
    """`ledger`: the durable segments, read when the state is first asked for something; `gone_at`: the watermark at
    which a window with that end is not needed any more; `watermark_us`: the task's when it was claimed;
    `segments_max`: about how many segments there may be before some are merged. Not shared between threads."""

    def __init__(self, ledger: Ledger, gone_at: Callable[[int], int], watermark_us: int, segments_max: int) -> None:
        self._ledger, self._gone_at, self._segments_max = ledger, gone_at, segments_max
        self._watermark_us = watermark_us
        self._groups: dict[Group, dict[bytes, bytes]] = {}
        self._ends: list[tuple[int, Group]] = []
        """A heap of (window's end, group), which may name groups that are empty by now."""
        self._size = 0
        self._changed: set[tuple[Group, bytes]] = set()
        self._before: list[tuple[Group, bytes, bytes | None]] | None = None
        self._loaded = not len(ledger)

    def __len__(self) -> int:
        """How many entries there are."""
        self._load()
        return self._size

    def get(self, key: bytes, window: IntervalWindow, name: bytes) -> bytes | None:
        return self.entries(key, window).get(name)

    def entries(self, key: bytes, window: IntervalWindow) -> Mapping[bytes, bytes]:
        """By name; changes with the state, so copy it before you change what you iterate over."""
        self._load()
        return self._groups.get((key, window), _NONE)

    def groups(self) -> Iterator[tuple[bytes, IntervalWindow]]:
        """Every key and window with entries, to rebuild an index from after a claim. Change nothing meanwhile."""
        self._load()
        return iter(self._groups)

    def put(self, key: bytes, window: IntervalWindow, name: bytes, value: bytes) -> None:
        self._change((key, window), name, value)

    def delete(self, key: bytes, window: IntervalWindow, name: bytes) -> None:
        """Nothing happens if there is no such entry."""
        self._change((key, window), name, None)

    def mark(self) -> None:
        """From here on changes can be taken back by `undo`, until the next mark or the end of the step."""
        self._before = []

    def undo(self) -> None:
        """Everything is as it was at the mark."""
        before, self._before = self._before or [], None
        for group, name, value in reversed(before):
            self._set(group, name, value)

    def expire(self, watermark_us: int) -> list[tuple[bytes, IntervalWindow]]:
        """Forget the windows that are not needed any more at that watermark; which keys and windows these were."""
        self._load()
        self._watermark_us = max(self._watermark_us, watermark_us)
        gone = []
        while self._ends and self._gone_at(self._ends[0][0]) <= self._watermark_us:
            _, group = heapq.heappop(self._ends)
            if (names := self._groups.pop(group, None)) is not None:
                self._size -= len(names)
                gone.append(group)
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
        return delta

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
        changed, self._changed = self._changed, set()
        rows = [
            (key, window.start_us, window.end_us, name, self._groups.get((key, window), _NONE).get(name))
            for (key, window), name in changed
        ]
        return self._living(pl.DataFrame(rows, schema=_SCHEMA, orient="row"), watermark_us)

    def _segment(self, frame: pl.DataFrame, stamp: int, watermark_us: int) -> StateSegment:
        ends, sequence = frame[WINDOW_END], self._ledger.next_sequence()
        low_us, high_us = ends.min(), ends.max()
        assert isinstance(low_us, int)
        assert isinstance(high_us, int)
        size = int(frame.estimated_size())
        info = SegmentInfo(sequence, stamp, watermark_us, frame.height, size, low_us, high_us, ALL)
        self._ledger.add(info, resident=True)
        return StateSegment(info, codec.write_frame(frame))

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
            self._set((key, IntervalWindow.of_us(start, end)), name, value)
        self._ledger.take_up(segments)
        self._changed.clear()

    def _change(self, group: Group, name: bytes, value: bytes | None) -> None:
        self._load()
        old = self._groups.get(group, _NONE).get(name)
        if old == value:
            return
        if self._before is not None:
            self._before.append((group, name, old))
        self._set(group, name, value)

    def _set(self, group: Group, name: bytes, value: bytes | None) -> None:
        self._changed.add((group, name))
        names = self._groups.get(group)
        if value is None:
            if names is not None and names.pop(name, None) is not None:
                self._size -= 1
                if not names:
                    del self._groups[group]
            return
        if names is None:
            names = self._groups[group] = {}
            heapq.heappush(self._ends, (group[1].end_us, group))
            if len(self._ends) > 2 * len(self._groups) + _ENDS_SPARE:
                self._ends = [(window.end_us, (key, window)) for key, window in self._groups]
                heapq.heapify(self._ends)
        self._size += name not in names
        names[name] = value


def _newest(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One row per entry: that of the last frame which has it."""
    return pl.concat([pl.DataFrame(schema=_SCHEMA), *frames]).unique(_ENTRY, keep="last", maintain_order=True)
