"""The sets of a lease machine and the moves between them. Pure; knows no ids, no keys and no policy but the retry's.

Below the frontier each message is acked (in no set), or `open`, and then exactly one of: `leased`, `ready` to be
delivered, resting (in `resting`, until its back-off ends), `condemned` (to go to the dead letter topic) or, with
ordering keys, held back by its key. At and above the frontier nothing was looked at yet.
"""

from pyroaring import BitMap64

from streamflow.topics.subscriptions.bitmaps import Failures, Offsets, Timetable, span
from streamflow.topics.subscriptions.settings import SubscriptionSettings
from streamflow.topics.subscriptions.sizes import Sizes, bytes_of


class Ledger:
    """Where each message stands. `frontier`: the first one that was not looked at; `[start, end)`: what the log has."""

    def __init__(self, settings: SubscriptionSettings, sizes: Sizes, *, sparse: bool = False) -> None:
        """`sparse`: not every offset is a message, so each has to be looked at, as with a filter."""
        self.settings = settings
        self.sizes = sizes
        self.sparse = sparse
        self.start = self.frontier = self.end = 0
        self.leased_bytes = 0
        self.clear()

    def clear(self) -> None:
        """As if nothing had been looked at or delivered."""
        self.open: Offsets = BitMap64()
        self.leased: Offsets = BitMap64()
        self.ready: Offsets = BitMap64()
        self.condemned: Offsets = BitMap64()
        self.deadlines = Timetable()
        self.resting = Timetable()
        self.failures = Failures()
        self.leased_bytes = 0

    @property
    def scans(self) -> bool:
        """Whether messages have to be looked at before they can be delivered."""
        return self.sparse or self.settings.filter is not None

    def look_at(self, end: int, matching: Offsets) -> None:
        """Move the frontier to `end`: of what was passed, those that match are open and ready, the others acked."""
        self.open |= matching
        self.ready |= matching
        self.frontier = end

    def look_ahead(self, wanted: int) -> None:
        """Where each offset is a message and each matches: look at as many as to have `wanted` ready."""
        missing = wanted - len(self.ready)
        if missing > 0 and not self.scans and self.frontier < self.end:
            end = min(self.frontier + missing, self.end)
            self.look_at(end, span(self.frontier, end))

    def lease(self, offsets: Offsets, deadline_us: int) -> None:
        self.ready -= offsets
        self.leased |= offsets
        held = self.deadlines.slot(deadline_us)
        held |= offsets
        if self.settings.outstanding_bytes_max is not None:
            self.leased_bytes += bytes_of(self.sizes, offsets)

    def extend(self, offsets: Offsets, deadline_us: int) -> None:
        self.deadlines.remove(offsets)
        held = self.deadlines.slot(deadline_us)
        held |= offsets

    def unlease(self, offsets: Offsets) -> None:
        """End their leases; the deadlines may hold them on, and are masked when they are due."""
        self.leased -= offsets
        if self.settings.outstanding_bytes_max is not None:
            self.leased_bytes -= bytes_of(self.sizes, offsets)

    def revoke(self, offsets: Offsets) -> None:
        """End their leases for good, since they may be leased again before the deadlines have passed."""
        self.deadlines.remove(offsets)
        self.unlease(offsets & self.leased)

    def settle(self, offsets: Offsets) -> None:
        """They are acked."""
        self.unlease(offsets & self.leased)
        self.open -= offsets
        self.ready -= offsets
        self.condemned -= offsets
        if self.failures:
            self.failures.forget(offsets)

    def settle_one(self, offset: int) -> None:
        """The same for one open message, several times as fast."""
        self.open.discard(offset)
        if offset in self.leased:
            self.leased.discard(offset)
            if self.settings.outstanding_bytes_max is not None:
                self.leased_bytes -= self.sizes.bytes_between(offset, offset + 1)
        else:
            self.ready.discard(offset)
            self.condemned.discard(offset)
        if self.failures:
            self.failures.forget_one(offset)

    def fail(self, offsets: Offsets) -> list[tuple[int, Offsets]]:
        """A nack or expiry of leased messages, which must be out of `deadlines`: (failures, offsets) of those that are
        to be tried again, and not condemned by it."""
        self.unlease(offsets)
        again = []
        policy = self.settings.dead_letter
        for count, failed in self.failures.add(offsets):
            if policy is not None and count >= policy.attempts_max:
                self.condemned |= failed
            else:
                again.append((count, failed))
        return again

    def backoff_us(self, failures: int) -> int:
        retry = self.settings.retry
        return 0 if retry is None else retry.backoff_us(failures)

    def rest(self, offsets: Offsets, now_us: int, until_us: int) -> None:
        """Ready at `until_us`."""
        if until_us <= now_us:
            self.ready |= offsets
        else:
            held = self.resting.slot(until_us)
            held |= offsets

    def rested(self, now_us: int) -> Offsets:
        """Those whose back-off has ended, to be made ready."""
        due = self.resting.pop_due(now_us)
        return (due & self.open) - self.leased - self.condemned if due else due

    def trim(self, start: int) -> int:
        """The log begins at `start` now; how many unacked messages were lost by that."""
        if start <= self.start:
            return 0
        lost = self.open.range_cardinality(0, start) + max(0, min(start, self.end) - self.frontier)
        for offsets in (self.open, self.leased, self.ready, self.condemned):
            offsets.remove_range(0, start)
        self.failures.forget(span(0, start))
        self.start = start
        self.frontier, self.end = max(self.frontier, start), max(self.end, start)
        self.recount()
        return lost

    def recount(self) -> None:
        """`leased_bytes` anew, from the leases."""
        if self.settings.outstanding_bytes_max is not None:
            self.leased_bytes = bytes_of(self.sizes, self.leased)

    def wake_us(self) -> int | None:
        times = [time for time in (self.deadlines.soonest_us, self.resting.soonest_us) if time is not None]
        return min(times, default=None)
