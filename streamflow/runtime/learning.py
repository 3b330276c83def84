"""What the autoscaler sees and what it learns from it: the load, what a worker can do, how much the load moves. Pure.

What a worker can do is learnt from busy time alone (events per busy second, the "true rate" of DS2, OSDI '18), and
corrected by what workers did while they had more to do than they could.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from streamflow.runtime.fluid import Level

BUSY_MIN = 0.05
"""Of the time. Who was busy for less tells nothing of how fast it can be."""
TELLING = 0.5
"""Of the time, for all together. Who has less to do is slower for each event, as steps hold few: that workers are slow
is believed of busy ones alone, that they are fast of all, if slowly."""
NEW_STARTS = 2.0
"""For so many start-up times a worker is new: it may still be slow."""
DRIFT_MAX = 0.2
"""Of the level. What moves further is a step, which says nothing of how much the load moves usually."""
DRIFT_LEADS = 10.0
"""Over how many times the time that a change takes the usual movement is averaged."""
USUAL_LEADS = 100.0
"""The same for the usual number of workers."""
CONTENTION_MIN, CONTENTION_MAX = -0.2, 1.0
SPAN_MIN_S = 1e-3
"""Of less time nothing is learnt."""


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker over the span: events processed, seconds it was busy with them; and for how long it has worked."""

    id: str
    processed: float
    busy_s: float
    up_s: float


@dataclass(frozen=True, slots=True)
class Observation:
    """The last `span_s` seconds up to `now_s`. `wanted`: workers there are to be; `starting`: seconds until each one
    under way is expected. Per partition: `arrivals` (events/s), `backlog` (events), `owners` (index of the worker, -1:
    none). `age_s`: of the oldest event that waits. `paused`: the share of partitions × time without an owner.
    `start_s`, `pause_s`: how long a worker takes to start, and tasks to move. `idle`: nothing at all is left to do.
    `bottleneck`: the stage that is busiest."""

    now_s: float
    span_s: float
    wanted: int
    workers: tuple[WorkerSeen, ...]
    starting: tuple[float, ...]
    arrivals: tuple[float, ...]
    backlog: tuple[float, ...]
    owners: tuple[int, ...]
    age_s: float
    paused: float
    start_s: float
    pause_s: float
    idle: bool = False
    bottleneck: str = ""

    @property
    def lead_s(self) -> float:
        """How long it takes until a change has its effect."""
        return self.start_s + self.pause_s

    @property
    def is_owned(self) -> bool:
        """Each partition by a worker that was seen."""
        return bool(self.workers) and min(self.owners, default=-1) >= 0


@dataclass(frozen=True, slots=True)
class Memory:
    """What the next decision needs of the past; each call of `decide` gives the next.

    load: `total` (events/s), each partition's part of it in `shares`, and `drift`, by how much of itself it usually
    moves while a change takes effect. Workers: `rate` (events per busy second of one by itself), `saturated` (how much
    of that they keep up when they have more than enough to do), `speeds` of single ones against the others,
    `contention` (by how much of itself each further worker makes an event dearer for all). `usual`: the usual number of
    workers, which is the currency. `saved`: what each smaller number would have saved by now; `patience`: doubled by
    regret, which is to grow soon after `shrunk_s`."""

    total: Level = field(default_factory=Level)
    shares: tuple[float, ...] = ()
    lagged: float = 0.0
    drift: float = 0.0
    rate: Level = field(default_factory=Level)
    saturated: float = 1.0
    speeds: Mapping[str, float] = field(default_factory=dict)
    contention: float = 0.0
    settled: tuple[int, float] = (0, 0.0)
    usual: float = 0.0
    seen_s: float = 0.0
    samples: int = 0
    saved: Mapping[int, float] = field(default_factory=dict)
    patience: float = 1.0
    shrunk_s: float = -math.inf

    def dearer(self, workers: int) -> float:
        """An event among so many workers against one by itself."""
        return 1 + max(0.0, self.contention) * (max(1, workers) - 1)


def learn(memory: Memory, seen: Observation, latency_s: float) -> Memory:
    """Rates are smoothed over the objective: what is quicker than that a queue may even out."""
    if seen.span_s < SPAN_MIN_S:
        return memory
    weight = 1 - math.exp(-seen.span_s / max(latency_s, seen.span_s))
    memory = _learn_load(memory, seen, weight)
    memory = _learn_rates(memory, seen, weight)
    return _learn_usual(memory, seen)


