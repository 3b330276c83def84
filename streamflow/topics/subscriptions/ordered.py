"""Delivery in the order of keys: what `ordering.py` says of keys, applied to the ledger. Pure.

A batch goes out again as a whole, when none of its messages is leased or condemned. At least once, a failure takes the
leases of the later messages of its key away at once; exactly once they run out first, as no message may be out twice.
"""

from collections.abc import Iterable, Mapping
from itertools import islice

from pyroaring import BitMap64

from streamflow.topics.subscriptions.bitmaps import Offsets
from streamflow.topics.subscriptions.decisions import AckStatus
from streamflow.topics.subscriptions.ledger import Ledger
from streamflow.topics.subscriptions.ordering import KeyBatch, KeyOrder


class OrderedDelivery:
    """The part of a lease machine that only ordered subscriptions have. `order`: which keys are out."""

    def __init__(self, ledger: Ledger, order: KeyOrder) -> None:
        self.ledger = ledger
        self.order = order

    def candidates(self, limit: int) -> list[int]:
        """The next messages whose keys are not known."""
        if self.order.full:
            return []
        self.ledger.look_ahead(limit + self.order.delivered)
        return list(islice((offset for offset in self.ledger.ready if self._known(offset) is None), limit))

    def take(self, room: int, bytes_room: int | None, keys: Mapping[int, str]) -> Offsets:
        """Up to `room` ready messages, oldest first, that their keys let out. Stops at the first without a key given:
        what follows might have the same."""
        order, sizes = self.order, self.ledger.sizes
        taken, blocked = BitMap64(), BitMap64()
        opened: set[str] = set()
        again: dict[str, KeyBatch] = {}
        for offset in self.ledger.ready:
            known = self._known(offset)
            key = keys.get(offset) if known is None else known
            if key is None or len(taken) == room:
                break
            if known is None and key not in opened and order.is_held(key):
                order.wait(offset, key)
                blocked.add(offset)
                continue
            if bytes_room is not None:
                size = sizes.bytes_between(offset, offset + 1)
                if taken and size > bytes_room:
                    break
                bytes_room -= size
            batch = order.of(offset)
            if batch is not None:
                again[key] = batch
            elif key:
                opened.add(key)
                order.admit(offset, key)
            taken.add(offset)
        self.ledger.ready -= blocked
        for batch in again.values():
            self.ledger.ready -= BitMap64(batch.batch) - taken
        return taken

    def ack(self, asked: Offsets, held: Offsets, now_us: int) -> AckStatus:
        """`asked`: the open messages of an id; `held`: those that are leased under it."""
        if not self.ledger.settings.exactly_once:
            counts = [self._ack_one(offset, now_us) for offset in asked]
            return AckStatus.HELD if any(counts) else AckStatus.STALE
        if not held:
            return AckStatus.STALE
        if not self._in_order(held):
            return AckStatus.OUT_OF_ORDER
        for offset in held:
            self._ack_one(offset, now_us)
        return AckStatus.HELD

    def extendable(self, held: Offsets) -> bool:
        """Not behind a message that has failed: it is to be redelivered after that one, so it has to come back."""
        ends: dict[str, int] = {}
        for offset in held:
            batch = self.order.of(offset)
            if batch is None:
                continue
            if batch.key not in ends:
                failed = (earlier for earlier in batch.batch if self._failed(batch, earlier))
                ends[batch.key] = next(failed, batch.batch[-1])
            if offset > ends[batch.key]:
                return False
        return True

    def fail(self, offsets: Offsets, now_us: int) -> None:
        """Leased messages, out of the deadlines, were nacked or have expired."""
        touched = {batch.key: batch for offset in offsets if (batch := self.order.of(offset))}
        first_again: dict[str, int] = {}
        for count, failed in self.ledger.fail(offsets):
            until_us = now_us + self.ledger.backoff_us(count)
            keyless = BitMap64()
            for offset in failed:
                batch = self.order.of(offset)
                if batch is None:
                    keyless.add(offset)
                else:
                    batch.resume_us = max(batch.resume_us, until_us)
                    first_again[batch.key] = min(offset, first_again.get(batch.key, offset))
            self.ledger.rest(keyless, now_us, until_us)
        for key, batch in touched.items():
            if key in first_again and not self.ledger.settings.exactly_once:
                self.ledger.revoke(BitMap64(self.order.later(batch, first_again[key])))
            self._resume(batch, now_us)

    def rested(self, offsets: Offsets, now_us: int) -> None:
        """Their back-off has ended."""
        for offset in offsets:
            batch = self.order.of(offset)
            if batch is None:
                self.ledger.ready.add(offset)
            else:
                self._resume(batch, now_us)

    def drop(self, offsets: Iterable[int], now_us: int) -> None:
        """Messages have left the ledger without an ack: forwarded, or no longer kept."""
        touched: dict[str, KeyBatch] = {}
        done = BitMap64()
        for offset in offsets:
            batch = self.order.of(offset)
            if batch is not None:
                touched[batch.key] = batch
                done.update(self.order.drop(offset))
        self.ledger.settle(done)
        for batch in touched.values():
            self._resume(batch, now_us)

    def _known(self, offset: int) -> str | None:
        """The key of a message that was delivered before: one that is in no batch has none."""
        batch = self.order.of(offset)
        if batch is not None:
            return batch.key
        return "" if self.ledger.failures.count(offset) else None

    def _ack_one(self, offset: int, now_us: int) -> bool:
        """Whether it counts, at once or early. Something that was never delivered can't be acked."""
        ledger = self.ledger
        batch = self.order.of(offset)
        if batch is None:
            delivered = offset in ledger.leased or ledger.failures.count(offset) > 0
            if delivered:
                ledger.settle_one(offset)
            return delivered
        if offset != batch.batch[0] and offset not in ledger.leased:
            return False
        done = self.order.acked(batch, offset)
        for settled in done:
            ledger.settle_one(settled)
        if done:
            self._resume(batch, now_us)
        else:
            ledger.unlease(BitMap64([offset]))
        return True

    def _in_order(self, held: Offsets) -> bool:
        seen: dict[str, int] = {}
        for offset in held:
            batch = self.order.of(offset)
            if batch is not None:
                at = seen.get(batch.key, 0)
                if batch.batch[at] != offset:
                    return False
                seen[batch.key] = at + 1
        return True

    def _failed(self, batch: KeyBatch, offset: int) -> bool:
        ledger = self.ledger
        return offset not in ledger.leased and offset not in ledger.condemned and offset not in batch.early

    def _resume(self, batch: KeyBatch, now_us: int) -> None:
        """Free the key if nothing of it is out, or make its batch ready again if all of it has come back."""
        ledger = self.ledger
        if not batch.batch:
            ledger.ready |= self.order.release(batch)
        elif not any(offset in ledger.leased or offset in ledger.condemned for offset in batch.batch):
            batch.early.clear()
            ledger.rest(BitMap64(batch.batch), now_us, batch.resume_us)
