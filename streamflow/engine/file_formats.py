"""What the lines and rows of files mean as events, a format a class. Bad ones are told, never raised.

`read` takes the next piece of a shard, `decode` makes batches of all pieces of a step; each event's offset is its index
in the step. JSON lines go through the decoder of topics, so that files and topics give the same.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import polars as pl

from streamflow.base.errors import DataError
from streamflow.engine.bisection import fitted
from streamflow.engine.source import SourceDecoder, event_times
from streamflow.model.batch import OFFSET, Batch, Elements, OnBad
from streamflow.model.time import EARLIEST_US
from streamflow.model.window import TIME
from streamflow.stores.files import LineReader, RowReader, Shard
from streamflow.topics import codec
from streamflow.transforms.files import ReadFromCsv, ReadFromFiles, ReadFromJson, ReadFromParquet, ReadFromText

"""The time of events that say none."""
Reader = LineReader | RowReader
_NOTHING = {b"", b"\r"}
"""Lines that are blank."""


class Position(Protocol):
    @property
    def at(self) -> int: ...

    @property
    def lines(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Piece:
    """Events of one read. `content`: raw events, or a frame; `first`: the offset of the first; `numbers`: of each, its
    line counted from the first that the reader gives, or its row in the file; `size`: bytes."""

    reader: Any
    content: Any
    first: int
    numbers: Sequence[int]
    size: int


class Format(Protocol):
    def open(self, shard: Shard, position: Position | None) -> Reader: ...

    def read(self, reader: Any, first: int, rows_max: int, bytes_max: int) -> Piece: ...

    def decode(self, pieces: Sequence[Piece], on_bad: OnBad) -> list[Batch]:
        """Batches in offset order."""


def format_of(source: ReadFromFiles) -> Format:
    if isinstance(source, ReadFromText):
        return _Text(source)
    if isinstance(source, ReadFromJson):
        return _Json(source)
    return _Csv(source) if isinstance(source, ReadFromCsv) else _Parquet(source)


class _Decoder(SourceDecoder):
    """For files: events without a time of their own keep the earliest, which is no time of any year."""

    def timed(self, batch: Batch, on_bad: OnBad) -> Batch:
        return batch if self.transform.event_time is None else super().timed(batch, on_bad)


class _Lines:
    """What formats of lines share."""

    def __init__(self, source: ReadFromFiles) -> None:
        self.source, self.quoted = source, not source.splittable

    def open(self, shard: Shard, position: Position | None) -> LineReader:
        at, lines = (None, 0) if position is None else (position.at, position.lines)
        header = self.source.skip_header_lines
        return LineReader(shard, self.source.compression, header=header, quoted=self.quoted, at=at, lines=lines)

    def read(self, reader: LineReader, first: int, rows_max: int, bytes_max: int) -> Piece:
        chunk = reader.read(rows_max, bytes_max)
        # The decoder of a whole piece looks for a brace at the end of each document.
        data = chunk.data.replace(b"\r\n", b"\n") if self.source.format == "json" else chunk.data
        records, lines = _records(data, chunk.line, quoted=self.quoted)
        if self.source.format != "text" and not _NOTHING.isdisjoint(records):
            kept = [i for i, raw in enumerate(records) if raw not in _NOTHING]
            records, lines = [records[i] for i in kept], [lines[i] for i in kept]
        return Piece(reader, records, first, lines, len(chunk.data))


def _records(data: bytes, line: int, *, quoted: bool) -> tuple[list[bytes], Sequence[int]]:
    """The records, and the line at which each begins."""
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    if not quoted or b'"' not in data:
        return lines, range(line, line + len(lines))
    records: list[bytes] = []
    begins: list[int] = []
    inside = False
    for number, raw in enumerate(lines, line):
        if inside:
            records[-1] += b"\n" + raw
        else:
            records.append(raw)
            begins.append(number)
        inside ^= raw.count(b'"') % 2 == 1
    return records, begins


class _Text(_Lines):
    def decode(self, pieces: Sequence[Piece], on_bad: OnBad) -> list[Batch]:
        assert isinstance(self.source, ReadFromText)
        out = Elements()
        for piece in pieces:
            for offset, raw in enumerate(piece.content, piece.first):
                try:
                    text = raw.decode()
                except UnicodeDecodeError as error:
                    on_bad(raw, offset, DataError(f"a line is not UTF-8: {error}"))
                else:
                    whole = text.removesuffix("\r") if self.source.strip_trailing_newlines else f"{text}\n"
                    out.append(whole, EARLIEST_US, offset, None)
        return [out] if len(out) else []


class _Json(_Lines):
    def __init__(self, source: ReadFromFiles) -> None:
        super().__init__(source)
        self.decoder = _Decoder(source)

    def decode(self, pieces: Sequence[Piece], on_bad: OnBad) -> list[Batch]:
        records = []
        for piece in pieces:
            for begin, end in self._fitting(piece, on_bad):
                times = [EARLIEST_US] * (end - begin)
                record = codec.encode_json(self.source.pattern, 0, piece.content[begin:end], times)
                records.append(replace(record, offset=piece.first + begin))
        return self.decoder.decode(records, on_bad)

    def _fitting(self, piece: Piece, on_bad: OnBad) -> Iterator[tuple[int, int]]:
        """Ranges of events between those that are too long for one."""
        begin = 0
        if max(map(len, piece.content), default=0) > codec.EVENT_BYTES_MAX:
            for index, raw in enumerate(piece.content):
                if len(raw) > codec.EVENT_BYTES_MAX:
                    on_bad(raw, piece.first + index, DataError(f"an event of {len(raw):,} bytes is too long."))
                    if begin < index:
                        yield begin, index
                    begin = index + 1
        if begin < len(piece.content):
            yield begin, len(piece.content)


class _Csv(_Lines):
    """Polars parses a piece as a whole; if anything in it is odd, record by record as far as is needed to find what."""

    source: ReadFromCsv

    def __init__(self, source: ReadFromFiles) -> None:
        super().__init__(source)
        self.decoder = _Decoder(source)
        self._temporal = {
            name: dtype
            for name, dtype in (source.schema.polars() if source.schema else {}).items()
            if isinstance(dtype, (pl.Date, pl.Datetime))
        }

    def decode(self, pieces: Sequence[Piece], on_bad: OnBad) -> list[Batch]:
        frames: list[pl.DataFrame] = []
        for piece in pieces:
            head = self._head(piece.reader.header)
            # Of two columns with one name nobody could say which is meant.
            names = next(csv.reader(io.StringIO(head.decode("utf-8", "replace")), delimiter=self.source.sep))
            frame = self._isolated(piece.content, piece.first, head, names, on_bad)
            frame = frame.with_columns(pl.lit(EARLIEST_US, pl.Int64).alias(TIME))
            frame = self._temporal_parsed(frame, on_bad)
            if self.source.schema is not None and frame.height:
                frame = fitted(frame, self.source.schema, on_bad)
            frames.append(frame)
        return _joined(frames, self.decoder, on_bad)

    def _head(self, header: bytes) -> bytes:
        if self.source.header:
            return header if header.endswith(b"\n") else header + b"\n"
        assert self.source.schema is not None
        text = io.StringIO()
        csv.writer(text, delimiter=self.source.sep, lineterminator="\n").writerow(self.source.schema.names)
        return text.getvalue().encode()

    def _isolated(
        self, records: Sequence[bytes], first: int, head: bytes, names: Sequence[str], on_bad: OnBad
    ) -> pl.DataFrame:
        """The records as columns, without those that can't be parsed, which are found by bisection."""
        error: Exception
        try:
            frame = self._parsed(head + b"\n".join(records), names)
            if frame.height == len(records):
                return frame.with_columns(pl.int_range(first, first + len(records), dtype=pl.Int64).alias(OFFSET))
            error = DataError("a quote is not closed on its line. If fields hold line ends, read with splittable=False")
        except pl.exceptions.PolarsError as raised:
            error = DataError(str(raised).splitlines()[0])
        if len(records) == 1:
            on_bad(records[0], first, error)
            return self._parsed(head, names).with_columns(pl.lit(0, pl.Int64).alias(OFFSET)).clear()
        half = len(records) // 2
        return pl.concat(
            [
                self._isolated(records[:half], first, head, names, on_bad),
                self._isolated(records[half:], first + half, head, names, on_bad),
            ]
        )

    def _parsed(self, data: bytes, names: Sequence[str]) -> pl.DataFrame:
        """With the header in front every record is told to have the same columns, whatever the first one has."""
        dtypes = self.source.schema.polars() if self.source.schema else {}
        return pl.read_csv(
            data,
            separator=self.source.sep,
            infer_schema=False,
            columns=[name for name in names if name in dtypes] or None if dtypes else None,
            schema_overrides={n: dtype for n, dtype in dtypes.items() if n in names and n not in self._temporal},
            raise_if_empty=False,
        )

    def _temporal_parsed(self, frame: pl.DataFrame, on_bad: OnBad) -> pl.DataFrame:
        """Times have one form, ISO 8601; Polars would guess one from the first it meets."""
        for name, dtype in self._temporal.items():
            if name in frame.columns:
                texts = frame[name]
                parsed = _times(texts, dtype)
                odd = parsed.is_null() & texts.is_not_null()
                for text, offset in zip(texts.filter(odd), frame[OFFSET].filter(odd), strict=True):
                    on_bad(text, offset, DataError(f"'{name}' is no ISO 8601 {str(dtype.base_type()).lower()}"))
                frame = frame.with_columns(parsed.alias(name)).filter(~odd)
        return frame


