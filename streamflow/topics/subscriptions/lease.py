"""The lease machine: one subscription on one partition. Events in, decisions out; no I/O, no clock, no threads.

It holds sets of offsets and nothing per message, but for keys that are out and failures. What is acked is what is below
the frontier and in no set, so acks cost the same in any order. See the package's docstring for how to run one.
"""

from collections.abc import Iterable, Mapping, Sequence

from pyroaring import BitMap64

from streamflow.base.errors import ConflictError, DataError
from streamflow.topics.protocol import Backlog
from streamflow.topics.subscriptions.bitmaps import Offsets, runs, span
from streamflow.topics.subscriptions.decisions import AckId, AckStatus, DeadLetter, Pulled
from streamflow.topics.subscriptions.ledger import Ledger
from streamflow.topics.subscriptions.ordered import OrderedDelivery
from streamflow.topics.subscriptions.ordering import KeyOrder
from streamflow.topics.subscriptions.settings import SubscriptionSettings, check_ack_deadline
from streamflow.topics.subscriptions.sizes import Sizes, bytes_of, fitting

_UNBOUNDED = 1 << 62


class LeaseMachine:
    """Who holds which messages of a partition until when, and what is acked.

    Moments are microseconds UTC and are passed in with each event; they may stand still but not go back. `encoding.py`
    turns a machine to bytes and back.
    """

    def __init__(self, settings: SubscriptionSettings, sizes: Sizes, *, start: int = 0) -> None:
        """`start`: the first message that the subscription gets: the log's end when it is created."""
        self.ledger = Ledger(settings, sizes)
        self.ordered = OrderedDelivery(self.ledger, KeyOrder()) if settings.ordered else None
        self.ledger.start = self.ledger.frontier = self.ledger.end = start
        self.epoch = 0
        self.active_us = 0
        self.detached = False

    @property
    def settings(self) -> SubscriptionSettings:
        return self.ledger.settings

    def alter(self, settings: SubscriptionSettings) -> None:
        """Go on with other settings; ConflictError if they differ in what is immutable. Without a dead letter policy,
        what was to be forwarded is delivered again."""
        self.settings.check_alteration(settings)
        self.ledger.settings = settings
        self.ledger.recount()
        if settings.dead_letter is None:
            spared, self.ledger.condemned = self.ledger.condemned, BitMap64()
            self._make_ready(spared, self.active_us)

    @property
    def floor(self) -> int:
        """All before it is acked: the log need not keep it for this subscription, unless acked ones are retained."""
        opened = self.ledger.open
        return opened.min() if opened else self.ledger.frontier

    @property
    def outstanding(self) -> int:
        """Messages that are leased."""
        return len(self.ledger.leased)

    def appended(self, end: int) -> None:
        """The log has messages up to `end` now."""
        self.ledger.end = max(self.ledger.end, end)

    def trimmed(self, start: int) -> int:
        """Retention has moved the start of the log, or of what the subscription keeps; how many unacked messages are
        lost thereby. `sizes` are not asked about what was before any more."""
        gone = self.ledger.open & span(0, start)
        lost = self.ledger.trim(start)
        if self.ordered is not None:
            self.ordered.order.trim(start)
            self.ordered.drop(gone, self.active_us)
        return lost

    def unscanned(self) -> tuple[int, int]:
        """With a filter: the messages that have to be looked at (`scanned`) before they can be pulled or counted. It is
        empty without one."""
        return (self.ledger.frontier, self.ledger.end if self.settings.filter is not None else self.ledger.frontier)

    def scanned(self, end: int, matching: Iterable[int]) -> None:
        """Of the messages from `unscanned()[0]` up to `end`, these match the filter; the others are acked thereby."""
        found = BitMap64(matching)
        first, last = self.unscanned()
        if not first <= end <= last or (found and not first <= found.min() <= found.max() < end):
            raise DataError(f"scanned up to offset {end}, not within [{first}, {last}). Scan what `unscanned` says")
        self.ledger.look_at(end, found)

    def candidates(self, limit: int) -> list[int]:
        """With ordering keys: the next messages whose keys a pull has to be given; empty if none can go out."""
        return [] if self.ordered is None else self.ordered.candidates(limit)

    def pull(
        self,
        now_us: int,
        max_messages: int,
        max_bytes: int = _UNBOUNDED,
        *,
        keys: Mapping[int, str] | None = None,
        deadline_s: float | None = None,
    ) -> Pulled:
        """Lease up to so many messages, oldest first, redeliveries included; within the bounds on what is outstanding.
        At least one message is let through for a bound on bytes. `keys`: of each candidate, "" if it has none;
        candidates without an entry are not delivered. `deadline_s`: of these leases, in place of the settings'."""
        self._check_attached()
        self.expire(now_us)
        self.active_us = now_us
        ledger = self.ledger
        room = min(max_messages, self.settings.outstanding_messages_max - len(ledger.leased))
        bound = self.settings.outstanding_bytes_max
        bytes_room = max_bytes if bound is None else min(max_bytes, bound - ledger.leased_bytes)
        if room <= 0 or bytes_room <= 0:
            return Pulled((), ledger.wake_us())
        if self.ordered is None:
            ledger.look_ahead(room)
            taken = ledger.ready[:room] if room < len(ledger.ready) else ledger.ready.copy()
            if taken and bytes_room < _UNBOUNDED:
                taken &= span(0, fitting(ledger.sizes, runs(taken), bytes_room))
        else:
            taken = self.ordered.take(room, bytes_room if bytes_room < _UNBOUNDED else None, keys or {})
        if taken:
            lasting_s = self.settings.ack_deadline_s if deadline_s is None else deadline_s
            ledger.lease(taken, now_us + round(lasting_s * 1e6))
        return Pulled(self._ids(taken), ledger.wake_us())

    def ack(self, ids: Sequence[AckId], now_us: int) -> list[AckStatus]:
        """What became of each. Exactly once an id holds for all its messages or for none."""
        self._check_attached()
        self.active_us = now_us
        if self.ordered is not None:
            by_offset = sorted(range(len(ids)), key=lambda index: ids[index].start)
            found = {
                index: self.ordered.ack(self._open(ids[index]), self._held(ids[index]), now_us) for index in by_offset
            }
            return [found[index] for index in range(len(ids))]
        statuses = []
        exactly_once = self.settings.exactly_once
        ledger = self.ledger
        opened, leased, settle_one = ledger.open, ledger.leased, ledger.settle_one
        for id in ids:
            epoch, attempt, start, end = id
            if end - start == 1 and start >= 0:
                held = start in opened and epoch == self.epoch
                if held and exactly_once:
                    held = start in leased and attempt == 1 + (ledger.failures.count(start) if ledger.failures else 0)
                if held:
                    settle_one(start)
            else:
                found_open = self._held(id) if exactly_once else self._open(id)
                held = bool(found_open)
                ledger.settle(found_open)
                opened, leased = ledger.open, ledger.leased
            statuses.append(AckStatus.HELD if held else AckStatus.STALE)
        return statuses

    def modify(self, ids: Sequence[AckId], deadline_s: float, now_us: int) -> list[AckStatus]:
        """Let the leases end `deadline_s` from now, sooner or later than before; 0 is a nack. It counts for messages
        whose newest id it is and whose lease has not ended; exactly once, for all of an id or for none."""
        self._check_attached()
        check_ack_deadline(deadline_s)
        self.active_us = now_us
        statuses, changed = [], BitMap64()
        for id in ids:
            held = self._held(id)
            if deadline_s > 0 and self.ordered is not None and not self.ordered.extendable(held):
                held = BitMap64()
            changed |= held
            statuses.append(AckStatus.HELD if held else AckStatus.STALE)
        if changed and deadline_s > 0:
            self.ledger.extend(changed, now_us + round(deadline_s * 1e6))
        elif changed:
            self.ledger.deadlines.remove(changed)
            self._fail(changed, now_us)
        return statuses

    def expire(self, now_us: int) -> None:
        """End the leases and back-offs that are due; a pull does it too. It is what can bring new dead letters."""
        ledger = self.ledger
        wake_us = ledger.wake_us()
        if wake_us is None or wake_us > now_us:
            return
        due = ledger.deadlines.pop_due(now_us)
        if due:
            due &= ledger.leased
            self._fail(due, now_us)
        self._make_ready(ledger.rested(now_us), now_us)

    def dead_letters(self) -> list[DeadLetter]:
        """To be published to the dead letter topic; the same until they are `forwarded` or acked."""
        return [DeadLetter(offset, self.ledger.failures.count(offset)) for offset in self.ledger.condemned]

    def forwarded(self, offsets: Iterable[int], now_us: int) -> None:
        """These dead letters are published: they are acked here."""
        done = BitMap64(offsets) & self.ledger.condemned
        self.ledger.settle(done)
        if self.ordered is not None:
            self.ordered.drop(done, now_us)

    def backlog(self, now_us: int) -> Backlog:
        """What is not acked, leased or not: exact. With a filter, what is not scanned counts as if it matched."""
        ledger = self.ledger
        if self.detached:
            return Backlog(0, 0, 0.0)
        ahead = ledger.end - ledger.frontier
        if not ahead and not ledger.open:
            return Backlog(0, 0, 0.0)
        size = bytes_of(ledger.sizes, ledger.open) + ledger.sizes.bytes_between(ledger.frontier, ledger.end)
        age_us = now_us - ledger.sizes.published_us(self.floor)
        return Backlog(len(ledger.open) + ahead, size, max(0, age_us) / 1e6)

    def seek(self, offset: int, now_us: int) -> None:
        """What is before `offset` is acked and what is at or after it is not; all leases, failures and ids are void.
        A seek to a time goes to the first message that was published at or after it (`RecordSizes.offset_at`)."""
        self._seek(offset, BitMap64(), now_us)

    def seek_to(self, frontier: int, unacked: Offsets, now_us: int) -> None:
        """The acks of a snapshot (`encoding.decode_snapshot`), and all after it unacked. Of a snapshot that was made
        with another filter, leave those in `unacked` out that do not match."""
        self._seek(frontier, unacked, now_us)

    def detach(self) -> None:
        """Nothing is delivered any more and the backlog is gone; later events raise ConflictError. No way back."""
        self._seek(self.ledger.end, BitMap64(), self.active_us)
        self.detached = True

    def _seek(self, frontier: int, unacked: Offsets, now_us: int) -> None:
        self._check_attached()
        self.active_us = now_us
        self.epoch += 1
        ledger = self.ledger
        ledger.clear()
        ledger.look_at(min(max(frontier, ledger.start), ledger.end), unacked & span(ledger.start, ledger.end))
        if self.ordered is not None:
            self.ordered.order = KeyOrder()

    def _ids(self, taken: Offsets) -> tuple[AckId, ...]:
        ids = [
            AckId(self.epoch, 1 + failures, start, end)
            for failures, offsets in self.ledger.failures.split(taken)
            for start, end in runs(offsets)
        ]
        return tuple(sorted(ids, key=lambda id: id.start))

    def _open(self, id: AckId) -> Offsets:
        if id.epoch != self.epoch or not 0 <= id.start < id.end:
            return BitMap64()
        return self.ledger.open & span(id.start, id.end)

    def _held(self, id: AckId) -> Offsets:
        """Its messages that are leased under it; exactly once, none unless all are."""
        held = self.ledger.failures.having(id.attempt - 1, self._open(id) & self.ledger.leased)
        return held if not self.settings.exactly_once or len(held) == id.end - id.start else BitMap64()

    def _fail(self, offsets: Offsets, now_us: int) -> None:
        """Of leased messages, out of the deadlines."""
        if self.ordered is not None:
            self.ordered.fail(offsets, now_us)
            return
        for count, failed in self.ledger.fail(offsets):
            self.ledger.rest(failed, now_us, now_us + self.ledger.backoff_us(count))

    def _make_ready(self, offsets: Offsets, now_us: int) -> None:
        if self.ordered is None:
            self.ledger.ready |= offsets
        else:
            self.ordered.rested(offsets, now_us)

    def _check_attached(self) -> None:
        if self.detached:
            raise ConflictError("the subscription is detached from its topic. Make another one to go on")
