"""Short ways to build records and tasks in tests."""

from collections.abc import Mapping, Sequence

from streamflow.topics.protocol import (
    Assignment,
    Claim,
    Kind,
    Log,
    Record,
    SegmentInfo,
    StageInput,
    StateSegment,
    StepCommit,
    TaskId,
    TopicConfig,
    WorkerInfo,
)

NOW_US = 1_700_000_000_000_000


def record(topic: str = "t", partition: int = 0, *, count: int = 1, payload: bytes = b"x", time_us: int = 5) -> Record:
    return Record(topic, partition, Kind.JSON, count, payload, time_us, time_us + count)


def task(partition: int = 0, *, stage: str = "s", pipeline: str = "p") -> TaskId:
    return TaskId(pipeline, stage, partition)


def worker(name: str, *, pipeline: str = "p", heartbeat_us: int = 0) -> WorkerInfo:
    return WorkerInfo(name, pipeline, 100, 1.5, heartbeat_us)


def pipeline(log: Log, *, partitions: int = 2, topic: str = "t", name: str = "p") -> None:
    """A pipeline `name` with one stage "s" on `topic`."""
    log.create_topic(topic, TopicConfig(partitions=partitions))
    log.register_pipeline(name, "shape", [StageInput("s", topic)])


def move(log: Log, moves: Mapping[TaskId, str | None], *, dead: Sequence[str] = (), name: str = "p") -> None:
    log.reassign(name, lambda snapshot: Assignment(frozenset(dead), moves))


def take(log: Log, of: TaskId, by: str = "w") -> Claim:
    """Assign and claim in one go."""
    move(log, {of: by}, name=of.pipeline)
    claim = log.claim(of, by)
    assert claim is not None
    return claim


def step(
    of: TaskId,
    epoch: int,
    offset: int,
    *,
    watermark_us: int = 0,
    outputs: Sequence[Record] = (),
    add: Sequence[StateSegment] = (),
    drop: Sequence[int] = (),
    counters: Mapping[str, float] | None = None,
) -> StepCommit:
    return StepCommit(of, epoch, offset, watermark_us, outputs, add, drop, counters or {})


def segment(sequence: int, payload: bytes = b"state", *, stamp: int = 0, watermark_us: int = 0) -> StateSegment:
    about = {"rows": 3, "memory_bytes": 50 + sequence, "low_us": -7, "high_us": sequence, "slice": 5}
    return StateSegment(SegmentInfo(sequence, stamp, watermark_us, **about), payload)


def segments(log: Log, claim: Claim) -> list[StateSegment]:
    """All that the claimed task has, read."""
    sequences = [info.sequence for info in claim.segments]
    payloads = log.read_state(claim.state.task, claim.state.epoch, sequences)
    return [StateSegment(info, payload) for info, payload in zip(claim.segments, payloads, strict=True)]
