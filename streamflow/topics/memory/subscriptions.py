"""Subscriptions on a memory log: machines live as they are, under the store's lock."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from streamflow.base.clock import Clock
from streamflow.topics import rules
from streamflow.topics.memory.store import Partition, Snapshotted, Store, Subscribed, Topic
from streamflow.topics.protocol import Record, TopicLog
from streamflow.topics.reading import MessageReader, dead_letter_records
from streamflow.topics.subscriptions.encoding import NOTHING_ACKED, encode_snapshot, from_bytes, to_bytes
from streamflow.topics.subscriptions.running import Running, StoredMessage, begun
from streamflow.topics.subscriptions.settings import SubscriptionSettings, snapshot_expires_us
from streamflow.topics.subscriptions.store import (
    Look,
    SnapshotInfo,
    SubscriptionInfo,
    check_attachable,
    check_attached,
    check_new_snapshot,
    check_same,
)

T = TypeVar("T")


class MemorySubscriptions:
    """`log` is the handle whose store this shares; it reads messages for it."""

    def __init__(self, log: TopicLog, store: Store, clock: Clock) -> None:
        self._log = log
        self._store = store
        self._clock = clock

    def create_subscription(
        self, name: str, topic: str, settings: SubscriptionSettings | None = None
    ) -> SubscriptionInfo:
        rules.check_name("subscription", name)
        with self._store.changed:
            self._forget_expired()
            if name in self._store.subscriptions:
                info = self._store.subscriptions[name].info
                check_same(info, topic, settings)
                return info
            found = self._store.topic(topic)
            check_attachable(name, topic, found.info.config.internal)
            wanted = settings or SubscriptionSettings()
            self._check_dead_letter(wanted)
            now_us = self._clock.now_us()
            info = SubscriptionInfo(name, topic, wanted, now_us, now_us)
            machines = [begun(wanted, each.sizes, each.next_offset, now_us) for each in found.partitions]
            self._store.subscriptions[name] = Subscribed(info, found, machines, MessageReader(self._log, topic))
            self._store.touch()
            return info

    def subscription(self, name: str) -> SubscriptionInfo:
        with self._store.changed:
            return self._found(name).info

    def subscriptions(self, topic: str | None = None) -> list[SubscriptionInfo]:
        with self._store.changed:
            self._forget_expired()
            every = (self._store.subscriptions[name].info for name in sorted(self._store.subscriptions))
            return [info for info in every if topic in (None, info.topic)]

    def alter_subscription(self, name: str, settings: SubscriptionSettings) -> SubscriptionInfo:
        with self._store.changed:
            found = self._found(name)
            check_attached(found.info)
            found.info.settings.check_alteration(settings)
            self._check_dead_letter(settings)
            for machine in found.machines:
                machine.alter(settings)
            found.info = replace(found.info, settings=settings, active_us=self._clock.now_us())
            self._store.touch()
            return found.info

    def delete_subscription(self, name: str) -> None:
        with self._store.changed:
            self._found(name)
            del self._store.subscriptions[name]
            self._store.touch()

    def detach_subscription(self, name: str) -> None:
        with self._store.changed:
            found = self._found(name)
            if not found.info.detached:
                found.detach()
                self._store.touch()

    def create_snapshot(self, name: str, subscription: str) -> SnapshotInfo:
        rules.check_name("snapshot", name)
        with self._store.changed:
            self._forget_expired()
            check_new_snapshot(name, name in self._store.snapshots)
            found = self._found(subscription)
            check_attached(found.info)
            now_us = self._clock.now_us()
            runs = [self._running(found, partition, now_us) for partition in range(len(found.machines))]
            oldest = [each.oldest_unacked_us() for each in runs]
            expires_us = snapshot_expires_us(now_us, min((at for at in oldest if at is not None), default=None))
            info = SnapshotInfo(name, found.info.topic, subscription, now_us, expires_us)
            acks = [encode_snapshot(machine) for machine in found.machines]
            floors = [machine.floor for machine in found.machines]
            self._store.snapshots[name] = Snapshotted(info, found.topic, acks, floors)
            return info

    def snapshots(self) -> list[SnapshotInfo]:
        with self._store.changed:
            self._forget_expired()
            return [self._store.snapshots[name].info for name in sorted(self._store.snapshots)]

    def snapshot_acks(self, name: str) -> tuple[SnapshotInfo, Mapping[int, bytes]]:
        with self._store.changed:
            found = self._snapshot(name)
            return found.info, dict(enumerate(found.acks))

    def delete_snapshot(self, name: str) -> None:
        with self._store.changed:
            self._snapshot(name)
            del self._store.snapshots[name]

    def topic_schema(self, topic: str) -> str | None:
        with self._store.changed:
            return self._store.topic(topic).schema

    def set_topic_schema(self, topic: str, decide: Callable[[str | None], str]) -> None:
        with self._store.changed:
            found = self._store.topic(topic)
            found.schema = decide(found.schema)

    def partitions(self, subscription: str) -> Sequence[int]:
        with self._store.changed:
            return range(len(self._found(subscription).machines))

    def look(self, subscription: str) -> Look | None:
        """Nobody waits long for this store's lock."""
        return None

    def with_machines(
        self, subscription: str, events: Mapping[int, Callable[[Running], T]], *, durable: bool
    ) -> dict[int, T]:
        with self._store.changed:
            found = self._found(subscription)
            check_attached(found.info)
            now_us = self._clock.now_us()
            for partition in events:
                rules.check_partition(found.info.topic, partition, len(found.machines))
            with _kept_whole(found, events):
                runs = {partition: self._running(found, partition, now_us) for partition in events}
                results = {partition: event(runs[partition]) for partition, event in events.items()}
                letters = self._dead_letters(found, runs)
            wakes = bool(letters) or any(running.wakes for running in runs.values())
            self._store.append(letters, now_us)
            active_us = max(found.info.active_us, *(each.active_us for each in found.machines))
            found.info = replace(found.info, active_us=active_us)
            if wakes:
                self._store.touch()
            return results

    def ordered_on(self, topic: Topic) -> list[str]:
        """Names of subscriptions with ordering keys. Like `add_partitions`, under the store's lock."""
        self._forget_expired()
        return [each.info.name for each in self._on(topic) if each.info.settings.ordered]

    def add_partitions(self, topic: Topic, added: Sequence[Partition]) -> None:
        """Of the subscriptions and snapshots of `topic`: what was never published there is not acked."""
        now_us = self._clock.now_us()
        for each in self._on(topic):
            each.machines += [begun(each.info.settings, partition.sizes, 0, now_us) for partition in added]
        for snapshot in self._store.snapshots.values():
            if snapshot.topic is topic:
                snapshot.acks += [NOTHING_ACKED] * len(added)
                snapshot.floors += [0] * len(added)

    def messages(self, subscription: str, partition: int, offsets: Iterable[int]) -> list[StoredMessage]:
        with self._store.changed:
            found = self._found(subscription)
            return found.reader.at(partition, offsets)

    def _running(self, found: Subscribed, partition: int, now_us: int) -> Running:
        log = found.topic.partitions[partition]
        return Running(
            found.machines[partition],
            log.sizes,
            lambda offsets: found.reader.at(partition, offsets),
            now_us,
            log.next_offset,
        )

    def _dead_letters(self, found: Subscribed, runs: Mapping[int, Running]) -> list[Record]:
        """To be published with what has happened; without their topic they wait for it."""
        policy = found.info.settings.dead_letter
        if policy is None or policy.topic not in self._store.topics:
            return []
        size = len(self._store.topics[policy.topic].partitions)
        records: list[Record] = []
        for partition, running in runs.items():
            letters = running.machine.dead_letters()
            messages = found.reader.at(partition, [letter.offset for letter in letters])
            records += dead_letter_records(found.info.name, found.info.topic, letters, messages, policy.topic, size)
            running.machine.forwarded([letter.offset for letter in letters], running.now_us)
        return records

    def _on(self, topic: Topic) -> list[Subscribed]:
        every = self._store.subscriptions.values()
        return [each for each in every if each.topic is topic and not each.info.detached]

    def _found(self, name: str) -> Subscribed:
        self._forget_expired()
        found = self._store.subscriptions.get(name)
        if found is None:
            raise rules.unknown("subscription", name, self._store.subscriptions)
        if not found.info.detached and self._store.topics.get(found.info.topic) is not found.topic:
            found.detach()
        return found

    def _snapshot(self, name: str) -> Snapshotted:
        self._forget_expired()
        found = self._store.snapshots.get(name)
        if found is None:
            raise rules.unknown("snapshot", name, self._store.snapshots)
        return found

    def _check_dead_letter(self, settings: SubscriptionSettings) -> None:
        if settings.dead_letter is not None:
            self._store.topic(settings.dead_letter.topic)

    def _forget_expired(self) -> None:
        self._store.forget_expired(self._clock.now_us())


@contextmanager
def _kept_whole(found: Subscribed, partitions: Iterable[int]) -> Iterator[None]:
    """The machines of these partitions are as they were before if anything in here raises."""
    before = {partition: to_bytes(found.machines[partition]) for partition in partitions}
    try:
        yield
    except BaseException:
        for partition, state in before.items():
            sizes = found.topic.partitions[partition].sizes
            found.machines[partition] = from_bytes(state, found.info.settings, sizes)
        raise
