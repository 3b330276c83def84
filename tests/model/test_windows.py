"""Window functions: bounds by table, and the law that columns and rows say the same."""

import pickle
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.base.errors import DataError, PipelineError
from streamflow.model.calendar_windows import CalendarWindows
from streamflow.model.panes import PaneMachine
from streamflow.model.time import (
    EVENT_MAX_US,
    EVENT_MIN_US,
    MAX_TIMESTAMP,
    MAX_US,
    MIN_TIMESTAMP,
    MIN_US,
    Duration,
    Timestamp,
)
from streamflow.model.window import (
    GLOBAL_WINDOW,
    FixedWindows,
    GlobalWindow,
    GlobalWindows,
    IntervalWindow,
    NonMergingWindowFn,
    Sessions,
    SlidingWindows,
    TimestampedValue,
    WindowFn,
)
from streamflow.model.windowing import Windowing

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

sessions = st.builds(lambda gap: Sessions(Duration(micros=gap)), spans)
zones = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/Sao_Paulo", "America/St_Johns", "Pacific/Apia", "Africa/Cairo"]
)
numbers, days = st.integers(1, 30), st.integers(1, 28)
calendar = st.one_of(
    st.builds(lambda n, zone: CalendarWindows.days(n, timezone=zone), numbers, zones),
    st.builds(
        lambda n, on, zone: CalendarWindows.weeks(n, weekday=on, timezone=zone), numbers, st.integers(0, 6), zones
    ),
    st.builds(lambda n, day, zone: CalendarWindows.months(n, day=day, timezone=zone), numbers, days, zones),
    st.builds(
        lambda n, month, day, zone: CalendarWindows.years(n, month=month, day=day, timezone=zone),
        numbers,
        st.integers(1, 12),
        days,
        zones,
    ),
)
moments = times | st.integers(EVENT_MIN_US, EVENT_MAX_US) | st.just(MIN_US)


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
    assert [us(w) for w in FixedWindows(size_s, offset_s).at(time_us)] == [(start_us, start_us + round(size_s * 1e6))]


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
    windows = SlidingWindows(size_s, period_s, offset_s).at(time_s * 1_000_000)
    assert [w.start_us // 1_000_000 for w in windows] == starts_s
    assert all(w.end_us - w.start_us == size_s * 1_000_000 for w in windows)


def test_offset_is_normalised_so_that_equal_windows_compare_equal() -> None:
    assert FixedWindows(60, 65) == FixedWindows(60, 5)
    assert SlidingWindows(60, 10, 25) == SlidingWindows(60, 10, 5)


def test_sizes_are_seconds_timedeltas_or_durations_alike() -> None:
    assert FixedWindows(1.5) == FixedWindows(timedelta(seconds=1.5)) == FixedWindows(Duration(1.5))
    assert FixedWindows(60, datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)) == FixedWindows(60, 5)


def test_last_instant_of_a_window_is_a_microsecond_before_its_end() -> None:
    (window,) = FixedWindows(60).at(0)
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


HOUR_US = 3_600_000_000


@pytest.mark.parametrize(
    ("fn", "moment", "start", "hours"),
    [
        (CalendarWindows.days(timezone="Europe/Berlin"), "2024-03-31T12:00", "2024-03-31", 23),
        (CalendarWindows.days(timezone="Europe/Berlin"), "2024-10-27T00:00", "2024-10-27", 25),
        (CalendarWindows.days(timezone="Europe/Berlin"), "2024-10-27T23:59", "2024-10-27", 25),
        (CalendarWindows.days(timezone="Europe/Berlin"), "2024-10-28T00:00", "2024-10-28", 24),
        (CalendarWindows.days(2, timezone="Europe/Berlin"), "1970-01-04T00:00", "1970-01-03", 48),
        (CalendarWindows.days(timezone="America/Sao_Paulo"), "2017-10-15T01:00", "2017-10-15", 23),
        (CalendarWindows.days(timezone="America/Havana"), "2023-11-05T00:30", "2023-11-05", 25),
        (CalendarWindows.weeks(), "2024-05-15T12:00", "2024-05-13", 168),
        (CalendarWindows.weeks(weekday=6), "2024-05-15T12:00", "2024-05-12", 168),
        (CalendarWindows.weeks(timezone="Europe/Berlin"), "2024-03-31T23:59", "2024-03-25", 167),
        (CalendarWindows.months(), "2024-02-29T23:59", "2024-02-01", 29 * 24),
        (CalendarWindows.months(timezone="Europe/Berlin"), "2024-03-15T00:00", "2024-03-01", 31 * 24 - 1),
        (CalendarWindows.months(day=15), "2024-03-14T23:59", "2024-02-15", 29 * 24),
        (CalendarWindows.months(3), "1969-12-31T23:59", "1969-10-01", 92 * 24),
        (CalendarWindows.years(), "2024-12-31T23:59", "2024-01-01", 366 * 24),
        (CalendarWindows.years(month=10), "2024-09-30T00:00", "2023-10-01", 366 * 24),
        (CalendarWindows.years(10), "1969-01-01T00:00", "1960-01-01", 3653 * 24),
    ],
)
def test_calendar_windows_begin_at_local_midnight(fn: CalendarWindows, moment: str, start: str, hours: int) -> None:
    zone = ZoneInfo(fn.timezone)
    time_us = Timestamp.of(datetime.fromisoformat(moment).replace(tzinfo=zone)).micros
    (window,) = fn.at(time_us)
    assert window.start_us <= time_us < window.end_us
    # A midnight that is skipped is shown as the hour that follows.
    assert window.start.as_datetime().astimezone(zone).date().isoformat() == start
    assert (window.end_us - window.start_us) == hours * HOUR_US


