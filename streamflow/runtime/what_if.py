"""Recorded observations once more, under other settings: what the autoscaler would have done, and what it would have
cost. Pure.

Arrivals and the speed of workers are those that were recorded; queues, starts and moves follow from what is decided
now.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from streamflow.runtime.autoscaler import Decision, Memory, Observation, Policy, WorkerSeen, decide
from streamflow.runtime.decisions import Entry


@dataclass(slots=True)
class Outcome:
    """`changes`: (wall time, workers before, decision). `worker_s`: seconds of workers, those that start included;
    `over_s`: seconds in which the oldest event was older than the objective."""

    changes: list[tuple[int, int, Decision]] = field(default_factory=list)
    worker_s: float = 0.0
    over_s: float = 0.0


def as_it_was(entries: Sequence[Entry], latency_s: float) -> Outcome:
    """What was recorded, held against that objective."""
    outcome = Outcome()
    for entry in entries:
        seen = entry.seen
        outcome.worker_s += (len(seen.workers) + len(seen.starting)) * seen.span_s
        outcome.over_s += seen.span_s * (seen.age_s > latency_s)
        if entry.changes:
            outcome.changes.append((entry.at_us, seen.wanted, entry.decision))
    return outcome


def what_if(entries: Sequence[Entry], policy: Policy) -> Outcome:
    outcome, memory = Outcome(), Memory()
    if not entries:
        return outcome
    fleet = _Fleet(wanted=min(max(entries[0].seen.wanted, policy.workers_min), policy.workers_max))
    fleet.workers = [f"{i}" for i in range(fleet.wanted)]
    fleet.queues = list(entries[0].seen.backlog)
    for entry in entries:
        seen = fleet.live_through(entry.seen)
        memory, decision = decide(memory, seen, policy)
        outcome.worker_s += (len(fleet.workers) + len(fleet.starting)) * seen.span_s
        outcome.over_s += seen.span_s * (seen.age_s > policy.latency_s)
        if decision.workers != fleet.wanted:
            outcome.changes.append((entry.at_us, fleet.wanted, decision))
            fleet.scale(decision.workers, seen)
    return outcome


@dataclass(slots=True)
class _Fleet:
    """Workers that take what comes at the speed that was measured; each partition belongs to one of them."""

    wanted: int
    workers: list[str] = field(default_factory=list)
    starting: list[float] = field(default_factory=list)
    queues: list[float] = field(default_factory=list)
    now_s: float = 0.0
    paused_s: float = 0.0
    rate: float = 0.0
    named: int = 0

    def scale(self, wanted: int, seen: Observation) -> None:
        self.wanted = wanted
        while len(self.workers) + len(self.starting) > wanted:
            self.starting.pop() if self.starting else self.workers.pop()
            self.paused_s = seen.pause_s
        while len(self.workers) + len(self.starting) < wanted:
            self.starting.append(self.now_s + seen.start_s)

    def live_through(self, recorded: Observation) -> Observation:
        """One recorded span; what would have been seen at its end."""
        span_s, partitions = recorded.span_s, len(recorded.backlog)
        self.now_s += span_s
        ready = sum(at_s <= self.now_s for at_s in self.starting)
        self.starting = [at_s for at_s in self.starting if at_s > self.now_s]
        for _ in range(ready):
            self.named += 1
            self.workers.append(f"+{self.named}")
            self.paused_s = recorded.pause_s
        busy_s = sum(w.busy_s for w in recorded.workers)
        if busy_s > 0:
            self.rate = sum(w.processed for w in recorded.workers) / busy_s
        paused = min(1.0, self.paused_s / span_s)
        self.paused_s = max(0.0, self.paused_s - span_s)
        self.queues = (self.queues + [0.0] * partitions)[:partitions]
        for partition, rate in enumerate(recorded.arrivals):
            self.queues[partition] += rate * span_s
        done = self._serve(span_s * (1 - paused))
        seen = tuple(
            WorkerSeen(w, events, events / self.rate if self.rate else 0.0, 1e9)
            for w, events in zip(self.workers, done, strict=True)
        )
        ages = [queue / rate for queue, rate in zip(self.queues, recorded.arrivals, strict=True) if rate > 0]
        return replace(
            recorded,
            now_s=self.now_s,
            wanted=self.wanted,
            workers=seen,
            starting=tuple(at_s - self.now_s for at_s in self.starting),
            backlog=tuple(self.queues),
            owners=tuple(p % len(seen) if seen else -1 for p in range(partitions)),
            age_s=max(ages, default=0.0),
            paused=paused,
            idle=recorded.idle and not sum(self.queues),
        )

    def _serve(self, seconds: float) -> list[float]:
        """Events that each worker has done, evenly of what waits for it."""
        done = []
        for worker in range(len(self.workers)):
            held = range(worker, len(self.queues), len(self.workers))
            waiting = sum(self.queues[p] for p in held)
            served = min(waiting, self.rate * seconds)
            for partition in held:
                self.queues[partition] *= 1 - served / waiting if waiting else 1.0
            done.append(served)
        return done
