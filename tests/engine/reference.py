"""The rules of event time in the plainest Python: what the final panes must be, worked out from all events at once.

No window function, aggregate or watermark of the library is used, so that it can't be wrong in the same way.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from reference_windows import windows_of


@dataclass(frozen=True)
class Event:
    """`time_us`: event time; `key` and `value` may be null."""

    key: str | None
    value: int | None
    time_us: int

    def payload(self) -> dict[str, Any]:
        return {"k": self.key, "v": self.value, "at": self.time_us}


Row = tuple[str | None, int, int, int, int, float | None, int | None, int | None]
"""Key, window start, events, values that are not null, and their sum, mean, least and greatest."""


def final_rows(events: Iterable[Event], size_us: int, period_us: int) -> list[Row]:
    """Everything that was ever in each window, of each key: what accumulating panes end with if nothing is dropped."""
    groups: dict[tuple[str | None, int], list[int | None]] = defaultdict(list)
    for event in events:
        for start, _ in windows_of(("sliding", size_us, period_us, 0), event.time_us):
            groups[event.key, start].append(event.value)
    rows = []
    for (key, start), values in groups.items():
        present = [value for value in values if value is not None]
        mean = sum(present) / len(present) if present else None
        least, greatest = min(present, default=None), max(present, default=None)
        rows.append((key, start, len(values), len(present), sum(present), mean, least, greatest))
    return sorted(rows, key=repr)
