"""A machine on a partition whose offsets are not all messages: it looks at each before it delivers or counts it."""

from itertools import islice

from streamflow.topics.kafka.index import MessageIndex
from streamflow.topics.kafka.messages import SPAN
from streamflow.topics.protocol import Backlog
from streamflow.topics.subscriptions.lease import LeaseMachine
from streamflow.topics.subscriptions.running import SCAN_STEP, Running
from streamflow.topics.subscriptions.sizes import bytes_of


class SparseRunning(Running):
    """`index` has Kafka's bounds already."""

    def __init__(self, machine: LeaseMachine, index: MessageIndex, now_us: int) -> None:
        self._messages = index
        super().__init__(machine, index, index.at, now_us, index.end * SPAN)

    def backlog(self) -> Backlog:
        """Exact; without a filter the machine need not look at what nobody has pulled yet."""
        machine, index = self.machine, self._messages
        if self._filter is not None:
            self._scan(1 << 62, 1 << 62)
        ledger = machine.ledger
        ahead = index.count_between(ledger.frontier, ledger.end)
        size = bytes_of(index, ledger.open) + index.bytes_between(ledger.frontier, ledger.end)
        oldest_us = self.oldest_unacked_us()
        if oldest_us is None or not ahead + len(ledger.open):
            return Backlog(0, 0, 0.0)
        return Backlog(len(ledger.open) + ahead, size, max(0, self.now_us - oldest_us) / 1e6)

    def oldest_unacked_us(self) -> int | None:
        return self._messages.first_published_us(self.machine.floor)

    def seek_offset(self, offset: int) -> None:
        """All before it acked, all after it not."""
        self.changed = self.wakes = True
        self.machine.seek(offset, self.now_us)

    def _scan(self, wanted: int, at_most: int) -> bool:
        machine = self.machine
        scanned = 0
        while len(machine.ledger.ready) < wanted:
            first, last = machine.unscanned()
            if first == last or scanned >= at_most:
                return first < last
            step = SCAN_STEP if self._filter else min(SCAN_STEP, wanted - len(machine.ledger.ready))
            found = list(islice(self._messages.events(first, last), step))
            end = found[-1] + 1 if len(found) == step else last
            machine.scanned(end, found if self._filter is None else self._matching(found))
            scanned += len(found)
        return False
