"""Rows of Parquet files, slice by slice. A remote file is fetched to a temporary one first, for Parquet is read from
its end and in pieces."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from streamflow.base.errors import DataError
from streamflow.stores.files.access import fetch, gone, is_remote

if TYPE_CHECKING:
    from streamflow.stores.files.shards import Shard

ROWS_AT_FIRST = 10_000
"""Read before it is known how many bytes a row takes."""


def rows_in(path: str) -> int:
    """Of a local Parquet file. DataError if it is none."""
    try:
        return int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    except pl.exceptions.PolarsError as error:
        raise _unreadable(path, error) from error


class RowReader:
    """Reads a shard from row `at` on. `columns`: those wanted, of which absent ones are left out; None for all."""

    def __init__(self, shard: "Shard", columns: Sequence[str] | None = None, *, at: int | None = None) -> None:
        self.shard = shard
        self.at = shard.begin if at is None else at
        self._folder = tempfile.TemporaryDirectory(prefix="streamflow-") if is_remote(shard.path) else None
        self._row_bytes: float | None = None
        try:
            self._open(columns)
        except BaseException:
            self.close()
            raise

    def _open(self, columns: Sequence[str] | None) -> None:
        shard = self.shard
        path = shard.path if self._folder is None else str(fetch(shard.path, Path(self._folder.name)))
        if not Path(path).exists():
            raise gone(path)
        try:
            rows = pl.scan_parquet(path, glob=False)
            names = rows.collect_schema().names()
            wanted = names if columns is None else [name for name in columns if name in names]
            # Rows without any column would not be counted.
            self._rows = rows.select(wanted or names[:1])
            self._end = rows_in(path) if shard.end is None else shard.end
        except pl.exceptions.PolarsError as error:
            raise _unreadable(shard.path, error) from error

    @property
    def done(self) -> bool:
        return self.at >= self._end

    def read(self, rows_max: int, bytes_max: int) -> pl.DataFrame:
        """The next rows: at least one, at most `rows_max`, and about `bytes_max` bytes."""
        fitting = ROWS_AT_FIRST if self._row_bytes is None else max(1, int(bytes_max / self._row_bytes))
        count = min(rows_max, fitting, self._end - self.at)
        try:
            frame = self._rows.slice(self.at, count).collect()
        except pl.exceptions.PolarsError as error:
            raise _unreadable(self.shard.path, error) from error
        if frame.height != count:
            raise DataError(
                f"file '{self.shard.path}' has no rows {self.at} to {self.at + count}. Was it written over? Reset the "
                "pipeline to read it anew"
            )
        self._row_bytes = max(1.0, frame.estimated_size() / count)
        self.at += count
        return frame

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def _unreadable(path: str, error: Exception) -> DataError:
    return DataError(f"file '{path}' can't be read as Parquet: {str(error).splitlines()[0]}. Is it whole?")
