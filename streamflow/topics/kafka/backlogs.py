"""Exact backlogs: Kafka knows how many messages there are at most, not how many events they hold.

What was counted once is kept in pieces, so that a later question only has to look at what is new, and at the piece in
which its offset lies.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from streamflow.topics.kafka.messages import Received, events_in

PIECE_MESSAGES = 1_000
_READ_BYTES = 16 << 20

Fetch = Callable[[int, int, int], Awaitable[Sequence[Received]]]
"""(first, stop, max_bytes): the committed messages in `[first, stop)`, at least one if there is any."""


@dataclass(slots=True)
class Piece:
    """Messages of a partition from Kafka's offset `first` to `last`; `published_ms` of the first one."""

    first: int
    last: int
    published_ms: int
    messages: int = 0
    events: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Counted:
    """What has been counted of a partition: the messages in `[begin, end)`."""

    begin: int
    end: int
    pieces: list[Piece] = field(default_factory=list)

    async def move(self, begin: int, end: int, fetch: Fetch) -> None:
        """Count what is in `[begin, end)`, no more and no less."""
        if begin < self.begin or begin > self.end:
            self.begin = self.end = begin
            self.pieces = []
        while self.pieces and self.pieces[0].last < begin:
            self.pieces.pop(0)
        if self.pieces and self.pieces[0].first < begin:
            cut = self.pieces.pop(0)
            self.pieces[:0] = await _counted(begin, cut.last + 1, fetch)
        self.pieces += await _counted(self.end, end, fetch)
        self.begin, self.end = begin, max(self.end, end)


async def _counted(first: int, stop: int, fetch: Fetch) -> list[Piece]:
    pieces: list[Piece] = []
    while first < stop and (messages := await fetch(first, stop, _READ_BYTES)):
        for message in messages:
            if not pieces or pieces[-1].messages >= PIECE_MESSAGES:
                pieces.append(Piece(message.offset, message.offset, message.timestamp))
            piece = pieces[-1]
            piece.last = message.offset
            piece.messages += 1
            piece.events += events_in(message)
            piece.bytes += len(message.value or b"")
        first = messages[-1].offset + 1
    return pieces
