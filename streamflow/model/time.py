"""Event time: integer microseconds, UTC, inside the engine; `Timestamp` and `Duration` for users, as in Apache Beam."""

from datetime import UTC, datetime, timedelta
from functools import total_ordering
from typing import ClassVar, Union, overload

from streamflow.base.clock import SystemClock

MIN_US = -(1 << 62)
"""Before every event; the watermark of what has not spoken yet."""
MAX_US = 1 << 62
"""After every event; the watermark of what has ended."""
EARLIEST_US = MIN_US + 1
"""The event time of what has none of its own, as the values of Create and the rows of files."""

EVENT_MIN_US = -62_135_596_800_000_000
EVENT_MAX_US = 253_402_300_799_999_999
"""The years 1 to 9999: what an event's own time may be, and what Python's datetime can show."""

DurationTypes = Union[int, float, timedelta, "Duration"]
TimestampTypes = Union[int, float, datetime, "Timestamp"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


@total_ordering
class _Micros:
    """A whole number of microseconds. Spans and points compare with each other and with numbers of seconds, as in
    Apache Beam."""

    __slots__ = ("micros",)
    _CALENDAR: ClassVar[type[datetime] | type[timedelta]]
    """What else it compares with."""

    def __init__(self, seconds: float = 0, micros: int = 0) -> None:
        self.micros = (_seconds_us(seconds) if seconds else 0) + int(micros)

    def __float__(self) -> float:
        return self.micros / 1e6

    def __hash__(self) -> int:
        """That of the number of seconds, which it is equal to."""
        return hash(self.micros / 1e6)

    def __eq__(self, other: object) -> bool:
        other_us = self._other_us(other)
        return NotImplemented if other_us is None else self.micros == other_us

    def __lt__(self, other: object) -> bool:
        other_us = self._other_us(other)
        return NotImplemented if other_us is None else self.micros < other_us

    def _other_us(self, other: object) -> int | None:
        if isinstance(other, _Micros):
            return other.micros
        if isinstance(other, (int, float)):
            return _seconds_us(other)
        if isinstance(other, self._CALENDAR):
            return timestamp_us(other) if isinstance(other, datetime) else duration_us(other)
        return None

    def __repr__(self) -> str:
        whole, part = divmod(abs(self.micros), 1_000_000)
        shown = f"{whole}.{part:06d}" if part else str(whole)
        return f"{type(self).__name__}({'-' if self.micros < 0 else ''}{shown})"


class Duration(_Micros):
    """A span of time. `Duration(seconds=1.5)`; arithmetic with numbers takes them as seconds."""

    __slots__ = ()
    _CALENDAR = timedelta

    @staticmethod
    def of(seconds: DurationTypes) -> "Duration":
        """A Duration is itself. TypeError for a point in time."""
        return seconds if isinstance(seconds, Duration) else Duration(micros=duration_us(seconds))

    def __add__(self, other: DurationTypes) -> "Duration":
        if isinstance(other, Timestamp):
            return NotImplemented
        return Duration(micros=self.micros + duration_us(other))

    __radd__ = __add__

    def __sub__(self, other: DurationTypes) -> "Duration":
        return Duration(micros=self.micros - duration_us(other))

    def __rsub__(self, other: DurationTypes) -> "Duration":
        return Duration(micros=duration_us(other) - self.micros)

    def __mul__(self, factor: Union[float, "Duration"]) -> "Duration":
        return Duration(micros=round(self.micros * float(_no_point(factor))))

    __rmul__ = __mul__

    def __mod__(self, other: DurationTypes) -> "Duration":
        return Duration(micros=self.micros % duration_us(other))

    def __neg__(self) -> "Duration":
        return Duration(micros=-self.micros)


class Timestamp(_Micros):
    """A point in time. `Timestamp(1.5)` is 1.5 s after the Unix epoch; arithmetic with numbers takes them as
    seconds."""

    __slots__ = ()
    _CALENDAR = datetime

    @staticmethod
    def of(seconds: TimestampTypes) -> "Timestamp":
        """A Timestamp is itself. TypeError for a span."""
        return seconds if isinstance(seconds, Timestamp) else Timestamp(micros=timestamp_us(seconds))

    @staticmethod
    def now() -> "Timestamp":
        return Timestamp(micros=SystemClock().now_us())

    @classmethod
    def from_utc_datetime(cls, dt: datetime) -> "Timestamp":
        """Of an aware datetime in UTC; ValueError for another. (`Timestamp.of` takes any.)"""
        if dt.utcoffset() is None:
            raise ValueError(f"dt has no timezone info: {dt!r}. Set tzinfo=timezone.utc.")
        if dt.utcoffset():
            raise ValueError(f"dt is not in UTC: {dt!r}. Use dt.astimezone(timezone.utc), or Timestamp.of(dt).")
        return cls(micros=timestamp_us(dt))

    @classmethod
    def from_rfc3339(cls, rfc3339: str) -> "Timestamp":
        """Of a text like `2016-03-18T23:22:59.123456+04:00`, UTC if it says no zone; ValueError if it is none."""
        try:
            return cls(micros=timestamp_us(datetime.fromisoformat(rfc3339)))
        except ValueError as error:
            raise ValueError(f"could not parse {rfc3339!r} as RFC 3339: {error}.") from error

    def to_rfc3339(self) -> str:
        """In UTC, like `2016-03-18T23:22:59.123456Z`. OverflowError outside the years 1 to 9999."""
        return f"{self.to_utc_datetime().isoformat()}Z"

    def to_utc_datetime(self, has_tz: bool = False) -> datetime:
        """In UTC; naive, as Apache Beam returns it, unless `has_tz`. OverflowError outside the years 1 to 9999."""
        return self.as_datetime() if has_tz else self.as_datetime().replace(tzinfo=None)

    def as_datetime(self) -> datetime:
        """Aware, in UTC. OverflowError outside the years 1 to 9999."""
        return _EPOCH + timedelta(microseconds=self.micros)

    def seconds(self) -> int:
        """Whole seconds, rounded down."""
        return self.micros // 1_000_000

    def predecessor(self) -> "Timestamp":
        """The latest one before it."""
        return Timestamp(micros=self.micros - 1)

    def successor(self) -> "Timestamp":
        """The earliest one after it."""
        return Timestamp(micros=self.micros + 1)

    def __int__(self) -> int:
        return self.seconds()

    def __add__(self, other: DurationTypes) -> "Timestamp":
        return Timestamp(micros=self.micros + duration_us(other))

    __radd__ = __add__

    @overload
    def __sub__(self, other: DurationTypes) -> "Timestamp": ...

    @overload
    def __sub__(self, other: "Timestamp") -> Duration: ...

    def __sub__(self, other: Union["Timestamp", DurationTypes]) -> Union["Timestamp", Duration]:
        if isinstance(other, Timestamp):
            return Duration(micros=self.micros - other.micros)
        return Timestamp(micros=self.micros - duration_us(other))

    def __mod__(self, other: DurationTypes) -> Duration:
        return Duration(micros=self.micros % duration_us(other))


def _seconds_us(seconds: float) -> int:
    if isinstance(seconds, (str, bytes, _Micros)):
        raise TypeError(f"{seconds!r} is no number of seconds.")
    return round(seconds * 1_000_000)


def _no_point(value: float | Duration) -> float | Duration:
    if isinstance(value, Timestamp):
        raise TypeError(f"{value!r} is a point in time, where a span is wanted.")
    return value


def duration_us(value: DurationTypes) -> int:
    """Microseconds of a span given as seconds, timedelta or Duration. TypeError for anything else."""
    if isinstance(value, Duration):
        return value.micros
    if isinstance(value, timedelta):
        return value // _US
    return _seconds_us(value)


def timestamp_us(value: TimestampTypes) -> int:
    """Microseconds since the Unix epoch of a point given as seconds, datetime (naive = UTC) or Timestamp. TypeError for
    anything else."""
    if isinstance(value, Timestamp):
        return value.micros
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (aware - _EPOCH) // _US
    return _seconds_us(value)


MIN_TIMESTAMP = Timestamp(micros=EARLIEST_US)
MAX_TIMESTAMP = Timestamp(micros=MAX_US)
