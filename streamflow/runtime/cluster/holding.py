"""A task that is held: its transactional producer, its place in the changelog, and its commits. Coroutines of the
handle's event loop.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from streamflow.runtime.cluster.records import (
    Changelog,
    KeptSegment,
    TaskRecord,
    fitting,
    record_message,
    segment_messages,
    tombstones,
)
from streamflow.topics import rules
from streamflow.topics.kafka import notes
from streamflow.topics.kafka.client import KafkaClient
from streamflow.topics.kafka.messages import Messages, messages
from streamflow.topics.kafka.publishing import FENCED, send, started
from streamflow.topics.protocol import StepCommit, TaskId

PATIENCE_S = 600.0
"""With a commit whose outcome is not known, while Kafka is away. The producer is opened anew until Kafka is back."""
_AGAIN_S = 0.5
_CACHE_BYTES = 64 << 20
"""What a claim has read of a task's state anyway, and its head is about to ask for."""

Last = Callable[[TopicPartition], Awaitable[int]]
"""Kafka's offset after the last message of a partition, committed or not."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a task keeps itself. `changelog`: its partition; `status`: the topic that all can see; `transactional_id`:
    of its producers; `epoch`: of the claim before its first one."""

    task: TaskId
    topic: str
    changelog: TopicPartition
    status: str
    epoch: int

    @property
    def transactional_id(self) -> str:
        return f"streamflow.task.{self.task}"


