"""Whole machines in a compacted topic. The group's commit, in the same transaction, says where the newest one is."""

import asyncio
from collections.abc import Sequence
from typing import Self
from zlib import crc32

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, OffsetAndMetadata, TopicPartition
from aiokafka.errors import KafkaTimeoutError

from streamflow.topics.kafka import notes
from streamflow.topics.kafka.client import KafkaClient
from streamflow.topics.kafka.committed import Committed
from streamflow.topics.kafka.connection import PATIENCE_S
from streamflow.topics.kafka.membership import group_of
from streamflow.topics.kafka.messages import Messages
from streamflow.topics.kafka.publishing import batches

TOPIC = "__streamflow.state"
PARTITIONS = 8
_TRANSACTION_MS = 10_000
"""Others wait so long for what somebody who was killed has begun, unless they take its partition over."""


async def read_state(client: KafkaClient, at: tuple[int, int]) -> bytes:
    """What a commit points to, so it is committed, whatever is unfinished before it."""
    place = TopicPartition(TOPIC, at[0])
    consumer = AIOKafkaConsumer(**client.options, enable_auto_commit=False, auto_offset_reset="none")
    await consumer.start()
    try:
        consumer.assign([place])
        consumer.seek(place, at[1])
        message = await asyncio.wait_for(consumer.getone(place), PATIENCE_S)
    except TimeoutError as error:
        raise KafkaTimeoutError(f"no answer for {PATIENCE_S:.0f} s to reading '{TOPIC}'") from error
    finally:
        await consumer.stop()
    return bytes(message.value)


class StateWriter:
    """Of one partition of a subscription: opening one fences all earlier ones, and settles what they had begun."""

    def __init__(self, client: KafkaClient, producer: AIOKafkaProducer, name: str, place: TopicPartition) -> None:
        self._client, self._producer = client, producer
        self._name, self._place = name, place
        self._key = f"{name}/{place.partition}".encode()

    @classmethod
    async def opened(cls, client: KafkaClient, name: str, id: str, place: TopicPartition) -> Self:
        await notes.create(client.admin, TOPIC, PARTITIONS, client.replication)
        producer = AIOKafkaProducer(
            **client.options,
            transactional_id=f"streamflow.sub.{name}.{id}.{place.partition}",
            transaction_timeout_ms=_TRANSACTION_MS,
            compression_type="zstd",
            max_request_size=2 * notes.BYTES_MAX,
        )
        await producer.start()
        return cls(client, producer, name, place)

    async def store(
        self, committed: Committed, state: bytes, letters: Sequence[Messages], number: int, timestamp_ms: int
    ) -> str:
        """All in one transaction; the metadata that is committed. ProducerFenced or InvalidProducerEpoch if somebody
        else has opened one."""
        producer = self._producer
        partition = crc32(self._key) % PARTITIONS
        async with producer.transaction():
            made = batches(producer, letters, timestamp_ms)
            sent = [await producer.send_batch(each.builder, each.topic, partition=each.partition) for each in made]
            stored = await producer.send_and_wait(TOPIC, state, key=self._key, partition=partition)
            metadata = msgspec.structs.replace(committed, state_at=(partition, stored.offset)).metadata()
            found = await asyncio.gather(*sent)
            offsets = {self._place: OffsetAndMetadata(number, metadata)}
            await producer.send_offsets_to_transaction(offsets, group_of(self._name))
        for batch, sent_at in zip(made, found, strict=True):
            place = TopicPartition(batch.topic, batch.partition)
            self._client.has_published(place, sent_at.offset + batch.builder.record_count())
        return metadata

    async def close(self) -> None:
        await self._producer.stop()
