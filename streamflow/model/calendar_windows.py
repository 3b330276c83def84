"""Windows of the calendar: days, weeks, months and years of a time zone, each as long as it is there.

Bounds are local midnights, turned into UTC by the rules of the zone (`zoneinfo`): a day is 23, 24 or 25 hours long. A
midnight that a change of the clock skips is the one of the time before the change; of one that comes twice it is the
first. Times outside the years 2 to 9998, such as that of values without a timestamp, share one window before and one
after.
"""

from datetime import UTC, date, datetime, timedelta
from enum import Enum
from functools import lru_cache
from zoneinfo import ZoneInfo

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.time import MAX_US, MIN_US, timestamp_us
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START, IntervalWindow, NonMergingWindowFn

_HOUR_US = 3_600_000_000
_LOW_US = timestamp_us(datetime(2, 1, 1))
_HIGH_US = timestamp_us(datetime(9998, 12, 31))
_MONDAY = date(1970, 1, 5)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Unit(Enum):
    DAYS = "days"
    WEEKS = "weeks"
    MONTHS = "months"
    YEARS = "years"


class CalendarWindows(NonMergingWindowFn):
    """Made by `days`, `weeks`, `months` or `years`; `number` of them are one window, counted from the beginning of
    1970 (weeks from the first such week day of 1970), so that windows of several do not move from year to year."""

    by_time = True

    def __init__(
        self, unit: _Unit, number: int, timezone: str, *, day: int = 1, month: int = 1, weekday: int = 0
    ) -> None:
        if number < 1:
            raise PipelineError(f"a window of {number} {unit.value} has no length. Give 1 or more.")
        try:
            self._zone = ZoneInfo(timezone)
        except (OSError, ValueError, KeyError) as error:
            raise PipelineError(f"unknown time zone {timezone!r}. Give a name such as 'Europe/Berlin'.") from error
        self.unit, self.number, self.timezone = unit, number, timezone
        self.day, self.month, self.weekday = day, month, weekday

    @classmethod
    def days(cls, number: int = 1, *, timezone: str = "UTC") -> "CalendarWindows":
        return cls(_Unit.DAYS, number, timezone)

    @classmethod
    def weeks(cls, number: int = 1, *, weekday: int = 0, timezone: str = "UTC") -> "CalendarWindows":
        """`weekday`: on which they begin; Monday is 0, Sunday 6."""
        if weekday not in range(7):
            raise PipelineError(f"weekday must be 0 (Monday) to 6 (Sunday), got {weekday!r}.")
        return cls(_Unit.WEEKS, number, timezone, weekday=weekday)

    @classmethod
    def months(cls, number: int = 1, *, day: int = 1, timezone: str = "UTC") -> "CalendarWindows":
        """`day`: of the month on which they begin, at most 28."""
        if day not in range(1, 29):
            raise PipelineError(f"a month has no day {day!r} every time. Give 1 to 28.")
        return cls(_Unit.MONTHS, number, timezone, day=day)

    @classmethod
    def years(cls, number: int = 1, *, month: int = 1, day: int = 1, timezone: str = "UTC") -> "CalendarWindows":
        """`month` and `day` on which they begin, e.g. `month=10` for a fiscal year."""
        if month not in range(1, 13) or day not in range(1, 29):
            raise PipelineError(f"a year begins in month 1 to 12 on day 1 to 28, got {month!r} and {day!r}.")
        return cls(_Unit.YEARS, number, timezone, month=month, day=day)

    def at(self, time_us: int) -> list[IntervalWindow]:
        if time_us < _LOW_US:
            window = self._window(_LOW_US)
            return [IntervalWindow.of_us(MIN_US, window.start_us) if time_us < window.start_us else window]
        if time_us >= _HIGH_US:
            window = self._window(_HIGH_US)
            return [IntervalWindow.of_us(window.end_us, MAX_US) if time_us >= window.end_us else window]
        return [self._window(time_us)]

    def assign_columns(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        return frame.with_columns(
            pl.col(TIME)
            .map_batches(self._bounds, return_dtype=pl.Struct({WINDOW_START: pl.Int64, WINDOW_END: pl.Int64}))
            .alias(WINDOW_START)
        ).with_columns(pl.col(WINDOW_START).struct.field(WINDOW_START), pl.col(WINDOW_START).struct.field(WINDOW_END))

    def _bounds(self, times: pl.Series) -> pl.Series:
        """The window of each time. No window is shorter than an hour, so those of the first and last instant of the
        hours that occur are all there are."""
        hours = (times // _HOUR_US).unique().to_list()
        edges = [instant for hour in hours for instant in (hour * _HOUR_US, hour * _HOUR_US + _HOUR_US - 1)]
        windows = sorted({window for edge in edges for window in self.at(edge)})
        ends = pl.Series([window.end_us for window in windows], dtype=pl.Int64)
        index = ends.search_sorted(times, side="right") if len(windows) else pl.Series(dtype=pl.UInt32)
        starts = pl.Series([window.start_us for window in windows], dtype=pl.Int64)
        return pl.DataFrame({WINDOW_START: starts.gather(index), WINDOW_END: ends.gather(index)}).to_struct()

    def _window(self, time_us: int) -> IntervalWindow:
        local = (_EPOCH + timedelta(microseconds=time_us)).astimezone(self._zone).date()
        number = self._number(local)
        # Clocks that are put back shortly after midnight, or forward shortly before, make an hour of another day's.
        while time_us >= self._begin_us(number + 1):
            number += 1
        while time_us < self._begin_us(number):
            number -= 1
        return IntervalWindow.of_us(self._begin_us(number), self._begin_us(number + 1))

    def _number(self, local: date) -> int:
        """Which window since 1970 a local day belongs to."""
        if self.unit is _Unit.DAYS:
            passed = local.toordinal() - date(1970, 1, 1).toordinal()
        elif self.unit is _Unit.WEEKS:
            passed = (local.toordinal() - _MONDAY.toordinal() - self.weekday) // 7
        elif self.unit is _Unit.MONTHS:
            passed = (local.year - 1970) * 12 + local.month - 1 - (local.day < self.day)
        else:
            passed = local.year - 1970 - ((local.month, local.day) < (self.month, self.day))
        return passed // self.number

    def _begin_us(self, number: int) -> int:
        return _begin_us(self._zone, self._first_day(number * self.number))

    def _first_day(self, passed: int) -> tuple[int, int, int]:
        """Year, month, day on which the unit begins that is the `passed`-th since 1970; year 0 or 10000 if beyond."""
        if self.unit in (_Unit.DAYS, _Unit.WEEKS):
            days = passed if self.unit is _Unit.DAYS else passed * 7 + self.weekday + 4
            ordinal = date(1970, 1, 1).toordinal() + days
            if not 1 <= ordinal <= date.max.toordinal():
                return (0 if ordinal < 1 else 10_000), 1, 1
            day = date.fromordinal(ordinal)
            return day.year, day.month, day.day
        if self.unit is _Unit.MONTHS:
            return 1970 + passed // 12, passed % 12 + 1, self.day
        return 1970 + passed, self.month, self.day

    def _state(self) -> dict[str, object]:
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


@lru_cache(maxsize=4096)
def _begin_us(zone: ZoneInfo, day: tuple[int, int, int]) -> int:
    """The instant at which that local day begins; the ends of time beyond the years 1 to 9999."""
    if day[0] < 1:
        return MIN_US
    if day[0] > 9999:
        return MAX_US
    return timestamp_us(datetime(*day, tzinfo=zone))
