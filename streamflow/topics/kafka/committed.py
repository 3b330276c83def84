"""What a subscription stores of a partition: bytes in the metadata of its group's commit. Pure.

Either the acks themselves, or where in the state topic the whole machine is. Kafka takes 4,096 characters.
"""

from base64 import b85decode, b85encode

import msgspec

from streamflow.base.errors import CorruptionError
from streamflow.topics.kafka.index import MessageIndex
from streamflow.topics.kafka.messages import SPAN
from streamflow.topics.subscriptions.bitmaps import Offsets
from streamflow.topics.subscriptions.encoding import decode_acks, encode_acks, encode_gaps
from streamflow.topics.subscriptions.lease import LeaseMachine

METADATA_CHARACTERS_MAX = 4_000
_ACKS_BYTES_MAX = METADATA_CHARACTERS_MAX * 4 // 5 - 64
_MESSAGES_MAX = 8 * _ACKS_BYTES_MAX
"""After the first unacked one: more could not be said in a bit for each."""


class Committed(msgspec.Struct, array_like=True, frozen=True):
    """`subscription`: its id, since others may have had its name. `seek`: the last one that was applied.
    `acks` as `encode_acks`, in units of `unit` offsets; or `state_at`: (partition, offset) of the machine in the state
    topic."""

    subscription: str
    seek: int
    unit: int = 0
    acks: bytes = b""
    state_at: tuple[int, int] | None = None

    def metadata(self) -> str:
        return b85encode(msgspec.msgpack.encode(self)).decode()


def parse(metadata: str, subscription: str) -> Committed | None:
    """None for what another subscription of that name, or another client of Kafka, has committed."""
    try:
        found = msgspec.msgpack.decode(b85decode(metadata), type=Committed)
    except (ValueError, msgspec.MsgspecError):
        return None
    return found if found.subscription == subscription else None


def of_acks(machine: LeaseMachine, index: MessageIndex, subscription: str, seek: int) -> Committed:
    """The acks of a machine, those of them that fit."""
    floor, frontier = machine.floor, machine.ledger.frontier
    if not index.all_single(floor - floor % SPAN, frontier):
        return Committed(subscription, seek, 1, encode_acks(machine, _ACKS_BYTES_MAX))
    opened, gaps, begin = machine.ledger.open, [], None
    for nth, offset in enumerate(index.events(floor, frontier)):
        if nth == _MESSAGES_MAX:
            break
        if offset not in opened:
            begin = offset // SPAN if begin is None else begin
        elif begin is not None:
            gaps.append((begin, offset // SPAN))
            begin = None
    else:
        if begin is not None:
            gaps.append((begin, -(-frontier // SPAN)))
    acks = encode_gaps(next_number(floor), gaps, _ACKS_BYTES_MAX)
    return Committed(subscription, seek, SPAN, acks)


def acks_in(committed: Committed, index: MessageIndex) -> tuple[int, Offsets]:
    """(frontier, the unacked messages before it)."""
    if committed.unit not in (1, SPAN):
        raise CorruptionError("the stored acks of a subscription make no sense. Seek the subscription to go on")
    frontier, unacked = decode_acks(committed.acks)
    if not unacked:
        return frontier * committed.unit, unacked
    first, unit = unacked.min(), committed.unit
    present = index.events(first * unit, frontier * unit)
    return frontier * unit, Offsets(offset for offset in present if offset // unit in unacked)


def next_number(offset: int) -> int:
    """Kafka's offset of the message that begins at or after it: what a group commits that has acked all before."""
    return -(-offset // SPAN)
