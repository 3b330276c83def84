"""Subscriptions on Kafka: each is a consumer group. What they are stands in notes, what is acked in its commits.

A seek is a note, too: whoever holds a partition, or takes it over, applies it before anything else.
"""

import asyncio
import secrets
from base64 import b85decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from aiokafka import TopicPartition
from msgspec.structs import replace

from streamflow.base.clock import Clock
from streamflow.base.errors import NotFoundError
from streamflow.topics import rules
from streamflow.topics.kafka.connection import Address
from streamflow.topics.kafka.messages import SPAN
from streamflow.topics.kafka.shared import Shared, attach, release
from streamflow.topics.kafka.subscription_notes import Known, SnapshotNote, SubscriptionNote, Target, encoded
from streamflow.topics.subscriptions.encoding import encode_snapshot
from streamflow.topics.subscriptions.running import ACTIVITY_US, Running, StoredMessage
from streamflow.topics.subscriptions.settings import SNAPSHOT_LIFETIME_S, SubscriptionSettings, snapshot_expires_us
from streamflow.topics.subscriptions.store import (
    Look,
    Seek,
    SnapshotInfo,
    SubscriptionInfo,
    check_attachable,
    check_attached,
    check_new_snapshot,
    check_same,
)

T = TypeVar("T")


