"""Ordering keys: which messages of one key are out, and which have to wait. Pure; knows no time and no leases.

A key is held as long as one of its messages is delivered and not acked: these are its *batch*. What follows with the
same key waits. The batch is acked in order only: an ack that comes before an earlier message's is *early*. It counts
when that one is acked; when that one is redelivered it is forgotten, and all later ones of the batch are redelivered.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pyroaring import BitMap64

from streamflow.topics.subscriptions.bitmaps import Offsets

WAITING_MAX = 1_000_000
"""Messages that were looked at and wait for their key; more are not looked for."""


@dataclass(slots=True)
class KeyBatch:
    """`batch`: delivered and not acked, in order. `resume_us`: not to be redelivered before."""

    key: str
    batch: list[int]
    early: set[int] = field(default_factory=set)
    waiting: Offsets = field(default_factory=BitMap64)
    resume_us: int = 0


class KeyOrder:
    """The keys of which messages are out; its size depends on these alone."""

    def __init__(self, batches: Iterable[KeyBatch] = ()) -> None:
        self._of_key = {batch.key: batch for batch in batches}
        self._of_offset = {offset: batch for batch in self._of_key.values() for offset in batch.batch}
        self._waiting = sum(len(batch.waiting) for batch in self._of_key.values())

    def batches(self) -> Iterator[KeyBatch]:
        return iter(self._of_key.values())

    def of(self, offset: int) -> KeyBatch | None:
        """The batch that a delivered message is in; None if it has no key or is not out."""
        return self._of_offset.get(offset)

    @property
    def delivered(self) -> int:
        """Messages that are in a batch."""
        return len(self._of_offset)

    @property
    def full(self) -> bool:
        return self._waiting >= WAITING_MAX

    def is_held(self, key: str) -> bool:
        """Whether messages of the key are out."""
        return key in self._of_key

    def wait(self, offset: int, key: str) -> None:
        """The message is passed over until its key, which is held, is free."""
        self._of_key[key].waiting.add(offset)
        self._waiting += 1

    def admit(self, offset: int, key: str) -> None:
        """The next message of a key that is free, or that the same pull has opened, goes out."""
        batch = self._of_key.setdefault(key, KeyBatch(key, []))
        batch.batch.append(offset)
        self._of_offset[offset] = batch

    def acked(self, batch: KeyBatch, offset: int) -> list[int]:
        """The messages whose ack counts now that this one is done: none if an earlier one is not."""
        batch.early.add(offset)
        return self._settled(batch)

    def later(self, batch: KeyBatch, offset: int) -> list[int]:
        """What is redelivered with that message; their early acks are forgotten."""
        later = batch.batch[batch.batch.index(offset) + 1 :]
        batch.early.difference_update(later)
        return later

    def drop(self, offset: int) -> list[int]:
        """It leaves its batch without an ack, wherever it stands; the messages whose early acks count thereby."""
        batch = self._of_offset.pop(offset)
        batch.batch.remove(offset)
        batch.early.discard(offset)
        return self._settled(batch)

    def _settled(self, batch: KeyBatch) -> list[int]:
        count = 0
        while count < len(batch.batch) and batch.batch[count] in batch.early:
            count += 1
        done = batch.batch[:count]
        del batch.batch[:count]
        batch.early.difference_update(done)
        for gone in done:
            del self._of_offset[gone]
        return done

    def release(self, batch: KeyBatch) -> Offsets:
        """What waited for a key whose batch is empty: it can be looked at again."""
        del self._of_key[batch.key]
        self._waiting -= len(batch.waiting)
        return batch.waiting

    def trim(self, start: int) -> None:
        """Forget what waits before `start`."""
        for batch in self._of_key.values():
            batch.waiting.remove_range(0, start)
        self._waiting = sum(len(batch.waiting) for batch in self._of_key.values())
