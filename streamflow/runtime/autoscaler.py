"""The autoscaler: a pure decision of how many workers there should be, with its reasons and the price of each choice.

It prices every useful number of workers over the next minutes in one currency, the bill of the usual number of workers
for a second: workers cost what they cost, a second over the latency objective costs `violation_price`, a change of the
number costs `CHANGE_PRICE` for each second that workers take to start and tasks to move.

    up     at once, when to wait a little longer would cost more than it saves
    down   when the surplus has cost as much as the change would (ski rental); later after a change that was regretted
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from streamflow.runtime.fluid import Level, hottest, queue_after, seconds_over, useful_counts

CHANGE_PRICE = 2.5
HEADROOM = 0.04
"""Of a load, on top of it, that workers are to stand: it may rise while they start."""
HEADROOM_DOWN = 0.1
DRIFTS = 1.0
DRIFTS_DOWN = 2.0
DRIFT_MAX = 0.2
DRIFT_MEM = 10.0
SHARE = 0.5
SAFE = 0.75
"""Of the objective, what is planned with: the model is a model."""
RETURN = 1.6
BUSY_MIN = 0.05
REGRET_SPANS = 12
LONG = 60


@dataclass(frozen=True, slots=True)
class Policy:
    """What is wanted. `latency_s`: how old the oldest event that waits may be. `violation_price`: what a second over
    that may cost, in seconds of the usual number of workers."""

    workers_min: int = 1
    workers_max: int = 1
    latency_s: float = 5.0
    violation_price: float = 8.0


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker over the span: events processed, seconds it was busy with them, and since when it works."""

    id: str
    processed: float
    busy_s: float
    up_s: float


@dataclass(frozen=True, slots=True)
class Observation:
    """The last `span_s` seconds up to `now_s`. Per partition: arrivals (events/s), backlog (events), owner (the index
    of a worker, -1 for none). `starting`: seconds until each worker under way is expected. `paused`: the share of
    partitions × time that was waiting for a new owner. `start_s`, `pause_s`: how long a worker takes to start, and
    tasks to move."""

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


@dataclass(frozen=True, slots=True)
class Memory:
    """What the next decision needs of the past."""

    total: Level = field(default_factory=Level)
    arrivals: tuple[float, ...] = ()
    samples: int = 0
    contention: float = 0.0
    settled: tuple[int, float] = (0, 0.0)
    lagged: float = 0.0
    drift: float = 0.0
    rate: Level = field(default_factory=Level)
    bias: float = 1.0
    speeds: Mapping[str, float] = field(default_factory=dict)
    usual: float = 0.0
    usual_s: float = 0.0
    saved: Mapping[int, float] = field(default_factory=dict)
    patience: float = 1.0
    down_s: float = -math.inf


@dataclass(frozen=True, slots=True)
class Choice:
    """A number of workers, and what it would bring: seconds over the objective, and prices in seconds of the usual
    number of workers."""

    workers: int
    over_s: float
    price: float


@dataclass(frozen=True, slots=True)
class Decision:
    workers: int
    reason: str
    choices: tuple[Choice, ...] = ()


def decide(memory: Memory, seen: Observation, policy: Policy) -> tuple[Memory, Decision]:
    memory = _learn(memory, seen, policy)
    most = max(policy.workers_min, policy.workers_max)
    wanted = min(max(seen.wanted, policy.workers_min), most)
    if not memory.rate.known or not seen.workers:
        return memory, Decision(wanted, "nothing processed yet")
    outlook = _Outlook(memory, seen, policy)
    counts = useful_counts(len(seen.backlog), policy.workers_min, most)
    change = CHANGE_PRICE * (seen.start_s + seen.pause_s)
    # up
    wait = 2 * seen.span_s
    stay = outlook.choice(wanted, 0.0)
    ups = [outlook.choice(n, 0.0) for n in counts if n > wanted]
    choices = (stay, *ups)
    best = min(choices, key=lambda c: (c.price, c.workers))
    if best.workers > wanted:
        later = outlook.choice(best.workers, wait)
        if later.price >= best.price:
            regret = seen.now_s - memory.down_s < REGRET_SPANS * (seen.start_s + seen.pause_s)
            patience = min(8.0, memory.patience * 2) if regret else memory.patience
            return replace(memory, saved={}, patience=patience, down_s=-math.inf), Decision(best.workers, "up", choices)
    # down
    if seen.starting or seen.paused > 0:
        return memory, Decision(wanted, "stay", choices)
    saved = {}
    for n in counts:
        if n >= wanted:
            continue
        gain = (wanted - n) / memory.usual * seen.span_s
        before = memory.saved.get(n, 0.0)
        saved[n] = before + gain if outlook.safe(n) else max(0.0, before - 3 * gain)
    limit = change * RETURN * memory.patience
    due = [n for n, s in saved.items() if s >= limit and outlook.safe(n)]
    if due:
        n = min(due)
        return replace(memory, saved={}, down_s=seen.now_s), Decision(n, "down", choices)
    if seen.now_s - memory.down_s > REGRET_SPANS * (seen.start_s + seen.pause_s):
        memory = replace(memory, patience=max(1.0, memory.patience / 2), down_s=-math.inf)
    return replace(memory, saved=saved), Decision(wanted, "stay", choices)


