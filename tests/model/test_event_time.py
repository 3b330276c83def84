"""Timestamp and Duration behave as Apache Beam's: seconds outside, whole microseconds inside."""

from collections.abc import Callable
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
    assert 1 - Duration(3) == -2
    assert 2 * Duration(1.5) == Duration(1.5) * 2 == 3
    assert Duration(10_000_000) % 0.1 == 0
    assert Duration(1) + Timestamp(2) == Timestamp(3)
    assert type(Duration(1) + Timestamp(2)) is type(1 + Timestamp(2)) is Timestamp
    assert type(Timestamp(3) - 1) is Timestamp
    assert type(Timestamp(3) - Timestamp(1)) is type(Timestamp(3) % 2) is Duration


WITHOUT_MEANING: dict[str, Callable[[], object]] = {
    "a point plus a point": lambda: Timestamp(1) + Timestamp(2),  # type: ignore[operator]
    "a span minus a point": lambda: Duration(1) - Timestamp(2),  # type: ignore[operator]
    "a number minus a point": lambda: 1 - Timestamp(2),  # type: ignore[operator]
    "a point times a number": lambda: Timestamp(1) * 2,  # type: ignore[operator]
    "a span times a point": lambda: Duration(1) * Timestamp(2),  # type: ignore[operator]
    "minus a point": lambda: -Timestamp(1),  # type: ignore[operator]
    "a span of a point": lambda: Duration.of(Timestamp(1)),  # type: ignore[arg-type]
    "a point of a span": lambda: Timestamp.of(Duration(1)),  # type: ignore[arg-type]
    "a point of a text": lambda: Timestamp("1"),  # type: ignore[arg-type]
    "a span before a text": lambda: Duration(1) < "2",
}


@pytest.mark.parametrize("calculate", WITHOUT_MEANING.values(), ids=WITHOUT_MEANING)
def test_arithmetic_without_meaning_is_a_type_error(calculate: Callable[[], object]) -> None:
    with pytest.raises(TypeError):
        calculate()


def test_comparison_and_hash_agree() -> None:
    assert Timestamp(1) < Timestamp(2) <= 2
    assert {Timestamp(1): "a"}[Timestamp(micros=1_000_000)] == "a"
    assert Duration(1) > 0.5
    assert Timestamp(1) == Duration(1)
    assert {1: "a", 2.5: "b"}[Timestamp(2.5)] == "b"
    assert {("k", Timestamp(1))} == {("k", 1)}
    assert sorted([3, Timestamp(2), -1, Timestamp(0.5)]) == [-1, 0.5, 2, 3]
    assert Timestamp(1) != "1"


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        (Timestamp(1.234567), "Timestamp(1.234567)"),
        (Timestamp(-999_999_999.9), "Timestamp(-999999999.900000)"),
        (Timestamp(1_534_842_001), "Timestamp(1534842001)"),
        (Duration(-0.5), "Duration(-0.500000)"),
    ],
)
def test_times_are_shown_exactly(time: Timestamp | Duration, shown: str) -> None:
    assert repr(time) == shown


@pytest.mark.parametrize(
    ("text", "seconds", "written"),
    [
        ("1970-04-26T17:46:40Z", 10_000_000, None),
        ("2016-03-18T23:22:59.123456Z", 1458343379.123456, None),
        ("2016-03-18T23:22:59.123456+04:00", 1458328979.123456, "2016-03-18T19:22:59.123456Z"),
        ("1970-01-01T00:00:01", 1, "1970-01-01T00:00:01Z"),
    ],
)
def test_texts_of_rfc_3339(text: str, seconds: float, written: str | None) -> None:
    assert Timestamp.from_rfc3339(text) == Timestamp(seconds)
    assert Timestamp(seconds).to_rfc3339() == (written or text)


def test_what_is_no_point_in_time_is_a_value_error() -> None:
    for text in ("yesterday", "2016-03-18T23:22:59Z and more"):
        with pytest.raises(ValueError, match="could not parse"):
            Timestamp.from_rfc3339(text)
    with pytest.raises(ValueError, match="no timezone"):
        Timestamp.from_utc_datetime(datetime(1970, 1, 1))
    with pytest.raises(ValueError, match="not in UTC"):
        Timestamp.from_utc_datetime(datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=2))))


def test_points_beside_a_point() -> None:
    assert Timestamp(1).predecessor().successor() == Timestamp(1)
    assert Timestamp(1).predecessor() == Timestamp(micros=999_999)
    assert Timestamp(-1.5).seconds() == int(Timestamp(-1.5)) == -2
    assert -60 < Timestamp.now() - Timestamp.of(datetime.now(UTC)) < 60


@given(st.datetimes(timezones=st.just(UTC)))
def test_datetimes_survive_the_way_to_a_timestamp_and_back(moment: datetime) -> None:
    assert Timestamp.of(moment).as_datetime() == moment
    assert Timestamp.of(moment).to_utc_datetime() == moment.replace(tzinfo=None)
    assert Timestamp.from_utc_datetime(Timestamp.of(moment).to_utc_datetime(has_tz=True)) == Timestamp.of(moment)
