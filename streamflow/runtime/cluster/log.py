"""The log of pipelines on Kafka, in the words of every log. One handle is at most one worker."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.errors import KafkaError

from streamflow.base.clock import Clock
from streamflow.base.errors import ConflictError, StreamFlowError
from streamflow.runtime.cluster.holding import Held, claimed
from streamflow.runtime.cluster.membership import SESSION_S, Membership, group
from streamflow.runtime.cluster.records import TaskRecord
from streamflow.runtime.cluster.registry import (
    Registered,
    check_partitions,
    epoch_name,
    note_name,
    noted,
    register,
    registered,
)
from streamflow.runtime.cluster.view import LOOK_S, View
from streamflow.topics import rules
from streamflow.topics.kafka.connection import patiently
from streamflow.topics.kafka.log import KafkaLog
from streamflow.topics.kafka.messages import SPAN
from streamflow.topics.protocol import (
    Assignment,
    Claim,
    Snapshot,
    StageInput,
    StepCommit,
    TaskId,
    TaskState,
    TopicConfig,
    TopicInfo,
    WorkerInfo,
)

logger = logging.getLogger(__name__)

UNCLAIMED_S = SESSION_S
"""Before a task that another has taken over is claimed again, though the group still seems to give it to this worker,
and does not say so anew: one that was suspended has learnt by then that it does not."""
_CLAIM_AGAIN_S = 2.0
"""After a claim that Kafka did not answer."""
_CLAIMS_AT_ONCE = 8


class ClusterLog(KafkaLog):
    """`url`: as of `KafkaLog`. `static_id`: the worker's name in the group, kept over restarts."""

    def __init__(self, url: str, *, clock: Clock | None = None, static_id: str | None = None) -> None:
        super().__init__(url, clock=clock)
        self._static_id = static_id
        self._registered: dict[str, Registered] = {}
        self._infos: dict[str, TopicInfo] = {}
        self._views: dict[str, View] = {}
        self._worker: WorkerInfo | None = None
        self._membership: Membership | None = None
        self._held: dict[TaskId, Held] = {}
        self._given: set[TaskId] = set()
        """Of these, those that the worker knows it has."""
        self._unclaimed_until_s: dict[TaskId, float] = {}
        self._version_seen = -1

    def topic(self, name: str) -> TopicInfo:
        # A task asks again and again, and only the number of partitions matters to it, which is checked at the start.
        if self._worker is None or name not in self._infos:
            self._infos[name] = super().topic(name)
        return self._infos[name]

    def register_pipeline(self, name: str, fingerprint: str, inputs: Sequence[StageInput]) -> None:
        rules.check_name("pipeline", name)
        self._loop.run(register(self._client, self._senders, name, fingerprint, inputs))

    def pipelines(self) -> dict[str, str]:
        notes = self._loop.run(self._client.all_notes())
        prefix = note_name("")
        return {
            name.removeprefix(prefix): note["fingerprint"]
            for name, note in sorted(notes.items())
            if name.startswith(prefix)
        }

    def members(self, pipeline: str) -> int:
        """How many workers its group has now."""
        return self._loop.run(self._members(pipeline))

    async def _members(self, pipeline: str) -> int:
        described = await patiently(lambda: self._client.admin.describe_consumer_groups([group(pipeline)]))
        return sum(len(group[5]) for answer in described for group in answer.groups)

    def own_topics(self, pipeline: str) -> list[str]:
        """The topics in which a pipeline keeps itself: what `reset_pipeline` deletes."""
        return self._loop.run(self._own_topics(pipeline))

    async def _own_topics(self, pipeline: str) -> list[str]:
        known, names = (await self._known(pipeline)).own_topics, await self._client.names()
        return [n for n in names if n in known or (n.startswith(f"{pipeline}.") and await self._is_internal(n))]

    def reset_pipeline(self, name: str) -> None:
        """ConflictError while it has workers; one that was killed counts for some seconds."""
        self._loop.run(self._reset(name))

    async def _reset(self, name: str) -> None:
        known = await self._known(name)
        if members := await self._members(name):
            raise ConflictError(
                f"pipeline '{name}' has {members} workers. Stop them first with `streamflow cluster stop {name} --on "
                f"{self.url}`; one that was killed is gone after {SESSION_S:.0f} s"
            )
        # That it exists is forgotten last, so that who is interrupted can do it again.
        view = await self._open_view(name)
        await view.renew()
        before = await self._client.note(epoch_name(name), known.epoch)
        epochs = [record.epoch for record in view.seen.told.records.values()]
        await noted(self._client, self._senders, epoch_name(name), max([before, *epochs]))
        await self._views.pop(name).close()
        topics = await self._own_topics(name)
        for topic in topics:
            await self._delete_topic(topic)
        for note in (f"stopping/{name}", f"workers/{name}", note_name(name)):
            await noted(self._client, self._senders, note, None)
        self._registered.pop(name, None)

    async def _is_internal(self, topic: str) -> bool:
        return bool(await self._client.note(f"internal/{topic}", False))

    def request_stop(self, name: str) -> None:
        self._loop.run(self._note(f"stopping/{name}", name, True))

    def request_workers(self, name: str, count: int | None) -> None:
        rules.check_workers(name, count)
        self._loop.run(self._note(f"workers/{name}", name, count))

    async def _note(self, note: str, pipeline: str, value: object) -> None:
        await self._known(pipeline)
        await noted(self._client, self._senders, note, value)

    async def _known(self, pipeline: str) -> Registered:
        if pipeline not in self._registered:
            found = registered(pipeline, await self._client.note(note_name(pipeline), None))
            if found is None:
                known = await self._client.all_notes()
                names = [name.removeprefix(note_name("")) for name in known if name.startswith(note_name(""))]
                raise rules.unknown("pipeline", pipeline, names)
            self._registered[pipeline] = found
        return self._registered[pipeline]

    def snapshot(self, pipeline: str, *, counters: bool = True) -> Snapshot:
        """As of a moment ago; newer once `wait_changed` has returned True."""
        if pipeline not in self._views:
            self._loop.run(self._open_view(pipeline))
        known, seen = self._registered[pipeline], self._views[pipeline].seen
        worker = self._worker if self._worker is not None and self._worker.pipeline == pipeline else None
        assigned = self._assigned() if worker is not None else set()
        return Snapshot(
            {place: end * SPAN for place, end in seen.ends.items()},
            {
                topic: TopicInfo(topic, TopicConfig(partitions), seen.told.marks[topic])
                for _, topic, partitions in known.stages
            },
            {
                task: self._state(task, topic, seen.told.records.get(task) or TaskRecord(), task in assigned)
                for topic, task in known.topics_and_tasks()
            },
            {} if worker is None else {worker.id: worker},
            seen.told.stopping,
            seen.told.workers_wanted,
        )

    def _state(self, task: TaskId, topic: str, record: TaskRecord, assigned: bool) -> TaskState:
        """What is committed as all see it, not as this worker knows already: to that belong ends that are newer, too.
        Whoever had a task that is assigned to us has it no more as soon as we claim it."""
        if not assigned or self._worker is None:
            return record.state(task, topic, record.owner, record.owner)
        mine = self._worker.id
        return record.state(task, topic, mine if task in self._given else None, mine)

    def _assigned(self) -> set[TaskId]:
        if self._membership is None or self._worker is None:
            return set()
        tasks = self._registered[self._worker.pipeline].tasks()
        return {tasks[number] for number in self._membership.assigned if number < len(tasks)}

    async def _open_view(self, pipeline: str) -> View:
        if pipeline not in self._views:
            known = await self._known(pipeline)
            view = View(self._client, pipeline, known.status_topic, known.inputs)
            await view.start(known.places())
            self._views[pipeline] = view
        return self._views[pipeline]

    def join(self, worker: WorkerInfo) -> None:
        self._loop.run(self._join(worker))

    async def _join(self, worker: WorkerInfo) -> None:
        known = await self._known(worker.pipeline)
        await check_partitions(self._client, known)
        view = await self._open_view(worker.pipeline)
        address, topic = self._client.address, known.tasks_topic

        def assigned() -> None:
            self._unclaimed_until_s.clear()
            view.bump()

        self._membership = Membership(address, worker.pipeline, topic, assigned, self._static_id)
        self._worker = worker
        await self._membership.start()

    def heartbeat(self, worker: str, now_us: int, *, draining: bool = False) -> bool:
        """The group has heartbeats of its own; False once its member has failed."""
        if draining:
            self._loop.run(self._bump())
        return self._membership is not None and self._membership.alive

    async def _bump(self) -> None:
        for view in self._views.values():
            view.bump()

    def leave(self, worker: str) -> None:
        self._loop.run(self._leave())

    async def _leave(self) -> None:
        membership, self._membership = self._membership, None
        if membership is not None:
            await membership.stop()
        for task in list(self._held):
            await self._let_go(task)
        self._worker = None
        for view in self._views.values():
            with suppress(KafkaError, OSError):  # then it shows what it saw last
                await view.renew()

    def reassign(self, pipeline: str, decide: Callable[[Snapshot], Assignment]) -> Assignment:
        """Nothing: the group decides."""
        return Assignment()

    def claim(self, task: TaskId, worker: str) -> Claim | None:
        return self._loop.run(self._claim(task))

    async def _claim(self, task: TaskId) -> Claim | None:
        if task not in self._held:
            await self._claim_all()
        held = self._held.get(task)
        if held is None or self._worker is None:
            return None
        self._given.add(task)
        mine = self._worker.id
        state = held.record.state(task, held.place.topic, mine, mine)
        return Claim(state, [held.segments[sequence].info for sequence in sorted(held.segments)])

    async def _claim_all(self) -> None:
        """All that is assigned and not held, several at once: each takes some round trips."""
        assigned = self._assigned()
        for task in self._held.keys() - assigned - self._given:
            await self._let_go(task)
        now_s = time.monotonic()
        free = [
            task for task in sorted(assigned - self._held.keys()) if self._unclaimed_until_s.get(task, 0.0) <= now_s
        ]
        few = asyncio.Semaphore(_CLAIMS_AT_ONCE)

        async def one(task: TaskId) -> None:
            async with few:
                await self._claim_one(task)

        await asyncio.gather(*map(one, free))

    async def _claim_one(self, task: TaskId) -> None:
        assert self._worker is not None
        place = self._registered[task.pipeline].place(task)
        last = self._views[task.pipeline].last
        try:
            held = await claimed(self._client, last, place, self._worker.id, self.record_bytes_max, self._now_ms)
        except (KafkaError, OSError) as error:
            if isinstance(error, KafkaError) and not error.retriable:
                raise
            logger.warning("%s: %s can't be claimed now, trying again: %s", self._worker.id, task, error)
            self._unclaimed_until_s[task] = time.monotonic() + _CLAIM_AGAIN_S
            return
        if held is None:
            self._unclaimed_until_s[task] = time.monotonic() + UNCLAIMED_S
        else:
            self._held[task] = held

    async def _let_go(self, task: TaskId) -> None:
        self._given.discard(task)
        if (held := self._held.pop(task, None)) is not None:
            await held.close()

    def read_state(self, task: TaskId, epoch: int, sequences: Sequence[int]) -> list[bytes]:
        held = self._held.get(task)
        if held is None or held.record.epoch != epoch:
            raise rules.fenced(task)
        rules.check_has_segments(task, held.segments, sequences)
        return [self._loop.run(held.payload(sequence)) for sequence in sequences]

    def release(self, task: TaskId, epoch: int) -> bool:
        held = self._held.get(task)
        if held is None or held.record.epoch != epoch:
            return False
        self._loop.run(self._let_go(task))
        return True

    def commit(self, commits: Sequence[StepCommit]) -> list[bool]:
        """Each in a transaction of its own, all at the same time."""
        return self._loop.run(self._commit_all(commits))

    async def _commit_all(self, commits: Sequence[StepCommit]) -> list[bool]:
        done = await asyncio.gather(*map(self._commit, commits), return_exceptions=True)
        for view in self._views.values():
            view.look()
        results = []
        for each in done:
            if isinstance(each, BaseException):
                raise each
            results.append(each)
        return results

    async def _commit(self, commit: StepCommit) -> bool:
        held = self._held.get(commit.task)
        if held is None or held.record.epoch != commit.epoch:
            return False
        if await held.commit(commit, self._now_ms):
            return True
        self._unclaimed_until_s[commit.task] = time.monotonic() + UNCLAIMED_S
        await self._let_go(commit.task)
        return False

    def _now_ms(self) -> int:
        return self._clock.now_us() // 1000

    def wait_changed(self, timeout_s: float) -> bool:
        view = None if self._worker is None else self._views.get(self._worker.pipeline)
        if view is None:
            time.sleep(min(timeout_s, LOOK_S))
            return True
        with view.changed:
            view.changed.wait_for(lambda: view.version != self._version_seen, timeout_s)
            changed, self._version_seen = view.version != self._version_seen, view.version
            return changed

    def prune(self) -> int:
        """What the tasks of this worker have read of the pipeline's own topics. Kafka tells no bytes. ConflictError if
        an input has got more partitions: nobody would read what is in them."""
        if self._worker is not None:
            self._loop.run(self._check_inputs(self._registered[self._worker.pipeline]))
        read = {
            TopicPartition(held.place.topic, task.partition): RecordsToDelete(held.record.offset // SPAN)
            for task, held in list(self._held.items())
            if held.record.offset and held.place.topic.startswith(f"{task.pipeline}.")
        }
        if read:
            try:
                self._loop.run(self._client.admin.delete_records(read))
            except StreamFlowError as error:
                logger.warning("what is read can't be deleted now, trying again later: %s", error)
        return 0

    async def _check_inputs(self, known: Registered) -> None:
        try:
            await check_partitions(self._client, known)
        except (KafkaError, OSError) as error:
            logger.warning("inputs can't be looked at now, trying again later: %s", error)

    async def _close(self) -> None:
        for view in self._views.values():
            await view.close()
        await super()._close()
