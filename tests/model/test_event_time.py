"""Timestamp and Duration behave as Apache Beam's: seconds outside, whole microseconds inside."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.model.time import Duration, Timestamp, duration_us, timestamp_us


@pytest.mark.parametrize(
    ("value", "expected_us"),
    [
        (1, 1_000_000),
        (-1.5, -1_500_000),
        (0.1, 100_000),
        (Timestamp(micros=7), 7),
        (datetime(1970, 1, 1, 0, 0, 1), 1_000_000),
        (datetime(1970, 1, 1, 2, 0, 1, tzinfo=timezone(timedelta(hours=2))), 1_000_000),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), -1),
    ],
)
def test_points_in_time_are_read_as_seconds_since_the_epoch(
    value: float | datetime | Timestamp, expected_us: int
) -> None:
    assert timestamp_us(value) == expected_us


@pytest.mark.parametrize(
    ("value", "expected_us"), [(2, 2_000_000), (timedelta(milliseconds=-3), -3_000), (Duration(0.5), 500_000)]
)
def test_spans_are_read_as_seconds(value: float | timedelta | Duration, expected_us: int) -> None:
    assert duration_us(value) == expected_us


def test_arithmetic_takes_numbers_as_seconds() -> None:
    assert Timestamp(10) + 5 == Timestamp(15)
    assert Timestamp(10) - 4 == Timestamp(6)
    assert Timestamp(10) - Timestamp(4) == Duration(6)
    assert Timestamp(10) % Duration(4) == Duration(2)
    assert Duration(3) + Duration(4) == 7
    assert -Duration(3) == -3
    assert 1 + Duration(1) == 2


def test_comparison_and_hash_agree() -> None:
    assert Timestamp(1) < Timestamp(2) <= 2
    assert {Timestamp(1): "a"}[Timestamp(micros=1_000_000)] == "a"
    assert Duration(1) > 0.5


@given(st.datetimes(timezones=st.just(UTC)))
def test_datetimes_survive_the_way_to_a_timestamp_and_back(moment: datetime) -> None:
    assert Timestamp.of(moment).as_datetime() == moment
    assert Timestamp.of(moment).to_utc_datetime() == moment.replace(tzinfo=None)
