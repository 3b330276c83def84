"""What a memory log remembers and the rules that change it; every method runs under the store's lock."""

import threading
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from streamflow.topics import rules
from streamflow.topics.protocol import (
    Backlog,
    Record,
    StateSegment,
    StepCommit,
    TaskId,
    TaskState,
    TopicInfo,
    WorkerInfo,
)
from streamflow.topics.reading import MessageReader
from streamflow.topics.subscriptions.lease import LeaseMachine
from streamflow.topics.subscriptions.sizes import RecordSizes
from streamflow.topics.subscriptions.store import SnapshotInfo, SubscriptionInfo, retained_from


@dataclass
class Partition:
    """Kept records in offset order; `ends[i]` is the end of `records[i]`, for bisection."""

    records: list[Record] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    next_offset: int = 0
    sizes: RecordSizes = field(default_factory=RecordSizes)

    def append(self, record: Record) -> None:
        self.sizes.append(record.count, len(record.payload), record.published_us)
        self.records.append(record)
        self.ends.append(record.end)
        self.next_offset = record.end

    def read(self, offset: int, end: int | None, max_events: int, max_bytes: int) -> list[Record]:
        first = stop = bisect_right(self.ends, offset)
        events = size = 0
        for record in self.records[first:]:
            events += record.count
            size += len(record.payload)
            full = stop > first and (events > max_events or size > max_bytes)
            if full or (end is not None and record.offset >= end):
                break
            stop += 1
        return self.records[first:stop]

    def backlog(self, offset: int, now_us: int) -> Backlog:
        unread = self.records[bisect_right(self.ends, offset) :]
        if not unread:
            return Backlog(0, 0, 0.0)
        events = self.next_offset - max(offset, unread[0].offset)
        size = sum(len(record.payload) for record in unread)
        return Backlog(events, size, max(0, now_us - unread[0].published_us) / 1e6)

    def prune_below(self, offset: int) -> int:
        """Drop whole records that end at or before `offset`; bytes freed."""
        return self._drop_first(bisect_right(self.ends, offset))

    def prune_older(self, published_us: int, needed_from: int) -> int:
        """Drop the leading records published before that moment, up to the one that holds `needed_from`; bytes
        freed."""
        expired = 0
        while (
            expired < len(self.records)
            and self.records[expired].published_us < published_us
            and self.ends[expired] <= needed_from
        ):
            expired += 1
        return self._drop_first(expired)

    def _drop_first(self, count: int) -> int:
        freed = sum(len(record.payload) for record in self.records[:count])
        if count:
            self.sizes.trim(self.ends[count - 1])
        del self.records[:count], self.ends[:count]
        return freed


@dataclass
class Topic:
    info: TopicInfo
    partitions: list[Partition]
    producers: dict[str, int] = field(default_factory=dict)
    schema: str | None = None


@dataclass
class Subscribed:
    """A subscription: a machine for each partition of `topic`, which is the one it was made on, deleted or not."""

    info: SubscriptionInfo
    topic: Topic
    machines: list[LeaseMachine]
    reader: MessageReader

    def detach(self) -> None:
        for machine in self.machines:
            machine.detach()
        self.info = replace(self.info, detached=True)

    def needed_from(self, partition: int, now_us: int) -> int:
        """The first message that the log has to keep."""
        settings = self.info.settings
        start = self.topic.partitions[partition].sizes.offset_at(now_us - round(settings.retention_s * 1e6))
        return retained_from(settings, self.machines[partition].floor, start)


@dataclass
class Snapshotted:
    """`acks` and `floors`: by partition."""

    info: SnapshotInfo
    topic: Topic
    acks: list[bytes]
    floors: list[int]


@dataclass
class Task:
    state: TaskState
    segments: dict[int, StateSegment] = field(default_factory=dict)

    def fence(self, assigned: str | None) -> None:
        self.state = replace(self.state, owner=None, assigned=assigned, epoch=self.state.epoch + 1)


@dataclass
class Pipeline:
    fingerprint: str
    stopping: bool = False
    workers_wanted: int | None = None
    tasks: dict[TaskId, Task] = field(default_factory=dict)


