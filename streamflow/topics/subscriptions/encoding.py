"""A lease machine as bytes and back: the whole for a backend's commit, its acks alone for a snapshot or a small place.

State and snapshots are a version byte, an XXH3 checksum and MessagePack with serialized Roaring bitmaps. Acks for a
small place have a format of their own, which can be cut to any size.
"""

from typing import TypeVar

import msgspec
from pyroaring import BitMap64
from xxhash import xxh3_64_digest, xxh32_digest

from streamflow.base.errors import ConflictError, CorruptionError, DataError
from streamflow.topics.subscriptions.bitmaps import Failures, Offsets, Timetable, runs, span
from streamflow.topics.subscriptions.lease import LeaseMachine
from streamflow.topics.subscriptions.ordering import KeyBatch, KeyOrder
from streamflow.topics.subscriptions.settings import SubscriptionSettings
from streamflow.topics.subscriptions.sizes import Sizes

VERSION = 1
ACKS_BYTES_MIN = 32
"""What the prefix and the header of `encode_acks` take at most."""

_RUNS, _BITMAP = 0, 1


class _Keyed(msgspec.Struct, array_like=True):
    key: str
    batch: list[int]
    early: list[int]
    waiting: bytes
    resume_us: int


class _State(msgspec.Struct, array_like=True):
    epoch: int
    active_us: int
    detached: bool
    start: int
    frontier: int
    end: int
    open: bytes
    leased: bytes
    ready: bytes
    condemned: bytes
    deadlines: list[tuple[int, bytes]]
    resting: list[tuple[int, bytes]]
    failures: list[tuple[int, bytes]]
    keys: list[_Keyed]


class _Snapshot(msgspec.Struct, array_like=True):
    frontier: int
    unacked: bytes


_Kind = TypeVar("_Kind", _State, _Snapshot)


def to_bytes(machine: LeaseMachine) -> bytes:
    """All that the machine knows, but for its settings and sizes."""
    ledger = machine.ledger
    keys = [] if machine.ordered is None else machine.ordered.order.batches()
    resting = ledger.open - ledger.leased
    return _seal(
        _State(
            machine.epoch,
            machine.active_us,
            machine.detached,
            ledger.start,
            ledger.frontier,
            ledger.end,
            _pack(ledger.open),
            _pack(ledger.leased),
            _pack(ledger.ready),
            _pack(ledger.condemned),
            [(tick, _pack(held & ledger.leased)) for tick, held in ledger.deadlines.slots()],
            [(tick, _pack(held & resting)) for tick, held in ledger.resting.slots()],
            [(count, _pack(held)) for count, held in ledger.failures.levels()],
            [_Keyed(one.key, one.batch, sorted(one.early), _pack(one.waiting), one.resume_us) for one in keys],
        )
    )


def from_bytes(data: bytes, settings: SubscriptionSettings, sizes: Sizes) -> LeaseMachine:
    """The machine that `to_bytes` was given. CorruptionError if the bytes are not as they were written, ConflictError
    if another version wrote them."""
    state = _open(data, _State)
    machine = LeaseMachine(settings, sizes)
    machine.epoch, machine.active_us, machine.detached = state.epoch, state.active_us, state.detached
    ledger = machine.ledger
    ledger.start, ledger.frontier, ledger.end = state.start, state.frontier, state.end
    ledger.open, ledger.leased = _unpack(state.open), _unpack(state.leased)
    ledger.ready, ledger.condemned = _unpack(state.ready), _unpack(state.condemned)
    ledger.deadlines = Timetable(_unpack_all(state.deadlines))
    ledger.resting = Timetable(_unpack_all(state.resting))
    ledger.failures = Failures(_unpack_all(state.failures))
    ledger.recount()
    if machine.ordered is not None:
        machine.ordered.order = KeyOrder(
            KeyBatch(one.key, one.batch, set(one.early), _unpack(one.waiting), one.resume_us) for one in state.keys
        )
    return machine


def encode_snapshot(machine: LeaseMachine) -> bytes:
    """Which messages are acked at this moment, for `LeaseMachine.seek_to` of any subscription of the same topic."""
    return _seal(_Snapshot(machine.ledger.frontier, _pack(machine.ledger.open)))


def decode_snapshot(data: bytes) -> tuple[int, Offsets]:
    """(frontier, the unacked messages before it); errors as of `from_bytes`."""
    snapshot = _open(data, _Snapshot)
    return snapshot.frontier, _unpack(snapshot.unacked)


