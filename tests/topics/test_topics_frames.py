"""Frames as bytes: what is written comes back as it was, in both forms, and other bytes are refused."""

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from streamflow.base.errors import CorruptionError, DataError
from streamflow.topics.frames import read_compact, read_stream, write_compact, write_stream

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)


def frame_of(rows: int) -> pl.DataFrame:
    """Columns that vary and columns that do not, of many types and with odd names, in no order."""
    return pl.DataFrame(
        {
            "window": [NOON] * rows,
            "^.*$": range(rows),
            "*": [7] * rows,
            "text": ["same"] * rows,
            "hole": [None, *[1] * (rows - 1)] if rows else [],
            "none": pl.Series([None] * rows, dtype=pl.Int64),
            "flag": pl.Series([1] * rows, dtype=pl.UInt8),
            "list": [[1, 2]] * rows,
            "kind": pl.Series(["x"] * rows, dtype=pl.Enum(["x", "y"])),
        }
    )


@pytest.mark.parametrize("rows", [0, 1, 499, 500, 2_000])
def test_frames_come_back_equal_in_both_forms(rows: int) -> None:
    frame = frame_of(rows)
    assert_frame_equal(read_compact(write_compact(frame)), frame)
    assert_frame_equal(read_stream(write_stream(frame)), frame)


@given(
    st.integers(490, 520),
    st.lists(st.sampled_from(["constant", "first differs", "last differs", "middle differs", "a null"]), max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_only_what_is_constant_is_taken_for_it(rows: int, kinds: list[str]) -> None:
    at = {"first differs": 0, "last differs": -1, "middle differs": rows // 2, "a null": rows // 3}
    data: dict[str, list[int | None]] = {}
    for i, kind in enumerate(kinds):
        values: list[int | None] = [5] * rows
        if kind in at:
            values[at[kind]] = None if kind == "a null" else 6
        data[f"c{i}"] = values
    frame = pl.DataFrame(data, schema=dict.fromkeys(data, pl.Int64))
    assert_frame_equal(read_compact(write_compact(frame)), frame)


def test_constant_columns_take_no_room() -> None:
    varying = pl.DataFrame({"n": range(10_000)})
    constants = [pl.lit(value).alias(f"c{value}") for value in range(8)]
    assert len(write_compact(varying.with_columns(constants))) < len(write_compact(varying)) + 4_000


def test_a_frame_without_columns_comes_back() -> None:
    assert_frame_equal(read_compact(write_compact(pl.DataFrame())), pl.DataFrame())


def test_other_bytes_are_corruption() -> None:
    good = write_compact(frame_of(1_000))
    for payload in (b"", b"rubbish", good[:6], good[: len(good) // 2], b"\xff" + good[1:], good[8:]):
        with pytest.raises(CorruptionError):
            read_compact(payload)


def test_python_objects_are_refused() -> None:
    with pytest.raises(DataError, match="column 'o' holds Python objects"):
        write_compact(pl.DataFrame({"o": pl.Series([object()], dtype=pl.Object)}))
