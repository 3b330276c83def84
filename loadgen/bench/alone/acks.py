"""The lease machine alone: acks a second of one core, one id a call or many, in the order of delivery or in any order.

Messages are pulled in leases of `lease` messages until 10,000 are out, then all of them are acked, and so on. Only the
acks are timed, in CPU seconds: exactly once, so that each id is checked; nothing is stored. The rate shown is that of
one id a call; `acks_per_s_batched` that of 1,000 ids a call, `acks_per_s_with_pulls` of one id a call, leases included.
"""

import random
import time
from typing import Any

from loadgen.bench.job import Job, Runner
from streamflow.topics.subscriptions import AckStatus, LeaseMachine, RecordSizes, SubscriptionSettings

OUTSTANDING = 10_000
BATCH = 1_000
MESSAGE_BYTES = 100


def prepare(job: Job) -> None:
    """Nothing: the machine reads no log."""


def _run(job: Job) -> dict[str, Any]:
    lease = int(job.parameters["lease"])
    singles, pulls, held = _acked(job, lease, 1)
    batched, _, held_batched = _acked(job, lease, BATCH)
    return {
        "seconds_inner": singles,
        "cpu_seconds": singles,
        "acks_per_s_batched": job.events / batched,
        "acks_per_s_with_pulls": job.events / (singles + pulls),
        "held": min(held, held_batched),
    }


def _acked(job: Job, lease: int, ids_per_call: int) -> tuple[float, float, int]:
    """CPU seconds of the acks and of the pulls, and how many messages there are acked in the end."""
    sizes = RecordSizes()
    sizes.append(job.events, job.events * MESSAGE_BYTES, 0)
    machine = LeaseMachine(SubscriptionSettings(exactly_once=True), sizes)
    machine.appended(job.events)
    draws = random.Random(job.seed)
    ack_s = pull_s = 0.0
    held = now_us = 0
    while machine.floor < job.events:
        began_s = time.process_time()
        deliveries = [id for _ in range(-(-OUTSTANDING // lease)) for id in machine.pull(now_us, lease).deliveries]
        pull_s += time.process_time() - began_s
        ids = [id.one(offset) for id in deliveries for offset in range(id.start, id.end)]
        if job.work == "acks-random":
            draws.shuffle(ids)
        calls = [ids[at : at + ids_per_call] for at in range(0, len(ids), ids_per_call)]
        began_s = time.process_time()
        answers = [machine.ack(call, now_us) for call in calls]
        ack_s += time.process_time() - began_s
        held += sum(answer.count(AckStatus.HELD) for answer in answers)
        now_us += 1_000
    return ack_s, pull_s, held


def verified(job: Job, told: dict[str, Any]) -> bool:
    """Every message was acked, by an id that held, once."""
    return bool(told["held"] == job.events)


RUNNERS: dict[str, dict[str, Runner]] = {"streamflow": dict.fromkeys(("acks-in-order", "acks-random"), _run)}
