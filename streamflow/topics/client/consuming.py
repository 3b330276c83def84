"""Using a subscription, each call one exclusive section of its store: what the async client runs in threads.

Nothing here waits, extends leases or remembers what was handed out.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial, reduce
from typing import TypeVar

from streamflow.base.errors import DataError
from streamflow.topics.protocol import Backlog
from streamflow.topics.subscriptions.decisions import AckId, AckStatus
from streamflow.topics.subscriptions.running import Running, StoredMessage
from streamflow.topics.subscriptions.store import SubscriptionInfo, SubscriptionStore, check_seek

T = TypeVar("T")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LeaseId:
    """What names a delivery: its partition and the machine's id. `str` and `parse` are how it is written."""

    partition: int
    id: AckId

    def __str__(self) -> str:
        epoch, attempt, start, end = self.id
        return f"{self.partition}.{epoch}.{attempt}.{start}.{end}"

    @classmethod
    def parse(cls, text: str) -> "LeaseId":
        """DataError if no delivery is named so."""
        try:
            partition, epoch, attempt, start, end = numbers = [*map(int, text.split("."))]
            # Ids name one message each; a range would be a way to make the machine work on what was never handed out.
            if end != start + 1 or min(numbers) < 0 or max(numbers) >= 1 << 62:
                raise ValueError
        except ValueError:
            raise DataError(f"'{text}' is no ack id. Give one that came with a message, as it was") from None
        return cls(partition, AckId(epoch, attempt, start, end))


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message and the lease on it."""

    message: StoredMessage
    lease: LeaseId


@dataclass(frozen=True, slots=True)
class Deliveries:
    """What a pull gave. `wake_us`: look again then, even if nothing changes until then; None: no need to."""

    found: Sequence[Delivery]
    wake_us: int | None


class Consumer:
    """One subscription. NotFoundError if there is none; ConflictError, in all calls, if it is detached."""

    def __init__(self, store: SubscriptionStore, subscription: str) -> None:
        self.name = subscription
        self.settings = store.subscription(subscription).settings
        self._store = store
        self._turn = 0
        self._idle: tuple[Hashable, int | None] | None = None
        """How it looked before the last pull, if that gave nothing, and its `wake_us`."""

    def pull(self, max_messages: int, max_bytes: int = 1 << 62, deadline_s: float | None = None) -> Deliveries:
        """Lease up to so many messages, the oldest of each partition first; at least one whatever its size. Another
        partition begins each time. `deadline_s`: how long, if not for the subscription's ack deadline."""
        look = self._store.look(self.name)
        if look is not None and self._idle is not None:
            state, wake_us = self._idle
            if look.state == state and (wake_us is None or look.now_us < wake_us):
                return Deliveries([], wake_us)
        partitions = self._store.partitions(self.name)
        waiting = False
        left_messages, left_bytes = max_messages, max_bytes

        def pull(running: Running) -> tuple[tuple[AckId, ...], int | None]:
            nonlocal left_messages, left_bytes, waiting
            pulled = running.pull(left_messages, left_bytes, deadline_s)
            # Dead letters may go out as soon as there is a topic for them, which no look tells.
            waiting |= bool(running.machine.ledger.condemned)
            sizes = running.machine.ledger.sizes
            for id in pulled.deliveries:
                left_messages -= id.end - id.start
                left_bytes -= sizes.bytes_between(id.start, id.end)
            return pulled.deliveries, pulled.wake_us

        self._turn += 1
        ordered = [partitions[(nth + self._turn) % len(partitions)] for nth in range(len(partitions))]
        durable = self.settings.exactly_once
        pulled = self._store.with_machines(self.name, dict.fromkeys(ordered, pull), durable=durable)
        found = [delivery for partition, (ids, _) in pulled.items() for delivery in self._deliveries(partition, ids)]
        wake_us = min((wake for _, wake in pulled.values() if wake is not None), default=None)
        bounded = max_messages <= 0 or max_bytes <= 0
        self._idle = None if found or waiting or bounded or look is None else (look.state, wake_us)
        return Deliveries(found, wake_us)

    def settle(
        self, acks: Sequence[LeaseId], modifications: Sequence[tuple[LeaseId, float]] = ()
    ) -> tuple[list[AckStatus], list[AckStatus]]:
        """Ack, and let leases end so many seconds from now (0: nack); all of it durable, in one go. What became of
        each: STALE in partitions that this client may not use (any more)."""
        of: dict[int, _Settlement] = {}
        for nth, lease in enumerate(acks):
            of.setdefault(lease.partition, _Settlement()).add_ack(nth, lease.id)
        for nth, (lease, deadline_s) in enumerate(modifications):
            of.setdefault(lease.partition, _Settlement()).add_modification(nth, lease.id, deadline_s)
        mine = set(self._store.partitions(self.name))
        events = {partition: settlement.run for partition, settlement in of.items() if partition in mine}
        durable = self.settings.exactly_once or bool(acks) or any(not deadline_s for _, deadline_s in modifications)
        self._store.with_machines(self.name, events, durable=durable)
        acked, modified = [AckStatus.STALE] * len(acks), [AckStatus.STALE] * len(modifications)
        for settlement in of.values():
            for nth, status in settlement.acked.items():
                acked[nth] = status
            for nth, status in settlement.modified.items():
                modified[nth] = status
        return acked, modified

    def ack(self, leases: Sequence[LeaseId]) -> list[AckStatus]:
        return self.settle(leases)[0]

    def modify(self, leases: Sequence[LeaseId], deadline_s: float) -> list[AckStatus]:
        return self.settle((), [(lease, deadline_s) for lease in leases])[1]

    def backlogs(self) -> dict[int, Backlog]:
        """What is not acked, by partition; exact."""
        events = dict.fromkeys(self._store.partitions(self.name), Running.backlog)
        return self._store.with_machines(self.name, events, durable=False)

    def lost_by_seek(self, to: datetime | str) -> int:
        """How many unacked messages `seek` would ack, if it came now; exact."""
        partitions = self._store.partitions(self.name)
        if isinstance(to, str):
            snapshot, acks = self._store.snapshot_acks(to)
            check_seek(self._store.subscription(self.name), snapshot)
            # Partitions that were added later have all their messages unacked.
            lost = {each: partial(Running.lost_by_acks, acks=acks[each]) for each in partitions if each in acks}
        else:
            zoned = to if to.tzinfo else to.replace(tzinfo=UTC)
            time_us = (zoned - EPOCH) // timedelta(microseconds=1)
            lost = {each: partial(Running.lost_by_time, time_us=time_us) for each in partitions}
        return sum(self._store.with_machines(self.name, lost, durable=False).values())

    def backlog(self) -> Backlog:
        """What is not acked, in all partitions that this client may use: exact."""
        return reduce(Backlog.__add__, self._all(Running.backlog, durable=False).values(), Backlog(0, 0, 0.0))

    def seek(self, to: datetime | str) -> None:
        """To a time (without a zone: UTC), or to the snapshot of that name."""
        if isinstance(to, str):
            self.seek_snapshot(to)
        else:
            zoned = to if to.tzinfo else to.replace(tzinfo=UTC)
            self.seek_time((zoned - EPOCH) // timedelta(microseconds=1))

    def seek_time(self, time_us: int) -> None:
        """What was published before is acked, the rest is not."""
        self._all(lambda running: running.seek_time(time_us))

    def seek_snapshot(self, name: str) -> None:
        """The acks of the snapshot, and all later messages unacked. DataError for one of another topic."""
        snapshot, acks = self._store.snapshot_acks(name)
        check_seek(self._store.subscription(self.name), snapshot)
        events = {partition: _seek_to(acks[partition]) for partition in self._store.partitions(self.name)}
        self._store.with_machines(self.name, events, durable=True)

    def info(self) -> SubscriptionInfo:
        return self._store.subscription(self.name)

    def _all(self, event: Callable[[Running], T], *, durable: bool = True) -> Mapping[int, T]:
        events = dict.fromkeys(self._store.partitions(self.name), event)
        return self._store.with_machines(self.name, events, durable=durable)

    def _deliveries(self, partition: int, ids: Sequence[AckId]) -> list[Delivery]:
        offsets = [offset for id in ids for offset in range(id.start, id.end)]
        messages = {each.offset: each for each in self._store.messages(self.name, partition, offsets)}
        return [
            Delivery(messages[offset], LeaseId(partition, id.one(offset)))
            for id in ids
            for offset in range(id.start, id.end)
            if offset in messages
        ]


class _Settlement:
    """What is to be done in one partition. Each entry is remembered by its place in the caller's lists."""

    def __init__(self) -> None:
        self._acks: list[AckId] = []
        self._acks_nth: list[int] = []
        self._modifications: dict[float, list[tuple[int, AckId]]] = {}
        self.acked: dict[int, AckStatus] = {}
        self.modified: dict[int, AckStatus] = {}

    def add_ack(self, nth: int, id: AckId) -> None:
        self._acks.append(id)
        self._acks_nth.append(nth)

    def add_modification(self, nth: int, id: AckId, deadline_s: float) -> None:
        self._modifications.setdefault(deadline_s, []).append((nth, id))

    def run(self, running: Running) -> None:
        if self._acks:
            self.acked = dict(zip(self._acks_nth, running.ack(self._acks), strict=True))
        for deadline_s, entries in self._modifications.items():
            statuses = running.modify([id for _, id in entries], deadline_s)
            self.modified.update(zip((nth for nth, _ in entries), statuses, strict=True))


def _seek_to(acks: bytes) -> Callable[[Running], None]:
    return lambda running: running.seek_to(acks)