def _times(texts: pl.Series, dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Date):
        return texts.str.to_date("%Y-%m-%d", strict=False)
    times = event_times(texts).cast(pl.Datetime("us"))
    zone = getattr(dtype, "time_zone", None)
    return (times.dt.replace_time_zone("UTC").dt.convert_time_zone(zone) if zone else times).cast(dtype)


class _Parquet:
    def __init__(self, source: ReadFromFiles) -> None:
        assert isinstance(source, ReadFromParquet)
        self.source = source
        self.decoder = _Decoder(source)

    def open(self, shard: Shard, position: Position | None) -> RowReader:
        return RowReader(shard, self.source.columns, at=None if position is None else position.at)

    def read(self, reader: RowReader, first: int, rows_max: int, bytes_max: int) -> Piece:
        at = reader.at
        frame = reader.read(rows_max, bytes_max)
        return Piece(reader, frame, first, range(at, at + frame.height), int(frame.estimated_size()))

    def decode(self, pieces: Sequence[Piece], on_bad: OnBad) -> list[Batch]:
        frames = []
        for piece in pieces:
            own = [name for name in piece.content.columns if name.startswith("_")]
            frame = piece.content.drop(own) if self.source.schema is None else piece.content
            offsets = pl.int_range(piece.first, piece.first + frame.height, dtype=pl.Int64, eager=True)
            frame = frame.with_columns(offsets.alias(OFFSET), pl.lit(EARLIEST_US, pl.Int64).alias(TIME))
            frames.append(frame if self.source.schema is None else fitted(frame, self.source.schema, on_bad))
        return _joined(frames, self.decoder, on_bad)


def _joined(frames: Sequence[pl.DataFrame], decoder: _Decoder, on_bad: OnBad) -> list[Batch]:
    """One batch of all frames of equal columns that follow each other, with event times."""
    groups: list[list[pl.DataFrame]] = []
    for frame in frames:
        if not frame.height:
            continue
        if groups and groups[-1][-1].schema == frame.schema:
            groups[-1].append(frame)
        else:
            groups.append([frame])
    batches = (decoder.timed(pl.concat(group), on_bad) for group in groups)
    return [batch for batch in batches if len(batch)]
