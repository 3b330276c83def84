"""The memory that the state of one worker's tasks may take: who holds how much, and who must let go. Window state can;
keyed state and the rows of joins by time are kept whole, and leave the less to the others. Pure."""

from typing import Protocol

PIECES = 16
"""A sixteenth of the budget is worked on at a time. Merging takes it about three times for a moment: the parts, the
groups' places, the result."""
PIECE_BYTES_MIN = 4 << 20
"""However small the budget is: a step takes more than that anyway, and each piece costs a look at all it is cut
from."""


class Holder(Protocol):
    def let_go(self) -> None:
        """Keep nothing in memory that is durable."""


class StateMemory:
    """Not shared between threads. Sizes are those of the frames, in bytes as Polars estimates them."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.piece_bytes = max(PIECE_BYTES_MIN, bytes_max // PIECES)
        self._held: dict[Holder, int] = {}
        self._kept: dict[object, int] = {}
        self._told = bytes_max
        """The last that was told of what is kept beyond the budget."""

    def hold(self, holder: Holder, size: int) -> None:
        self._held[holder] = size

    def keep(self, keeper: object, size: int) -> None:
        """What can't be let go."""
        self._kept[keeper] = size

    def forget(self, holder: object) -> None:
        """It holds and keeps nothing any more."""
        self._held = {each: size for each, size in self._held.items() if each is not holder}
        self._kept.pop(holder, None)

    def has_room(self, size: int) -> bool:
        """May so much be taken up again? Only into the lower half of the budget: between two times that the same state
        is let go, as much must have come in anew, so that reading it back stays a small part of the work."""
        return 2 * (self._sum() + size) <= self.bytes_max

    def exceeded(self) -> bool:
        """Whether there is more than the budget, which includes the room to merge the largest, and somebody who can let
        go of something."""
        largest = max(self._held.values(), default=0)
        return largest > 0 and self._sum() + largest > self.bytes_max

    def overdrawn(self) -> int:
        """How much is kept that can't be let go, if that is more than the budget, and twice what was told before; else
        0. So whoever tells it on tells it now and then."""
        kept = sum(self._kept.values())
        if kept <= self._told or not self.bytes_max:
            return 0
        self._told = 2 * kept
        return kept

    def settle(self) -> None:
        """Make the largest let go until all is within the budget.

        Call it when everything that tasks hold is durable: after the commit of their steps."""
        while self.exceeded():
            largest = max(self._held, key=self._held.__getitem__)
            largest.let_go()
            self._held[largest] = 0

    def _sum(self) -> int:
        return sum(self._held.values()) + sum(self._kept.values())
