"""The history of panes: entries that a grouping has written, and what follows from them. Pure.

An entry is an input row of a key and window, which came in time, came late (it went into a pane after the window had
ended), or was dropped; or a pane that fired. Entries of one key are in the order in which it happened. So a row is in
the first pane of its window that fires after it; where panes accumulate, also in those that follow.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import polars as pl

from streamflow.model.window import IntervalWindow


class Kind(Enum):
    ROW = "row"
    LATE = "late"
    DROPPED = "dropped"
    PANE = "pane"


ENTRY: dict[str, pl.DataType] = {
    "key": pl.String(),
    "start_us": pl.Int64(),
    "end_us": pl.Int64(),
    "kind": pl.String(),
    "watermark_us": pl.Int64(),
    "now_us": pl.Int64(),
    "topic": pl.String(),
    "partition": pl.Int64(),
    "offset": pl.Int64(),
    "time_us": pl.Int64(),
    "pane": pl.Int64(),
    "timing": pl.String(),
    "is_last": pl.Boolean(),
    "events": pl.Int64(),
}
"""The columns of a frame of entries. `watermark_us`: when it happened, `now_us`: the wall time of that step; `topic` to
`time_us`: of a row, where it was read and its event time; `pane` to `events`: of a pane, how many events it holds."""


@dataclass(frozen=True, slots=True)
class Pane:
    """A pane that fired; `window`: as it was then; `index`: of those of that window, `events`: how many it holds."""

    window: IntervalWindow
    index: int
    timing: str
    is_last: bool
    events: int
    watermark_us: int
    now_us: int


@dataclass(slots=True)
class Row:
    """An input row; `offset`: -1 for what has none, as results of an earlier grouping; `panes`: those that hold it."""

    kind: Kind
    topic: str
    partition: int
    offset: int
    time_us: int
    watermark_us: int
    now_us: int
    panes: list[Pane] = field(default_factory=list)


@dataclass(slots=True)
class History:
    """Of one key and window: rows and panes, each in the order in which they came."""

    window: IntervalWindow
    rows: list[Row] = field(default_factory=list)
    panes: list[Pane] = field(default_factory=list)

    def of(self, kind: Kind) -> list[Row]:
        return [row for row in self.rows if row.kind is kind]

    def fire(self, pane: Pane, *, accumulates: bool) -> None:
        for row in self.rows:
            if row.kind is not Kind.DROPPED and (accumulates or not row.panes):
                row.panes.append(pane)
        self.panes.append(pane)

    def take(self, other: "History") -> None:
        """The two windows have become one."""
        self.window = self.window.union(other.window)
        self.rows = sorted(self.rows + other.rows, key=lambda row: row.now_us)
        self.panes = sorted(self.panes + other.panes, key=lambda pane: pane.now_us)


def histories_of(entries: pl.DataFrame, *, merging: bool, accumulates: bool, lateness_us: int) -> list[History]:
    """Of one key, whose entries these are, in order: a history for each of its windows, the earliest first. `merging`:
    windows that overlap are one, unless the earlier one was gone (its end and `lateness_us` had passed) by then."""
    found: list[History] = []
    living: list[History] = []
    for entry in entries.iter_rows(named=True):
        window, kind = IntervalWindow.of_us(entry["start_us"], entry["end_us"]), Kind(entry["kind"])
        if merging and kind is not Kind.PANE:
            living = [each for each in living if each.window.end_us + lateness_us > entry["watermark_us"]]
        among = found if kind is Kind.DROPPED or not merging else living
        over = [each for each in among if each.window == window or (merging and each.window.intersects(window))]
        if not over:
            over = [History(window)]
            found += over
            living += over
        history = over[-1]
        if kind is Kind.PANE:
            history.fire(_pane(entry, window), accumulates=accumulates)
            continue
        if kind is not Kind.DROPPED:
            history.window = history.window.union(window)
            for other in over[:-1]:
                history.take(other)
                found.remove(other)
                living.remove(other)
        place = (entry["topic"], entry["partition"], entry["offset"], entry["time_us"])
        history.rows.append(Row(kind, *place, entry["watermark_us"], entry["now_us"]))
    return sorted(found, key=lambda each: each.window)


def _pane(entry: dict[str, Any], window: IntervalWindow) -> Pane:
    what = (entry["pane"], entry["timing"], entry["is_last"], entry["events"])
    return Pane(window, *what, entry["watermark_us"], entry["now_us"])