class _Outlook:
    def __init__(self, memory: Memory, seen: Observation, policy: Policy) -> None:
        self.memory, self.seen, self.policy = memory, seen, policy
        self.partitions = len(seen.backlog)
        self.slow = min((memory.speeds.get(w.id, 1.0) for w in seen.workers), default=1.0)
        self.limit_s = SAFE * policy.latency_s
        self.scale = memory.total.value / (sum(memory.arrivals) or 1e-9)
        self.up_room = HEADROOM + DRIFTS * memory.drift
        self.down_room = HEADROOM_DOWN + DRIFTS_DOWN * memory.drift
        self.horizon_s = 12 * (seen.start_s + seen.pause_s)
        self.steady = next((n for n in useful_counts(self.partitions, max(1, policy.workers_min), policy.workers_max)
                            if self._utilisation(n, self.up_room) <= 1), max(1, policy.workers_max))

    def capacity(self, n: int) -> float:
        c = self.memory.rate.value * self.memory.bias
        now = max(1, len(self.seen.workers))
        a = max(0.0, self.memory.contention)
        return c * self.slow * (1 + a * (now - 1)) / (1 + a * (n - 1))

    def _hot(self, n: int, headroom: float) -> tuple[float, float]:
        """arrivals, backlog of the hottest worker"""
        if n == len(self.seen.workers) and not any(o < 0 for o in self.seen.owners):
            loads, queues = [0.0] * n, [0.0] * n
            for p, o in enumerate(self.seen.owners):
                loads[o] += self.memory.arrivals[p]
                queues[o] += self.seen.backlog[p]
            s = [self.memory.speeds.get(w.id, 1.0) / self.slow for w in self.seen.workers]
            worst = max(range(n), key=lambda i: (queues[i] + loads[i] * self.scale * self.horizon_s) / s[i])
            load, queue = loads[worst] / s[worst], queues[worst] / s[worst]
        else:
            held = math.ceil(self.partitions / n)
            load, queue = hottest(self.memory.arrivals, held), hottest(self.seen.backlog, held)
        return load * self.scale * (1 + headroom), queue

    def _utilisation(self, n: int, headroom: float) -> float:
        return self._hot(n, headroom)[0] / max(1e-9, self.capacity(n))

    def choice(self, n: int, wait: float) -> Choice:
        seen, mem = self.seen, self.memory
        running = len(seen.workers)
        now_load, now_queue = self._hot(running, self.up_room)
        load, queue = self._hot(n, self.up_room)
        phases = []
        if seen.paused >= 0.5:
            phases.append((seen.pause_s / 2, 0.0))
        lead = 0.0
        if n != seen.wanted:
            lead = seen.start_s + wait
        elif seen.starting:
            lead = max(seen.starting)
        # before: on the present workers, hottest queue
        ratio = max(1e-9, load / max(now_load, 1e-9))
        pause = seen.pause_s if n != running else 0.0
        cap_now, cap = self.capacity(running), self.capacity(n)
        before = [*phases, (lead, cap_now)]
        limit_now, limit = now_load * self.limit_s, load * self.limit_s
        over = seconds_over(now_queue, now_load, before, limit_now)
        grown = queue_after(now_queue, now_load, before)
        if n == running:
            mid = grown
        else:
            # what came meanwhile, spread as on the new workers
            spent = sum(s for s, _ in phases) + lead
            mid = queue_after(queue, now_load * ratio, [(spent, cap_now * ratio)])
        rest = LONG * (seen.start_s + seen.pause_s) - wait
        after = [(pause, 0.0), (rest, cap)]
        over += seconds_over(mid, load, after, limit)
        q = queue_after(mid, load, after[:1])
        clear = min(rest, max(0.0, q - limit / 4) / (cap - load)) if cap > load else rest
        held = lead + pause + clear
        horizon = self.horizon_s - wait
        held = min(horizon, held + seen.start_s + seen.pause_s - wait)
        price = (n - seen.wanted) * horizon / mem.usual if n <= self.steady else ((n - seen.wanted) * held + max(0, self.steady - seen.wanted) * (horizon - held)) / mem.usual
        price += self.policy.violation_price * over
        if n != seen.wanted:
            change = CHANGE_PRICE * (seen.start_s + seen.pause_s)
            price += change * (2 if n > self.steady else 1)
        return Choice(n, over, price)

    def safe(self, n: int) -> bool:
        load, queue = self._hot(n, self.down_room)
        cap = self.capacity(n)
        after = [(self.seen.pause_s, 0.0), (self.horizon_s, cap)]
        return load < cap and seconds_over(queue, load, after, load * self.limit_s) == 0


