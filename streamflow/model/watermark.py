"""Watermarks: the promise that no earlier event is still to come. Pure: observations in, promises out.

Every function takes numbers of one instant (one snapshot of the log). A watermark is monotonic: `advance` never lets it
go back. A source partition with nothing left to read is *idle*: it holds nobody back while others still read.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from streamflow.model.time import MAX_US, MIN_US


@dataclass(frozen=True, slots=True)
class SourceMark:
    """A source task as others see it. `caught_up`: its committed offset is the end of its partition; proven, never
    guessed from silence."""

    watermark_us: int
    caught_up: bool


def advance(current_us: int, candidate_us: int) -> int:
    return max(current_us, candidate_us)


def source_watermark(time_max_us: int | None, disorder_us: int, promised_us: int | None) -> int:
    """Of one source partition: the newest event time processed, less the disorder it may have; or the publishers'
    promise where that is later. `promised_us` counts only for a reader that had caught up when the promise was seen,
    else None."""
    seen = MIN_US if time_max_us is None else time_max_us - disorder_us
    return max(seen, MIN_US if promised_us is None else promised_us)


def merged_watermark(sources: Iterable[SourceMark], intermediates: Iterable[int]) -> int:
    """Of a stage's input: the minimum over the upstream tasks; idle source tasks are left out while any is not idle.

    `intermediates`: watermarks of upstream tasks that are not at a source; these speak even without data, so silence of
    theirs is never idleness. If every source task is idle, the newest of them speaks for all: their events are all
    read. One that has ended speaks only for itself: another topic may go on at any time.
    """
    marks = list(sources)
    busy = [mark.watermark_us for mark in marks if not mark.caught_up]
    candidates = list(intermediates)
    if busy:
        candidates += busy
    elif marks:
        candidates.append(max((mark.watermark_us for mark in marks if mark.watermark_us < MAX_US), default=MAX_US))
    return min(candidates, default=MAX_US)


@dataclass(frozen=True, slots=True)
class Horizon:
    """A watermark that becomes true for a reader once it has read up to `offset`: both were seen at one instant."""

    offset: int
    watermark_us: int
