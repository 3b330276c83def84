"""A machine while its lock is held, with its partition's messages at hand: what events are written against. No storage.

It looks up what the machine has to be told (attributes for the filter, ordering keys) and notes whether there is
anything to store, and whether others who wait for messages should look again.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from streamflow.topics.protocol import Backlog
from streamflow.topics.subscriptions.bitmaps import Offsets
from streamflow.topics.subscriptions.decisions import AckId, AckStatus, Pulled
from streamflow.topics.subscriptions.encoding import decode_snapshot
from streamflow.topics.subscriptions.filter import Filter, parse
from streamflow.topics.subscriptions.lease import LeaseMachine
from streamflow.topics.subscriptions.settings import SubscriptionSettings
from streamflow.topics.subscriptions.sizes import Sizes

SCAN_STEP = 1_000
SCAN_MAX = 20_000
"""Messages that one pull matches with the filter at most: bounds how long it holds the lock."""
ACTIVITY_US = 600 * 1_000_000
"""Activity is stored at most this often where nothing else changes: it decides about days."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message as the log has it; times are microseconds UTC. `ordering_key` is "" if it has none."""

    partition: int
    offset: int
    data: bytes
    attributes: Mapping[str, str]
    ordering_key: str
    published_us: int
    time_us: int


class RecordIndex(Sizes, Protocol):
    """Sizes and times of a partition's kept records."""

    def offset_at(self, time_us: int) -> int:
        """The first kept message published at or after that time; the log's end if there is none."""


def begun(settings: SubscriptionSettings, sizes: Sizes, end: int, now_us: int) -> LeaseMachine:
    """The machine of a new subscription, whose partition ends at `end`: it gets what follows, but can be sought back
    to what was there before."""
    machine = LeaseMachine(settings, sizes)
    machine.appended(end)
    machine.seek(end, now_us)
    return machine


class Running:
    """`machine`, up to date at `now_us`. `changed`: there is something to store. `wakes`: others may find more now."""

    def __init__(
        self,
        machine: LeaseMachine,
        index: RecordIndex,
        read: Callable[[Iterable[int]], list[StoredMessage]],
        now_us: int,
        end: int,
    ) -> None:
        self.machine = machine
        self.now_us = now_us
        self.changed = self.wakes = False
        self._index = index
        self._read = read
        self._filter: Filter | None = None if machine.settings.filter is None else parse(machine.settings.filter)
        machine.appended(end)
        machine.trimmed(self.retention_start)

    @property
    def retention_start(self) -> int:
        """The first message that the log has and that is younger than the subscription's retention."""
        return self._index.offset_at(self.now_us - round(self.machine.settings.retention_s * 1e6))

    def pull(self, max_messages: int, max_bytes: int = 1 << 62, deadline_s: float | None = None) -> Pulled:
        """As the machine's; `wake_us` is now if there is more to look through than one pull does."""
        machine = self.machine
        active_us = machine.active_us
        more = self._scan(max_messages, SCAN_MAX)
        keys: dict[int, str] = {}
        while True:
            candidates = machine.candidates(max_messages)
            keys.update((each.offset, each.ordering_key) for each in self._read(candidates))
            pulled = machine.pull(self.now_us, max_messages, max_bytes, keys=keys, deadline_s=deadline_s)
            if pulled.deliveries or not any(offset in keys for offset in candidates):
                break
            if candidates == machine.candidates(max_messages):
                break
        self.changed |= bool(pulled.deliveries) or more or self.now_us - active_us >= ACTIVITY_US
        return Pulled(pulled.deliveries, self.now_us) if more and not pulled.deliveries else pulled

    def ack(self, ids: Sequence[AckId]) -> list[AckStatus]:
        self.changed = True
        settings = self.machine.settings
        bounded = settings.outstanding_bytes_max is not None
        self.wakes |= settings.ordered or bounded or self.machine.outstanding >= settings.outstanding_messages_max
        return self.machine.ack(ids, self.now_us)

    def modify(self, ids: Sequence[AckId], deadline_s: float) -> list[AckStatus]:
        """Let leases end then; 0 is a nack."""
        self.changed = True
        self.wakes |= deadline_s == 0
        return self.machine.modify(ids, deadline_s, self.now_us)

    def backlog(self) -> Backlog:
        """Exact: looks at all that was not matched with the filter yet."""
        self.changed |= self._scan(1 << 62, 1 << 62)
        return self.machine.backlog(self.now_us)

    def oldest_unacked_us(self) -> int | None:
        """When it was published."""
        floor, end = self.machine.floor, self.machine.ledger.end
        return self._index.published_us(floor) if floor < end else None

    def seek_time(self, time_us: int) -> None:
        """Published before that time: acked; after: unacked."""
        self.changed = self.wakes = True
        self.machine.seek(self._index.offset_at(time_us), self.now_us)

    def seek_to(self, acks: bytes) -> None:
        """To the acks of a snapshot (`encode_snapshot`)."""
        self.changed = self.wakes = True
        frontier, unacked = decode_snapshot(acks)
        if self._filter is not None and unacked:
            unacked &= type(unacked)(self._matching(unacked))
        self.machine.seek_to(frontier, unacked, self.now_us)

    def lost_by_time(self, time_us: int) -> int:
        """Unacked messages that `seek_time` would ack; exact, as `backlog`."""
        return self._lost(self._index.offset_at(time_us), type(self.machine.ledger.open)())

    def lost_by_acks(self, acks: bytes) -> int:
        """The same of `seek_to`."""
        return self._lost(*decode_snapshot(acks))

    def _lost(self, frontier: int, unacked: Offsets) -> int:
        self.changed |= self._scan(1 << 62, 1 << 62)
        ledger = self.machine.ledger
        seen = ledger.open.range_cardinality(0, frontier) - ledger.open.intersection_cardinality(unacked)
        return seen + max(0, min(frontier, ledger.end) - ledger.frontier)

    def _scan(self, wanted: int, at_most: int) -> bool:
        """Match with the filter until so many messages are ready; whether more are left to look at."""
        machine = self.machine
        scanned = 0
        while self._filter is not None and len(machine.ledger.ready) < wanted:
            first, last = machine.unscanned()
            if first == last or scanned >= at_most:
                return first < last
            end = min(first + SCAN_STEP, last)
            machine.scanned(end, self._matching(range(first, end)))
            scanned += end - first
            self.changed = True
        return False

    def _matching(self, offsets: Iterable[int]) -> list[int]:
        wanted = self._filter
        assert wanted is not None
        return [each.offset for each in self._read(offsets) if wanted.matches(each.attributes)]
