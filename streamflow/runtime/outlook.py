"""The next minutes for each number of workers: seconds over the objective, and what they and the workers cost. Pure.

Prices are in seconds of the usual number of workers, so that they mean the same for a small pipeline and a large one.
The load is taken to stay what it is, and a little more; a trend carried on made decisions worse.
"""

import math
from dataclasses import dataclass

from streamflow.runtime.fluid import flow, hottest, useful_counts
from streamflow.runtime.learning import Memory, Observation

CHANGE_PRICE = 2.5
"""Of a change of the number of workers, for each second that it takes to have its effect."""
ROOM_LESS, ROOM_LESS_DRIFTS = 0.1, 2.0
"""Workers must stand the load and what it usually moves by while a change takes effect. Fewer than there are must stand
this much more than the load, and so many times what it moves by: what is let go should not be missed."""
SAFE = 0.75
"""Of the objective, what is planned with."""
HORIZON_LEADS = 12.0
"""In times that a change takes: for so long workers are paid for when numbers are compared."""
HORIZON_OVER_LEADS = 60.0
"""For so long seconds over the objective are counted; what is left by then counts with the time that it takes."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is wanted. `latency_s`: how old the oldest event that waits may get. `violation_price`: what a second above
    that may cost, in seconds of the usual number of workers."""

    workers_min: int = 1
    workers_max: int = 1
    latency_s: float = 5.0
    violation_price: float = 8.0

    @property
    def is_elastic(self) -> bool:
        return self.workers_max > self.workers_min


@dataclass(frozen=True, slots=True)
class Choice:
    """A number of workers and what it brings: seconds over the objective, and the price of all."""

    workers: int
    over_s: float
    price: float


class Outlook:
    """From one moment on. `memory.rate` must be known."""

    def __init__(self, memory: Memory, seen: Observation, policy: Policy) -> None:
        self.memory, self.seen, self.policy = memory, seen, policy
        self.running = len(seen.workers)
        self.slowest = min((memory.speeds.get(w.id, 1.0) for w in seen.workers), default=1.0)
        self.room = memory.drift
        self.counts = useful_counts(len(seen.backlog), policy.workers_min, policy.workers_max)
        enough = (n for n in self.counts if n and self._hot(n, self.room)[0] <= self.capacity(n))
        self.steady = next(enough, self.counts[-1])
        """The fewest that stand the load."""

    def capacity(self, workers: int) -> float:
        """Events/s of the slowest of so many."""
        each = self.memory.rate.value / self.memory.dearer(workers)
        return max(1e-9, each * self.memory.saturated * self.slowest)

    def choice(self, workers: int, wait_s: float = 0.0) -> Choice:
        """What it brings to have so many, ordered now or after a while."""
        changes = workers != self.seen.wanted
        lead_s = self.seen.start_s + wait_s if changes else max(self.seen.starting, default=0.0)
        over_s, left_s = self._queues(workers, lead_s)
        horizon_s = HORIZON_LEADS * self.seen.lead_s - wait_s
        more, later = workers - self.seen.wanted, 0
        held_s = horizon_s
        if workers > self.steady and changes:
            # Once the backlog is gone they can go, too.
            held_s = min(horizon_s, lead_s - wait_s + self.seen.pause_s + left_s + self.seen.lead_s)
            later = max(0, self.steady - self.seen.wanted)
        price = (more * held_s + later * (horizon_s - held_s)) / self.memory.usual
        price += self.policy.violation_price * over_s
        price += self.change_price * (changes + (changes and workers > self.steady))
        return Choice(workers, over_s, price)

    @property
    def change_price(self) -> float:
        return CHANGE_PRICE * self.seen.lead_s

    def is_enough(self, workers: int) -> bool:
        """So few stand the load with room to spare, and moving to them does no harm."""
        if not workers:
            return self.seen.idle
        arrivals, queue = self._hot(workers, ROOM_LESS + ROOM_LESS_DRIFTS * self.memory.drift)
        limit, capacity = self._limit(arrivals), self.capacity(workers)
        queue, over_s = flow(queue, arrivals, self.seen.pause_s, 0.0, limit)
        return arrivals < capacity and over_s + flow(queue, arrivals, self.seen.lead_s, capacity, limit)[1] == 0

    def is_one_partition(self) -> bool:
        """The hottest partition is too much for a worker that has nothing else."""
        hot = max(self.memory.shares, default=0.0) * self.memory.total.value
        return hot > self.capacity(max(1, self.running))

    def _queues(self, workers: int, lead_s: float) -> tuple[float, float]:
        """Seconds over the objective, and seconds until the backlog is gone once so many are at work."""
        seen = self.seen
        now, now_queue = self._hot(self.running, self.room) if self.running else self._hot(workers, self.room)
        now_capacity = self.capacity(self.running) if self.running else 0.0
        arrivals, queue = self._hot(workers, self.room)
        blind_s = seen.pause_s / 2 if seen.paused >= 0.5 else 0.0
        over_s = 0.0
        # The same seconds for those who have it worst now, and for who will have it worst then.
        scale = arrivals / now if now > 0 else 1.0
        for seconds, out in ((blind_s, 0.0), (lead_s, now_capacity)):
            now_queue, over = flow(now_queue, now, seconds, out, self._limit(now))
            queue, _ = flow(queue, arrivals, seconds, out * scale, math.inf)
            over_s += over
        if workers == self.running:
            queue = now_queue
        limit, capacity = self._limit(arrivals), self.capacity(workers)
        pause_s = seen.pause_s if workers != self.running else 0.0
        queue, paused_s = flow(queue, arrivals, pause_s, 0.0, limit)
        rest_s = HORIZON_OVER_LEADS * seen.lead_s
        left_s = min(rest_s, max(0.0, queue - limit / 4) / (capacity - arrivals)) if capacity > arrivals else rest_s
        queue, rest_over_s = flow(queue, arrivals, rest_s, capacity, limit)
        return over_s + paused_s + rest_over_s + queue / capacity, left_s

    def _limit(self, arrivals: float) -> float:
        """Events in a queue whose oldest one is as old as is planned with."""
        return arrivals * SAFE * self.policy.latency_s

    def _hot(self, workers: int, room: float) -> tuple[float, float]:
        """Arrivals and backlog of the worker that has it worst: of the present ones it is known who."""
        load = self.memory.total.value * (1 + room)
        if workers != self.running or not self.seen.is_owned:
            held = math.ceil(len(self.seen.backlog) / workers)
            return hottest(self.memory.shares, held) * load, hottest(self.seen.backlog, held)
        shares, queues = [0.0] * workers, [0.0] * workers
        for partition, owner in enumerate(self.seen.owners):
            shares[owner] += self.memory.shares[partition]
            queues[owner] += self.seen.backlog[partition]
        slower = [self.memory.speeds.get(w.id, 1.0) / self.slowest for w in self.seen.workers]
        horizon_s = HORIZON_LEADS * self.seen.lead_s
        worst = max(range(workers), key=lambda i: (queues[i] + shares[i] * load * horizon_s) / slower[i])
        return shares[worst] * load / slower[worst], queues[worst] / slower[worst]
