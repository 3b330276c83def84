"""Subscriptions of a folder: each event is one write transaction. No SQL here.

A handle keeps the machines it has decoded and uses one again while the version in the database is still the same.
"""

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from sqlite3 import Connection
from typing import TYPE_CHECKING, TypeVar

from streamflow.base.clock import Clock
from streamflow.topics import rules
from streamflow.topics.embedded import subscription_rows as rows
from streamflow.topics.embedded import topic_rows
from streamflow.topics.embedded.subscription_rows import ChunkIndex, Row
from streamflow.topics.embedded.truth import Truth
from streamflow.topics.reading import MessageReader, dead_letter_records
from streamflow.topics.subscriptions.encoding import NOTHING_ACKED, encode_snapshot, from_bytes, to_bytes
from streamflow.topics.subscriptions.lease import LeaseMachine
from streamflow.topics.subscriptions.running import ACTIVITY_US, Running, StoredMessage, begun
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

if TYPE_CHECKING:
    from streamflow.topics.embedded.log import EmbeddedLog

T = TypeVar("T")
READERS_MAX = 64
"""Subscriptions whose decoded records and machines a handle keeps at hand."""


class EmbeddedSubscriptions:
    """Of the folder that `log` is a handle on, in whose transactions all happens."""

    def __init__(self, log: "EmbeddedLog", truth: Truth, clock: Clock) -> None:
        # A handle that is dropped must let go of its files at once, which a cycle of references would delay.
        self._log: EmbeddedLog = weakref.proxy(log)
        self._truth = truth
        self._clock = clock
        self._lock = threading.Lock()
        self._machines: dict[tuple[int, int], tuple[int, LeaseMachine]] = {}
        self._readers: dict[int, MessageReader] = {}

    def create_subscription(
        self, name: str, topic: str, settings: SubscriptionSettings | None = None
    ) -> SubscriptionInfo:
        rules.check_name("subscription", name)
        with self._truth.transaction() as db:
            now_us = self._clock.now_us()
            rows.forget_expired(db, now_us)
            found = rows.find(db, name, now_us)
            if found is not None:
                check_same(found.info, topic, settings)
                return found.info
            of_topic = topic_rows.get(db, topic)
            check_attachable(name, topic, of_topic.config.internal)
            wanted = settings or SubscriptionSettings()
            _check_dead_letter(db, wanted)
            info = SubscriptionInfo(name, topic, wanted, now_us, now_us)
            topic_id = rows.topic_id(db, topic)
            row = Row(rows.insert(db, info, topic_id), topic_id, info)
            for partition in range(of_topic.config.partitions):
                self._begin(db, row, partition)
            return info

    def subscription(self, name: str) -> SubscriptionInfo:
        with self._truth.view() as db:
            return self._get(db, name).info

    def subscriptions(self, topic: str | None = None) -> list[SubscriptionInfo]:
        with self._truth.view() as db:
            every = rows.listed(db, self._clock.now_us())
        return [row.info for row in every if topic in (None, row.info.topic)]

    def alter_subscription(self, name: str, settings: SubscriptionSettings) -> SubscriptionInfo:
        with self._truth.transaction() as db:
            row = self._attached(db, name)
            _check_dead_letter(db, settings)
            row.info.settings.check_alteration(settings)
            for partition in self._partitions(db, row):
                version, machine = self._machine(db, row, partition)
                machine.alter(settings)
                rows.store(db, row, partition, version + 1, machine.floor, to_bytes(machine))
            rows.change(db, row, settings, self._clock.now_us())
            return self._get(db, name).info

    def delete_subscription(self, name: str) -> None:
        with self._truth.transaction() as db:
            rows.delete(db, self._get(db, name))

    def detach_subscription(self, name: str) -> None:
        with self._truth.transaction() as db:
            rows.detach(db, self._get(db, name))

    def create_snapshot(self, name: str, subscription: str) -> SnapshotInfo:
        rules.check_name("snapshot", name)
        with self._truth.transaction() as db:
            now_us = self._clock.now_us()
            rows.forget_expired(db, now_us)
            check_new_snapshot(name, any(name == each.name for each in rows.snapshots(db, now_us)))
            row = self._attached(db, subscription)
            acks, oldest = {}, []
            for partition in self._partitions(db, row):
                _, machine = self._machine(db, row, partition)
                running = self._running(db, row, partition, machine, now_us)
                acks[partition] = (machine.floor, encode_snapshot(machine))
                oldest.append(running.oldest_unacked_us())
            expires_us = snapshot_expires_us(now_us, min((at for at in oldest if at is not None), default=None))
            info = SnapshotInfo(name, row.info.topic, subscription, now_us, expires_us)
            assert row.topic_id is not None
            rows.insert_snapshot(db, info, row.topic_id, acks)
            return info

    def snapshots(self) -> list[SnapshotInfo]:
        with self._truth.view() as db:
            return rows.snapshots(db, self._clock.now_us())

    def snapshot_acks(self, name: str) -> tuple[SnapshotInfo, Mapping[int, bytes]]:
        with self._truth.view() as db:
            return rows.snapshot(db, name, self._clock.now_us()), rows.snapshot_acks(db, name)

    def delete_snapshot(self, name: str) -> None:
        with self._truth.transaction() as db:
            rows.snapshot(db, name, self._clock.now_us())
            rows.delete_snapshot(db, name)

    def topic_schema(self, topic: str) -> str | None:
        with self._truth.view() as db:
            topic_rows.get(db, topic)
            return rows.schema(db, topic)

    def set_topic_schema(self, topic: str, decide: Callable[[str | None], str]) -> None:
        with self._truth.transaction(quiet=True) as db:
            topic_rows.get(db, topic)
            rows.set_schema(db, topic, decide(rows.schema(db, topic)))

    def partitions(self, subscription: str) -> Sequence[int]:
        with self._truth.view() as db:
            return self._partitions(db, self._attached(db, subscription))

    def look(self, subscription: str) -> Look | None:
        now_us = self._clock.now_us()
        with self._truth.view() as db:
            row = self._attached(db, subscription)
            if now_us - row.info.active_us >= ACTIVITY_US:
                return None
            return Look((row.id, rows.versions(db, row)), now_us)

    def with_machines(
        self, subscription: str, events: Mapping[int, Callable[[Running], T]], *, durable: bool
    ) -> dict[int, T]:
        with self._truth.view() as db:
            forwards = self._get(db, subscription).info.settings.dead_letter is not None
        wakes = False
        results: dict[int, T] = {}
        with self._log.appending() if forwards else nullcontext(), self._taken(durable) as (db, kept):
            row = self._attached(db, subscription)
            now_us = self._clock.now_us()
            active_us = row.info.active_us
            for partition, event in events.items():
                rules.check_partition(row.info.topic, partition, len(self._partitions(db, row)))
                version, machine = self._machine(db, row, partition)
                running = self._running(db, row, partition, machine, now_us)
                results[partition] = event(running)
                wakes |= (forwards and self._forward(db, row, partition, running)) or running.wakes
                if running.changed:
                    version += 1
                    rows.store(db, row, partition, version, machine.floor, to_bytes(machine))
                active_us = max(active_us, machine.active_us)
                kept[row.id, partition] = (version, machine)
            if active_us - row.info.active_us >= ACTIVITY_US:
                rows.change(db, row, row.info.settings, active_us)
        if wakes:
            self._truth.tell()
        return results

    def ordered_on(self, db: Connection, topic: str) -> list[str]:
        """Names of subscriptions with ordering keys."""
        return [row.info.name for row in self._on(db, topic) if row.info.settings.ordered]

    def add_partitions(self, db: Connection, topic: str, added: Sequence[int]) -> None:
        """Of the subscriptions and snapshots of `topic`: what was never published there is not acked."""
        for row in self._on(db, topic):
            for partition in added:
                self._begin(db, row, partition)
        rows.extend_snapshots(db, topic, added, NOTHING_ACKED)

    def messages(self, subscription: str, partition: int, offsets: Iterable[int]) -> list[StoredMessage]:
        with self._truth.view() as db:
            row = self._attached(db, subscription)
        return self._reader(row).at(partition, offsets)

    @contextmanager
    def _taken(self, durable: bool) -> Iterator[tuple[Connection, dict[tuple[int, int], tuple[int, LeaseMachine]]]]:
        """A transaction, and where to put the machines that are as it leaves them: at hand only if it is committed."""
        kept: dict[tuple[int, int], tuple[int, LeaseMachine]] = {}
        with self._truth.transaction(quiet=True, durable=durable) as db:
            yield db, kept
        with self._lock:
            for place, (version, machine) in kept.items():
                self._machines[place] = (version, machine)

    def _machine(self, db: Connection, row: Row, partition: int) -> tuple[int, LeaseMachine]:
        """(version, machine), not at hand any more: what happens to it may be undone."""
        version = rows.version(db, row, partition)
        with self._lock:
            at_hand = self._machines.pop((row.id, partition), None)
        if at_hand is not None and at_hand[0] == version and at_hand[1].settings == row.info.settings:
            return at_hand
        assert row.topic_id is not None
        index = ChunkIndex(db, row.topic_id, partition)
        return version, from_bytes(rows.state(db, row, partition), row.info.settings, index)

    def _begin(self, db: Connection, row: Row, partition: int) -> None:
        assert row.topic_id is not None
        index = ChunkIndex(db, row.topic_id, partition)
        machine = begun(row.info.settings, index, index.end(), self._clock.now_us())
        rows.store(db, row, partition, 0, machine.floor, to_bytes(machine))

    def _on(self, db: Connection, topic: str) -> list[Row]:
        """Those that are attached to it."""
        every = rows.listed(db, self._clock.now_us())
        return [row for row in every if row.info.topic == topic and row.topic_id is not None]

    def _running(self, db: Connection, row: Row, partition: int, machine: LeaseMachine, now_us: int) -> Running:
        assert row.topic_id is not None
        index = ChunkIndex(db, row.topic_id, partition)
        reader = self._reader(row)
        return Running(machine, index, lambda offsets: reader.at(partition, offsets), now_us, index.end())

    def _forward(self, db: Connection, row: Row, partition: int, running: Running) -> bool:
        """Publish dead letters in this transaction; without their topic they wait for it."""
        policy = row.info.settings.dead_letter
        letters = running.machine.dead_letters()
        if policy is None or not letters:
            return False
        target = topic_rows.find(db, policy.topic)
        if target is None:
            return False
        messages = self._reader(row).at(partition, [letter.offset for letter in letters])
        records = dead_letter_records(
            row.info.name, row.info.topic, letters, messages, policy.topic, target.config.partitions
        )
        self._log.append_within(db, records)
        running.machine.forwarded([letter.offset for letter in letters], running.now_us)
        running.changed = True
        return True

    def _reader(self, row: Row) -> MessageReader:
        with self._lock:
            found = self._readers.get(row.id)
            if found is None:
                while len(self._readers) >= READERS_MAX:
                    gone = next(iter(self._readers))
                    del self._readers[gone]
                    self._machines = {place: each for place, each in self._machines.items() if place[0] != gone}
                found = self._readers[row.id] = MessageReader(self._log, row.info.topic)
            return found

    def _get(self, db: Connection, name: str) -> Row:
        return rows.get(db, name, self._clock.now_us())

    def _attached(self, db: Connection, name: str) -> Row:
        row = self._get(db, name)
        check_attached(row.info)
        return row

    def _partitions(self, db: Connection, row: Row) -> Sequence[int]:
        assert row.topic_id is not None
        return range(rows.partitions(db, row.topic_id))


def _check_dead_letter(db: Connection, settings: SubscriptionSettings) -> None:
    if settings.dead_letter is not None:
        topic_rows.get(db, settings.dead_letter.topic)
