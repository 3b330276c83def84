"""What is said to Kafka about topics, and reading what is committed: coroutines of one event loop."""

import asyncio
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidPartitionsError,
    KafkaTimeoutError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)

from streamflow.base.errors import ConflictError, StreamFlowError
from streamflow.model.time import MIN_US
from streamflow.topics import rules
from streamflow.topics.kafka import notes
from streamflow.topics.kafka.connection import PATIENCE_S, Address, patiently
from streamflow.topics.kafka.messages import Received, fitting
from streamflow.topics.kafka.notes import Notes
from streamflow.topics.kafka.unwrapped import collecting_later, unwrap
from streamflow.topics.protocol import TopicConfig, TopicInfo

_REPLICATION = 3
"""Of new topics, where there are as many brokers."""
FETCH_MESSAGES_MAX = 10_000
_POLL_MS = 10
_FETCH_WAIT_MS = 20
_FETCH_BYTES = 4 << 20
"""Compressed. aiokafka asks for more only when it has given all away."""
_VISIBLE_AGAIN_S = 0.002
_WAIT_S, _WAITS_MAX = 0.1, 300
_ASKED_MAX = 10
"""Times that one of several brokers, each time another, is asked for a topic before it is believed not to exist: a new
one is not known to all of them at once."""
_RETENTION = "retention.ms"
_COMPACTED = {
    "cleanup.policy": "compact",
    # Only what is not in the newest segment is compacted, and by default that is a gigabyte or a week.
    "segment.bytes": str(64 << 20),
    "segment.ms": str(3600 * 1000),
    "min.cleanable.dirty.ratio": "0.2",
}
"""Who begins reads all of it."""
_SET_ON_TOPIC = 1
"""Where a topic's setting comes from: itself, not the broker or Kafka's defaults."""
_VISIBLE_S = 10.0
"""What this process has committed is visible a moment later; not if somebody has deleted the topic meanwhile."""

_published: dict[tuple[tuple[str, ...], TopicPartition], int] = {}
"""Kafka's offset after the last message that this process has published, by servers: so that who has published sees
it, as in every other log."""