def _learn(memory: Memory, seen: Observation, policy: Policy) -> Memory:
    smooth = 1 - math.exp(-seen.span_s / max(policy.latency_s, seen.span_s))
    total = memory.total.seen(sum(seen.arrivals), smooth)
    samples = memory.samples + 1
    new = sum(seen.arrivals)
    shares = tuple(x / new if new > 0 else 1 / len(seen.arrivals) for x in seen.arrivals)
    arrivals = shares
    if len(memory.arrivals) == len(shares):
        slow = max(SHARE * smooth, 1 / samples)
        arrivals = tuple(a + slow * (x - a) for a, x in zip(memory.arrivals, shares, strict=True))
    lead = seen.start_s + seen.pause_s
    lagged = total.value if memory.samples == 0 else memory.lagged + min(1.0, seen.span_s / lead) * (total.value - memory.lagged)
    moved = min(DRIFT_MAX, abs(total.value - lagged) / max(total.value, 1e-9))
    drift = memory.drift + min(1.0, seen.span_s / (DRIFT_MEM * lead)) * (moved - memory.drift)
    memory = replace(memory, total=total, arrivals=arrivals, samples=samples, lagged=lagged, drift=drift)
    usable = [w for w in seen.workers if w.busy_s > BUSY_MIN * seen.span_s and w.processed > 0]
    settled = [w for w in usable if w.up_s > 2 * seen.start_s] or usable
    if settled:
        rates = {w.id: w.processed / w.busy_s for w in settled}
        mean = sum(w.processed for w in settled) / sum(w.busy_s for w in settled)
        rate = memory.rate.seen(mean, smooth)
        speeds = {w.id: memory.speeds[w.id] for w in seen.workers if w.id in memory.speeds}
        for id_, r in rates.items():
            old = speeds.get(id_, 1.0)
            speeds[id_] = old + smooth / 4 * (r / mean - old)
        n = len(seen.workers)
        memory = replace(memory, rate=rate, speeds=speeds)
        if min(w.up_s for w in seen.workers) > 2 * seen.start_s and not seen.starting and seen.paused == 0:
            n0, r0 = memory.settled
            if n0 and n0 != n:
                q = r0 / rate.value
                sample = (q - 1) / ((n - 1) - q * (n0 - 1)) if abs((n - 1) - q * (n0 - 1)) > 0.5 else 0.0
                wt = abs(n - n0) / max(n, n0)
                memory = replace(memory, contention=memory.contention + wt * (min(1.0, max(-0.2, sample)) - memory.contention))
            memory = replace(memory, settled=(n, rate.value))
        if seen.paused == 0 and -1 not in seen.owners and seen.owners:
            held = [0.0] * len(seen.workers)
            for p, o in enumerate(seen.owners):
                held[o] += seen.backlog[p]
            full = [(w.processed / seen.span_s) / rates[w.id] for i, w in enumerate(seen.workers)
                    if w.id in rates and held[i] > w.processed and w.up_s > 2 * seen.span_s]
            if full:
                bias = min(1.0, sum(full) / len(full))
                memory = replace(memory, bias=memory.bias + smooth * (bias - memory.bias))
    if memory.rate.known:
        need = max(1.0, memory.total.value / (memory.rate.value * memory.bias))
        span = min(memory.usual_s + seen.span_s, 100 * (seen.start_s + seen.pause_s))
        memory = replace(memory, usual=memory.usual + seen.span_s / span * (need - memory.usual) if memory.usual else need, usual_s=span)
    return memory
