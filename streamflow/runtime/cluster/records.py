"""What a task keeps in Kafka, as messages and back; and outputs in pieces that Kafka takes. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics import codec
from streamflow.topics.kafka.messages import SPAN, Headers, Messages, Received
from streamflow.topics.protocol import Kind, Record, SegmentInfo, StateSegment, TaskId, TaskState

TASK_KEY = b"task"
"""In the changelog, of the task's own record."""
_SEGMENT_KEY = "segment/"
_INFO_HEADER = "info"


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as of one commit. `offset`, `watermark_us`, `hold_us`, `counters`: as in `TaskState`. `epoch`: raised by
    each claim; `commit`: how many there were; `owner`: whose it was."""

    epoch: int = 0
    commit: int = 0
    owner: str | None = None
    offset: int = 0
    watermark_us: int = MIN_US
    hold_us: int = MAX_US
    counters: Mapping[str, float] = field(default_factory=dict)

    def state(self, task: TaskId, topic: str, owner: str | None, assigned: str | None) -> TaskState:
        return TaskState(
            task, topic, self.offset, self.watermark_us, self.epoch, owner, assigned, self.counters, self.hold_us
        )

    @property
    def moment(self) -> tuple[int, int]:
        """Which of the task's commits it is."""
        return self.epoch, self.commit

    @property
    def builtins(self) -> object:
        """For JSON."""
        return msgspec.to_builtins(self)


def task_record(value: object) -> TaskRecord:
    """Of what `builtins` gave."""
    return msgspec.convert(value, TaskRecord)


@dataclass(frozen=True, slots=True)
class KeptSegment:
    """A segment in the changelog: Kafka's offset of its first piece, which the others follow, and how many there
    are."""

    info: SegmentInfo
    first: int
    pieces: int


@dataclass
class Changelog:
    """What a partition of the changelog says: each key's newest message counts."""

    record: TaskRecord = field(default_factory=TaskRecord)
    segments: dict[int, KeptSegment] = field(default_factory=dict)

    def take(self, received: Iterable[Received]) -> None:
        for message in received:
            key = message.key or b""
            if key == TASK_KEY and message.value is not None:
                self.record = msgspec.json.decode(message.value, type=TaskRecord)
            elif key.startswith(_SEGMENT_KEY.encode()):
                self._take_piece(int(key.split(b"/")[1]), int(key.split(b"/")[2]), message)

    def _take_piece(self, sequence: int, piece: int, message: Received) -> None:
        if message.value is None:
            self.segments.pop(sequence, None)
        elif piece == 0:
            info, pieces = msgspec.json.decode(dict(message.headers)[_INFO_HEADER] or b"", type=tuple[SegmentInfo, int])
            self.segments[sequence] = KeptSegment(info, message.offset, pieces)


def record_message(topic: str, partition: int, record: TaskRecord) -> Messages:
    return Messages(topic, partition, [TASK_KEY], [msgspec.json.encode(record)], [[]])


def segment_messages(topic: str, partition: int, segment: StateSegment, bytes_max: int) -> Messages:
    payload, sequence = segment.payload, segment.info.sequence
    pieces = [payload[begin : begin + bytes_max] for begin in range(0, len(payload), bytes_max)] or [b""]
    headers: list[Headers] = [[] for _ in pieces]
    headers[0] = [(_INFO_HEADER, msgspec.json.encode((segment.info, len(pieces))))]
    return Messages(topic, partition, [_key(sequence, piece) for piece in range(len(pieces))], pieces, headers)


def tombstones(topic: str, partition: int, sequence: int, pieces: int) -> Messages:
    keys = [_key(sequence, piece) for piece in range(pieces)]
    return Messages(topic, partition, keys, [None] * pieces, [[]] * pieces)


def fitting(record: Record, bytes_max: int) -> Iterator[Record]:
    """The record in pieces that are messages of that size, or of one row; rows keep their order."""
    if record.kind in (Kind.JSON, Kind.MARK) or (len(record.payload) <= bytes_max and record.count <= SPAN):
        yield record
        return
    frame = codec.decode(record)
    parts = max(2, -(-len(record.payload) // bytes_max), -(-record.count // SPAN))
    rows = max(1, -(-frame.height // parts))
    for part in frame.iter_slices(rows):
        piece = codec.encode_frame(record.topic, record.partition, part, internal=record.kind is Kind.FRAME)
        if rows == 1:
            yield piece
        else:
            yield from fitting(piece, bytes_max)


def _key(sequence: int, piece: int) -> bytes:
    return f"{_SEGMENT_KEY}{sequence:020d}/{piece}".encode()
