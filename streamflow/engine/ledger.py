"""The ledger of one task's state segments: which there are, which of them memory has too, which to merge. Pure, but
for the reading of a segment, which is handed in.

A segment is *resident* as long as its rows are also held in memory; then it is never read. After a claim none is.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import polars as pl

from streamflow.engine.slices import can_be_cut
from streamflow.topics.frames import read_compact
from streamflow.topics.protocol import SegmentInfo, StateSegment

_RUN_PIECES_MAX = 4
"""What a slice may have on disk, and what is merged at once, in pieces of the memory's size: each segment of it is
decoded about as often."""
_PATIENCE = 8
"""How many times as many segments there may be if that is all that is wrong with them."""


@dataclass(slots=True)
class Delta:
    """What of a step's state must be persisted, and which earlier segments it makes needless."""

    add: list[StateSegment] = field(default_factory=list)
    drop: list[int] = field(default_factory=list)


class Ledger:
    """`claimed`: the segments there are; `read`: gives the payload of one by its sequence."""

    def __init__(self, claimed: Sequence[SegmentInfo], read: Callable[[int], bytes]) -> None:
        self._segments = {info.sequence: info for info in claimed}
        self._resident: set[int] = set()
        self._read = read
        self._next = max(self._segments, default=-1) + 1
        self.bytes_read = 0
        """Of payloads, since it was last set to 0."""

    def __len__(self) -> int:
        return len(self._segments)

    def next_sequence(self) -> int:
        self._next += 1
        return self._next - 1

    def add(self, info: SegmentInfo, *, resident: bool) -> None:
        self._segments[info.sequence] = info
        if resident:
            self._resident.add(info.sequence)

    def drop(self, sequences: Sequence[int]) -> None:
        for sequence in sequences:
            del self._segments[sequence]
            self._resident.discard(sequence)

    def is_resident(self, info: SegmentInfo) -> bool:
        return info.sequence in self._resident

    def on_disk_only(self) -> list[SegmentInfo]:
        return [info for info in self._segments.values() if info.sequence not in self._resident]

    def let_go(self) -> None:
        self._resident.clear()

    def take_up(self, infos: Sequence[SegmentInfo]) -> None:
        self._resident.update(info.sequence for info in infos)

    def read(self, info: SegmentInfo) -> pl.DataFrame:
        payload = self._read(info.sequence)
        self.bytes_read += len(payload)
        return read_compact(payload)

    def newest(self) -> SegmentInfo:
        return self._segments[max(self._segments)]

    def expired(self, watermark_us: int, gone_at: Callable[[int], int]) -> list[int]:
        """Sequences of the segments of which nothing is needed any more; `gone_at` of a window's end."""
        return [sequence for sequence, info in self._segments.items() if gone_at(info.high_us) <= watermark_us]

    def run_to_merge(self, segments_max: int, piece_bytes: int, rows_resident: int) -> list[SegmentInfo]:
        """Segments of one slice that are better one, or several of smaller slices; empty if no slice has too many.
        `rows_resident`: how many rows memory has made of the resident segments.

        There may be `segments_max` of each slice, and several times as many unless half of their rows are known to be
        needless: many are not much slower to read than few. On disk they may hold no more than a few pieces, too: then
        reading a slice for a smaller one is never much in vain.

        What is merged are the newest, half of `segments_max`, written since the last merge, and older ones while they
        are no more than twice what there is already. So each row is rewritten once for each time that its segment
        grows by half, up to the size of a piece, and then once for each level of slices: logarithmically often. No
        merge takes more than a few pieces, however much state there is.
        """
        slices: dict[tuple[int, bool], list[SegmentInfo]] = defaultdict(list)
        for info in self._segments.values():
            slices[info.slice, self.is_resident(info)].append(info)
        run_bytes = _RUN_PIECES_MAX * piece_bytes
        resident_rows = sum(self._segments[sequence].rows for sequence in self._resident)
        needless = resident_rows > 2 * rows_resident

        def excess(of_slice: tuple[int, bool]) -> float:
            infos, resident = slices[of_slice], of_slice[1]
            allowed = max(segments_max, 1) * (1 if resident and needless else _PATIENCE)
            to_cut = not resident and can_be_cut(of_slice[0])
            return max(len(infos) / allowed, sum(info.memory_bytes for info in infos) / run_bytes if to_cut else 0)

        worst = max(slices, key=excess, default=None)
        if worst is None or excess(worst) <= 1:
            return []
        return _newest_run(slices[worst], segments_max, piece_bytes)


def _newest_run(infos: Sequence[SegmentInfo], segments_max: int, piece_bytes: int) -> list[SegmentInfo]:
    run: list[SegmentInfo] = []
    rows = size = 0
    for info in reversed(infos):
        if info.memory_bytes > _RUN_PIECES_MAX * piece_bytes and can_be_cut(info.slice):
            return [info]
        fresh = len(run) < (segments_max + 1) // 2
        fits = size + info.memory_bytes <= _RUN_PIECES_MAX * piece_bytes
        if len(run) > 1 and not (fits and (fresh or info.rows <= 2 * rows)):
            break
        run.append(info)
        rows, size = rows + info.rows, size + info.memory_bytes
    return run[::-1] if len(run) > 1 or size > piece_bytes else []
