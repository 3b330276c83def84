"""Window functions: bounds by table, and the law that columns and rows say the same."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.base.errors import PipelineError
from streamflow.model.time import MAX_US, MIN_US, Duration, Timestamp
from streamflow.model.window import (
    GLOBAL_WINDOW,
    FixedWindows,
    GlobalWindows,
    IntervalWindow,
    SlidingWindows,
    WindowFn,
)

times = st.integers(min_value=-(10**15), max_value=10**15)
spans = st.integers(min_value=1, max_value=10**7)
fixed = st.builds(
    lambda size, offset: FixedWindows(Duration(micros=size), Timestamp(micros=offset)),
    spans,
    st.integers(-(10**9), 10**9),
)
sliding = st.builds(
    lambda period, factor, offset: SlidingWindows(
        Duration(micros=max(1, round(period * factor))), Duration(micros=period), Timestamp(micros=offset)
    ),
    spans,
    st.floats(min_value=0.1, max_value=8),
    st.integers(-(10**9), 10**9),
)


def us(window: IntervalWindow) -> tuple[int, int]:
    return window.start_us, window.end_us


@pytest.mark.parametrize(
    ("size_s", "offset_s", "time_us", "start_us"),
    [
        (60, 0, 0, 0),
        (60, 0, 59_999_999, 0),
        (60, 0, 60_000_000, 60_000_000),
        (60, 0, -1, -60_000_000),
        (60, 0, -60_000_000, -60_000_000),
        (60, 0, -60_000_001, -120_000_000),
        (60, 5, 4_999_999, -55_000_000),
        (60, 5, 5_000_000, 5_000_000),
        (60, 65, 5_000_000, 5_000_000),
        (60, -55, 5_000_000, 5_000_000),
        (0.5, 0, 1_250_000, 1_000_000),
        (86_400, 0, 1_704_067_200_000_000 - 1, 1_703_980_800_000_000),
    ],
)
def test_fixed_windows_start_at_the_floor_of_the_timestamp(
    size_s: float, offset_s: float, time_us: int, start_us: int
) -> None:
    assert [us(w) for w in FixedWindows(size_s, offset_s).assign(time_us)] == [
        (start_us, start_us + round(size_s * 1e6))
    ]


@pytest.mark.parametrize(
    ("size_s", "period_s", "offset_s", "time_s", "starts_s"),
    [
        (10, 5, 0, 12, [10, 5]),
        (10, 5, 0, 10, [10, 5]),
        (10, 5, 0, -1, [-5, -10]),
        (10, 5, 1, 12, [11, 6]),
        (10, 5, 6, 12, [11, 6]),
        (10, 5, -4, 12, [11, 6]),
        (10, 10, 0, 12, [10]),
        (10, 4, 0, 11, [8, 4]),
        (10, 4, 0, 13, [12, 8, 4]),
        (10, 60, 0, 9, [0]),
        (10, 60, 0, 10, []),
        (10, 60, 0, 59, []),
        (10, 60, 0, -51, [-60]),
        (10, 60, 0, -50, []),
    ],
)
def test_sliding_windows_are_all_that_contain_the_timestamp(
    size_s: int, period_s: int, offset_s: int, time_s: int, starts_s: list[int]
) -> None:
    windows = SlidingWindows(size_s, period_s, offset_s).assign(time_s * 1_000_000)
    assert [w.start_us // 1_000_000 for w in windows] == starts_s
    assert all(w.end_us - w.start_us == size_s * 1_000_000 for w in windows)


def test_offset_is_normalised_so_that_equal_windows_compare_equal() -> None:
    assert FixedWindows(60, 65) == FixedWindows(60, 5)
    assert SlidingWindows(60, 10, 25) == SlidingWindows(60, 10, 5)


def test_sizes_are_seconds_timedeltas_or_durations_alike() -> None:
    assert FixedWindows(1.5) == FixedWindows(timedelta(seconds=1.5)) == FixedWindows(Duration(1.5))
    assert FixedWindows(60, datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)) == FixedWindows(60, 5)


def test_last_instant_of_a_window_is_a_microsecond_before_its_end() -> None:
    (window,) = FixedWindows(60).assign(0)
    assert window.max_timestamp() == Timestamp(59.999999)
    assert (window.start, window.end) == (Timestamp(0), Timestamp(60))


@pytest.mark.parametrize("size", [0, -1, timedelta(0)])
def test_windows_without_a_length_are_refused(size: float | timedelta) -> None:
    with pytest.raises(PipelineError, match="must be above 0"):
        FixedWindows(size)
    with pytest.raises(PipelineError, match="must be above 0"):
        SlidingWindows(size, 1)
    with pytest.raises(PipelineError, match="must be above 0"):
        SlidingWindows(1, size)


def by_columns(fn: WindowFn, times_us: list[int]) -> list[list[tuple[int, int]]]:
    """The windows of each timestamp, as the column form gives them."""
    frame = pl.LazyFrame({"_time": pl.Series(times_us, dtype=pl.Int64), "i": range(len(times_us))})
    rows = fn.assign_columns(frame).select("i", "_wstart", "_wend").collect().rows()
    return [sorted((start, end) for i, start, end in rows if i == n) for n in range(len(times_us))]


@given(fn=st.one_of(fixed, sliding), times_us=st.lists(times, min_size=1, max_size=20))
def test_columns_and_rows_assign_the_same_windows(fn: WindowFn, times_us: list[int]) -> None:
    assert by_columns(fn, times_us) == [sorted(map(us, fn.assign(t))) for t in times_us]


@given(fn=fixed, time_us=times)
def test_each_event_is_in_exactly_the_fixed_window_that_contains_it(fn: FixedWindows, time_us: int) -> None:
    (window,) = fn.assign(time_us)
    assert window.start_us <= time_us < window.end_us
    assert (window.start_us - fn.offset_us) % fn.size_us == 0


@given(fn=sliding, time_us=times)
def test_each_event_is_in_exactly_the_sliding_windows_that_contain_it(fn: SlidingWindows, time_us: int) -> None:
    assigned = {window.start_us for window in fn.assign(time_us)}
    nearest = (time_us - fn.offset_us) // fn.period_us
    reach = fn.size_us // fn.period_us + 2
    starts = [fn.offset_us + (nearest + step) * fn.period_us for step in range(-reach, 3)]
    assert assigned == {start for start in starts if start <= time_us < start + fn.size_us}


@given(times_us=st.lists(times, min_size=1, max_size=5))
def test_global_window_holds_every_time(times_us: list[int]) -> None:
    fn = GlobalWindows()
    assert all(fn.assign(t) == [GLOBAL_WINDOW] for t in times_us)
    assert by_columns(fn, times_us) == [[(MIN_US, MAX_US)]] * len(times_us)


def test_column_form_keeps_events_apart_that_are_equal() -> None:
    frame = pl.LazyFrame({"_time": [3, 3], "v": [1, 1]})
    assert FixedWindows(1).assign_columns(frame).collect().height == 2
