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
from streamflow.topics.protocol import (
    Assignment,
    Log,
    Producer,
    Record,
    StageInput,
    StepCommit,
    TaskId,
    TaskState,
    TopicConfig,
)

pytestmark = pytest.mark.contract

TOPICS = ("t", "u", "p.x")
WORKERS = ("v", "w")


def random_record(rng: random.Random) -> Record:
    topic = rng.choice(TOPICS) if rng.random() < 0.98 else "unknown"
    return make.record(topic, rng.randrange(2), count=rng.randint(1, 5), payload=rng.randbytes(rng.randrange(50)))


def random_task(rng: random.Random) -> TaskId:
    return make.task(rng.randrange(2), stage=rng.choice("ab"))


Operation = tuple[str, tuple[Any, ...], dict[str, Any]]


def known(log: Log, task: TaskId) -> TaskState:
    """What the log knows of it, so that most operations on it are possible."""
    nothing = TaskState(task, "t", 0, 0, 0, None, None)
    return log.snapshot("p").tasks.get(task, nothing) if "p" in log.pipelines() else nothing


def random_commit(rng: random.Random, log: Log) -> StepCommit:
    tasks = log.snapshot("p").tasks if "p" in log.pipelines() else {}
    owned = [task for task, state in tasks.items() if state.owner is not None]
    state = known(log, rng.choice(owned) if owned and rng.random() < 0.9 else random_task(rng))
    added = [make.segment(n, rng.randbytes(5)) for n in rng.sample(range(9), rng.randrange(3))]
    return make.step(
        state.task,
        state.epoch - (rng.random() < 0.2),
        state.offset + rng.randrange(5) - (rng.random() < 0.1),
        watermark_us=rng.randrange(100),
        outputs=[random_record(rng) for _ in range(rng.randrange(3))],
        add=added,
        drop=rng.sample(range(9), rng.randrange(9)),
        counters={"n": rng.randrange(9)} if rng.random() < 0.5 else None,
    )


def operations(rng: random.Random, log: Log) -> list[Operation]:
    """One operation of every kind, with random arguments."""
    topic, partition, offset = rng.choice(TOPICS), rng.randrange(2), rng.randrange(60)
    dead = frozenset(rng.sample(WORKERS, rng.randrange(2)))
    moves = {random_task(rng): rng.choice((*WORKERS, None)) for _ in range(3)}
    bounds = {"max_events": rng.randint(1, 20), "max_bytes": rng.randint(1, 200), "end": rng.randint(0, 80)}
    worker, released = rng.choice(WORKERS), random_task(rng)
    return [
        ("publish", ([random_record(rng) for _ in range(rng.randrange(4))],), {}),
        ("publish", ([random_record(rng)], Producer(worker, rng.randrange(10))), {}),
        ("last_sequence", (topic, worker), {}),
        ("advance_watermark", (topic, rng.randrange(100)), {}),
        ("read", (topic, partition, offset), bounds),
        ("read", (topic, partition, 0), {}),
        ("end", (topic, partition), {}),
        ("backlog", (topic, partition, offset), {}),
        ("commit", ([random_commit(rng, log) for _ in range(rng.randrange(4))],), {}),
        ("claim", (random_task(rng), worker), {}),
        *(("claim", (task, known(log, task).assigned or worker), {}) for task in (random_task(rng), released)),
        ("release", (released, known(log, released).epoch - (rng.random() < 0.2)), {}),
        ("join", (make.worker(worker),), {}),
        ("heartbeat", (worker, offset), {"draining": rng.random() < 0.2}),
        ("leave", (worker,), {}),
        ("reassign", ("p", lambda snapshot: Assignment(dead, moves)), {}),
        ("commit", ([random_commit(rng, log)],), {}),
        ("reassign", ("p", lambda snapshot: Assignment(moves=dict.fromkeys(snapshot.tasks, worker))), {}),
        ("request_stop", ("p",), {}),
        ("snapshot", ("p",), {}),
        ("topics", (), {}),
    ]


def state_reads(log: Log) -> list[Operation]:
    """Of each segment that a task may have."""
    epochs = {task: state.epoch for task, state in log.snapshot("p").tasks.items()}
    return [("read_state", (task, epoch, [n]), {}) for task, epoch in epochs.items() for n in range(9)]


SETUP: list[Operation] = [
    ("create_topic", ("t", TopicConfig(partitions=2, retention_s=40)), {}),
    ("create_topic", ("u", TopicConfig(partitions=2)), {}),
    ("create_topic", ("p.x", TopicConfig(partitions=2, internal=True)), {}),
    ("register_pipeline", ("p", "shape", [StageInput("a", "t"), StageInput("b", "p.x")]), {}),
]
RARE: list[Operation] = [
    *SETUP * 3,
    ("reset_pipeline", ("p",), {}),
    ("delete_topic", ("u",), {}),
    ("delete_topic", ("t",), {}),
    ("register_pipeline", ("p", "other", []), {}),
]


def answer(log: Log, operation: Operation) -> object:
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
            for setup in SETUP:
                answer(log, setup)
        applied = 0
        for _ in range(800):
            operation = rng.choice(operations(rng, memory)) if rng.random() < 0.97 else rng.choice(RARE)
            given = answer(memory, operation)
            assert given == answer(embedded, operation), operation
            if operation[0] == "commit" and isinstance(given, list) and any(given):
                applied += 1
                for read in state_reads(memory):
                    assert answer(memory, read) == answer(embedded, read), read
            if rng.random() < 0.1:
                clock.advance(rng.random() * 10)
                memory.prune()
                embedded.prune()
    assert applied > 3
