"""Publishing: all messages of a call in one transaction, with the sequence of a named publisher beside them.

A named publisher's transactional id is its name, so that of two processes under one name the later one wins: Kafka ends
what the earlier one had begun, and refuses what it does after that. So what a sender knows of the last sequence stays
true for as long as it is not refused.
"""

import asyncio
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaConnectionError,
    KafkaTimeoutError,
    NodeNotReadyError,
    ProducerFenced,
    RequestTimedOutError,
)
from aiokafka.producer.message_accumulator import BatchBuilder

from streamflow.topics.kafka import notes
from streamflow.topics.kafka.client import KafkaClient
from streamflow.topics.kafka.connection import PATIENCE_S
from streamflow.topics.kafka.messages import Messages
from streamflow.topics.kafka.unwrapped import collecting_later
from streamflow.topics.protocol import Producer

REQUEST_BYTES_MAX = 16 << 20
_BATCH_BYTES = 1 << 19
_LINGER_MS = 5
_AGAIN_S = 0.2
FENCED = (InvalidProducerEpoch, ProducerFenced)
AWAY = (KafkaConnectionError, NodeNotReadyError, KafkaTimeoutError, RequestTimedOutError, OSError)


@dataclass(slots=True)
class _Sender:
    producer: AIOKafkaProducer
    sequence: int
    """The last one that is committed under its name."""


@dataclass(slots=True)
class Batch:
    """To one partition. `firsts`: which records begin in it, and with which of its messages."""

    topic: str
    partition: int
    builder: BatchBuilder
    firsts: dict[int, int] = field(default_factory=dict)


class Senders:
    """The transactional producers of a handle, made when they are needed."""

    def __init__(self, client: KafkaClient) -> None:
        self._client = client
        self._senders: dict[str, _Sender] = {}
        self._sending = asyncio.Lock()
        self._own = f"streamflow.{secrets.token_hex(8)}"

    async def publish(
        self, messages: Sequence[Messages], timestamp_ms: int, topic: str, producer: Producer | None
    ) -> list[int] | None:
        """Kafka's offset of the first message of each record; None if this sequence was published before."""
        name = None if producer is None else f"sequence/{topic}/{producer.name}"
        until_s = time.monotonic() + PATIENCE_S
        async with self._sending:
            while True:
                sender = await self._sender(name)
                if producer is not None and producer.sequence <= sender.sequence:
                    return None
                try:
                    offsets = await self._send(sender.producer, messages, timestamp_ms, name, producer)
                except AWAY:
                    # Whether it was committed is noted, if it has a name.
                    await self._forget(name)
                    if producer is None or time.monotonic() > until_s:
                        raise
                    await asyncio.sleep(_AGAIN_S)
                    continue
                except FENCED:
                    # Another process has the name now, or our transaction took too long. What is committed tells
                    # whether it is to be published still.
                    await self._forget(name)
                    continue
                if producer is not None:
                    sender.sequence = producer.sequence
                return offsets

    def known_sequence(self, topic: str, producer: str) -> int | None:
        """What this handle itself has published last under that name; None if nothing."""
        sender = self._senders.get(f"sequence/{topic}/{producer}")
        return None if sender is None else sender.sequence

    async def note(self, name: str, value: object) -> None:
        async with self._sending:
            sender = await self._sender(None)
            async with sender.producer.transaction():
                end = await notes.write(sender.producer, name, value)
            self._client.has_published(TopicPartition(notes.TOPIC, 0), end)

    async def forget(self, topic: str) -> None:
        """All that was noted of a topic which is no more."""
        async with self._sending:
            known = await self._client.notes_of(topic)
            for name in known:
                await self._forget(name)
            sender = await self._sender(None)
            if known:
                async with sender.producer.transaction():
                    for name in known:
                        await notes.write(sender.producer, name, None)

    async def close(self) -> None:
        for name in list(self._senders):
            await self._forget(name)

    async def _send(
        self,
        through: AIOKafkaProducer,
        messages: Sequence[Messages],
        timestamp_ms: int,
        name: str | None,
        producer: Producer | None,
    ) -> list[int]:
        """All in one transaction; Kafka's offset of the first message of each record."""
        await _know(through, {(each.topic, each.partition) for each in messages})
        async with through.transaction():
            if name is not None and producer is not None:
                await notes.write(through, name, producer.sequence)
            offsets, ends = await send(through, messages, timestamp_ms)
        for place, end in ends.items():
            self._client.has_published(place, end)
        return offsets

    async def _sender(self, name: str | None) -> _Sender:
        key = name or ""
        if key not in self._senders:
            producer = await started(self._client, self._own if name is None else f"streamflow.{name}")
            sequence = -1 if name is None else await self._client.note(name, -1)
            self._senders[key] = _Sender(producer, sequence)
        return self._senders[key]

    async def _forget(self, name: str | None) -> None:
        sender = self._senders.pop(name or "", None)
        if sender is not None:
            await sender.producer.stop()


async def _know(through: AIOKafkaProducer, places: Collection[tuple[str, int]]) -> None:
    """Partitions that are there, but may have been added since the producer has last asked."""
    for topic, partition in places:
        while partition not in await through.partitions_for(topic):
            await through.client.force_metadata_update()


async def started(client: KafkaClient, transactional_id: str) -> AIOKafkaProducer:
    """A transactional producer. What another one with this id had begun is ended by now, and what it does from now on
    is refused."""
    producer = AIOKafkaProducer(
        **client.options,
        transactional_id=transactional_id,
        # aiokafka compresses with LZ4 at level 9, which takes five times as long and leaves more.
        compression_type="zstd",
        max_request_size=REQUEST_BYTES_MAX,
        max_batch_size=_BATCH_BYTES,
        linger_ms=_LINGER_MS,
    )
    await producer.start()
    return producer


async def send(
    through: AIOKafkaProducer, messages: Sequence[Messages], timestamp_ms: int
) -> tuple[list[int], dict[TopicPartition, int]]:
    """In the producer's transaction, which is under way: Kafka's offset of the first of each `Messages`, and that after
    the last of each partition."""
    # Batches made here cost a tenth of what aiokafka takes for messages one by one.
    with collecting_later():
        made = batches(through, messages, timestamp_ms)
    sent = [await through.send_batch(each.builder, each.topic, partition=each.partition) for each in made]
    found = await asyncio.gather(*sent, return_exceptions=True)
    offsets = [0] * len(messages)
    ends: dict[TopicPartition, int] = {}
    for batch, metadata in zip(made, found, strict=True):
        if isinstance(metadata, BaseException):
            raise metadata
        for index, nth in batch.firsts.items():
            offsets[index] = metadata.offset + nth
        ends[TopicPartition(batch.topic, batch.partition)] = metadata.offset + batch.builder.record_count()
    return offsets, ends


def batches(through: AIOKafkaProducer, messages: Sequence[Messages], timestamp_ms: int) -> list[Batch]:
    """Those of one partition in order."""
    made: list[Batch] = []
    open_: dict[tuple[str, int], Batch] = {}
    for index, each in enumerate(messages):
        place = each.topic, each.partition
        batch, begun = open_.get(place), False
        for key, value, headers in zip(each.keys, each.values, each.headers, strict=True):
            message = {"timestamp": timestamp_ms, "key": key, "value": value, "headers": headers}
            if batch is None or batch.builder.append(**message) is None:
                batch = open_[place] = Batch(*place, through.create_batch())
                made.append(batch)
                batch.builder.append(**message)  # an empty one takes any
            if not begun:
                batch.firsts[index], begun = batch.builder.record_count() - 1, True
    for batch in made:
        batch.builder.close()
    return made