def encode_acks(machine: LeaseMachine, limit_bytes: int) -> bytes:
    """The acks alone in at most `limit_bytes`, 32 or more: the acked prefix whole, and of the acks above it those that
    fit, nearest first. What does not fit, and leases and failures, is forgotten: after a crash it is delivered anew.

    Above the first unacked message come either the lengths of runs, unacked and acked in turn, or a bit for each
    message, whichever takes in more acks.
    """
    if limit_bytes < ACKS_BYTES_MIN:
        raise DataError(f"acks don't fit {limit_bytes} bytes. Give {ACKS_BYTES_MIN} or more")
    floor, ledger = machine.floor, machine.ledger
    prefix = _varint(floor)
    room = limit_bytes - len(prefix) - 6
    gaps = _gaps(ledger.open, ledger.frontier, room)
    lengths, covered = bytearray(), 0
    for start, end in gaps:
        pair = _varint(start - floor - covered) + _varint(end - start)
        if len(lengths) + len(pair) > room:
            break
        lengths += pair
        covered = end - floor
    in_lengths = sum(max(0, min(end, floor + covered) - start) for start, end in gaps)
    bits = min(gaps[-1][1] - floor, 8 * room) if gaps else 0
    in_bits = sum(max(0, min(end, floor + bits) - start) for start, end in gaps)
    if (in_bits, -bits // 8) <= (in_lengths, -len(lengths)):
        return _seal_acks(prefix + bytes([_RUNS]) + bytes(lengths))
    acked = 0
    for start, end in gaps:
        if start - floor >= bits:
            break
        acked |= ((1 << min(end - start, floor + bits - start)) - 1) << (start - floor)
    return _seal_acks(prefix + bytes([_BITMAP]) + acked.to_bytes(-(-bits // 8), "little"))


def decode_acks(data: bytes) -> tuple[int, Offsets]:
    """(frontier, the unacked messages before it), for `LeaseMachine.seek_to`; errors as of `from_bytes`."""
    _check_version(data)
    if xxh32_digest(data[5:]) != data[1:5]:
        raise CorruptionError("the stored acks of a subscription fail their checksum. Seek the subscription to go on")
    floor, at = _read_varint(data, 5)
    acked, frontier = BitMap64(), floor
    if data[at] == _BITMAP:
        bits = f"{int.from_bytes(data[at + 1 :], 'little'):b}"[::-1]
        acked.update(floor + index for index, bit in enumerate(bits) if bit == "1")
        return floor + len(bits), span(floor, floor + len(bits)) - acked
    at += 1
    while at < len(data):
        unacked, at = _read_varint(data, at)
        length, at = _read_varint(data, at)
        acked.add_range(frontier + unacked, frontier + unacked + length)
        frontier += unacked + length
    return frontier, span(floor, frontier) - acked


def _gaps(opened: Offsets, frontier: int, room: int) -> list[tuple[int, int]]:
    """Acked ranges above the first unacked message; no more of them than could be of use in `room` bytes."""
    gaps: list[tuple[int, int]] = []
    before = None
    for start, end in runs(opened):
        if before is not None:
            gaps.append((before, start))
        before = end
        if len(gaps) > 8 * room:
            return gaps
    if before is not None and before < frontier:
        gaps.append((before, frontier))
    return gaps


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
    return value | data[at] << shift, at + 1


def _seal_acks(body: bytes) -> bytes:
    return bytes([VERSION]) + xxh32_digest(body) + body


def _seal(content: _State | _Snapshot) -> bytes:
    body = msgspec.msgpack.encode(content)
    return bytes([VERSION]) + xxh3_64_digest(body) + body


def _open(data: bytes, kind: type[_Kind]) -> _Kind:
    _check_version(data)
    checksum, body = data[1:9], data[9:]
    if xxh3_64_digest(body) != checksum:
        raise CorruptionError("the stored state of a subscription fails its checksum. Seek the subscription to go on")
    return msgspec.msgpack.decode(body, type=kind)


def _check_version(data: bytes) -> None:
    if not data:
        raise CorruptionError("the stored state of a subscription is empty. Seek the subscription to go on")
    if data[0] != VERSION:
        raise ConflictError(
            f"the stored state of a subscription has version {data[0]}, this build reads {VERSION}. "
            "Use the version that wrote it"
        )


def _pack(offsets: Offsets) -> bytes:
    offsets.run_optimize()
    return offsets.serialize()


def _unpack(data: bytes) -> Offsets:
    return BitMap64.deserialize(data)


def _unpack_all(slots: list[tuple[int, bytes]]) -> list[tuple[int, Offsets]]:
    return [(key, _unpack(data)) for key, data in slots]


NOTHING_ACKED = _seal(_Snapshot(0, _pack(BitMap64())))
"""`encode_snapshot` of a partition that has no message yet."""
