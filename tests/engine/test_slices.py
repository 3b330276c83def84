"""Slices of keys: every group is in exactly one of those that are worked on."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.engine.slices import ALL, contains, cut, overlap, passes

slices = st.integers(1, 200)
weights = st.lists(st.tuples(slices, st.integers(0, 5_000)), max_size=8)


@given(weights=weights, bytes_max=st.integers(1, 2_000), within=slices, bits=st.sampled_from([1, 2, 3]))
def test_passes_make_up_the_whole_without_overlap(
    weights: list[tuple[int, int]], bytes_max: int, within: int, bits: int
) -> None:
    parts = passes(weights, bytes_max, within, bits=bits)
    assert sum(2.0 ** -(part.bit_length() - within.bit_length()) for part in parts) == 1
    assert all(contains(within, part) for part in parts)
    assert not any(overlap(a, b) for i, a in enumerate(parts) for b in parts[:i])


@given(weights=weights, bytes_max=st.integers(20, 2_000))
def test_each_pass_holds_no_more_than_allowed(weights: list[tuple[int, int]], bytes_max: int) -> None:
    for part in passes(weights, bytes_max):
        shares = [size / 2 ** max(0, part.bit_length() - of.bit_length()) for of, size in weights if overlap(of, part)]
        assert sum(shares) < bytes_max + len(shares) + 1


def test_what_fits_is_one_pass_and_groups_too_large_end_the_cutting() -> None:
    assert passes([(ALL, 10), (5, 90)], 100) == [ALL]
    assert passes([], 1) == [ALL]
    assert len(passes([(1 << 16, 1 << 60)], 100)) == 17


def test_contained_and_overlapping_slices() -> None:
    assert contains(1, 1)
    assert contains(1, 7)
    assert contains(3, 7)
    assert not contains(7, 3)
    assert not contains(2, 7)
    assert overlap(7, 3)
    assert not overlap(6, 7)


@pytest.mark.parametrize("count", [1, 2, 10_000])
def test_rows_of_all_parts_are_all_rows_and_parts_are_even(count: int) -> None:
    frame = pl.DataFrame({"k": [f"key {i}" for i in range(count)], "w": [0] * count})
    parts = [cut(frame, ["k", "w"], part) for part in range(8, 16)]
    assert sorted(key for part in parts for key in part["k"]) == sorted(frame["k"])
    assert max(part.height for part in parts) <= max(count, 1.2 * count / 8)
    assert cut(frame, ["k", "w"], ALL).height == count


def test_equal_numbers_are_in_one_slice_whatever_their_type() -> None:
    integers, floats = (pl.DataFrame({"k": pl.Series(range(50), dtype=dtype)}) for dtype in (pl.Int64, pl.Float64))
    for part in range(16, 32):
        assert cut(integers, ["k"], part)["k"].to_list() == cut(floats, ["k"], part)["k"].to_list()
