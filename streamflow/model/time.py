"""Event time: integer microseconds, UTC, inside the engine; `Timestamp` and `Duration` for users, as in Apache Beam."""

from datetime import UTC, datetime, timedelta
from functools import total_ordering
from typing import Union

MIN_US = -(1 << 62)
"""Before every event; the watermark of what has not spoken yet."""
MAX_US = 1 << 62
"""After every event; the watermark of what has ended."""

EVENT_MIN_US = -62_135_596_800_000_000
EVENT_MAX_US = 253_402_300_799_999_999
"""The years 1 to 9999: what an event's own time may be, and what Python's datetime can show."""

DurationTypes = Union[int, float, timedelta, "Duration"]
TimestampTypes = Union[int, float, datetime, "Timestamp"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)


@total_ordering
class Duration:
    """A span of time. `Duration(seconds=1.5)`; arithmetic with numbers takes them as seconds."""

    __slots__ = ("micros",)

    def __init__(self, seconds: float = 0, micros: int = 0) -> None:
        self.micros = round(seconds * 1_000_000) + micros

    @classmethod
    def of(cls, value: DurationTypes) -> "Duration":
        return cls(micros=duration_us(value))

    def __float__(self) -> float:
        return self.micros / 1e6

    def __hash__(self) -> int:
        return hash(self.micros)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (int, float, timedelta, Duration)) and self.micros == duration_us(other)

    def __lt__(self, other: DurationTypes) -> bool:
        return self.micros < duration_us(other)

    def __add__(self, other: DurationTypes) -> "Duration":
        return Duration(micros=self.micros + duration_us(other))

    __radd__ = __add__

    def __sub__(self, other: DurationTypes) -> "Duration":
        return Duration(micros=self.micros - duration_us(other))

    def __neg__(self) -> "Duration":
        return Duration(micros=-self.micros)

    def __repr__(self) -> str:
        return f"Duration({self.micros / 1e6:g})"


@total_ordering
class Timestamp:
    """A point in time. `Timestamp(1.5)` is 1.5 s after the Unix epoch; arithmetic with numbers takes them as
    seconds."""

    __slots__ = ("micros",)

    def __init__(self, seconds: float = 0, micros: int = 0) -> None:
        self.micros = round(seconds * 1_000_000) + micros

    @classmethod
    def of(cls, value: TimestampTypes) -> "Timestamp":
        return cls(micros=timestamp_us(value))

    def to_utc_datetime(self) -> datetime:
        """Naive, in UTC, as Apache Beam returns it."""
        return self.as_datetime().replace(tzinfo=None)

    def as_datetime(self) -> datetime:
        """Aware, in UTC. OverflowError outside the years 1 to 9999."""
        return _EPOCH + timedelta(microseconds=self.micros)

    def __float__(self) -> float:
        return self.micros / 1e6

    def __int__(self) -> int:
        return self.micros // 1_000_000

    def __hash__(self) -> int:
        return hash(self.micros)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, (int, float, datetime, Timestamp)) and self.micros == timestamp_us(other)

    def __lt__(self, other: TimestampTypes) -> bool:
        return self.micros < timestamp_us(other)

    def __add__(self, other: DurationTypes) -> "Timestamp":
        return Timestamp(micros=self.micros + duration_us(other))

    __radd__ = __add__

    def __sub__(self, other: Union["Timestamp", DurationTypes]) -> Union["Timestamp", Duration]:
        if isinstance(other, Timestamp):
            return Duration(micros=self.micros - other.micros)
        return Timestamp(micros=self.micros - duration_us(other))

    def __mod__(self, other: DurationTypes) -> Duration:
        return Duration(micros=self.micros % duration_us(other))

    def __repr__(self) -> str:
        return f"Timestamp({self.micros / 1e6:g})"


def duration_us(value: DurationTypes) -> int:
    """Microseconds of a span given as seconds, timedelta or Duration."""
    if isinstance(value, Duration):
        return value.micros
    if isinstance(value, timedelta):
        return value // _US
    return round(value * 1_000_000)


def timestamp_us(value: TimestampTypes) -> int:
    """Microseconds since the Unix epoch of a point given as seconds, datetime (naive = UTC) or Timestamp."""
    if isinstance(value, Timestamp):
        return value.micros
    if isinstance(value, datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=UTC)
        return (aware - _EPOCH) // _US
    return round(value * 1_000_000)


MIN_TIMESTAMP = Timestamp(micros=MIN_US)
MAX_TIMESTAMP = Timestamp(micros=MAX_US)
