"""What one process holds of a subscription: its place in the consumer group, and the machines of its partitions.

A machine is begun from what the group has committed. It is stored there with each ack, fenced by the group's
generation; or, where leases and attempts have to outlive their holder, whole in the state topic, in one transaction
with the commit and dead letters, fenced by a transactional id for each partition. Who has lost a partition finds out
when it wants to store: nothing of that counts then.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, InvalidProducerEpoch, ProducerFenced

from streamflow.base.errors import NotFoundError
from streamflow.topics.kafka.client import FETCH_MESSAGES_MAX, KafkaClient
from streamflow.topics.kafka.committed import Committed, acks_in, next_number, of_acks, parse
from streamflow.topics.kafka.connection import LoopThread
from streamflow.topics.kafka.index import MessageIndex
from streamflow.topics.kafka.membership import Member, group_of
from streamflow.topics.kafka.messages import SPAN, Messages, Received, messages
from streamflow.topics.kafka.running import SparseRunning
from streamflow.topics.kafka.states import StateWriter, read_state
from streamflow.topics.kafka.subscription_notes import SubscriptionNote
from streamflow.topics.partition import murmur2
from streamflow.topics.reading import dead_letter_records
from streamflow.topics.subscriptions.encoding import from_bytes, to_bytes
from streamflow.topics.subscriptions.lease import LeaseMachine
from streamflow.topics.subscriptions.running import Running, StoredMessage
from streamflow.topics.subscriptions.settings import ACK_DEADLINE_MAX_S

T = TypeVar("T")
IDLE_S = 20.0
"""Of a member that nobody uses: longer than streams take between two looks."""
_LOST = (CommitFailedError, IllegalStateError, InvalidProducerEpoch, ProducerFenced)


def keeps_all(note: SubscriptionNote) -> bool:
    """Whether leases and attempts outlive their holder: exactly once no message may be out twice, and dead letters are
    those that end their holders, too."""
    return note.settings.exactly_once or note.settings.dead_letter is not None


class Part:
    """A machine and the messages of its partition. `stored`: what is committed of it; `turn`: of the member when that
    was last checked."""

    def __init__(self, machine: LeaseMachine, index: MessageIndex, seek: int, stored: str, turn: int) -> None:
        self.machine, self.index = machine, index
        self.seek, self.stored, self.turn = seek, stored, turn
        self.writer: StateWriter | None = None

    def running(self, note: SubscriptionNote, now_us: int, bounds: tuple[int, int]) -> SparseRunning:
        """Up to date with settings, log and seeks."""
        self.index.begin, self.index.end = bounds
        if self.machine.settings != note.settings:
            self.machine.alter(note.settings)
        return SparseRunning(self.machine, self.index, now_us)

    def apply_seek(self, note: SubscriptionNote, partition: int, running: SparseRunning) -> None:
        if note.seek <= self.seek:
            return
        target = note.targets.get(str(partition))
        if target is not None and target.snapshot is not None:
            running.seek_to(target.snapshot)
        else:
            running.seek_offset(0 if target is None else target.frontier)
        self.seek = self.machine.epoch = note.seek


@dataclass(frozen=True, slots=True)
class Due:
    """What is to be stored of a partition: the commit, its `number` (Kafka's offset), and with the whole `state` the
    dead letters."""

    committed: Committed
    number: int
    state: bytes | None = None
    letters: Sequence[Messages] = ()


class Holder:
    """Threads may share it; each `run` is one exclusive section."""

    def __init__(self, loop: LoopThread, client: KafkaClient, name: str, note: SubscriptionNote) -> None:
        self.id = note.id
        self._loop, self._client = loop, client
        self._name, self.topic = name, note.topic
        self._lock = threading.RLock()
        self._parts: dict[int, Part] = {}
        self._member: Member | None = None
        self._used_s = time.monotonic()

    @property
    def joined(self) -> bool:
        return self._member is not None

    def leave_idle(self, now_s: float) -> None:
        """Leave the group if nobody pulls or acks any more, so that others get the partitions."""
        with self._lock:
            leased = any(part.machine.outstanding for part in self._parts.values())
            if self.joined and now_s - self._used_s > (ACK_DEADLINE_MAX_S if leased else IDLE_S):
                self.close()

    def held(self, *, join: bool) -> frozenset[int]:
        with self._lock:
            self._used_s = time.monotonic()
            if self._member is None and join:
                self._member = self._loop.run(self._join())
            return frozenset() if self._member is None else self._member.assigned()

    async def _join(self) -> Member:
        return Member(self._client, self._name, self.topic)

    def close(self) -> None:
        with self._lock:
            for partition in list(self._parts):
                self._drop(partition)
            if self._member is not None:
                self._loop.run(self._member.leave())
                self._member = None

    def places(self) -> list[TopicPartition]:
        """Those that are held now."""
        return [TopicPartition(self.topic, partition) for partition in list(self._parts)]

    def messages(self, partition: int, offsets: Iterable[int]) -> list[StoredMessage]:
        with self._lock:
            part = self._parts.get(partition)
            if part is not None:
                return part.index.at(offsets)
            place = self._place(partition)
            index = self._index(place)
            index.begin, index.end = self._loop.run(self._client.bounds_of([place]))[place]
            return index.at(offsets)

    def run(
        self, note: SubscriptionNote, events: Mapping[int, Callable[[Running], T]], *, durable: bool, now_us: int
    ) -> tuple[dict[int, T], dict[int, SparseRunning]]:
        """What each event gave, and the machines that changed; see `SubscriptionStore.with_machines`."""
        with self._lock:
            held = self.held(join=False) if events else frozenset()
            if self._member is None or self._member.settled:
                for partition in [each for each in self._parts if each not in held]:
                    self._drop(partition)
            bounds = self._loop.run(self._client.bounds_of([self._place(each) for each in events])) if events else {}
            parts = self._brought(note, events, held, now_us, bounds)
            results, runs = {}, {}
            try:
                for partition, event in events.items():
                    running = parts[partition].running(note, now_us, bounds[self._place(partition)])
                    parts[partition].apply_seek(note, partition, running)
                    results[partition] = event(running)
                    runs[partition] = running
                wanted = self._to_store(note, {each: runs[each] for each in runs if each in held}, durable)
                lost = self._stored(wanted, now_us)
            except BaseException:
                for partition in events:
                    self._drop(partition)
                raise
            for partition in list(results):
                if partition in lost or (durable and partition not in held):
                    del results[partition]
            for partition in lost:
                self._drop(partition)
            for partition in held & set(events) - lost:
                parts[partition].index.forget_before(parts[partition].machine.floor)
            return results, {each: runs[each] for each in results if each in held}

    def floors(self) -> dict[int, int]:
        """Of what is held: Kafka's offset of the first message that is not acked, and the seek that this is after."""
        return {partition: next_number(part.machine.floor) for partition, part in self._parts.items()}

    def _place(self, partition: int) -> TopicPartition:
        return TopicPartition(self.topic, partition)

    def _drop(self, partition: int) -> None:
        part = self._parts.pop(partition, None)
        if part is not None and part.writer is not None:
            self._loop.run(part.writer.close())

    def _brought(
        self,
        note: SubscriptionNote,
        partitions: Collection[int],
        held: Collection[int],
        now_us: int,
        bounds: Mapping[TopicPartition, tuple[int, int]],
    ) -> dict[int, Part]:
        """Those at hand that are still as they are stored, the others from there. Those of others are not kept."""
        turn = 0 if self._member is None else self._member.turn
        parts = {
            partition: part for partition in partitions if (part := self._parts.get(partition)) and part.turn == turn
        }
        missing = [partition for partition in partitions if partition not in parts]
        if not missing:
            return parts
        commits = self._loop.run(self._client.group_offsets(group_of(self._name)))
        for partition in missing:
            place = self._place(partition)
            part = self._parts.get(partition)
            stored = _metadata(commits, place)
            if part is None or part.stored != stored:
                self._drop(partition)
                part = self._loaded(note, partition, stored, partition in held, now_us, bounds[place])
            part.turn = turn
            parts[partition] = part
            if partition in held:
                self._parts[partition] = part
        return parts

    def _loaded(
        self, note: SubscriptionNote, partition: int, stored: str, own: bool, now_us: int, bounds: tuple[int, int]
    ) -> Part:
        place = self._place(partition)
        writer = None
        committed = parse(stored, note.id)
        if own and (keeps_all(note) or (committed is not None and committed.state_at is not None)):
            # From here on nobody who held it before can store anything; what is stored is final.
            writer = self._loop.run(StateWriter.opened(self._client, self._name, note.id, place))
            stored = _metadata(self._loop.run(self._client.group_offsets(group_of(self._name))), place)
            committed = parse(stored, note.id)
        index = self._index(place)
        index.begin, index.end = bounds
        machine = self._machine(note, partition, committed, index, now_us)
        part = Part(machine, index, note.starts_seek if committed is None else committed.seek, stored, 0)
        part.writer = writer
        return part

    def _index(self, place: TopicPartition) -> MessageIndex:
        run, client = self._loop.run, self._client

        def fetch(first: int, stop: int, max_bytes: int) -> Sequence[Received]:
            return run(client.fetch(place, first, stop, max_events=FETCH_MESSAGES_MAX, max_bytes=max_bytes))

        return MessageIndex(
            place.topic, place.partition, fetch, lambda time_ms: run(client.offset_at(place, max(0, time_ms)))
        )

    def _machine(
        self, note: SubscriptionNote, partition: int, committed: Committed | None, index: MessageIndex, now_us: int
    ) -> LeaseMachine:
        if committed is not None and committed.state_at is not None:
            state = self._loop.run(read_state(self._client, committed.state_at))
            return from_bytes(state, note.settings, index, sparse=True)
        machine = LeaseMachine(note.settings, index, sparse=True)
        machine.appended(index.end * SPAN)
        machine.trimmed(index.begin * SPAN)
        if committed is None:
            start = note.starts[partition] if partition < len(note.starts) else 0
            machine.seek(start * SPAN, now_us)
            machine.epoch = note.starts_seek
        else:
            machine.seek_to(*acks_in(committed, index), now_us)
            machine.epoch = committed.seek
        machine.active_us = note.active_us
        return machine

    def _to_store(self, note: SubscriptionNote, runs: Mapping[int, SparseRunning], durable: bool) -> dict[int, Due]:
        """Of each that has changed."""
        wanted: dict[int, Due] = {}
        for partition, running in runs.items():
            part = self._parts[partition]
            whole = keeps_all(note)
            letters = self._letters(note, partition, running) if whole else []
            if not (letters or ((durable or whole) and running.changed)):
                continue
            machine = part.machine
            number = next_number(machine.ledger.frontier) if not machine.ledger.open else machine.floor // SPAN
            if whole:
                committed = Committed(note.id, part.seek)
                wanted[partition] = Due(committed, number, to_bytes(machine), letters)
            else:
                committed = of_acks(machine, part.index, note.id, part.seek)
                if committed.metadata() != part.stored:
                    wanted[partition] = Due(committed, number)
        return wanted

    def _letters(self, note: SubscriptionNote, partition: int, running: SparseRunning) -> list[Messages]:
        """Dead letters to be published; without their topic they wait for it."""
        policy = note.settings.dead_letter
        letters = running.machine.dead_letters()
        if policy is None or not letters:
            return []
        try:
            size = self._loop.run(self._client.partitions(policy.topic))
        except NotFoundError:
            return []
        offsets = [letter.offset for letter in letters]
        found = self._parts[partition].index.at(offsets)
        records = dead_letter_records(self._name, self.topic, letters, found, policy.topic, size, murmur2)
        running.machine.forwarded(offsets, running.now_us)
        running.wakes = True
        return [messages(record) for record in records]

    def _stored(self, wanted: Mapping[int, Due], now_us: int) -> set[int]:
        """Commit all; which partitions turned out to be lost."""
        if not wanted:
            return set()
        outcomes = self._loop.run(self._store_all(wanted, now_us))
        lost = set()
        for partition, outcome in outcomes.items():
            if isinstance(outcome, _LOST):
                lost.add(partition)
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                self._parts[partition].stored = outcome
        return lost

    async def _store_all(self, wanted: Mapping[int, Due], now_us: int) -> dict[int, str | BaseException]:
        light = {each: due for each, due in wanted.items() if due.state is None}
        whole = {each: due for each, due in wanted.items() if due.state is not None}
        doing = [self._store_whole(each, due, now_us) for each, due in whole.items()]
        outcomes: dict[int, str | BaseException] = {}
        found = await asyncio.gather(*doing, return_exceptions=True)
        outcomes.update(zip(whole, found, strict=True))
        if light:
            assert self._member is not None
            try:
                await self._member.commit(
                    {
                        self._place(each): OffsetAndMetadata(due.number, due.committed.metadata())
                        for each, due in light.items()
                    }
                )
            except Exception as error:
                outcomes.update(dict.fromkeys(light, error))
            else:
                outcomes.update({each: due.committed.metadata() for each, due in light.items()})
        return outcomes

    async def _store_whole(self, partition: int, due: Due, now_us: int) -> str:
        part = self._parts[partition]
        assert due.state is not None
        if part.writer is None:
            part.writer = await StateWriter.opened(self._client, self._name, self.id, self._place(partition))
        return await part.writer.store(due.committed, due.state, due.letters, due.number, now_us // 1000)


def _metadata(commits: Mapping[TopicPartition, OffsetAndMetadata], place: TopicPartition) -> str:
    return str(commits[place].metadata) if place in commits else ""
