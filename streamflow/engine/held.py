"""What the states of windows and of sessions share: which rows are still needed, which columns they have, what a step
gives. How rows are merged and when they fire is theirs."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from streamflow.engine.combine.contract import EVENTS
from streamflow.engine.ledger import Ledger
from streamflow.engine.memory import StateMemory
from streamflow.model.time import MAX_US
from streamflow.model.window import WINDOW_END
from streamflow.model.windowing import Windowing
from streamflow.topics.protocol import SegmentInfo

COMPACTION_BITS = 2
"""What is too large to be merged into one piece becomes four: with two there would be more levels, each of which is
written once more."""


@dataclass(frozen=True, slots=True)
class Fired:
    """What a step gives: merged partials that fire now, the deltas to persist, how many events were late or
    dropped, and the partials that the latter were. `panes` is to be used up before anything else is done with the
    state: a frame is made when it is asked for, so that there is never more than a slice of a large window."""

    panes: Iterator[pl.DataFrame]
    deltas: Sequence[pl.DataFrame]
    late: int
    dropped: int
    lost: Sequence[pl.DataFrame]


class HeldState(ABC):
    """`ledger`: the durable segments; `memory`: shared by all states of the worker."""

    def __init__(self, windowing: Windowing, ledger: Ledger, memory: StateMemory) -> None:
        self.windowing, self.ledger, self.memory = windowing, ledger, memory
        self.bytes_spilled = 0
        """Let go of since this was last set to 0."""
        self._known: pl.DataFrame | None = None

    @abstractmethod
    def step(self, incoming: Sequence[pl.DataFrame], before_us: int, after_us: int) -> Fired:
        """Add partials that arrived while the watermark stood at `before_us`, then let it go to `after_us`."""

    @abstractmethod
    def compacted(self, run: Sequence[SegmentInfo], watermark_us: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """What is still needed of segments of one slice, merged: (slice, frame) for each part of it."""

    @abstractmethod
    def kinds(self, incoming: Sequence[pl.DataFrame], watermark_us: int) -> list[pl.Expr]:
        """What becomes of the input rows of partials that arrive when the watermark stands there (`history.Kind`), for
        each frame. Called before they are added."""

    @abstractmethod
    def _frames(self) -> list[pl.DataFrame]:
        """All that is in memory."""

    def let_go(self) -> None:
        self.bytes_spilled += self.size_bytes()
        self.ledger.let_go()

    def columns(self) -> pl.DataFrame | None:
        """All columns of what is held, in memory or not, without rows; None if nothing is."""
        if not self._frames() and not len(self.ledger):
            self._known = None
        elif self._known is None:
            # The newest has them all: each delta is written with the columns of those before it.
            self._known = self.ledger.read(self.ledger.newest()).clear()
        return self._known

    def rows(self) -> int:
        """In memory."""
        return sum(frame.height for frame in self._frames())

    def size_bytes(self) -> int:
        """In memory."""
        return int(sum(frame.estimated_size() for frame in self._frames()))

    def living(self, frame: pl.DataFrame, watermark_us: int) -> pl.DataFrame:
        """The rows that are still needed when the watermark stands there."""
        if not frame.height:
            return frame
        low, high = window_ends(frame)
        if self.gone_at(low) > watermark_us:
            return frame
        return frame.clear() if self.gone_at(high) <= watermark_us else frame.filter(~self._gone(watermark_us))

    def gone_at(self, end_us: int) -> int:
        """The watermark at which a window that ends there is not needed any more."""
        return self.windowing.gone_at(end_us)

    def _gone(self, watermark_us: int) -> pl.Expr:
        """Of each row, whether its window is not needed any more when the watermark stands there."""
        return (pl.col(WINDOW_END) + self.windowing.allowed_lateness_us).clip(upper_bound=MAX_US) <= watermark_us

    def _alike(self, frame: pl.DataFrame) -> pl.DataFrame:
        """With all columns that are known. They differ only where batches without a schema brought different ones."""
        known = self.columns()
        if known is None or (known.columns == frame.columns and known.dtypes == frame.dtypes):
            return frame
        return pl.concat([known, frame], how="diagonal_relaxed")


def concat(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return frames[0] if len(frames) == 1 else pl.concat(frames, how="diagonal_relaxed")


def weights(infos: Sequence[SegmentInfo]) -> list[tuple[int, int]]:
    return [(info.slice, info.memory_bytes) for info in infos]


def events_of(frame: pl.DataFrame) -> int:
    return int(frame[EVENTS].sum())


def window_ends(frame: pl.DataFrame) -> tuple[int, int]:
    """The first and the last of a frame with rows."""
    low, high = frame[WINDOW_END].min(), frame[WINDOW_END].max()
    assert isinstance(low, int)
    assert isinstance(high, int)
    return low, high


def overlaps(ends: tuple[int, int], low_us: int, high_us: int) -> bool:
    return ends[0] <= high_us and ends[1] >= low_us


def closing_ends(before_us: int, after_us: int) -> tuple[int, int]:
    """The first and the last end of the windows that the watermark passes on its way."""
    # The end of time closes every window, also one that reaches beyond it.
    return before_us + 1, after_us if after_us < MAX_US else _FOREVER_US


_FOREVER_US = (1 << 63) - 1
"""After every end, also those of windows that reach beyond the end of time."""