class KafkaSubscriptions:
    """`SubscriptionStore` of a handle."""

    def __init__(self, address: Address, clock: Clock) -> None:
        self.shared: Shared = attach(address)
        self._clock = clock

    def close(self) -> None:
        release(self.shared)

    def create_subscription(
        self, name: str, topic: str, settings: SubscriptionSettings | None = None
    ) -> SubscriptionInfo:
        rules.check_name("subscription", name)
        existing = self._known().find(name)
        if existing is not None:
            check_same(existing.info(name), topic, settings)
            return existing.info(name)
        run, client = self.shared.loop.run, self.shared.client
        info = run(client.topic(topic))
        check_attachable(name, topic, info.config.internal)
        wanted = settings or SubscriptionSettings()
        self._check_dead_letter(wanted)
        run(client.keep_for(topic, wanted.retention_s))
        places = _places(topic, range(info.config.partitions))
        ends = run(client.ends_of(places))
        now_us = self._clock.now_us()
        starts = [ends[place] for place in places]
        note = SubscriptionNote(secrets.token_hex(4), topic, wanted, now_us, now_us, starts)

        def decide(known: Known) -> SubscriptionInfo:
            meanwhile = known.find(name)
            if meanwhile is not None:
                check_same(meanwhile.info(name), topic, settings)
                return meanwhile.info(name)
            known.set_subscription(name, note)
            return note.info(name)

        return self._change(decide)

    def subscription(self, name: str) -> SubscriptionInfo:
        return self._known().subscription(name).info(name)

    def subscriptions(self, topic: str | None = None) -> list[SubscriptionInfo]:
        every = (note.info(name) for name, note in self._known().subscriptions())
        return [info for info in every if topic in (None, info.topic)]

    def alter_subscription(self, name: str, settings: SubscriptionSettings) -> SubscriptionInfo:
        note, _ = self._attached(name)
        self._check_dead_letter(settings)
        self.shared.loop.run(self.shared.client.keep_for(note.topic, settings.retention_s))

        def decide(known: Known) -> SubscriptionInfo:
            note = known.subscription(name)
            check_attached(note.info(name))
            note.settings.check_alteration(settings)
            altered = replace(note, settings=settings, active_us=self._clock.now_us())
            known.set_subscription(name, altered)
            return altered.info(name)

        return self._change(decide)

    def delete_subscription(self, name: str) -> None:
        def decide(known: Known) -> None:
            known.subscription(name)
            known.set_subscription(name, None)

        self._change(decide)
        self.shared.forget(name)

    def detach_subscription(self, name: str) -> None:
        self._change(
            lambda known: known.set_subscription(name, replace(known.subscription(name), detached=True, targets={}))
        )
        self.shared.forget(name)

    def topic_deleted(self, topic: str) -> None:
        """Its subscriptions are detached."""
        self._change(lambda known: known.forget_topic(topic))
        for name, note in self._known().subscriptions():
            if note.detached:
                self.shared.forget(name)

    def create_snapshot(self, name: str, subscription: str) -> SnapshotInfo:
        rules.check_name("snapshot", name)
        note, partitions = self._attached(subscription)

        def look(running: Running) -> tuple[bytes, int | None]:
            return encode_snapshot(running.machine), running.oldest_unacked_us()

        check_new_snapshot(name, name in self._known().snapshots())
        found = self.with_machines(subscription, dict.fromkeys(partitions, look), durable=False)
        now_us = self._clock.now_us()
        oldest = [at_us for _, at_us in found.values() if at_us is not None]
        expires_us = snapshot_expires_us(now_us, min(oldest, default=None))
        acks = [encoded(found[partition][0]) for partition in partitions]
        snapshot = SnapshotNote(note.topic, subscription, now_us, expires_us, acks)
        self.shared.loop.run(self.shared.client.keep_for(note.topic, SNAPSHOT_LIFETIME_S))

        def decide(known: Known) -> SnapshotInfo:
            check_new_snapshot(name, name in known.snapshots())
            known.set_snapshot(name, snapshot)
            return snapshot.info(name)

        return self._change(decide)

    def snapshots(self) -> list[SnapshotInfo]:
        return [note.info(name) for name, note in self._known().snapshots().items()]

    def snapshot_acks(self, name: str) -> tuple[SnapshotInfo, Mapping[int, bytes]]:
        note = self._known().snapshot(name)
        return note.info(name), dict(enumerate(map(b85decode, note.acks)))

    def delete_snapshot(self, name: str) -> None:
        def decide(known: Known) -> None:
            known.snapshot(name)
            known.set_snapshot(name, None)

        self._change(decide)

    def topic_schema(self, topic: str) -> str | None:
        self.shared.loop.run(self.shared.client.partitions(topic))
        return self._known().schema(topic)

    def set_topic_schema(self, topic: str, decide: Callable[[str | None], str]) -> None:
        self.shared.loop.run(self.shared.client.partitions(topic))
        self._change(lambda known: known.set_schema(topic, decide(known.schema(topic))))

    def partitions(self, subscription: str) -> Sequence[int]:
        return self._attached(subscription)[1]

    def held(self, subscription: str, *, join: bool) -> Sequence[int]:
        holder = self.shared.joined(subscription)
        if holder is None:
            holder = self.shared.holder(subscription, self._attached(subscription)[0])
        return sorted(holder.held(join=join))

    def seek(self, subscription: str, to: Seek) -> None:
        note, partitions = self._attached(subscription)
        if to.acks is None:
            targets = {str(partition): self._target(note.topic, partition, to.time_us) for partition in partitions}
        else:
            targets = {str(partition): Target(acks=encoded(acks)) for partition, acks in to.acks.items()}

        def decide(known: Known) -> None:
            note = known.subscription(subscription)
            check_attached(note.info(subscription))
            now_us = self._clock.now_us()
            known.set_subscription(subscription, replace(note, seek=note.seek + 1, targets=targets, active_us=now_us))

        self._change(decide)

    def look(self, subscription: str) -> Look | None:
        """A pull asks Kafka for no more than this would."""
        return None

    def with_machines(
        self, subscription: str, events: Mapping[int, Callable[[Running], T]], *, durable: bool
    ) -> dict[int, T]:
        note, partitions = self._attached(subscription)
        for partition in events:
            rules.check_partition(note.topic, partition, len(partitions))
        holder = self.shared.holder(subscription, note)
        results, runs = holder.run(note, events, durable=durable, now_us=self._clock.now_us())
        active_us = max((each.machine.active_us for each in runs.values()), default=0)
        if active_us - note.active_us >= ACTIVITY_US:
            self._note_activity(subscription, active_us, holder.floors(), note.seek)
        if any(each.wakes for each in runs.values()):
            self.shared.touch()
        return results

    def messages(self, subscription: str, partition: int, offsets: Iterable[int]) -> list[StoredMessage]:
        holder = self.shared.joined(subscription)
        if holder is None:
            holder = self.shared.holder(subscription, self._attached(subscription)[0])
        return holder.messages(partition, offsets)

    def _target(self, topic: str, partition: int, time_us: int) -> Target:
        """Now, not when it is applied: what is published until then is after it."""
        run, client = self.shared.loop.run, self.shared.client
        place = TopicPartition(topic, partition)
        begin, end = run(client.bounds_of([place]))[place]
        found = run(client.offset_at(place, max(0, -(-time_us // 1000))))
        return Target(max(begin, end if found is None else found[0]) * SPAN)

    def _note_activity(self, name: str, active_us: int, floors: Mapping[int, int], seek: int) -> None:
        """With what is acked: Kafka forgets what a group has committed if it is not used for some days."""

        def decide(known: Known) -> None:
            note = known.subscription(name)
            starts = [floors.get(partition, start) for partition, start in enumerate(note.starts)]
            at_hand = note.seek == seek and len(floors) == len(starts)
            kept = (starts, seek) if at_hand else (note.starts, note.starts_seek)
            known.set_subscription(name, replace(note, active_us=active_us, starts=kept[0], starts_seek=kept[1]))

        self._change(decide)

    def _known(self) -> Known:
        return self.shared.loop.run(self.shared.notes.known(self._clock.now_us()))

    def _change(self, decide: Callable[[Known], T]) -> T:
        result = self.shared.loop.run(self.shared.notes.change(self._clock.now_us(), decide))
        self.shared.touch()
        return result

    def _attached(self, name: str) -> tuple[SubscriptionNote, Sequence[int]]:
        """With the partitions of its topic."""
        return self.shared.loop.run(self._ask_attached(name))

    async def _ask_attached(self, name: str) -> tuple[SubscriptionNote, Sequence[int]]:
        holder = self.shared.joined(name)
        asking = self.shared.notes.known(self._clock.now_us())
        if holder is None:
            known, count = await asking, 0
        else:
            known, count = await asyncio.gather(asking, self._count(holder.topic))
        note = known.subscription(name)
        check_attached(note.info(name))
        if holder is None or holder.id != note.id:
            count = await self._count(note.topic)
        # Without partitions, somebody has deleted the topic with Kafka's own tools.
        check_attached(replace(note, detached=not count).info(name))
        return note, range(count)

    async def _count(self, topic: str) -> int:
        """Of the topic's partitions; 0 if it is not there."""
        try:
            return await self.shared.client.partitions(topic)
        except NotFoundError:
            return 0

    def _check_dead_letter(self, settings: SubscriptionSettings) -> None:
        if settings.dead_letter is not None:
            self.shared.loop.run(self.shared.client.partitions(settings.dead_letter.topic))


def _places(topic: str, partitions: Iterable[int]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition) for partition in partitions]