class Store:
    """Everything behind one name. `version` counts committed changes."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.version = 0
        self.topics: dict[str, Topic] = {}
        self.pipelines: dict[str, Pipeline] = {}
        self.workers: dict[str, WorkerInfo] = {}
        self.epoch_floors: dict[str, int] = {}
        self.subscriptions: dict[str, Subscribed] = {}
        self.snapshots: dict[str, Snapshotted] = {}

    def touch(self) -> None:
        self.version += 1
        self.changed.notify_all()

    def topic(self, name: str) -> Topic:
        found = self.topics.get(name)
        if found is None:
            raise rules.unknown("topic", name, self.topics)
        return found

    def partition(self, topic: str, partition: int) -> Partition:
        found = self.topic(topic)
        rules.check_partition(topic, partition, len(found.partitions))
        return found.partitions[partition]

    def pipeline(self, name: str) -> Pipeline:
        found = self.pipelines.get(name)
        if found is None:
            raise rules.unknown("pipeline", name, self.pipelines)
        return found

    def task(self, task: TaskId) -> Task:
        tasks = self.pipeline(task.pipeline).tasks
        if task not in tasks:
            raise rules.unknown("task", str(task), map(str, tasks))
        return tasks[task]

    def held(self, task: TaskId, epoch: int) -> Task | None:
        """The task if that epoch still owns it."""
        pipeline = self.pipelines.get(task.pipeline)
        found = pipeline.tasks.get(task) if pipeline else None
        current = found is not None and found.state.owner is not None and found.state.epoch == epoch
        return found if current else None

    def tasks_of_topic(self, topic: str) -> list[Task]:
        return [
            task
            for pipeline in self.pipelines.values()
            for task in pipeline.tasks.values()
            if task.state.topic == topic
        ]

    def remove_worker(self, worker: str) -> None:
        """Fence what it owns and take back what was meant for it; what is promised to another stays promised."""
        del self.workers[worker]
        for pipeline in self.pipelines.values():
            for task in pipeline.tasks.values():
                assigned = None if task.state.assigned == worker else task.state.assigned
                if task.state.owner == worker:
                    task.fence(assigned)
                else:
                    task.state = replace(task.state, assigned=assigned)

    def check_outputs(self, records: Sequence[Record]) -> None:
        rules.check_records(records)
        for record in records:
            self.partition(record.topic, record.partition)

    def check_commits(self, commits: Sequence[tuple[StepCommit, Task]]) -> None:
        """All that could fail when they are applied in this order, so that applying can't stop half way."""
        self.check_outputs([record for commit, _ in commits for record in commit.outputs])
        offsets: dict[TaskId, int] = {}
        segments: dict[TaskId, set[int]] = {}
        for commit, task in commits:
            rules.check_forward(commit.task, offsets.get(commit.task, task.state.offset), commit.offset)
            kept = segments.get(commit.task, set(task.segments)) - set(commit.segments_drop)
            added = [segment.info.sequence for segment in commit.segments_add]
            rules.check_new_segments(commit.task, kept, added)
            offsets[commit.task] = commit.offset
            segments[commit.task] = kept | set(added)

    def apply(self, commit: StepCommit, task: Task, now_us: int) -> None:
        self.append(commit.outputs, now_us)
        for sequence in commit.segments_drop:
            task.segments.pop(sequence, None)
        for segment in commit.segments_add:
            task.segments[segment.info.sequence] = segment
        task.state = replace(
            task.state,
            offset=commit.offset,
            watermark_us=max(task.state.watermark_us, commit.watermark_us),
            counters=dict(commit.counters) or task.state.counters,
            hold_us=commit.hold_us,
        )

    def prune_topic(self, topic: Topic, now_us: int) -> int:
        readers: dict[int, int] = {}
        for task in self.tasks_of_topic(topic.info.name):
            partition = task.state.task.partition
            readers[partition] = min(task.state.offset, readers.get(partition, task.state.offset))
        if not topic.info.config.internal or not readers:
            oldest_us = now_us - round(topic.info.config.retention_s * 1e6)
            self.forget_expired(now_us)
            return sum(
                partition.prune_older(oldest_us, self._needed_from(topic, number, now_us))
                for number, partition in enumerate(topic.partitions)
            )
        return sum(topic.partitions[partition].prune_below(offset) for partition, offset in readers.items())

    def _needed_from(self, topic: Topic, partition: int, now_us: int) -> int:
        """By subscriptions and snapshots."""
        needs = [
            each.needed_from(partition, now_us)
            for each in self.subscriptions.values()
            if each.topic is topic and not each.info.detached
        ]
        needs += [each.floors[partition] for each in self.snapshots.values() if each.topic is topic]
        return min(needs, default=topic.partitions[partition].next_offset)

    def forget_expired(self, now_us: int) -> None:
        """Subscriptions and snapshots."""
        for name in [name for name, each in self.subscriptions.items() if each.info.is_expired(now_us)]:
            del self.subscriptions[name]
        for name in [name for name, each in self.snapshots.items() if now_us >= each.info.expires_us]:
            del self.snapshots[name]

    def append(self, records: Sequence[Record], now_us: int) -> list[int]:
        offsets = []
        for record in records:
            partition = self.topics[record.topic].partitions[record.partition]
            offsets.append(partition.next_offset)
            partition.append(replace(record, offset=partition.next_offset, published_us=now_us))
        return offsets
