"""What the lease machine is told and answers, as data."""

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class AckId(NamedTuple):
    """Offsets `[start, end)` as they were handed out together, and the id by which they are acked, extended or nacked.

    `attempt`: 1 + the nacks and expiries before this delivery; with `epoch`, which each seek raises, it tells an older
    delivery of the same message from the newest one. Any part may be used alone (`one`).
    """

    epoch: int
    attempt: int
    start: int
    end: int

    def one(self, offset: int) -> "AckId":
        """Of a single message of the range."""
        return AckId(self.epoch, self.attempt, offset, offset + 1)


class AckStatus(Enum):
    """What became of an id in `ack` or `modify`. At least once: HELD if it changed anything; nobody needs to know."""

    HELD = "held"
    STALE = "stale"
    """Not the newest id of all its messages, or its lease has ended; nothing was changed. It will not hold later."""
    OUT_OF_ORDER = "out of order"
    """Exactly once: earlier messages of the same key are not acked yet. Ack these first, then this again."""


@dataclass(frozen=True, slots=True)
class Pulled:
    """`deliveries` in offset order. `wake_us`: when a lease or a back-off ends next, None if there is none: pull again
    then, or when something was appended or acked."""

    deliveries: tuple[AckId, ...]
    wake_us: int | None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message to be published to the dead letter topic, with its offset and attempts; then it is `forwarded`."""

    offset: int
    attempts: int
