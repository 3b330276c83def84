"""Shards: pieces of files that tasks read independently of each other. Listed once, when a pipeline is launched, and
kept in a log from then on: whoever reads later reads the same."""

from dataclasses import asdict, dataclass
from typing import Literal

import orjson

from streamflow.base.errors import DataError
from streamflow.stores.files.access import Compression, FileInfo, compression_of, find, is_remote, look
from streamflow.stores.files.rows import rows_in

Division = Literal["lines", "rows", "whole"]
"""What may begin a shard within a file: any line, any row of Parquet, nothing."""


@dataclass(frozen=True, slots=True)
class Shard:
    """`[begin, end)` of a file: bytes, of which the lines count that begin there; or rows of Parquet. `end` is None for
    all that follows. `size` and `stamp` are the file's when it was listed."""

    path: str
    size: int
    stamp: str
    begin: int = 0
    end: int | None = None

    def to_json(self) -> bytes:
        return orjson.dumps(asdict(self))

    @classmethod
    def from_json(cls, document: bytes) -> "Shard":
        return cls(**orjson.loads(document))

    @property
    def weight(self) -> int:
        """How much work it is, in proportion to others: about bytes."""
        return self.size if self.end is None else min(self.size, max(1, self.end - self.begin))


def list_shards(pattern: str, division: Division, compression: Compression, shard_bytes: int) -> list[Shard]:
    """The files' shards of about `shard_bytes`, by path and position. NotFoundError if no file matches."""
    return [shard for info in find(pattern) for shard in _divided(info, division, compression, shard_bytes)]


def _divided(info: FileInfo, division: Division, compression: Compression, shard_bytes: int) -> list[Shard]:
    whole = Shard(info.path, info.size, info.stamp)
    packed = compression_of(info.path, compression) != "uncompressed"
    if info.size == 0:
        return []
    if division == "whole" or info.size <= shard_bytes:
        return [whole]
    if division == "rows":
        # What is remote is fetched as a whole.
        if is_remote(info.path):
            return [whole]
        total = rows_in(info.path)
        return _pieces(info, total, max(1, total * shard_bytes // info.size))
    return [whole] if packed else _pieces(info, info.size, shard_bytes)


def _pieces(info: FileInfo, total: int, each: int) -> list[Shard]:
    return [Shard(info.path, info.size, info.stamp, at, min(at + each, total)) for at in range(0, total, each)]


def check_unchanged(shard: Shard) -> None:
    """DataError if the file is not the one that was listed, as far as size and time of change tell; NotFoundError if it
    is gone."""
    now = look(shard.path)
    if (now.size, now.stamp) != (shard.size, shard.stamp):
        raise DataError(
            f"file '{shard.path}' has changed since the pipeline was started: it had {shard.size:,} bytes, now it has "
            f"{now.size:,}. Write new events into new files, and reset the pipeline to read this one anew"
        )
