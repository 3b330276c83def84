"""Watermarks: the promise that no earlier event is still to come. Pure: observations in, promises out.

Every function takes numbers of one instant (one snapshot of the log). A watermark is monotonic: `advance` never lets it
go back. What a source goes by is its *policy*: the newest event less the disorder there may be, or markers that the
source itself has put among its events (Flink's punctuated watermarks). A source partition with nothing left to read is
*idle*: it holds nobody back while others still read, where its policy lets go of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from streamflow.base.errors import PipelineError
from streamflow.model.time import MAX_US, MIN_US, DurationTypes, duration_us


@dataclass(frozen=True)
class BoundedDisorder:
    """The watermark of a partition trails its newest event time by `disorder` seconds (or Duration, timedelta). A
    partition that has been read to its end holds nobody back: nothing of it is in sight. PipelineError if negative."""

    disorder: DurationTypes = 0

    def __post_init__(self) -> None:
        if self.disorder_us < 0:
            raise PipelineError(f"disorder can't be negative, got {self.disorder!r}.")

    @cached_property
    def disorder_us(self) -> int:
        return duration_us(self.disorder)

    @property
    def releases_idle(self) -> bool:
        return True

    def __str__(self) -> str:
        return f"newest event time less {self.disorder_us / 1e6:g} s" if self.disorder_us else "newest event time"


@dataclass(frozen=True)
class PublishedMarkers:
    """The watermark of a partition is the last marker that `Publisher.mark` has put into it: everything before it has
    come. A partition without one holds all back, also one that has been read to its end, for the next marker is the
    publisher's to give; unless `releases_idle`, which takes a backlog of 0 for a sign that nothing earlier will
    follow."""

    releases_idle: bool = False
    disorder_us = 0

    def __str__(self) -> str:
        return f"markers published{', none needed while idle' if self.releases_idle else ''}"


@dataclass(frozen=True)
class MarkerColumn:
    """The watermark of a partition is the greatest value so far of a field of its events (datetime, ISO 8601 text, or
    Int64 µs), which says that no event before that time follows. An event where it is null or no time says nothing.
    `releases_idle` as in `PublishedMarkers`."""

    name: str
    releases_idle: bool = False
    disorder_us = 0

    def __str__(self) -> str:
        return f"field {self.name}{', not needed while idle' if self.releases_idle else ''}"


WatermarkPolicy = BoundedDisorder | PublishedMarkers | MarkerColumn


@dataclass(frozen=True, slots=True)
class SourceMark:
    """A source task as others see it. `idle`: its committed offset is the end of its partition (backlog 0: proven,
    never guessed from silence), and its policy does not wait for more."""

    watermark_us: int
    idle: bool


def advance(current_us: int, candidate_us: int) -> int:
    return max(current_us, candidate_us)


def source_watermark(seen_us: int | None, disorder_us: int, promised_us: int | None) -> int:
    """Of one source partition: the newest event time processed, less the disorder it may have, or the last marker; or
    the publishers' promise for the whole topic where that is later. `promised_us` counts only for a reader that had
    caught up when the promise was seen, else None."""
    seen = MIN_US if seen_us is None else seen_us - disorder_us
    return max(seen, MIN_US if promised_us is None else promised_us)


def merged_watermark(sources: Iterable[SourceMark], intermediates: Iterable[int]) -> int:
    """Of a stage's input: the minimum over the upstream tasks; idle source tasks are left out while any is not idle.

    `intermediates`: watermarks of upstream tasks that are not at a source; these speak even without data, so silence of
    theirs is never idleness. If every source task is idle, the newest of them speaks for all: their events are all
    read. One that has ended speaks only for itself: another topic may go on at any time.
    """
    marks = list(sources)
    speaking = [marks[i].watermark_us for i in speaking_sources(marks)]
    return min([*speaking, *intermediates], default=MAX_US)


def speaking_sources(marks: Sequence[SourceMark]) -> list[int]:
    """Which of the source tasks the watermark goes by, the one that holds it back first."""
    busy = [i for i, mark in enumerate(marks) if not mark.idle]
    if busy:
        return sorted(busy, key=lambda i: marks[i].watermark_us)
    going_on = [i for i, mark in enumerate(marks) if mark.watermark_us < MAX_US] or range(len(marks))
    return [max(going_on, key=lambda i: marks[i].watermark_us)] if marks else []


@dataclass(frozen=True, slots=True)
class Horizon:
    """A watermark that becomes true for a reader once it has read up to `offset`: both were seen at one instant."""

    offset: int
    watermark_us: int