class KafkaClient:
    """Call `start` first. Its coroutines may run at the same time."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.options = address.client_options()
        self.replication = address.replication or 0
        self._brokers = 1
        self.admin = AIOKafkaAdminClient(**self.options)
        reading = {**self.options, "isolation_level": "read_committed", "enable_auto_commit": False}
        # It never reads beyond what it knows to be there, so there is nothing to wait for at the end.
        self._consumer = AIOKafkaConsumer(
            **reading,
            auto_offset_reset="none",
            fetch_max_wait_ms=_FETCH_WAIT_MS,
            max_partition_fetch_bytes=_FETCH_BYTES,
        )
        # Reads nothing: a broker answers what a connection asks one by one, and a fetch may wait for half a second.
        self._asker = AIOKafkaConsumer(**reading)
        self.notes = self.make_notes(notes.TOPIC)
        self._reading = asyncio.Lock()
        self._noting = asyncio.Lock()
        self._next: tuple[TopicPartition, int] | None = None
        """What is to be read next: first what is left here, then what the consumer gives."""
        self._left: list[Received] = []

    def make_notes(self, topic: str) -> Notes:
        """Of a topic of notes, to be started."""
        reading = {**self.options, "isolation_level": "read_committed", "enable_auto_commit": False}
        return Notes(AIOKafkaConsumer(**reading, auto_offset_reset="earliest"), topic, self.ends_of)

    async def start(self) -> None:
        try:
            await self.admin.start()
            await self._consumer.start()
            unwrap(self._consumer)
            await self._asker.start()
            self._brokers = len((await self.admin.describe_cluster())["brokers"])
            if self.address.replication is None:
                self.replication = min(_REPLICATION, self._brokers)
            await self.notes.start(self.admin, self.replication)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        for closing in (self._consumer.stop(), self._asker.stop(), self.notes.close(), self.admin.close()):
            # aiokafka cancels what waits for a broker that has gone, and may say so here.
            with suppress(asyncio.CancelledError):
                await closing

    async def note(self, name: str, default: Any) -> Any:
        """The newest value committed under a name."""
        async with self._noting:
            return (await self.notes.refresh()).get(name, default)

    async def all_notes(self) -> Mapping[str, Any]:
        """Name → newest value committed."""
        async with self._noting:
            return dict(await self.notes.refresh())

    async def notes_of(self, topic: str) -> list[str]:
        """The names of what is noted of a topic."""
        async with self._noting:
            known = await self.notes.refresh()
        own = (f"internal/{topic}", f"watermark/{topic}")
        return [name for name in known if name in own or name.startswith(f"sequence/{topic}/")]

    async def create_topic(self, name: str, config: TopicConfig, *, compacted: bool = False) -> bool:
        """False if it exists already, however it is configured. `compacted`: keeps the newest message of each key."""
        # Internal logs are trimmed by their readers, not by time.
        kept = {_RETENTION: "-1" if config.internal else str(round(config.retention_s * 1000))}
        kept |= _COMPACTED if compacted else {}
        # What is confirmed survives the loss of a broker.
        kept |= {"min.insync.replicas": "2"} if self.replication > 2 else {}
        topic = NewTopic(name, config.partitions, self.replication, topic_configs=kept)
        answer = await self.admin.create_topics([topic])
        for _, code, message, *_ in answer.topic_errors:
            if code == TopicAlreadyExistsError.errno:
                # Perhaps made by another at this moment, and not known everywhere yet.
                await self._until(name, partitions=None)
                return False
            if code:
                raise for_code(code)(message)
        await self._until(name, partitions=config.partitions)
        return True

    async def delete_topic(self, name: str) -> None:
        async with self._reading:
            self._consumer.unsubscribe()
            self._next, self._left = None, []
        answer = await self.admin.delete_topics([name])
        for _, code, *_ in answer.topic_error_codes:
            if code:
                raise for_code(code)(name)
        await self._until(name, partitions=0)
        for key in [key for key in _published if key[1].topic == name]:
            del _published[key]

    async def add_partitions(self, name: str, partitions: int) -> None:
        """So that there are so many in all."""
        try:
            await self.admin.create_partitions({name: NewPartitions(partitions)})
        except InvalidPartitionsError as error:
            raise ConflictError(f"topic '{name}' can't have {partitions} partitions: {error}") from error
        await self._until(name, partitions=partitions)

    async def keep_for(self, name: str, seconds: float) -> None:
        """Let the topic keep its messages so long, if it does not."""
        if (await self.topic(name)).config.retention_s < seconds:
            await self.set_retention(name, seconds)

    async def set_retention(self, name: str, retention_s: float) -> None:
        # The request replaces all that was set on the topic, so that has to be said again.
        (answer,) = await self.admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
        _, _, _, _, entries = answer.resources[0]
        own = {entry[0]: entry[1] for entry in entries if entry[3] == _SET_ON_TOPIC}
        wanted = {**own, _RETENTION: str(round(retention_s * 1000))}
        (answer,) = await self.admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, wanted)])
        for code, message, *_ in answer.resources:
            if code:
                raise for_code(code)(message)
        for _ in range(_WAITS_MAX):
            if (await self.topic(name)).config.retention_s == retention_s:
                return
            await asyncio.sleep(_WAIT_S)

    async def names(self) -> list[str]:
        """Of all topics but Kafka's own."""
        return sorted(name for name in await self.admin.list_topics() if not name.startswith("__"))

    async def has_subscriptions(self) -> bool:
        """Whether anybody has ever made one."""
        return notes.SUBSCRIPTIONS in await self.admin.list_topics()

    async def partitions(self, name: str) -> int:
        """NotFoundError (with the closest names) if there is no such topic."""
        for again in range(_ASKED_MAX if self._brokers > 1 else 1):
            await asyncio.sleep(_WAIT_S if again else 0)
            found = (await patiently(lambda: self.admin.describe_topics([name])))[0]
            if found["error_code"] != UnknownTopicOrPartitionError.errno and found["partitions"]:
                break
        else:
            raise rules.unknown("topic", name, await self.names())
        if found["error_code"]:
            raise for_code(found["error_code"])(name)
        return len(found["partitions"])

    async def topic(self, name: str) -> TopicInfo:
        """NotFoundError as `partitions`."""
        partitions = await self.partitions(name)
        kept_ms = await self._kept_ms(name)
        internal = bool(await self.note(f"internal/{name}", False))
        retention_s = float("inf") if kept_ms < 0 else kept_ms / 1000
        watermark_us = await self.note(f"watermark/{name}", MIN_US)
        return TopicInfo(name, TopicConfig(partitions, retention_s, internal), watermark_us)

    async def _kept_ms(self, name: str) -> int:
        resource = ConfigResource(ConfigResourceType.TOPIC, name, {_RETENTION: ""})
        for _ in range(_WAITS_MAX):
            (answer,) = await self.admin.describe_configs([resource])
            _, _, _, _, entries = answer.resources[0]
            for entry in entries:
                if entry[0] == _RETENTION:
                    return int(entry[1])
            await asyncio.sleep(_WAIT_S)  # it may be too new for the broker that was asked
        raise StreamFlowError(f"Kafka does not tell how long topic '{name}' is kept. Look at its log")

    async def bounds(self, place: TopicPartition) -> tuple[int, int]:
        """Kafka's offsets of the first message kept, and after the last one committed."""
        return (await self.bounds_of([place]))[place]

    async def bounds_of(self, places: Collection[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        begins, ends = await asyncio.gather(
            patiently(lambda: self._asker.beginning_offsets(places)), self.ends_of(places)
        )
        return {place: (begins[place], ends[place]) for place in places}

    async def ends_of(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """Kafka's offsets after the last message committed; all that this process has published is before them."""
        until_s = time.monotonic() + _VISIBLE_S
        while True:
            ends: dict[TopicPartition, int] = await patiently(lambda: self._asker.end_offsets(places))
            behind = [place for place in places if ends[place] < _published.get((self.address.servers, place), 0)]
            if not behind:
                return ends
            if time.monotonic() > until_s:
                for place in behind:
                    _published.pop((self.address.servers, place), None)
            await asyncio.sleep(_VISIBLE_AGAIN_S)

    def has_published(self, place: TopicPartition, end: int) -> None:
        """Up to Kafka's offset `end`, committed."""
        key = self.address.servers, place
        _published[key] = max(end, _published.get(key, 0))

    async def offset_at(self, place: TopicPartition, time_ms: int) -> tuple[int, int] | None:
        """(Kafka's offset, timestamp) of the first message with that timestamp or a later one; None: there is none."""
        found = (await patiently(lambda: self._asker.offsets_for_times({place: time_ms})))[place]
        if found is None:
            return None
        # Kafka may have found the mark of a transaction, which is later than the messages of the next one can be.
        first, stop = found.offset, (await self.ends_of([place]))[place]
        while messages := await self.fetch(place, first, stop, max_events=FETCH_MESSAGES_MAX, max_bytes=_FETCH_BYTES):
            for message in messages:
                if message.timestamp >= time_ms:
                    return message.offset, message.timestamp
            first = messages[-1].offset + 1
        return None

    async def group_offsets(self, group: str) -> dict[TopicPartition, OffsetAndMetadata]:
        """What a consumer group has committed."""
        return dict(await patiently(lambda: self.admin.list_consumer_group_offsets(group)))

    async def fetch(
        self, place: TopicPartition, first: int, stop: int, *, max_events: int, max_bytes: int
    ) -> list[Received]:
        """The committed messages in `[first, stop)`, Kafka's offsets: one if there is any, then what fits."""
        return (await self.fetch_on(place, first, stop, max_events=max_events, max_bytes=max_bytes))[0]

    async def fetch_on(
        self, place: TopicPartition, first: int, stop: int, *, max_events: int, max_bytes: int
    ) -> tuple[list[Received], int]:
        """The same, and where to go on: no message lies between the last one and there."""
        if first >= stop:
            return [], first
        async with self._reading:
            self._go_to(place, first)
            try:
                taken = await self._taken(place, stop, max_events, max_bytes)
                return taken, self._next[1] if self._next is not None else first
            finally:
                self._consumer.pause(place)  # or it would go on fetching

    async def _taken(self, place: TopicPartition, stop: int, max_events: int, max_bytes: int) -> list[Received]:
        taken: list[Received] = []
        patient_until_s = time.monotonic() + PATIENCE_S
        while self._next is not None and self._next[1] < stop and (max_events > 0 or not taken):
            if not self._left:
                with collecting_later():
                    got = await self._consumer.getmany(place, timeout_ms=_POLL_MS, max_records=FETCH_MESSAGES_MAX)
                self._left = got.get(place, [])
            count, events, size = fitting(self._left, stop, max_events, max_bytes, some=not taken)
            taken += self._left[:count]
            max_events, max_bytes = max_events - events, max_bytes - size
            if count < len(self._left):
                self._left = self._left[count:]
                self._next = place, self._left[0].offset
                break
            self._left = []
            before = self._next
            # Beyond the messages: also past the marks of transactions.
            self._next = place, await self._consumer.position(place)
            if self._next != before:
                patient_until_s = time.monotonic() + PATIENCE_S
            elif time.monotonic() > patient_until_s:
                raise KafkaTimeoutError(f"no answer for {PATIENCE_S:.0f} s to reading '{place.topic}'")
        return taken

    def _go_to(self, place: TopicPartition, first: int) -> None:
        if place not in self._consumer.assignment():
            self._consumer.assign([place])
        self._consumer.resume(place)
        if self._next != (place, first):
            self._consumer.seek(place, first)
            self._next, self._left = (place, first), []

    async def _until(self, name: str, *, partitions: int | None) -> None:
        """Kafka answers before all brokers know. 0 partitions: it is gone; None: it is there."""
        for _ in range(_WAITS_MAX):
            found = (await self.admin.describe_topics([name]))[0]
            known = [] if found["error_code"] else [each for each in found["partitions"] if each["leader"] >= 0]
            if len(known) == partitions or (partitions is None and known):
                return
            await asyncio.sleep(_WAIT_S)
        raise StreamFlowError(f"Kafka did not change topic '{name}' in time. Look at its log")
