"""The handle on a memory log: each method is one critical section on the shared store."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from zlib import crc32

from streamflow.base.clock import Clock, SystemClock
from streamflow.model.time import MIN_US
from streamflow.topics import rules
from streamflow.topics.memory.store import Partition, Pipeline, Store, Task, Topic
from streamflow.topics.memory.subscriptions import MemorySubscriptions
from streamflow.topics.partition import KeyHash
from streamflow.topics.protocol import (
    RECORD_BYTES_MAX,
    Assignment,
    Backlog,
    Claim,
    Producer,
    Record,
    Snapshot,
    StageInput,
    StepCommit,
    TaskId,
    TaskState,
    TopicConfig,
    TopicInfo,
    WorkerInfo,
)

_shared: dict[str, Store] = {}
_shared_lock = threading.Lock()


class MemoryLog:
    """A handle on the store called `name`, or on a fresh private one without a name."""

    key_hash: KeyHash = staticmethod(crc32)
    record_bytes_max = RECORD_BYTES_MAX
    offset_span = 1

    def __init__(self, name: str = "", *, clock: Clock | None = None) -> None:
        self.url = f"memory://{name}"
        self._clock = clock or SystemClock()
        if name:
            with _shared_lock:
                self._store = _shared.setdefault(name, Store())
        else:
            self._store = Store()
        self._seen = self._store.version
        self.subscriptions = MemorySubscriptions(self, self._store, self._clock)

    def create_topic(self, name: str, config: TopicConfig | None = None) -> TopicInfo:
        with self._store.changed:
            if name in self._store.topics:
                info = self._store.topics[name].info
                rules.check_same_partitions(name, info.config.partitions, config)
                return info
            wanted = config or TopicConfig()
            rules.check_config(name, wanted)
            info = TopicInfo(name, wanted, MIN_US)
            self._store.topics[name] = Topic(info, [Partition() for _ in range(wanted.partitions)])
            self._store.touch()
            return info

    def topic(self, name: str) -> TopicInfo:
        with self._store.changed:
            return self._store.topic(name).info

    def topics(self) -> list[TopicInfo]:
        with self._store.changed:
            return [self._store.topics[name].info for name in sorted(self._store.topics)]

    def alter_topic(self, name: str, retention_s: float) -> TopicInfo:
        with self._store.changed:
            found = self._store.topic(name)
            rules.check_alterable(name, found.info.config.internal)
            wanted = replace(found.info.config, retention_s=retention_s)
            rules.check_config(name, wanted)
            found.info = replace(found.info, config=wanted)
            self._store.touch()
            return found.info

    def add_partitions(self, name: str, partitions: int) -> TopicInfo:
        with self._store.changed:
            found = self._store.topic(name)
            rules.check_alterable(name, found.info.config.internal)
            rules.check_more_partitions(
                name,
                len(found.partitions),
                partitions,
                pipelines=[task.state.task.pipeline for task in self._store.tasks_of_topic(name)],
                ordered=self.subscriptions.ordered_on(found),
            )
            added = [Partition() for _ in range(partitions - len(found.partitions))]
            found.partitions += added
            found.info = replace(found.info, config=replace(found.info.config, partitions=partitions))
            self.subscriptions.add_partitions(found, added)
            self._store.touch()
            return found.info

    def delete_topic(self, name: str) -> None:
        with self._store.changed:
            self._store.topic(name)
            readers = {task.state.task.pipeline for task in self._store.tasks_of_topic(name)}
            rules.check_unread(name, readers)
            del self._store.topics[name]
            self._store.touch()

    def publish(self, records: Sequence[Record], producer: Producer | None = None) -> list[int]:
        if not records:
            return []
        with self._store.changed:
            self._store.check_outputs(records)
            producers = self._store.topics[records[0].topic].producers
            if producer is not None:
                if producer.sequence <= producers.get(producer.name, -1):
                    return []
                producers[producer.name] = producer.sequence
            offsets = self._store.append(records, self._clock.now_us())
            self._store.touch()
            return offsets

    def last_sequence(self, topic: str, producer: str) -> int:
        with self._store.changed:
            return self._store.topic(topic).producers.get(producer, -1)

    def advance_watermark(self, topic: str, watermark_us: int) -> None:
        with self._store.changed:
            found = self._store.topic(topic)
            if watermark_us > found.info.watermark_us:
                found.info = replace(found.info, watermark_us=watermark_us)
                self._store.touch()

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
        with self._store.changed:
            return self._store.partition(topic, partition).read(offset, end, max_events, max_bytes)

    def after(self, topic: str, partition: int, offset: int) -> int:
        return offset

    def end(self, topic: str, partition: int) -> int:
        with self._store.changed:
            return self._store.partition(topic, partition).next_offset

    def backlog(self, topic: str, partition: int, offset: int) -> Backlog:
        with self._store.changed:
            return self._store.partition(topic, partition).backlog(offset, self._clock.now_us())

    def register_pipeline(self, name: str, fingerprint: str, inputs: Sequence[StageInput]) -> None:
        rules.check_name("pipeline", name)
        with self._store.changed:
            pipeline = self._store.pipelines.get(name) or Pipeline(fingerprint)
            rules.check_fingerprint(name, pipeline.fingerprint, fingerprint)
            topics = {each.topic: self._store.topic(each.topic) for each in inputs}
            pipeline.stopping = False
            epoch = self._store.epoch_floors.get(name, 0)
            for each in inputs:
                for partition in range(len(topics[each.topic].partitions)):
                    task = TaskId(name, each.stage, partition)
                    state = TaskState(task, each.topic, 0, MIN_US, epoch, None, None)
                    pipeline.tasks.setdefault(task, Task(state))
            self._store.pipelines[name] = pipeline
            self._store.touch()

    def pipelines(self) -> dict[str, str]:
        with self._store.changed:
            return {name: self._store.pipelines[name].fingerprint for name in sorted(self._store.pipelines)}

    def reset_pipeline(self, name: str) -> None:
        with self._store.changed:
            pipeline = self._store.pipeline(name)
            self._store.epoch_floors[name] = max(
                (task.state.epoch for task in pipeline.tasks.values()),
                default=self._store.epoch_floors.get(name, 0),
            )
            del self._store.pipelines[name]
            for worker in [each.id for each in self._store.workers.values() if each.pipeline == name]:
                del self._store.workers[worker]
            for topic in [each for each in self._store.topics if each.startswith(f"{name}.")]:
                internal = self._store.topics[topic].info.config.internal
                if internal and not self._store.tasks_of_topic(topic):
                    del self._store.topics[topic]
            self._store.touch()

    def request_stop(self, name: str) -> None:
        with self._store.changed:
            self._store.pipeline(name).stopping = True
            self._store.touch()

    def request_workers(self, name: str, count: int | None) -> None:
        rules.check_workers(name, count)
        with self._store.changed:
            self._store.pipeline(name).workers_wanted = count
            self._store.touch()

    def snapshot(self, pipeline: str, *, counters: bool = True) -> Snapshot:
        with self._store.changed:
            found = self._store.pipeline(pipeline)
            tasks = {task: found.tasks[task].state for task in sorted(found.tasks)}
            topics = {state.topic: self._store.topics[state.topic] for state in tasks.values()}
            return Snapshot(
                ends={
                    (name, partition): of_partition.next_offset
                    for name, topic in topics.items()
                    for partition, of_partition in enumerate(topic.partitions)
                },
                topics={name: topic.info for name, topic in topics.items()},
                tasks=tasks,
                workers={
                    worker: info for worker, info in sorted(self._store.workers.items()) if info.pipeline == pipeline
                },
                stopping=found.stopping,
                workers_wanted=found.workers_wanted,
            )

    def claim(self, task: TaskId, worker: str) -> Claim | None:
        with self._store.changed:
            found = self._store.task(task)
            if found.state.assigned != worker or found.state.owner not in (None, worker):
                return None
            found.state = replace(found.state, owner=worker, epoch=found.state.epoch + 1)
            return Claim(found.state, [found.segments[number].info for number in sorted(found.segments)])

    def read_state(self, task: TaskId, epoch: int, sequences: Sequence[int]) -> list[bytes]:
        with self._store.changed:
            found = self._store.held(task, epoch)
            if found is None:
                raise rules.fenced(task)
            rules.check_has_segments(task, found.segments, sequences)
            return [found.segments[sequence].payload for sequence in sequences]

    def release(self, task: TaskId, epoch: int) -> bool:
        with self._store.changed:
            found = self._store.held(task, epoch)
            if found is None:
                return False
            found.state = replace(found.state, owner=None)
            self._store.touch()
            return True

    def commit(self, commits: Sequence[StepCommit]) -> list[bool]:
        with self._store.changed:
            held = [self._store.held(commit.task, commit.epoch) for commit in commits]
            current = [(commit, task) for commit, task in zip(commits, held, strict=True) if task is not None]
            self._store.check_commits(current)
            now_us = self._clock.now_us()
            for commit, task in current:
                self._store.apply(commit, task, now_us)
            self._store.touch()
            return [task is not None for task in held]

    def join(self, worker: WorkerInfo) -> None:
        with self._store.changed:
            self._store.pipeline(worker.pipeline)
            self._store.workers[worker.id] = worker
            self._store.touch()

    def heartbeat(self, worker: str, now_us: int, *, draining: bool = False) -> bool:
        with self._store.changed:
            found = self._store.workers.get(worker)
            if found is None:
                return False
            self._store.workers[worker] = replace(found, heartbeat_us=now_us, draining=found.draining or draining)
            if draining:
                self._store.touch()
            return True

    def leave(self, worker: str) -> None:
        with self._store.changed:
            if worker in self._store.workers:
                self._store.remove_worker(worker)
                self._store.touch()

    def reassign(self, pipeline: str, decide: Callable[[Snapshot], Assignment]) -> Assignment:
        with self._store.changed:
            decided = decide(self.snapshot(pipeline))
            moved = [(self._store.task(task), worker) for task, worker in decided.moves.items()]
            for worker in decided.dead & self._store.workers.keys():
                self._store.remove_worker(worker)
            for task, assigned in moved:
                task.state = replace(task.state, assigned=assigned)
            if decided.dead or moved:
                self._store.touch()
            return decided

    def wait_changed(self, timeout_s: float) -> bool:
        with self._store.changed:
            self._store.changed.wait_for(lambda: self._store.version != self._seen, timeout_s)
            changed = self._store.version != self._seen
            self._seen = self._store.version
            return changed

    def prune(self) -> int:
        with self._store.changed:
            now_us = self._clock.now_us()
            return sum(self._store.prune_topic(topic, now_us) for topic in self._store.topics.values())

    def close(self) -> None:
        """Nothing to let go of: a named store outlives its handles."""
