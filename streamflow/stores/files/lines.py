"""Lines of a shard, in chunks of whole ones, from any position. `quoted`: a line end between double quotes ends no
record, as in CSV."""

from dataclasses import dataclass

from streamflow.base.errors import DataError
from streamflow.stores.files.access import ByteStream, Compression, compression_of, open_at
from streamflow.stores.files.shards import Shard

READ_BYTES = 1 << 20
RECORD_BYTES_MAX = 64 << 20
"""A longer one is taken for a quote that is never closed, or for a file that has no lines."""
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole records, the last of a file perhaps without its line end. `line`: how many lines the reader gave before."""

    data: bytes
    line: int


class LineReader:
    """Reads a shard from where it was left: `at` (byte behind what has been given, None for the beginning) and `lines`
    (given before). `header`: lines (records, if `quoted`) at the file's beginning that belong to no shard;
    `self.header` holds them."""

    def __init__(
        self,
        shard: Shard,
        compression: Compression = "auto",
        *,
        header: int = 0,
        quoted: bool = False,
        at: int | None = None,
        lines: int = 0,
    ) -> None:
        self.shard, self.quoted, self.lines = shard, quoted, lines
        self._compression = compression_of(shard.path, compression)
        self._stream: ByteStream = open_at(shard.path, 0, self._compression)
        self._buffer, self._ended = b"", False
        self._at = 0
        self._line_before: int | None = None
        try:
            self.header = self._skip_header(header)
            self._data_begin = self._at
            self._begin(at)
        except BaseException:
            self.close()
            raise

    @property
    def at(self) -> int:
        return self._at

    @property
    def done(self) -> bool:
        """Nothing follows. True at the end of the file only once it has been met."""
        if self.shard.end is not None and self._at >= self.shard.end:
            return True
        if not self._buffer and not self._ended:
            self._fill()
        return self._ended and not self._buffer

    def read(self, lines_max: int, bytes_max: int) -> Chunk:
        """At least one record; about `bytes_max` bytes and `lines_max` lines at most, more if one record has more."""
        line = self.lines
        limit = bytes_max if self.shard.end is None else min(bytes_max, self.shard.end - self._at)
        while len(self._buffer) < limit and not self._ended:
            self._fill()
        data = self._take(lines_max, limit)
        self.lines += data.count(b"\n")
        return Chunk(data, line)

    def line_before(self) -> int:
        """How many lines of the file stand before the first that this reader gives. Reads the file up to there."""
        if self._line_before is None:
            self._line_before = self._lines_above()
        return self._line_before

    def _lines_above(self) -> int:
        if self.shard.begin <= self._data_begin:
            return self.header.count(b"\n")
        stream, left, lines = open_at(self.shard.path), self.shard.begin - 1, 0
        while left > 0 and (piece := stream.read(min(left, READ_BYTES))):
            left, lines = left - len(piece), lines + piece.count(b"\n")
        stream.close()
        return lines + 1

    def close(self) -> None:
        self._stream.close()

    def _skip_header(self, count: int) -> bytes:
        self._fill()
        if self._buffer.startswith(_BOM):
            self._buffer, self._at = self._buffer[len(_BOM) :], len(_BOM)
        return b"".join(self._take(1) for _ in range(count))

    def _begin(self, at: int | None) -> None:
        if at is not None:
            self._go_to(at)
        elif self.shard.begin > self._at:
            # The line that begins before belongs to the shard before; one may begin exactly here.
            self._go_to(self.shard.begin - 1)
            self._take(1)

    def _go_to(self, at: int) -> None:
        if self._at <= at <= self._at + len(self._buffer):
            self._buffer = self._buffer[at - self._at :]
        else:
            self._stream.close()
            self._stream = open_at(self.shard.path, at, self._compression)
            self._buffer, self._ended = b"", False
        self._at = at

    def _take(self, lines_max: int, limit: int | None = None) -> bytes:
        """Whole records from the buffer, which begin before `limit`; reads on if it holds not even one."""
        while not (cut := whole_records(self._buffer, lines_max, limit, quoted=self.quoted)):
            if self._ended:
                cut = len(self._buffer)
                break
            if len(self._buffer) > RECORD_BYTES_MAX:
                raise DataError(
                    f"file '{self.shard.path}' has a record of more than {RECORD_BYTES_MAX:,} bytes, after byte "
                    f"{self._at:,}. Is a quote not closed there, or are there no line ends?"
                )
            self._fill()
        data, self._buffer = self._buffer[:cut], self._buffer[cut:]
        self._at += cut
        return data

    def _fill(self) -> None:
        """Grows with the buffer, so that one long record costs no more than its bytes."""
        piece = self._stream.read(max(READ_BYTES, len(self._buffer)))
        self._ended = not piece
        self._buffer += piece


def whole_records(buffer: bytes, lines_max: int, limit: int | None, *, quoted: bool) -> int:
    """How many bytes the first whole records take: all that begin before byte `limit`, in `lines_max` lines at most,
    but one at least; 0 if the buffer holds not even one."""
    # The line end before `limit - 1` or later ends the last line that begins before `limit`.
    stop = len(buffer) if limit is None else buffer.find(b"\n", max(0, limit - 1)) + 1 or buffer.rfind(b"\n") + 1
    head = buffer[:stop]
    cut = head.rfind(b"\n") + 1
    if head.count(b"\n") > lines_max:
        cut = len(head) - len(head.split(b"\n", lines_max)[-1])
    if not quoted or not buffer.count(b'"', 0, cut) % 2:
        return cut
    return _behind_quotes(buffer, cut) or _before_quotes(buffer, cut)


def _behind_quotes(buffer: bytes, cut: int) -> int:
    """The next line end outside of quotes, where `cut` is within; 0 if there is none."""
    inside = True
    while end := buffer.find(b"\n", cut) + 1:
        inside ^= buffer.count(b'"', cut, end) % 2 == 1
        cut = end
        if not inside:
            return cut
    return 0


def _before_quotes(buffer: bytes, cut: int) -> int:
    inside = True
    while inside and cut:
        before = buffer.rfind(b"\n", 0, cut - 1) + 1
        inside ^= buffer.count(b'"', before, cut) % 2 == 1
        cut = before
    return cut
