"""Which events were late for their session, and which came too late. Pure.

That depends on the order in which events come, and on nothing else in a step does: a session that is open takes what
overlaps it, however late, and an event that nothing takes is dropped if a session of its own would be gone. So the
events are put one after the other into the sessions there are at that moment. It is done for the few sessions to which
something late has come, and with their bounds alone.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable

import polars as pl


def late_and_dropped(
    rows: pl.DataFrame, watermark_us: int, gone_at: Callable[[int], int]
) -> tuple[list[int], list[int]]:
    """The numbers of the rows that were late, but taken, and of those that were dropped.

    `rows`, in the order in which they came: number, session (with all that it could become one with), start, end, and
    whether it has just come; what was there before comes first."""
    starts: defaultdict[int, list[int]] = defaultdict(list)
    ends: defaultdict[int, list[int]] = defaultdict(list)
    late, dropped = list[int](), list[int]()
    for number, session, start, end, is_new in rows.iter_rows():
        begins, closes = starts[session], ends[session]
        first, behind = bisect_right(closes, start), bisect_left(begins, end)
        if first < behind:
            start, end = min(start, begins[first]), max(end, closes[behind - 1])
        elif is_new and gone_at(end) <= watermark_us:
            dropped.append(number)
            continue
        begins[first:behind], closes[first:behind] = [start], [end]
        if is_new and end <= watermark_us:
            late.append(number)
    return late, dropped
