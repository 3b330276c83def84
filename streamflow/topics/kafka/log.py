"""The handle on Kafka's topics, in the words of every log. aiokafka does the talking, in a loop of its own thread."""

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from aiokafka import TopicPartition

from streamflow.base.clock import Clock, SystemClock
from streamflow.base.errors import ConflictError
from streamflow.topics import rules
from streamflow.topics.kafka.backlogs import Counted
from streamflow.topics.kafka.client import KafkaClient
from streamflow.topics.kafka.connection import Address, LoopThread, parse, real_reason
from streamflow.topics.kafka.messages import SPAN, events_in, messages, records
from streamflow.topics.kafka.publishing import Senders
from streamflow.topics.kafka.subscriptions import KafkaSubscriptions
from streamflow.topics.kafka.unwrapped import collecting_later
from streamflow.topics.partition import KeyHash, murmur2
from streamflow.topics.protocol import Backlog, Producer, Record, TopicConfig, TopicInfo

_LOOK_S = 0.05
RECORD_BYTES_MAX = 900_000
"""Kafka takes messages of up to 1 MiB unless it is told otherwise."""


class KafkaLog:
    """`url`: see `connection.parse`. Threads may share a handle. `clock` decides times of publication and ages.

    StreamFlowError if Kafka can't be reached, or refuses the credentials."""

    key_hash: KeyHash = staticmethod(murmur2)
    record_bytes_max = RECORD_BYTES_MAX
    offset_span = SPAN

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._address = address = parse(url)
        self.url = address.url
        self._lock = threading.Lock()
        self._subscriptions: KafkaSubscriptions | None = None
        self._seen: tuple[int, Mapping[TopicPartition, int]] | None = None
        self._clock = clock or SystemClock()
        self._loop = LoopThread()
        try:
            self._client = self._loop.run(_started(address))
        except BaseException:
            self._loop.close()
            raise
        self._senders = Senders(self._client)
        self._counted: dict[TopicPartition, Counted] = {}
        self._after: dict[tuple[TopicPartition, int], int] = {}
        """Where readers that go on from the end of what they got find the next message, in Kafka's offsets."""

    def create_topic(self, name: str, config: TopicConfig | None = None) -> TopicInfo:
        wanted = config or TopicConfig()
        rules.check_config(name, wanted)
        return self._loop.run(self._create_topic(name, config, wanted))

    async def _create_topic(self, name: str, config: TopicConfig | None, wanted: TopicConfig) -> TopicInfo:
        if await self._client.create_topic(name, wanted):
            if wanted.internal:
                await self._senders.note(f"internal/{name}", True)
        else:
            rules.check_same_partitions(name, await self._client.partitions(name), config)
        return await self._client.topic(name)

    def topic(self, name: str) -> TopicInfo:
        return self._loop.run(self._client.topic(name))

    def topics(self) -> list[TopicInfo]:
        return self._loop.run(self._topics())

    async def _topics(self) -> list[TopicInfo]:
        return [await self._client.topic(name) for name in await self._client.names()]

    def delete_topic(self, name: str) -> None:
        self._loop.run(self._delete_topic(name))
        if self._subscriptions is not None or self._loop.run(self._client.has_subscriptions()):
            self.subscriptions.topic_deleted(name)

    async def _delete_topic(self, name: str) -> None:
        await self._client.partitions(name)
        await self._client.delete_topic(name)
        self._counted = {place: counted for place, counted in self._counted.items() if place.topic != name}
        self._after = {key: after for key, after in self._after.items() if key[0].topic != name}
        await self._senders.forget(name)

    def alter_topic(self, name: str, retention_s: float) -> TopicInfo:
        return self._loop.run(self._alter_topic(name, retention_s))

    async def _alter_topic(self, name: str, retention_s: float) -> TopicInfo:
        config = (await self._client.topic(name)).config
        rules.check_alterable(name, config.internal)
        rules.check_config(name, replace(config, retention_s=retention_s))
        await self._client.set_retention(name, retention_s)
        return await self._client.topic(name)

    def add_partitions(self, name: str, partitions: int) -> TopicInfo:
        return self._loop.run(self._add_partitions(name, partitions))

    async def _add_partitions(self, name: str, partitions: int) -> TopicInfo:
        config = (await self._client.topic(name)).config
        rules.check_alterable(name, config.internal)
        # Who reads it, Kafka does not know.
        rules.check_more_partitions(name, config.partitions, partitions, pipelines=(), ordered=())
        if config.partitions < partitions:
            await self._client.add_partitions(name, partitions)
        return await self._client.topic(name)

    def publish(self, records: Sequence[Record], producer: Producer | None = None) -> list[int]:
        if not records:
            return []
        rules.check_records(records)
        return self._loop.run(self._publish(records, producer))

    async def _publish(self, records: Sequence[Record], producer: Producer | None) -> list[int]:
        for topic in {record.topic for record in records}:
            partitions = await self._client.partitions(topic)
            for record in records:
                if record.topic == topic:
                    rules.check_partition(topic, record.partition, partitions)
        with collecting_later():
            sent = [messages(record) for record in records]
        offsets = await self._senders.publish(sent, self._clock.now_us() // 1000, records[0].topic, producer)
        return [] if offsets is None else [offset * SPAN for offset in offsets]

    def last_sequence(self, topic: str, producer: str) -> int:
        known = self._senders.known_sequence(topic, producer)
        return self._loop.run(self._client.note(f"sequence/{topic}/{producer}", -1)) if known is None else known

    def advance_watermark(self, topic: str, watermark_us: int) -> None:
        self._loop.run(self._advance_watermark(topic, watermark_us))

    async def _advance_watermark(self, topic: str, watermark_us: int) -> None:
        if watermark_us > (await self._client.topic(topic)).watermark_us:
            await self._senders.note(f"watermark/{topic}", watermark_us)

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
        return self._loop.run(self._read(topic, partition, offset, end, max_events, max_bytes))

    async def _read(
        self, topic: str, partition: int, offset: int, end: int | None, max_events: int, max_bytes: int
    ) -> list[Record]:
        place = await self._place(topic, partition)
        begin, stop = await self._client.bounds(place)
        if end is not None:
            stop = min(stop, -(-end // SPAN))
        first = max(begin, self._after.get((place, offset), offset // SPAN))
        taken, position = await self._client.fetch_on(place, first, stop, max_events=max_events, max_bytes=max_bytes)
        if taken and taken[0].offset * SPAN + events_in(taken[0]) <= offset:
            # The message in which the offset lies ends before it.
            first += 1
            taken, position = await self._client.fetch_on(
                place, first, stop, max_events=max_events, max_bytes=max_bytes
            )
        with collecting_later():
            found = list(records(topic, partition, taken, RECORD_BYTES_MAX))
        if found:
            self._after[place, found[-1].end] = position
            self._after.pop((place, offset), None)
        return found

    def after(self, topic: str, partition: int, offset: int) -> int:
        # Known to who has just read, and asked once.
        return self._after.pop((TopicPartition(topic, partition), offset), -(-offset // SPAN)) * SPAN

    def end(self, topic: str, partition: int) -> int:
        return self._loop.run(self._end(topic, partition))

    async def _end(self, topic: str, partition: int) -> int:
        _, stop = await self._client.bounds(await self._place(topic, partition))
        return stop * SPAN

    def backlog(self, topic: str, partition: int, offset: int) -> Backlog:
        return self._loop.run(self._backlog(topic, partition, offset))

    async def _backlog(self, topic: str, partition: int, offset: int) -> Backlog:
        place = await self._place(topic, partition)
        begin, stop = await self._client.bounds(place)
        first = max(begin, -(-offset // SPAN))
        counted = self._counted.setdefault(place, Counted(first, first))
        await counted.move(
            first,
            stop,
            lambda first, stop, size: self._client.fetch(place, first, stop, max_events=1 << 62, max_bytes=size),
        )
        if not counted.pieces:
            return Backlog(0, 0, 0.0)
        age_us = self._clock.now_us() - counted.pieces[0].published_ms * 1000
        events = sum(piece.events for piece in counted.pieces)
        return Backlog(events, sum(piece.bytes for piece in counted.pieces), max(0, age_us) / 1e6)

    async def _place(self, topic: str, partition: int) -> TopicPartition:
        rules.check_partition(topic, partition, await self._client.partitions(topic))
        return TopicPartition(topic, partition)

    @property
    def subscriptions(self) -> KafkaSubscriptions:
        """Made when it is first asked for; shared by all handles of the process on the same Kafka."""
        with self._lock:
            if self._subscriptions is None:
                self._subscriptions = KafkaSubscriptions(self._address, self._clock)
            return self._subscriptions

    def wait_changed(self, timeout_s: float) -> bool:
        """See `SubscribedLog`: asks for the ends of the partitions that this process holds for subscriptions."""
        shared = self.subscriptions.shared
        until_s = time.monotonic() + timeout_s
        while True:
            version, ends = shared.version, shared.ends()
            if (version, ends) != self._seen:
                self._seen = version, ends
                return True
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return False
            with shared.changed:
                if shared.version == version:
                    shared.changed.wait(min(_LOOK_S, left_s))

    def prune(self) -> int:
        """Kafka does it by itself, by the `retention.ms` of each topic."""
        return 0

    def close(self) -> None:
        if self._subscriptions is not None:
            self._subscriptions.close()
            self._subscriptions = None
        with suppress(ConflictError):
            self._loop.run(self._close())
        self._loop.close()

    async def _close(self) -> None:
        await self._senders.close()
        await self._client.close()


async def _started(address: Address) -> KafkaClient:
    # Made where it runs: aiokafka's clients belong to the loop in which they are made.
    client = KafkaClient(address)
    with real_reason():
        await client.start()
    return client
