"""The autoscaler: a pure decision of how many workers there should be, with its reasons, from backlog in seconds.

It learns what one worker can do from moments in which there was a backlog (else it sees only demand, not capacity),
and asks for as many workers as take the arrivals and clear the backlog within the objective. Up at once; down after a
while.
"""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Policy:
    """latency_s: the backlog, in seconds of work, that is acceptable. calm_s: how long fewer workers must have been
    enough before one is let go. settle_s: after a change, how long its effect is awaited."""

    workers_min: int = 1
    workers_max: int = 1
    latency_s: float = 5.0
    calm_s: float = 20.0
    settle_s: float = 3.0


@dataclass(frozen=True, slots=True)
class Observation:
    """At one moment: events waiting for the pipeline, events its sources have processed in all, and workers running."""

    now_s: float
    workers: int
    backlog_events: int
    processed_events: int


@dataclass(frozen=True, slots=True)
class Memory:
    """What the next decision needs of the past. `capacity`: events/s of one worker, as seen under load; 0 if
    unknown."""

    last: Observation | None = None
    capacity: float = 0.0
    arrivals: float = 0.0
    calm_since_s: float | None = None
    changed_s: float = -math.inf


@dataclass(frozen=True, slots=True)
class Decision:
    workers: int
    reason: str


SMOOTHING = 0.3
SPAN_MIN_S = 1e-3
"""Of less time nothing is learnt: what is divided by it may be infinite."""


def decide(memory: Memory, seen: Observation, policy: Policy) -> tuple[Memory, Decision]:
    """How many workers from now on, and the memory for the next call."""
    memory = _learn(memory, seen)
    floor = max(policy.workers_min, min(seen.workers, policy.workers_max))
    if seen.workers < policy.workers_min:
        return memory, Decision(policy.workers_min, f"at least {policy.workers_min} wanted")
    if memory.capacity <= 0:
        # Without any worker nothing would ever be learnt.
        first = max(floor, min(1, seen.backlog_events, policy.workers_max))
        return memory, Decision(first, "nothing processed under load yet")
    if seen.now_s - memory.changed_s < policy.settle_s:
        return memory, Decision(floor, "waiting for the last change to take effect")
    needed = memory.arrivals + seen.backlog_events / policy.latency_s
    wanted = math.ceil(needed / memory.capacity - 1e-9)
    wanted = max(policy.workers_min, min(wanted, policy.workers_max))
    backlog_s = seen.backlog_events / (memory.capacity * max(1, seen.workers))
    figures = f"backlog {backlog_s:.1f} s, {memory.arrivals:,.0f} events/s arriving, {memory.capacity:,.0f} per worker"
    if wanted > seen.workers:
        return _changed(memory, seen), Decision(wanted, f"up: {figures}")
    if wanted == seen.workers:
        return replace(memory, calm_since_s=None), Decision(floor, f"stay: {figures}")
    since = seen.now_s if memory.calm_since_s is None else memory.calm_since_s
    if seen.now_s - since < policy.calm_s:
        return replace(memory, calm_since_s=since), Decision(floor, f"stay for now: {figures}")
    return _changed(memory, seen), Decision(min(seen.workers, policy.workers_max + 1) - 1, f"down: {figures}")


def _changed(memory: Memory, seen: Observation) -> Memory:
    return replace(memory, calm_since_s=None, changed_s=seen.now_s)


def _learn(memory: Memory, seen: Observation) -> Memory:
    last = memory.last
    memory = replace(memory, last=seen)
    seconds = 0.0 if last is None else seen.now_s - last.now_s
    if last is None or seconds < SPAN_MIN_S:
        return memory
    done = max(0, seen.processed_events - last.processed_events) / seconds
    arrived = max(0.0, done + (seen.backlog_events - last.backlog_events) / seconds)
    memory = replace(memory, arrivals=_smooth(memory.arrivals, arrived))
    loaded = last.backlog_events > 0 and seen.backlog_events > 0 and done > 0 and last.workers == seen.workers > 0
    if loaded:
        memory = replace(memory, capacity=_smooth(memory.capacity, done / seen.workers))
    return memory


def _smooth(old: float, new: float) -> float:
    return new if old == 0 else old + SMOOTHING * (new - old)
