"""A fluid model of workers that share partitions: how far behind the hottest of them gets, and for how long. Pure.

Nothing in here knows of prices or decisions; `autoscaler` asks it what a number of workers would bring.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

SHIFT_SAMPLES = 2
"""So many samples in a row on one side, far off, are a new level; fewer may be a hiccup."""
SHIFT_DEVIATIONS = 3.0
DEVIATION_MIN = 0.03
"""Of the level: what counts as noise in any case."""


@dataclass(frozen=True, slots=True)
class Level:
    """A noisy rate: its smoothed value, its usual deviation, and the samples that may be the start of another level.

    Samples near the level are smoothed exponentially; SHIFT_SAMPLES in a row that are far off on one side replace it,
    as smoothing across a step would be wrong before and after."""

    value: float = math.nan
    deviation: float = 0.0
    odd: tuple[float, ...] = ()

    @property
    def known(self) -> bool:
        return not math.isnan(self.value)

    def scaled(self, factor: float) -> "Level":
        """In another unit."""
        return Level(self.value * factor, self.deviation * factor, tuple(sample * factor for sample in self.odd))

    def toward(self, sample: float, weight: float) -> "Level":
        """Nearer to the sample, whatever that is."""
        return Level(self.value + weight * (sample - self.value), self.deviation, self.odd)

    def seen(self, sample: float, weight: float) -> "Level":
        """`weight`: of the sample against the past, in (0, 1]."""
        if not self.known:
            return Level(sample, DEVIATION_MIN * sample)
        off = sample - self.value
        usual = max(self.deviation, DEVIATION_MIN * self.value)
        if abs(off) > SHIFT_DEVIATIONS * usual:
            odd = (*self.odd, sample) if self.odd and (self.odd[0] > self.value) == (off > 0) else (sample,)
            if len(odd) >= SHIFT_SAMPLES:
                return Level(odd[-1], min(self.deviation, DEVIATION_MIN * odd[-1]))
            return replace(self, odd=odd)
        return Level(self.value + weight * off, self.deviation + weight * (abs(off) - self.deviation))


def hottest(loads: Sequence[float], held: int) -> float:
    """What the worker with the heaviest partition has, if everyone holds `held` partitions: that one, and the rest as
    they are on average."""
    if not loads:
        return 0.0
    top = max(loads)
    return top + (held - 1) * (sum(loads) - top) / max(1, len(loads) - 1)


def useful_counts(partitions: int, least: int, most: int) -> list[int]:
    """Numbers of workers within the bounds that differ in how many partitions the fullest worker holds: of those that
    don't, the smallest."""
    most = max(least, min(most, partitions))
    first = {math.ceil(partitions / n): n for n in range(most, max(1, least) - 1, -1)} if partitions else {}
    counts = sorted({least, *first.values()})
    return counts or [least]


def flow(queue: float, arrivals: float, seconds: float, out: float, limit: float) -> tuple[float, float]:
    """A queue (events) after so many seconds of arrivals and of what is taken out (events/s), and how long it was above
    the limit meanwhile. It changes linearly, and not below 0."""
    end = max(0.0, queue + (arrivals - out) * seconds)
    if queue > limit and end > limit:
        return end, seconds
    if queue <= limit and end <= limit:
        return end, 0.0
    return end, min(seconds, (max(queue, end) - limit) / abs(arrivals - out))
