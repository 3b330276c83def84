"""What is known of subscriptions, snapshots and schemas: notes in a compacted topic of their own.

They are changed under one transactional id: who comes later ends what an earlier one had begun, reads all that is
committed, and decides then, so no change is lost between two processes.
"""

import asyncio
from base64 import b85decode, b85encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgspec
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from streamflow.topics import rules
from streamflow.topics.kafka import notes
from streamflow.topics.kafka.client import KafkaClient
from streamflow.topics.subscriptions.settings import SubscriptionSettings
from streamflow.topics.subscriptions.store import SnapshotInfo, SubscriptionInfo

T = TypeVar("T")
TOPIC = notes.SUBSCRIPTIONS
_TRANSACTION_MS = 10_000
_FENCED = (InvalidProducerEpoch, ProducerFenced)
_SUBSCRIPTION, _SNAPSHOT, _SCHEMA = "subscription/", "snapshot/", "schema/"


class Target(msgspec.Struct, frozen=True):
    """Where a seek goes in one partition: all before `frontier` acked, or as a snapshot's acks say (base 85)."""

    frontier: int = 0
    acks: str | None = None

    @property
    def snapshot(self) -> bytes | None:
        return None if self.acks is None else b85decode(self.acks)


class SubscriptionNote(msgspec.Struct, frozen=True):
    """`id` tells it from others that had its name. `starts`: of each partition, Kafka's offset of the first message
    that it gets, if its group has committed nothing (any more), as they were after so many seeks as `starts_seek` says.
    `seek`: how many there were; `targets`: of the last one, by partition."""

    id: str
    topic: str
    settings: SubscriptionSettings
    created_us: int
    active_us: int
    starts: list[int]
    detached: bool = False
    starts_seek: int = 0
    seek: int = 0
    targets: dict[str, Target] = {}

    def info(self, name: str) -> SubscriptionInfo:
        return SubscriptionInfo(name, self.topic, self.settings, self.created_us, self.active_us, self.detached)


class SnapshotNote(msgspec.Struct, frozen=True):
    """`acks`: of each partition, in base 85."""

    topic: str
    subscription: str
    created_us: int
    expires_us: int
    acks: list[str]

    def info(self, name: str) -> SnapshotInfo:
        return SnapshotInfo(name, self.topic, self.subscription, self.created_us, self.expires_us)


class Known:
    """The notes as they were at a moment, and what is to be changed of them."""

    def __init__(self, values: Mapping[str, Any], now_us: int) -> None:
        self._values = dict(values)
        self._now_us = now_us
        self.changes: dict[str, object | None] = {}

    def subscription(self, name: str) -> SubscriptionNote:
        """NotFoundError if there is none, or it has expired."""
        found = self.find(name)
        if found is None:
            raise rules.unknown("subscription", name, (name for name, _ in self.subscriptions()))
        return found

    def find(self, name: str) -> SubscriptionNote | None:
        value = self._values.get(_SUBSCRIPTION + name)
        if value is None:
            return None
        note = msgspec.convert(value, SubscriptionNote)
        return None if note.info(name).is_expired(self._now_us) else note

    def subscriptions(self) -> Iterator[tuple[str, SubscriptionNote]]:
        for name in self._names(_SUBSCRIPTION):
            note = self.find(name)
            if note is not None:
                yield name, note

    def set_subscription(self, name: str, note: SubscriptionNote | None) -> None:
        self._set(_SUBSCRIPTION + name, note)

    def snapshots(self) -> dict[str, SnapshotNote]:
        found = {name: msgspec.convert(self._values[_SNAPSHOT + name], SnapshotNote) for name in self._names(_SNAPSHOT)}
        return {name: note for name, note in found.items() if self._now_us < note.expires_us}

    def snapshot(self, name: str) -> SnapshotNote:
        every = self.snapshots()
        if name not in every:
            raise rules.unknown("snapshot", name, every)
        return every[name]

    def set_snapshot(self, name: str, note: SnapshotNote | None) -> None:
        self._set(_SNAPSHOT + name, note)

    def schema(self, topic: str) -> str | None:
        return self._values.get(_SCHEMA + topic)

    def set_schema(self, topic: str, schema: str | None) -> None:
        self._set(_SCHEMA + topic, schema)

    def forget_topic(self, topic: str) -> None:
        """It is deleted: subscriptions are detached, snapshots and schema gone."""
        for name, note in self.subscriptions():
            if note.topic == topic:
                self.set_subscription(name, msgspec.structs.replace(note, detached=True))
        for name, snapshot in self.snapshots().items():
            if snapshot.topic == topic:
                self.set_snapshot(name, None)
        if self.schema(topic) is not None:
            self.set_schema(topic, None)

    def _names(self, prefix: str) -> list[str]:
        return sorted(key.removeprefix(prefix) for key in self._values if key.startswith(prefix))

    def _set(self, key: str, value: object | None) -> None:
        self.changes[key] = None if value is None else msgspec.to_builtins(value)
        if value is None:
            self._values.pop(key, None)
        else:
            self._values[key] = self.changes[key]


class SubscriptionNotes:
    """Coroutines of one event loop."""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client
        self._notes = client.make_notes(TOPIC)
        self._reading, self._changing = asyncio.Lock(), asyncio.Lock()
        self._producer: AIOKafkaProducer | None = None

    async def start(self) -> None:
        await self._notes.start(self._client.admin, self._client.replication)

    async def close(self) -> None:
        await self._drop_producer()
        await self._notes.close()

    async def known(self, now_us: int) -> Known:
        async with self._reading:
            return Known(await self._notes.refresh(), now_us)

    async def change(self, now_us: int, decide: Callable[[Known], T]) -> T:
        """Commit what `decide` changes of what is known; it may be asked again. Nothing is changed if it raises."""
        async with self._changing:
            while True:
                try:
                    producer = await self._own_producer()
                    known = await self.known(now_us)
                    result = decide(known)
                    await self._write(producer, known.changes)
                except _FENCED:
                    # Somebody else has changed something since this process was last here.
                    await self._drop_producer()
                except BaseException:
                    await self._drop_producer()
                    raise
                else:
                    return result

    async def _write(self, producer: AIOKafkaProducer, changes: Mapping[str, object | None]) -> None:
        if not changes:
            return
        async with producer.transaction():
            ends = [await notes.write(producer, name, value, TOPIC) for name, value in changes.items()]
        self._client.has_published(TopicPartition(TOPIC, 0), max(ends))

    async def _own_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                **self._client.options,
                transactional_id="streamflow.subscriptions",
                transaction_timeout_ms=_TRANSACTION_MS,
                compression_type="zstd",
                max_request_size=2 * notes.BYTES_MAX,
            )
            await producer.start()
            self._producer = producer
        return self._producer

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()


def encoded(acks: bytes) -> str:
    return b85encode(acks).decode()
