"""What a profile hands to the replay: numbered events that can be made again from any position.

The shape of a data set and its JSON form live here; no publishing, no clock.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import polars as pl

BLOCK_EVENTS = 50_000
"""Events made at once: enough to spread the fixed cost of making a frame, few enough to stay under 50 MB."""


@dataclass(frozen=True)
class Dataset:
    """`events` numbered events, always the same ones.

    `producer` names everything that decides what event number n is: two data sets with one producer name have
    the same event under the same number. That makes the position in the set an idempotent publishing
    sequence. `time` is the event-time column, Int64 µs or Datetime("us"). `read(first, count)` gives the
    events `[first, first + count)`. `arrival_us`, ascending: when each event becomes known in the data's own
    time, which is what a replay at a multiple of real time follows; None if the data has no such notion.

    A set may be part of a mixture, whose other parts go to other topics: `before(n)` is how many of the
    mixture's first n events are of this set: n, if it is alone. It never falls, and rises by one at most.
    """

    producer: str
    events: int
    time: str
    read: Callable[[int, int], pl.DataFrame]
    arrival_us: Sequence[int] | None = None
    before: Callable[[int], int] = int


def position_in_mixture(datasets: Iterable[Dataset], done: Iterable[int]) -> int:
    """How many of a mixture's first events are done, `done` being how many of each set's are."""
    parts = list(zip(datasets, done, strict=True))
    total = sum(dataset.events for dataset, _ in parts)
    return min(bisect_right(range(total + 1), count, key=dataset.before) - 1 for dataset, count in parts)


class Reader:
    """Ranges of a data set, read ahead by blocks. Cheapest when ranges ascend."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._first = 0
        self._block = pl.DataFrame()

    def frame(self, first: int, end: int) -> pl.DataFrame:
        """Events `[first, end)`; `end` is at most the size of the set."""
        if first < self._first or end > self._first + self._block.height:
            # Nothing is left to read of a set that was made shorter after it had been published.
            count = max(0, min(max(end - first, BLOCK_EVENTS), self._dataset.events - first))
            self._first, self._block = first, self._dataset.read(first, count)
        return self._block.slice(first - self._first, end - first)


def times_us(frame: pl.DataFrame, column: str) -> pl.Series:
    """The event times of a frame as Int64 µs."""
    series = frame.get_column(column)
    return series.dt.timestamp("us") if isinstance(series.dtype, pl.Datetime) else series


def to_json(frame: pl.DataFrame) -> list[bytes]:
    """One JSON document per row: fields in column order, Datetime (UTC) as RFC 3339 with a Z."""
    # One query: at a thousand events the fixed cost of a query is what counts.
    fields = [
        pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ") if isinstance(dtype, pl.Datetime) else pl.col(name)
        for name, dtype in frame.schema.items()
    ]
    return frame.select(pl.struct(fields).struct.json_encode().cast(pl.Binary)).to_series().to_list()
