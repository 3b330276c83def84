"""The same random operations on both backends give the same answers, whatever the operations are."""

import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import topic_making as make

from streamflow.base.clock import ManualClock
from streamflow.base.errors import StreamFlowError
from streamflow.topics.embedded import EmbeddedLog
from streamflow.topics.memory import MemoryLog
from streamflow.topics.protocol import Assignment, Log, Producer, Record, StageInput, StepCommit, TaskId, TopicConfig

pytestmark = pytest.mark.contract

TOPICS = ("t", "u", "p.x")
WORKERS = ("v", "w")


def random_record(rng: random.Random) -> Record:
    topic = rng.choice(TOPICS) if rng.random() < 0.98 else "unknown"
    return make.record(topic, rng.randrange(2), count=rng.randint(1, 5), payload=rng.randbytes(rng.randrange(50)))


def random_task(rng: random.Random) -> TaskId:
    return make.task(rng.randrange(2), stage=rng.choice("ab"))


def random_commit(rng: random.Random) -> StepCommit:
    added = [make.segment(n, rng.randbytes(5)) for n in rng.sample(range(6), rng.randrange(3))]
    return make.step(
        random_task(rng),
        rng.randrange(8),
        rng.randrange(40),
        watermark_us=rng.randrange(100),
        outputs=[random_record(rng) for _ in range(rng.randrange(3))],
        add=added,
        drop=rng.sample(range(6), rng.randrange(6)),
        counters={"n": rng.randrange(9)} if rng.random() < 0.5 else None,
    )


def operations(rng: random.Random) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """One operation of every kind, with random arguments."""
    topic, partition, offset = rng.choice(TOPICS), rng.randrange(2), rng.randrange(60)
    dead = frozenset(rng.sample(WORKERS, rng.randrange(2)))
    moves = {random_task(rng): rng.choice((*WORKERS, None)) for _ in range(3)}
    bounds = {"max_events": rng.randint(1, 20), "max_bytes": rng.randint(1, 200), "end": rng.randint(0, 80)}
    worker = rng.choice(WORKERS)
    return [
        ("publish", ([random_record(rng) for _ in range(rng.randrange(4))],), {}),
        ("publish", ([random_record(rng)], Producer(worker, rng.randrange(10))), {}),
        ("last_sequence", (topic, worker), {}),
        ("advance_watermark", (topic, rng.randrange(100)), {}),
        ("read", (topic, partition, offset), bounds),
        ("read", (topic, partition, 0), {}),
        ("end", (topic, partition), {}),
        ("backlog", (topic, partition, offset), {}),
        ("commit", ([random_commit(rng) for _ in range(rng.randrange(4))],), {}),
        ("claim", (random_task(rng), worker), {}),
        ("claim", (random_task(rng), worker), {}),
        ("release", (random_task(rng), rng.randrange(8)), {}),
        ("join", (make.worker(worker),), {}),
        ("heartbeat", (worker, offset), {"draining": rng.random() < 0.2}),
        ("leave", (worker,), {}),
        ("reassign", ("p", lambda snapshot: Assignment(dead, moves)), {}),
        ("reassign", ("p", lambda snapshot: Assignment(moves=dict.fromkeys(snapshot.tasks, worker))), {}),
        ("request_stop", ("p",), {}),
        ("snapshot", ("p",), {}),
        ("topics", (), {}),
    ]


RARE = [
    ("reset_pipeline", ("p",), {}),
    ("delete_topic", ("u",), {}),
    ("delete_topic", ("t",), {}),
    ("create_topic", ("u", TopicConfig(partitions=2)), {}),
    ("create_topic", ("p.x", TopicConfig(partitions=2, internal=True)), {}),
    ("register_pipeline", ("p", "shape", [StageInput("a", "t"), StageInput("b", "p.x")]), {}),
    ("register_pipeline", ("p", "other", []), {}),
]


def answer(log: Log, operation: tuple[str, tuple[Any, ...], dict[str, Any]]) -> object:
    name, args, options = operation
    try:
        return getattr(log, name)(*args, **options)
    except StreamFlowError as error:
        return type(error), str(error)


@pytest.mark.parametrize("seed", range(8))
def test_both_backends_give_the_same_answers(seed: int, tmp_path: Path, clock: ManualClock) -> None:
    rng = random.Random(seed)
    memory = MemoryLog(clock=clock)
    with closing(EmbeddedLog(tmp_path, clock=clock, roll_bytes=400)) as embedded:
        for log in (memory, embedded):
            log.create_topic("t", TopicConfig(partitions=2, retention_s=40))
            for setup in RARE[3:6]:
                answer(log, setup)
        for _ in range(600):
            operation = rng.choice(operations(rng)) if rng.random() < 0.97 else rng.choice(RARE)
            assert answer(memory, operation) == answer(embedded, operation), operation
            if rng.random() < 0.05:
                clock.advance(rng.random() * 10)
                memory.prune()
                embedded.prune()