@given(fn=calendar, time_us=moments)
def test_each_event_is_in_exactly_the_calendar_window_that_contains_it(fn: CalendarWindows, time_us: int) -> None:
    (window,) = fn.at(time_us)
    assert window.start_us <= time_us < window.end_us
    assert fn.at(window.start_us) == [window]
    if window.end_us < MAX_US:
        assert fn.at(window.end_us)[0].start_us == window.end_us


@given(gap_us=spans, times_us=st.lists(times, min_size=1, max_size=8))
def test_sessions_merge_what_overlaps_strictly_in_any_order(gap_us: int, times_us: list[int]) -> None:
    fn = Sessions(Duration(micros=gap_us))
    expected: list[list[int]] = []
    for time_us in sorted(set(times_us)):
        if expected and time_us < expected[-1][1]:
            expected[-1][1] = time_us + gap_us
        else:
            expected.append([time_us, time_us + gap_us])
    machine, held = PaneMachine(Windowing(fn)), {}
    for time_us in times_us:
        for proto in fn.at(time_us):
            list(machine.element(held, proto, time_us, MIN_US, 0))
    assert sorted([window.start_us, window.end_us] for window in held) == expected


def test_windows_of_beams_form_take_seconds_and_an_assign_context() -> None:
    context = WindowFn.AssignContext(7)
    assert FixedWindows(5).assign(context) == [IntervalWindow(5, 10)]
    assert Sessions(10).assign(context) == [IntervalWindow(Timestamp(7), 17)]
    assert GlobalWindows().assign(context) == [GlobalWindow()]
    assert IntervalWindow(0, 10).union(IntervalWindow(5, 15)) == IntervalWindow(0, 15)
    assert not IntervalWindow(0, 10).intersects(IntervalWindow(10, 15))


def test_user_defined_windows_must_be_intervals() -> None:
    class Wrong(NonMergingWindowFn):
        def assign(self, assign_context: WindowFn.AssignContext) -> list[IntervalWindow]:
            return [IntervalWindow(5, 4)]

    class Empty(NonMergingWindowFn):
        def assign(self, assign_context: WindowFn.AssignContext) -> list[IntervalWindow]:
            return [IntervalWindow(5, 5)]

    with pytest.raises(DataError, match="no IntervalWindow, or ends before its start"):
        Windowing(Wrong()).windows(0, None, None)
    assert Windowing(Empty()).windows(0, None, None) == [IntervalWindow(5, 5)]


def test_the_global_window_is_equal_to_itself_alone() -> None:
    assert GlobalWindow() == GlobalWindow() == pickle.loads(pickle.dumps(GlobalWindow()))
    assert GlobalWindow() != IntervalWindow(MIN_TIMESTAMP, MAX_TIMESTAMP) != GlobalWindow()
    assert IntervalWindow(GLOBAL_WINDOW.start, 0) != GlobalWindow()
    assert GlobalWindow().start == MIN_TIMESTAMP
    assert GlobalWindow().max_timestamp() < MAX_TIMESTAMP


def test_timestamped_values_are_ordered_by_value_then_time() -> None:
    first, then = TimestampedValue[str]("a", 9), TimestampedValue("b", 1)
    assert sorted([then, TimestampedValue("a", 10), first]) == [first, TimestampedValue("a", Timestamp(10)), then]
    assert len({first, TimestampedValue("a", 9.0)}) == 1
    assert pickle.loads(pickle.dumps(first)) == first
    assert type(first.timestamp) is Timestamp


def by_columns(fn: WindowFn, times_us: list[int]) -> list[list[tuple[int, int]]]:
    """The windows of each timestamp, as the column form gives them."""
    frame = pl.LazyFrame({"_time": pl.Series(times_us, dtype=pl.Int64), "i": range(len(times_us))})
    rows = fn.assign_columns(frame).select("i", "_wstart", "_wend").collect().rows()
    return [sorted((start, end) for i, start, end in rows if i == n) for n in range(len(times_us))]


@given(fn=st.one_of(fixed, sliding, sessions, calendar), times_us=st.lists(moments, min_size=1, max_size=20))
def test_columns_and_rows_assign_the_same_windows(fn: WindowFn, times_us: list[int]) -> None:
    assert by_columns(fn, times_us) == [sorted(map(us, fn.at(t))) for t in times_us]


@given(fn=fixed, time_us=times)
def test_each_event_is_in_exactly_the_fixed_window_that_contains_it(fn: FixedWindows, time_us: int) -> None:
    (window,) = fn.at(time_us)
    assert window.start_us <= time_us < window.end_us
    assert (window.start_us - fn.offset_us) % fn.size_us == 0


@given(fn=sliding, time_us=times)
def test_each_event_is_in_exactly_the_sliding_windows_that_contain_it(fn: SlidingWindows, time_us: int) -> None:
    assigned = {window.start_us for window in fn.at(time_us)}
    nearest = (time_us - fn.offset_us) // fn.period_us
    reach = fn.size_us // fn.period_us + 2
    starts = [fn.offset_us + (nearest + step) * fn.period_us for step in range(-reach, 3)]
    assert assigned == {start for start in starts if start <= time_us < start + fn.size_us}


@given(times_us=st.lists(times, min_size=1, max_size=5))
def test_global_window_holds_every_time(times_us: list[int]) -> None:
    fn = GlobalWindows()
    assert all(fn.at(t) == [GLOBAL_WINDOW] for t in times_us)
    assert by_columns(fn, times_us) == [[(MIN_US, MAX_US)]] * len(times_us)


def test_column_form_keeps_events_apart_that_are_equal() -> None:
    frame = pl.LazyFrame({"_time": [3, 3], "v": [1, 1]})
    assert FixedWindows(1).assign_columns(frame).collect().height == 2
