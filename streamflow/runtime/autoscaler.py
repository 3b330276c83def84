"""The autoscaler: a pure decision of how many workers there should be, with its reason and the price of each choice.

    up      at once, when to wait a little longer would cost more than it saves
    down    when the surplus has cost as much as the change will (ski rental, Karlin et al. 1988); after a change that
            was regretted it must have cost twice as much, up to eight times
    zero    the same, if nothing at all is left to do; the first event brings a worker back

What is seen becomes what is known in `learning`, and `outlook` prices it; only what to do stands here.
"""

import math
from dataclasses import dataclass, replace

from streamflow.runtime.learning import Memory, Observation, WorkerSeen, learn
from streamflow.runtime.outlook import Choice, Outlook, Policy

__all__ = ["Choice", "Decision", "Memory", "Observation", "Policy", "WorkerSeen", "decide"]

RETURN = 1.2
"""Price of shrinking, in changes: this one, and the one back that may follow."""
WAIT_SPANS = 2
"""How much longer it would wait: until it has looked so many times more."""
REGRET_LEADS = 12.0
"""To grow again within so many times what a change takes is to regret that it shrank."""
PATIENCE_MAX = 8.0
HELPS, AS_GOOD = 1.3, 1.1
"""Where all are late: by what factor more workers must shorten that to be worth it, and fewer may prolong the shortest.
Between the two nothing changes, or it would go up and down."""


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason`: why, with the figures. `forecast_over_s`: seconds over the objective that are to be expected of it;
    `choices`: the numbers of workers that were compared."""

    workers: int
    reason: str
    forecast_over_s: float = 0.0
    choices: tuple[Choice, ...] = ()


def decide(memory: Memory, seen: Observation, policy: Policy) -> tuple[Memory, Decision]:
    """How many workers from now on, and the memory for the next call. To be called about once a second, or as often as
    there is something new to see."""
    memory = learn(memory, seen, policy.latency_s)
    wanted = min(max(seen.wanted, policy.workers_min), max(policy.workers_min, policy.workers_max))
    if not wanted and not seen.idle:
        wanted = 1
    if not memory.rate.known or not memory.total.known:
        return memory, Decision(wanted, "nothing processed yet")
    outlook = Outlook(memory, replace(seen, wanted=wanted), policy)
    if wanted > seen.wanted and not seen.workers:
        return memory, Decision(max(wanted, outlook.steady), "start: there is something to do")
    if wanted != seen.wanted:
        return memory, Decision(wanted, f"between {policy.workers_min} and {policy.workers_max} are allowed")
    stay = outlook.choice(wanted) if wanted else Choice(0, 0.0, 0.0)
    choices = (stay, *(outlook.choice(n) for n in outlook.counts if n > wanted))
    helping = (choice for choice in choices if choice is stay or choice.over_s * HELPS < stay.over_s)
    best = min(helping, key=lambda choice: (choice.price, choice.workers))
    if wanted and best is not stay and outlook.choice(best.workers, WAIT_SPANS * seen.span_s).price >= best.price:
        words = f"up: with {wanted} the oldest event would be too old for {_seconds(stay.over_s)}"
        return _grown(memory, seen), _decision(best, words, outlook, choices)
    shortest_s = min(choice.over_s for choice in choices)
    memory, fewer = _fewer(memory, wanted, shortest_s, outlook)
    if fewer is not None:
        less = Choice(fewer, 0.0, 0.0)
        words = f"down: {wanted - fewer} that are not needed have cost as much as to let them go"
        return memory, _decision(less, words, outlook, choices)
    return memory, _decision(stay, _why_stay(outlook, stay, best), outlook, choices)


def _grown(memory: Memory, seen: Observation) -> Memory:
    regretted = seen.now_s - memory.shrunk_s < REGRET_LEADS * seen.lead_s
    patience = min(PATIENCE_MAX, memory.patience * 2) if regretted else memory.patience
    return replace(memory, saved={}, patience=patience, shrunk_s=-math.inf)


def _fewer(memory: Memory, wanted: int, shortest_s: float, outlook: Outlook) -> tuple[Memory, int | None]:
    """Each smaller number that would be enough, or no worse, saves up for the change to it; else it loses savings."""
    seen = outlook.seen
    if seen.starting or seen.paused > 0 or len(seen.workers) != wanted:
        return memory, None
    if REGRET_LEADS * seen.lead_s < seen.now_s - memory.shrunk_s < math.inf:
        memory = replace(memory, patience=max(1.0, memory.patience / 2), shrunk_s=-math.inf)
    saved: dict[int, float] = {}
    due = []
    for n in outlook.counts:
        if n >= wanted:
            break
        gain, before = (wanted - n) / memory.usual * seen.span_s, memory.saved.get(n, 0.0)
        enough = outlook.is_enough(n) or (n > 0 and shortest_s > 0 and outlook.choice(n).over_s <= AS_GOOD * shortest_s)
        saved[n] = before + gain if enough else max(0.0, before - 3 * gain)
        if enough and saved[n] >= _price_down(n, memory, outlook):
            due.append(n)
    if due:
        return replace(memory, saved={}, shrunk_s=seen.now_s), due[0]
    return replace(memory, saved=saved), None


def _price_down(workers: int, memory: Memory, outlook: Outlook) -> float:
    price = outlook.change_price * RETURN
    if not workers:
        price += outlook.policy.violation_price * max(0.0, outlook.seen.lead_s - outlook.policy.latency_s)
    return price * memory.patience


def _why_stay(outlook: Outlook, stay: Choice, best: Choice) -> str:
    if best is not stay:
        return "stay: to wait costs nothing yet"
    if stay.over_s <= 0:
        return "stay"
    if outlook.is_one_partition():
        return (
            "stay, though it may be late: one partition has more than a worker can do, and more workers don't share it"
        )
    if stay.workers == outlook.counts[-1]:
        return "stay, though it may be late: no more workers are allowed, or they would have no partition"
    if outlook.memory.contention > 0.05:
        slow = f" ({outlook.seen.bottleneck} is the bottleneck)" if outlook.seen.bottleneck else ""
        return f"stay, though it may be late: more workers don't help, each makes the others slower{slow}"
    return "stay, though it may be late: a change would cost more than it gains"


def _decision(choice: Choice, words: str, outlook: Outlook, choices: tuple[Choice, ...]) -> Decision:
    memory, seen = outlook.memory, outlook.seen
    figures = (
        f"{memory.total.value:,.0f} events/s arriving, {outlook.capacity(max(1, len(seen.workers))):,.0f} per worker, "
        f"backlog {sum(seen.backlog):,.0f}, oldest {seen.age_s:.1f} s"
    )
    return Decision(choice.workers, f"{words}; {figures}", choice.over_s, choices)


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
