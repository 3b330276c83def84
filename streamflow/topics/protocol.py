"""What a log backend is: the one contract that `memory` and `embedded` fulfil, and Kafka for topics.

Only data classes and protocols live here; no backend, no encoding. A *topic* is a set of partitions; a partition is an
append-only sequence of *records*; a record holds `count` events and occupies the offsets `[offset, offset + count)`, so
offsets number events and a backlog is a subtraction. A record is read and processed whole.

Truth is transactional: `publish` and `commit` either happen for all they were given or for nothing, and are durable
when they return.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Protocol

from streamflow.model.time import MAX_US
from streamflow.topics.partition import KeyHash

if TYPE_CHECKING:
    from streamflow.topics.subscriptions.store import SubscriptionStore

PARTITIONS_DEFAULT = 16
RECORD_BYTES_MAX = 4_000_000
"""Of what a publisher puts into one record. Records of twice the size take half as long again to encode, for they do
not fit the processor's cache."""
RETENTION_DEFAULT_S = 7 * 24 * 3600


class Kind(IntEnum):
    """How a record's payload is encoded (see `codec.py`)."""

    JSON = 1
    ARROW = 2
    FRAME = 3
    MARK = 4
    """No event, though it has an offset: the publisher's promise about those that follow in its partition."""


@dataclass(frozen=True, slots=True)
class Record:
    """`count` events of one partition. `offset` and `published_us` are set by the log; -1 and 0 before that. The
    payload of a record that was read may be a view of a mapped file: let go of it when it is decoded.

    `stride`: from the offset of an event to that of the next. It is 1, but where a log numbers something else."""

    topic: str
    partition: int
    kind: Kind
    count: int
    payload: bytes | memoryview
    time_min_us: int
    time_max_us: int
    offset: int = -1
    published_us: int = 0
    stride: int = 1

    @property
    def end(self) -> int:
        """The offset after the last event."""
        return self.offset + (self.count - 1) * self.stride + 1

    def events_from(self, offset: int) -> int:
        """How many of its events lie at or behind it."""
        return self.count - min(self.count, max(0, -(-(offset - self.offset) // self.stride)))


@dataclass(frozen=True, slots=True)
class TopicConfig:
    """`internal` topics (shuffles, sink inputs) are pruned as soon as their reading task has committed past them;
    others, and those that no task reads, keep records for `retention_s` seconds after publication."""

    partitions: int = PARTITIONS_DEFAULT
    retention_s: float = RETENTION_DEFAULT_S
    internal: bool = False


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """`watermark_us`: the publishers' promise that no earlier event will follow (`advance_watermark`)."""

    name: str
    config: TopicConfig
    watermark_us: int


@dataclass(frozen=True, slots=True)
class Producer:
    """Identity for idempotent publishing: a publish whose `sequence` is not above the last one stored for
    (topic, name) changes nothing."""

    name: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is committed to a partition and not yet read: exact."""

    events: int
    bytes: int
    oldest_age_s: float

    def __add__(self, other: "Backlog") -> "Backlog":
        return Backlog(self.events + other.events, self.bytes + other.bytes, max(self.oldest_age_s, other.oldest_age_s))


@dataclass(frozen=True, slots=True, order=True)
class TaskId:
    """One stage on one partition of its input topic."""

    pipeline: str
    stage: str
    partition: int

    def __str__(self) -> str:
        return f"{self.pipeline}/{self.stage}/{self.partition}"


@dataclass(frozen=True, slots=True)
class StageInput:
    """A stage and the one topic it reads; it has a task for each partition of that topic."""

    stage: str
    topic: str


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """A durable piece of a task's state, without its bytes. `sequence` rises within the task; `stamp` is the input
    offset it covers; `watermark_us` is the task's watermark after the step that wrote it.

    The rest tells the task what is inside without reading it, and means nothing to the log: `rows`; the `memory_bytes`
    they take once decoded; the times `[low_us, high_us]` that they are about; the `slice` of the keys they belong to.
    """

    sequence: int
    stamp: int
    watermark_us: int
    rows: int = 0
    memory_bytes: int = 0
    low_us: int = 0
    high_us: int = 0
    slice: int = 0


@dataclass(frozen=True, slots=True)
class StateSegment:
    info: SegmentInfo
    payload: bytes


@dataclass(frozen=True, slots=True)
class TaskState:
    """A task as the log knows it. `offset`: the next input offset to read. `assigned`: who should run it; `owner`: who
    does; `epoch`: raised by each claim and each fencing; `counters`: cumulative, committed with the step; `hold_us`: as
    of its last commit."""

    task: TaskId
    topic: str
    offset: int
    watermark_us: int
    epoch: int
    owner: str | None
    assigned: str | None
    counters: Mapping[str, float] = field(default_factory=dict)
    hold_us: int = MAX_US

    @property
    def output_watermark_us(self) -> int:
        """What those that read its outputs may rely on."""
        return min(self.watermark_us, self.hold_us)


@dataclass(frozen=True, slots=True)
class Claim:
    """A task taken over, with what it needs to go on: its state segments in `sequence` order, to be read when they are
    needed (`read_state`)."""

    state: TaskState
    segments: Sequence[SegmentInfo]


@dataclass(frozen=True, slots=True)
class StepCommit:
    """The atomic end of one step: outputs, new offset, state delta, watermark and counters, for the holder of `epoch`.

    `segments_drop` names sequences that the added segments replace (compaction, expiry). `hold_us`: the event time of
    the earliest output that the task still keeps back, which holds the watermark of what comes after it."""

    task: TaskId
    epoch: int
    offset: int
    watermark_us: int
    outputs: Sequence[Record] = ()
    segments_add: Sequence[StateSegment] = ()
    segments_drop: Sequence[int] = ()
    counters: Mapping[str, float] = field(default_factory=dict)
    hold_us: int = MAX_US

    def size_bytes(self) -> int:
        """Of the payloads."""
        of_outputs = sum(len(record.payload) for record in self.outputs)
        return of_outputs + sum(len(segment.payload) for segment in self.segments_add)


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker of a pipeline. `process`: pid and start time (so that a reused pid is not mistaken); `heartbeat_us`:
    wall time of the last sign of life; `draining`: it has asked to hand its tasks over."""

    id: str
    pipeline: str
    pid: int
    process_started: float
    heartbeat_us: int
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One consistent view of a pipeline: every number was true at the same instant.

    `ends`: (topic, partition) → the offset after the last committed event, for every input topic of the pipeline.
    """

    ends: Mapping[tuple[str, int], int]
    topics: Mapping[str, TopicInfo]
    tasks: Mapping[TaskId, TaskState]
    workers: Mapping[str, WorkerInfo]
    stopping: bool = False
    workers_wanted: int | None = None


@dataclass(frozen=True, slots=True)
class Assignment:
    """A change of membership: workers found dead (their tasks are fenced) and tasks that get another assignee."""

    dead: frozenset[str] = frozenset()
    moves: Mapping[TaskId, str | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether it changes anything."""
        return bool(self.dead or self.moves)


class TopicLog(Protocol):
    """Topics: publish, read, measure."""

    url: str

    @property
    def key_hash(self) -> KeyHash:
        """What decides the partition of a key."""

    @property
    def record_bytes_max(self) -> int:
        """How large a record should be at most."""

    @property
    def offset_span(self) -> int:
        """How many offsets here are one of the log's own: 1 but for Kafka, whose messages may hold many events."""

    def create_topic(self, name: str, config: TopicConfig | None = None) -> TopicInfo:
        """Create, or return the existing one. ConflictError if it exists with another partition count.
        Names: 1-200 of `[A-Za-z0-9._-]`, first a letter or digit; else DataError."""

    def topic(self, name: str) -> TopicInfo:
        """NotFoundError (with the closest names) if there is none."""

    def topics(self) -> list[TopicInfo]:
        """All, sorted by name, internal ones included."""

    def alter_topic(self, name: str, retention_s: float) -> TopicInfo:
        """Keep its records for so long from now on. ConflictError if it is internal."""

    def add_partitions(self, name: str, partitions: int) -> TopicInfo:
        """Let it have so many in all; subscriptions get the new ones from their beginning. Keys may go elsewhere from
        then on, so (but on Kafka, which does not know its readers) it is a ConflictError if a pipeline reads the topic
        or an ordered subscription is on it; and also if it is internal, or has more partitions already."""

    def delete_topic(self, name: str) -> None: ...

    def publish(self, records: Sequence[Record], producer: Producer | None = None) -> list[int]:
        """Append all records atomically and durably; their offsets in the order given. With a `producer` whose sequence
        was published before (to the topic of the first record), nothing is written and the list is empty."""

    def last_sequence(self, topic: str, producer: str) -> int:
        """The highest sequence published by that producer; -1 if none."""

    def advance_watermark(self, topic: str, watermark_us: int) -> None:
        """Promise that no event before `watermark_us` follows in any partition. Never goes back."""

    def read(
        self,
        topic: str,
        partition: int,
        offset: int,
        *,
        end: int | None = None,
        max_events: int = 1 << 62,
        max_bytes: int = 1 << 62,
    ) -> list[Record]:
        """Committed records from the one that contains `offset` (or the first kept one after it), stopping before
        `end`. At least one record if there is one, then as many as fit both bounds. CorruptionError on a bad
        checksum."""

    def after(self, topic: str, partition: int, offset: int) -> int:
        """Where a reader goes on that has read up to `offset`, the end of a record that `read` gave: later than that
        where the log has offsets of its own which hold no event, so that it is at the end when there is no more."""

    def end(self, topic: str, partition: int) -> int:
        """The offset after the last committed event; 0 for an empty partition."""

    def backlog(self, topic: str, partition: int, offset: int) -> Backlog:
        """Of a reader whose next offset is `offset` (a record boundary). Age is counted from publication."""

    def close(self) -> None: ...


class TaskLog(Protocol):
    """Pipelines, tasks, workers: the truth that makes a step atomic."""

    def register_pipeline(self, name: str, fingerprint: str, inputs: Sequence[StageInput]) -> None:
        """Create the pipeline's tasks (offset 0, epoch 0, watermark MIN_US), or check that it is the same one.
        ConflictError if it exists with another fingerprint. Clears the `stopping` mark. The topics must exist."""

    def pipelines(self) -> dict[str, str]:
        """Name → fingerprint."""

    def reset_pipeline(self, name: str) -> None:
        """Forget tasks, state and workers of the pipeline, and delete the internal topics `<name>.…`. Source topics
        stay."""

    def request_stop(self, name: str) -> None:
        """Mark the pipeline as stopping: every worker drains and exits."""

    def request_workers(self, name: str, count: int | None) -> None:
        """Say how many workers there are to be (None: let the autoscaler decide); the supervisor sees it in the
        snapshot."""

    def snapshot(self, pipeline: str, *, counters: bool = True) -> Snapshot:
        """The pipeline at this instant. Without `counters` those of the tasks may be left out, which is cheaper."""

    def claim(self, task: TaskId, worker: str) -> Claim | None:
        """Become the owner: only if `assigned` is this worker and there is no other owner. Raises the epoch by one."""

    def read_state(self, task: TaskId, epoch: int, sequences: Sequence[int]) -> list[bytes]:
        """The payloads of these state segments, in the order given. FencedError if that epoch does not own the task any
        more, whose next owner may have dropped them; NotFoundError for a sequence that it does not have."""

    def release(self, task: TaskId, epoch: int) -> bool:
        """Give it up; False if it was fenced before."""

    def commit(self, commits: Sequence[StepCommit]) -> list[bool]:
        """Apply each commit whose epoch is the task's current one, all in one durable transaction; False for those that
        were fenced (nothing of these is applied). Other tasks' commits go on."""

    def join(self, worker: WorkerInfo) -> None: ...

    def heartbeat(self, worker: str, now_us: int, *, draining: bool = False) -> bool:
        """False if the worker is not (or no longer) a member: it must stop. Like `claim` and `release`, it need not
        survive a power cut, which no worker survives."""

    def leave(self, worker: str) -> None:
        """Remove the worker; tasks it still owns are fenced and unassigned."""

    def reassign(self, pipeline: str, decide: Callable[[Snapshot], Assignment]) -> Assignment:
        """Run the pure `decide` on a snapshot without counters, and apply its result in the same exclusive transaction.
        It may be run twice: first to see whether there is anything to do, which no writer has to wait for."""


class SubscribedLog(TopicLog, Protocol):
    """Topics with their subscriptions: what clients need."""

    @property
    def subscriptions(self) -> "SubscriptionStore": ...

    def wait_changed(self, timeout_s: float) -> bool:
        """Block until something was committed by anyone since the last call of this method on this handle, or the
        time-out. Heartbeats (but those that begin to drain), claims and pruning end no wait: nobody waits for them.
        May return True without need. False may be wrong for a second if its process was killed in the instant of its
        commit, never otherwise."""

    def prune(self) -> int:
        """Delete what retention, consumption and dropped state no longer need, nor subscriptions and snapshots; bytes
        freed."""


class Log(SubscribedLog, TaskLog, Protocol):
    """A backend: all faces on one storage."""
