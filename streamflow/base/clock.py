"""Wall time and waiting, passed in wherever they are needed so that tests decide what time it is."""

import time
from typing import Protocol


class Clock(Protocol):
    def now_us(self) -> int:
        """Microseconds since the Unix epoch, UTC."""

    def monotonic_s(self) -> float:
        """Seconds of a clock that never goes back; only differences mean anything."""


class SystemClock:
    def now_us(self) -> int:
        return time.time_ns() // 1_000

    def monotonic_s(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until `advance` is called: `pipeline.run(until="drained", clock=clock)`. `now_us`: what
    it shows at first."""

    def __init__(self, now_us: int = 0) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return self._now_us / 1e6

    def advance(self, seconds: float) -> None:
        self._now_us += round(seconds * 1e6)
