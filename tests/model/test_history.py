"""The history of panes: what follows from the entries of a key."""

from typing import Any

import polars as pl
import pytest

from streamflow.model.history import ENTRY, histories_of


def entries(*told: tuple[Any, ...]) -> pl.DataFrame:
    """Rows: (kind, start, end, offset, watermark). Panes: ("pane", start, end, index, watermark)."""
    rows: list[dict[str, Any]] = []
    for now_us, (kind, start, end, number, watermark) in enumerate(told):
        entry = {"key": "a", "start_us": start, "end_us": end, "kind": kind}
        entry |= {"watermark_us": watermark, "now_us": now_us}
        if kind == "pane":
            rows.append({**entry, "pane": number, "timing": "LATE", "is_last": False, "events": 1})
        else:
            rows.append({**entry, "topic": "in", "partition": 0, "offset": number, "time_us": start})
    return pl.DataFrame(rows, schema=ENTRY)


Told = dict[tuple[int, int], dict[int, Any]]


def told(frame: pl.DataFrame, *, merging: bool = False, accumulates: bool = False, lateness_us: int = 0) -> Told:
    """By window: offset → the panes (their wall times) that hold the row, or that it was dropped."""
    found = histories_of(frame, merging=merging, accumulates=accumulates, lateness_us=lateness_us)
    return {
        (each.window.start_us, each.window.end_us): {
            row.offset: "dropped" if row.kind.value == "dropped" else [pane.now_us for pane in row.panes]
            for row in each.rows
        }
        for each in found
    }


FIXED = entries(
    ("row", 0, 10, 1, 0),
    ("row", 10, 20, 2, 0),
    ("row", 0, 10, 3, 5),
    ("pane", 0, 10, 0, 10),
    ("late", 0, 10, 4, 10),
    ("pane", 0, 10, 1, 10),
    ("dropped", 0, 10, 5, 30),
    ("row", 20, 30, 6, 10),
)


@pytest.mark.parametrize(("accumulates", "first"), [(False, [3]), (True, [3, 5])])
def test_row_is_in_the_first_pane_after_it_and_in_all_where_panes_accumulate(
    accumulates: bool, first: list[int]
) -> None:
    assert told(FIXED, accumulates=accumulates) == {
        (0, 10): {1: first, 3: first, 4: [5], 5: "dropped"},
        (10, 20): {2: []},
        (20, 30): {6: []},
    }


def test_windows_that_overlap_are_not_one_unless_they_merge() -> None:
    sliding = entries(("row", 0, 10, 1, 0), ("row", 5, 15, 1, 0), ("pane", 0, 10, 0, 10))
    assert told(sliding) == {(0, 10): {1: [2]}, (5, 15): {1: []}}


def test_merged_window_has_the_rows_and_panes_of_all() -> None:
    sessions = entries(
        ("row", 0, 5, 1, 0),
        ("row", 8, 13, 2, 0),
        ("pane", 0, 5, 0, 0),
        ("row", 4, 9, 3, 0),
        ("pane", 0, 13, 0, 13),
        ("row", 20, 25, 4, 13),
    )
    assert told(sessions, merging=True) == {(0, 13): {1: [2], 2: [4], 3: [4]}, (20, 25): {4: []}}
    assert told(sessions, merging=True, accumulates=True)[0, 13] == {1: [2, 4], 2: [4], 3: [4]}


def test_window_that_was_gone_is_not_merged_with_a_later_one() -> None:
    sessions = entries(("row", 0, 10, 1, 0), ("pane", 0, 10, 0, 10), ("row", 8, 18, 2, 10), ("dropped", 0, 10, 3, 12))
    assert told(sessions, merging=True) == {(0, 10): {1: [1]}, (8, 18): {2: [], 3: "dropped"}}
    assert told(sessions, merging=True, lateness_us=5) == {(0, 18): {1: [1], 2: [], 3: "dropped"}}
