"""When is which event due? Pure functions of event numbers; nothing here reads a clock or waits.

Open loop: due times follow from the schedule alone, never from when earlier events got through. A publisher
that falls behind is behind until it has caught up, so a slow topic shows as lateness instead of as a lower
offered load (Gil Tene's "coordinated omission").
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamflow.base.errors import DataError

LINGER_S = 0.1
"""A batch holds events that become due within this time, which bounds the latency that batching adds."""


class Pace(Protocol):
    def due_s(self, event: int) -> float:
        """Seconds from event 0 to event number `event`; never falls as `event` rises."""


@dataclass(frozen=True)
class Unpaced:
    """Everything is due at once."""

    def due_s(self, event: int) -> float:
        return 0.0


@dataclass(frozen=True)
class ConstantRate:
    """Evenly spaced events. DataError unless `events_per_s` is above 0."""

    events_per_s: float

    def __post_init__(self) -> None:
        _positive("rate", self.events_per_s)

    def due_s(self, event: int) -> float:
        return event / self.events_per_s


@dataclass(frozen=True)
class Recorded:
    """The data's own rhythm, `speedup` times faster. DataError unless `speedup` is above 0."""

    arrival_us: Sequence[int]
    speedup: float

    def __post_init__(self) -> None:
        _positive("speedup", self.speedup)

    def due_s(self, event: int) -> float:
        return (self.arrival_us[event] - self.arrival_us[0]) / 1e6 / self.speedup


@dataclass(frozen=True, slots=True)
class Slot:
    """The batch `[first, end)` and when its last event is due, in seconds after the start of the run."""

    first: int
    end: int
    due_s: float


def slots(pace: Pace, first: int, end: int, batch: int, linger_s: float = LINGER_S) -> Iterator[Slot]:
    """Cut `[first, end)` into batches of at most `batch` events that become due within `linger_s`.

    The run starts when event `first` is due, whatever its number: a resumed run does not catch up on the
    pause.
    """
    origin_s = pace.due_s(first) if first < end else 0.0
    while first < end:
        limit = min(first + batch, end)
        in_time = bisect_right(range(first, limit), pace.due_s(first) + linger_s, key=pace.due_s)
        cut = first + max(1, in_time)
        yield Slot(first, cut, pace.due_s(cut - 1) - origin_s)
        first = cut


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise DataError(f"--{name} must be above 0, not {value:g}. Leave it out to publish as fast as possible")
