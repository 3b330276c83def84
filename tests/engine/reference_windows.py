"""The windows of an event in the plainest Python, for the references. Nothing of the library is used. Times are whole
numbers, of any unit but for calendar days."""

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

END = 10**12
"""The end of time."""


def windows_of(spec: Sequence[Any], at: int, value: int = 0) -> list[tuple[int, int]]:
    """`spec`: `("fixed", size, offset)`, `("sliding", size, period, offset)`, `("global",)`, `("days", zone)`, or of
    the user's own: `("parity",)`, fixed ones whose size goes by the value; `("sessions", gap)` and `("touching", gap)`
    begin like that, and are merged where they meet."""
    kind, *args = spec
    if kind == "global":
        return [(-END, END)]
    if kind in ("sessions", "touching"):
        return [(at, at + args[0])]
    if kind == "days":
        zone = ZoneInfo(args[0])
        day = datetime.fromtimestamp(at, zone).date()
        begin, end = (datetime.combine(day + timedelta(days=n), time(), zone).timestamp() for n in (0, 1))
        return [(int(begin), int(end))]
    if kind == "parity":
        args = [20 if value % 2 else 5, 0]
    size, period, offset = args if kind == "sliding" else (args[0], args[0], args[1])
    windows = []
    start = (at - offset) // period * period + offset
    while start + size > at:
        windows.append((start, start + size))
        start -= period
    return windows


def meets(spec: Sequence[Any], start: int, end: int, other_start: int, other_end: int) -> bool:
    """Whether two windows of a key become one: sessions only if they overlap."""
    if spec[0] == "touching":
        return start <= other_end and other_start <= end
    return spec[0] == "sessions" and start < other_end and other_start < end