@dataclass
class Held:
    """`bytes_max`: of a message; `unread`: payloads of segments that the claim has come by."""

    place: Place
    client: KafkaClient
    last: Last
    producer: AIOKafkaProducer
    bytes_max: int
    record: TaskRecord = field(default_factory=TaskRecord)
    segments: dict[int, KeptSegment] = field(default_factory=dict)
    unread: dict[int, bytes] = field(default_factory=dict)

    async def close(self) -> None:
        # aiokafka cancels what waits for a broker that has gone, and may say so here.
        with suppress(KafkaError, OSError, asyncio.CancelledError):
            await self.producer.stop()

    async def payload(self, sequence: int) -> bytes:
        if (known := self.unread.pop(sequence, None)) is not None:
            return known
        kept = self.segments[sequence]
        stop = kept.first + kept.pieces
        pieces = await self.client.fetch(self.place.changelog, kept.first, stop, max_events=1 << 62, max_bytes=1 << 62)
        return b"".join(piece.value or b"" for piece in pieces)

    async def commit(self, commit: StepCommit, now_ms: Callable[[], int]) -> bool:
        """False if the task has another owner, and nothing of the commit was applied."""
        rules.check_forward(self.place.task, self.record.offset, commit.offset)
        kept = self.segments.keys() - set(commit.segments_drop)
        rules.check_new_segments(self.place.task, kept, [segment.info.sequence for segment in commit.segments_add])
        record = replace(
            self.record,
            commit=self.record.commit + 1,
            offset=commit.offset,
            watermark_us=commit.watermark_us,
            hold_us=commit.hold_us,
            counters=dict(commit.counters),
        )
        return await self.apply(record, commit, now_ms)

    async def apply(self, record: TaskRecord, commit: StepCommit | None, now_ms: Callable[[], int]) -> bool:
        """The record, and what the commit has besides, in one transaction that is tried until its outcome is known."""
        until_s = time.monotonic() + PATIENCE_S
        added, sent = self._messages(record, commit)
        while True:
            try:
                async with self.producer.transaction():
                    offsets, _ = await send(self.producer, sent, now_ms())
                    await self._tell(record)
            except FENCED:
                return False
            except (KafkaError, OSError, asyncio.CancelledError) as error:
                retriable = not isinstance(error, KafkaError) or error.retriable
                if not retriable or time.monotonic() > until_s:
                    raise
            else:
                self._applied(record, commit, dict(zip(added, offsets, strict=False)))
                return True
            found = await self._reopened(until_s)
            if found.record.moment == record.moment:
                self.record, self.segments = record, found.segments
                return True
            if found.record.moment != self.record.moment:
                return False

    def _messages(self, record: TaskRecord, commit: StepCommit | None) -> tuple[list[int], list[Messages]]:
        """All messages; first those of the segments that are added, whose sequences are given too."""
        topic, partition = self.place.changelog.topic, self.place.changelog.partition
        if commit is None:
            return [], [record_message(topic, partition, record)]
        added = [segment.info.sequence for segment in commit.segments_add]
        sent = [segment_messages(topic, partition, segment, self.bytes_max) for segment in commit.segments_add]
        gone = [each for each in commit.segments_drop if each in self.segments and each not in added]
        sent += [tombstones(topic, partition, each, self.segments[each].pieces) for each in gone]
        for output in commit.outputs:
            sent += map(messages, fitting(output, self.bytes_max))
        return added, [*sent, record_message(topic, partition, record)]

    async def _tell(self, record: TaskRecord) -> None:
        name = f"{self.place.task.stage}/{self.place.task.partition}"
        await notes.write(self.producer, name, record.builtins, self.place.status)

    def _applied(self, record: TaskRecord, commit: StepCommit | None, firsts: Mapping[int, int]) -> None:
        self.record = record
        if commit is None:
            return
        for sequence in commit.segments_drop:
            self.segments.pop(sequence, None)
            self.unread.pop(sequence, None)
        for segment in commit.segments_add:
            pieces = max(1, -(-len(segment.payload) // self.bytes_max))
            self.segments[segment.info.sequence] = KeptSegment(segment.info, firsts[segment.info.sequence], pieces)

    async def _reopened(self, until_s: float) -> Changelog:
        """What the changelog says once it is decided what became of the transaction."""
        while True:
            try:
                await self.close()
                self.producer = await started(self.client, self.place.transactional_id)
                return (await changelog(self.client, self.last, self.place.changelog))[0]
            except (KafkaError, OSError, asyncio.CancelledError):
                if time.monotonic() > until_s:
                    raise
                await asyncio.sleep(_AGAIN_S)


async def claimed(
    client: KafkaClient, last: Last, place: Place, owner: str, bytes_max: int, now_ms: Callable[[], int]
) -> Held | None:
    """Take the task over from whoever has it. None if another was quicker."""
    producer = await started(client, place.transactional_id)
    held = Held(place, client, last, producer, bytes_max)
    try:
        found, held.unread = await changelog(client, last, place.changelog)
        held.record, held.segments = found.record, found.segments
        mine = replace(
            held.record, epoch=max(place.epoch, held.record.epoch) + 1, commit=held.record.commit + 1, owner=owner
        )
        if await held.apply(mine, None, now_ms):
            return held
    except BaseException:
        await held.close()
        raise
    await held.close()
    return None


async def changelog(client: KafkaClient, last: Last, place: TopicPartition) -> tuple[Changelog, dict[int, bytes]]:
    """All that is committed, and payloads of segments as far as they are few. Only for who has just opened the
    producer of the only task that writes there: else something may be under way."""
    begin, _ = await client.bounds(place)
    end = await last(place)
    found, payloads, size = Changelog(), dict[int, list[bytes]](), 0
    while begin < end:
        got, begin = await client.fetch_on(place, begin, end, max_events=1 << 62, max_bytes=_CACHE_BYTES)
        found.take(got)
        for message in got:
            if message.key and message.key.startswith(b"segment/") and message.value and size < _CACHE_BYTES:
                payloads.setdefault(int(message.key.split(b"/")[1]), []).append(message.value)
                size += len(message.value)
    whole = {
        sequence: b"".join(pieces)
        for sequence, pieces in payloads.items()
        if sequence in found.segments and len(pieces) == found.segments[sequence].pieces
    }
    return found, whole
