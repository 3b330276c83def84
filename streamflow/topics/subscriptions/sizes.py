"""How big and how old the messages of a partition are, without a row for each: sums over records. Pure.

A record's bytes are spread evenly over its events; rounding loses none, since each answer is a difference of sums.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Protocol

from streamflow.topics.subscriptions.bitmaps import Offsets, runs


class Sizes(Protocol):
    """What the lease machine asks about the messages of its partition; any kept offset may be asked for."""

    def bytes_between(self, start: int, end: int) -> int:
        """Of the messages in `[start, end)`."""

    def published_us(self, offset: int) -> int:
        """When that message was published."""


class RecordSizes:
    """`Sizes` by prefix sums over the records of a partition, from the first kept one on."""

    def __init__(self, start: int = 0) -> None:
        self._bounds = [start]
        self._sums = [0]
        self._published: list[int] = []

    @property
    def end(self) -> int:
        """The offset after the last message."""
        return self._bounds[-1]

    def append(self, count: int, size_bytes: int, published_us: int) -> None:
        """The next record. A time before the last one's counts as that one's: offsets are in order of publication."""
        self._bounds.append(self._bounds[-1] + count)
        self._sums.append(self._sums[-1] + size_bytes)
        self._published.append(max(published_us, self._published[-1]) if self._published else published_us)

    def trim(self, start: int) -> None:
        """Forget the records that end at or before `start`."""
        gone = bisect_right(self._bounds, start, hi=len(self._bounds) - 1) - 1
        if gone > 0:
            del self._bounds[:gone], self._sums[:gone], self._published[:gone]

    def bytes_between(self, start: int, end: int) -> int:
        return self._sum(end) - self._sum(start)

    def published_us(self, offset: int) -> int:
        return self._published[bisect_right(self._bounds, offset) - 1]

    def offset_at(self, time_us: int) -> int:
        """The first message published at or after `time_us`: where a seek to that time begins to be unacked. `end` if
        there is none."""
        return self._bounds[bisect_left(self._published, time_us)]

    def _sum(self, offset: int) -> int:
        at = bisect_right(self._bounds, offset) - 1
        if at == len(self._published):
            return self._sums[-1]
        first, end = self._bounds[at], self._bounds[at + 1]
        return self._sums[at] + (self._sums[at + 1] - self._sums[at]) * (offset - first) // (end - first)


def bytes_of(sizes: Sizes, offsets: Offsets) -> int:
    return sum(sizes.bytes_between(start, end) for start, end in runs(offsets))


def fitting(sizes: Sizes, ranges: Iterable[tuple[int, int]], bytes_max: int) -> int:
    """The end of the longest beginning of the ranges that fits, at least one message."""
    cut, left = 0, bytes_max
    for start, end in ranges:
        if sizes.bytes_between(start, end) > left:
            fits = bisect_right(range(start, end), left, key=lambda last: sizes.bytes_between(start, last + 1))
            return start + fits if fits or cut else start + 1
        left -= sizes.bytes_between(start, end)
        cut = end
    return cut
