"""The head of a stage that reads files: takes up shards from the log that lists them, and works through them piece by
piece.

A step reads as much as its bounds allow: several small shards, or a piece of a large one. The task's offset is the
first shard that is not finished, and the position in that shard is the task's only state: both are part of the step's
commit, so that whoever goes on reads just what nobody has.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import orjson

from streamflow.base.errors import DataError
from streamflow.base.settings import Settings
from streamflow.engine.context import StepContext
from streamflow.engine.file_formats import Format, Piece
from streamflow.engine.ledger import Delta
from streamflow.model.batch import Batch
from streamflow.model.time import MAX_US
from streamflow.stores.files import LineReader, RowReader, Shard, check_unchanged
from streamflow.topics import codec
from streamflow.topics.protocol import Record, SegmentInfo, StateSegment

SHARDS_AT_ONCE = 256
"""Small ones that one step may take up: each is a file to be opened."""
PIECE_BYTES = 4 << 20
"""Of a file, read at once."""


@dataclass(frozen=True, slots=True)
class Position:
    """Within a shard: the byte or row behind what has been read, and how many lines that were."""

    at: int
    lines: int = 0

    def to_json(self) -> bytes:
        return orjson.dumps([self.at, self.lines])

    @classmethod
    def from_json(cls, payload: bytes) -> "Position":
        return cls(*orjson.loads(payload))


@dataclass(slots=True)
class FilesHead:
    """`offset`: of the first shard that is not finished. `position`: how far that one has been read, as the claim says;
    `segment`: the sequence under which this is stored."""

    format: Format
    settings: Settings
    label: str
    offset: int
    position: Position | None = None
    segment: int | None = None
    time_max_us: int | None = None
    due_us: int | None = None
    hold_us: int = MAX_US
    _reader: LineReader | RowReader | None = None
    _pieces: list[tuple[Piece, int]] = field(default_factory=list)
    """Of the step, with the offset of their shard."""
    _batches: list[Batch] = field(default_factory=list)

    def absorb(self, records: Sequence[Record], context: StepContext) -> None:
        self._pieces = []
        for record in records:
            shard = Shard.from_json(codec.json_documents(record)[0])
            try:
                finished = self._read(shard)
            except DataError:
                # If that is why, it says more.
                check_unchanged(shard)
                raise
            check_unchanged(shard)
            if not finished:
                break
            self.close()
            self.offset = record.end
        context.counts["events_in"] += sum(len(piece.numbers) for piece, _ in self._pieces)
        self._batches = self.format.decode([piece for piece, _ in self._pieces], context.on_bad(self.label))
        # What is still asked of them is where their events stood.
        self._pieces = [(replace(piece, content=None), shard) for piece, shard in self._pieces]

    def _read(self, shard: Shard) -> bool:
        """As much of the shard as the step has room for. True if that was all of it."""
        reader = self._reader = self._reader or self.format.open(shard, self.position)
        rows = sum(len(piece.numbers) for piece, _ in self._pieces)
        size = sum(piece.size for piece, _ in self._pieces)
        while not reader.done:
            if rows >= self.settings.step_events_max or size >= self.settings.step_bytes_max:
                return False
            limit = min(PIECE_BYTES, self.settings.step_bytes_max - size)
            piece = self.format.read(reader, rows, self.settings.step_events_max - rows, limit)
            self._pieces.append((piece, self.offset))
            rows, size = rows + len(piece.numbers), size + piece.size
        return True

    def fire(self, before_us: int, after_us: int, context: StepContext) -> list[Batch]:
        batches, self._batches = self._batches, []
        return batches

    def delta(self, stamp: int, watermark_us: int, context: StepContext) -> Delta:
        drop = [] if self.segment is None else [self.segment]
        if self._reader is None:
            self.segment = None
            return Delta(drop=drop)
        self.segment = 0 if self.segment is None else self.segment + 1
        lines = self._reader.lines if isinstance(self._reader, LineReader) else 0
        position = Position(self._reader.at, lines)
        return Delta([StateSegment(SegmentInfo(self.segment, stamp, watermark_us), position.to_json())], drop)

    def place(self, offset: int) -> dict[str, int | str]:
        """Where the event with that offset in the last step stands: its shard in the log, its file, and its line (or
        row of Parquet), counted from 1. Nothing for what is no event of a file."""
        index = bisect_right(self._pieces, offset, key=lambda pair: pair[0].first) - 1
        if offset < 0 or index < 0:
            return {}
        piece, shard = self._pieces[index]
        number = piece.numbers[offset - piece.first] + 1
        if isinstance(piece.reader, LineReader):
            return {"offset": shard, "file": piece.reader.shard.path, "line": piece.reader.line_before() + number}
        return {"offset": shard, "file": piece.reader.shard.path, "row": number}

    def close(self) -> None:
        """Let go of the file; the next shard begins at its beginning."""
        if self._reader is not None:
            self._reader.close()
        self._reader = self.position = None