def _learn_load(memory: Memory, seen: Observation, weight: float) -> Memory:
    arriving, samples = sum(seen.arrivals), memory.samples + 1
    total = memory.total.seen(arriving, weight)
    shares = tuple(x / arriving if arriving > 0 else 1 / len(seen.arrivals) for x in seen.arrivals)
    if len(memory.shares) == len(shares):
        # Shares move less than the load, and the largest of noisy ones would be too large.
        part = max(weight / 2, 1 / samples) if arriving > 0 else 0.0
        shares = tuple(old + part * (new - old) for old, new in zip(memory.shares, shares, strict=True))
    pull = min(1.0, seen.span_s / max(seen.lead_s, SPAN_MIN_S))
    lagged = memory.lagged + pull * (total.value - memory.lagged) if memory.total.known else total.value
    moved = min(DRIFT_MAX, abs(total.value - lagged) / total.value) if total.value > 0 else 0.0
    drift = memory.drift + min(1.0, pull / DRIFT_LEADS) * (moved - memory.drift)
    return replace(memory, total=total, shares=shares, lagged=lagged, drift=drift, samples=samples)


def _learn_rates(memory: Memory, seen: Observation, weight: float) -> Memory:
    busy = [w for w in seen.workers if w.busy_s > BUSY_MIN * seen.span_s and w.processed > 0]
    old = [w for w in busy if w.up_s > NEW_STARTS * seen.start_s]
    if not busy:
        return memory
    mean = sum(w.processed for w in old or busy) / sum(w.busy_s for w in old or busy)
    speeds = {w.id: memory.speeds.get(w.id, 1.0) for w in seen.workers}
    for worker in old:
        # Who did little tells little.
        part = weight / 4 * worker.busy_s / seen.span_s
        speeds[worker.id] += part * (worker.processed / worker.busy_s / mean - speeds[worker.id])
    load = sum(w.busy_s for w in seen.workers) / (len(seen.workers) * seen.span_s)
    alone = mean * memory.dearer(len(seen.workers))
    if load >= TELLING or not memory.rate.known:
        memory = replace(memory, rate=memory.rate.seen(alone, weight))
    elif alone > memory.rate.value:
        memory = replace(memory, rate=memory.rate.toward(alone, weight / 4))
    memory = replace(memory, speeds=speeds)
    if seen.paused > 0 or seen.starting or not seen.is_owned:
        return memory
    memory = replace(memory, saturated=_saturated(memory, seen, weight))
    if all(w.up_s > NEW_STARTS * seen.start_s for w in seen.workers):
        n = len(seen.workers)
        now = n, memory.rate.value / memory.dearer(n)
        memory = replace(memory, contention=_contention(memory, now), settled=now)
        memory = replace(memory, rate=memory.rate.scaled(now[1] * memory.dearer(n) / memory.rate.value))
    return memory


def _saturated(memory: Memory, seen: Observation, weight: float) -> float:
    """From those alone that had more to do than they did: what they reached of their rate."""
    held = [0.0] * len(seen.workers)
    for events, owner in zip(seen.backlog, seen.owners, strict=True):
        held[owner] += events
    reached = [
        worker.busy_s / seen.span_s
        for worker, left in zip(seen.workers, held, strict=True)
        if left > worker.processed > 0 and worker.busy_s > 0 and worker.up_s > 2 * seen.span_s
    ]
    if not reached:
        return memory.saturated
    return memory.saturated + weight * (min(1.0, sum(reached) / len(reached)) - memory.saturated)


def _contention(memory: Memory, now: tuple[int, float]) -> float:
    """`a` of rate ∝ 1 / (1 + a (workers - 1)), Gunther's term, from two numbers of workers one after the other; it
    counts the more the further they are apart."""
    (n, rate), (n_before, rate_before) = now, memory.settled
    if n_before in (0, n):
        return memory.contention
    dearer = rate_before / rate
    apart = (n - 1) - dearer * (n_before - 1)
    found = (dearer - 1) / apart if abs(apart) > 0.5 else 0.0
    found = min(CONTENTION_MAX, max(CONTENTION_MIN, found))
    return memory.contention + abs(n - n_before) / max(n, n_before) * (found - memory.contention)


def _learn_usual(memory: Memory, seen: Observation) -> Memory:
    if not memory.rate.known:
        return memory
    each = memory.rate.value * memory.saturated / memory.dearer(len(seen.workers))
    needed = max(1.0, memory.total.value / each)
    seen_s = min(memory.seen_s + seen.span_s, max(seen.span_s, USUAL_LEADS * seen.lead_s))
    usual = memory.usual + seen.span_s / seen_s * (needed - memory.usual) if memory.usual else needed
    return replace(memory, usual=usual, seen_s=seen_s)
