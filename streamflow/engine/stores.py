"""Where sinks lead: opens the store of a sink stage. The one place that knows every kind of store.

Stores are imported when a task opens one: their libraries take tens of megabytes that other workers can do without.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.engine.plan import Stage
from streamflow.model.batch import OFFSET
from streamflow.model.time import MIN_US
from streamflow.model.window import TIME, WINDOW_START
from streamflow.transforms.files import WriteToFiles
from streamflow.transforms.io import WriteToRows, WriteToTable

if TYPE_CHECKING:
    from streamflow.stores.files import FileWriter, ObjectWriter
    from streamflow.stores.table import TableWriter
    from streamflow.stores.widerow import WideRowWriter


TABLE_REST_MIN_S = 0.1
"""Each write to a table makes a file, which every reader opens: not more than ten a second."""

FILES_REST_MIN_S = 60.0
"""Files are made to be few: as few as `Settings.sink_interval_s` allows."""


class Sink(Protocol):
    """`rest_min_s`: the least time between two writes that suits the store."""

    @property
    def rest_min_s(self) -> float: ...

    def check(self, frame: pl.DataFrame) -> None:
        """DataError if the store can't hold these rows; the same for the same rows, whatever is stored already."""

    def committed(self) -> int:
        """The end of this sink's input as the store knows it; 0 if it knows nothing of it."""

    def close(self) -> None: ...


class SinkWriter(Sink, Protocol):
    """Writing is idempotent by offset: rows below the stored end are skipped, and the end moves with the rows."""

    def write(self, frame: pl.DataFrame, end: int, epoch: int) -> int:
        """Rows with `_offset` below `end`, the offset after the last; how many were written. FencedError for a
        zombie."""


class _AppendingSink:
    """Tables and files: the public columns, and the offset that rows are deduplicated by."""

    def __init__(self, writer: "TableWriter | FileWriter", rest_min_s: float) -> None:
        self.writer, self.rest_min_s = writer, rest_min_s

    def check(self, frame: pl.DataFrame) -> None:
        self.writer.check(_rows(frame))

    def committed(self) -> int:
        return self.writer.committed()

    def write(self, frame: pl.DataFrame, end: int, epoch: int) -> int:
        return self.writer.write(_rows(frame), end)

    def close(self) -> None: ...


class ObjectsSink:
    """Files in an object store: objects of settled offsets (see `sinks`)."""

    rest_min_s = FILES_REST_MIN_S

    def __init__(self, writer: "ObjectWriter") -> None:
        self.writer = writer

    def check(self, frame: pl.DataFrame) -> None:
        self.writer.check(_rows(frame))

    def committed(self) -> int:
        return self.writer.committed()

    def write(self, frame: pl.DataFrame, begin: int, end: int) -> None:
        """An object of the rows, which are those of the offsets `[begin, end)`; again, if it is there already."""
        self.writer.write(_rows(frame), begin, end)

    def close(self) -> None: ...


class _RowsSink:
    rest_min_s = 0.0

    def __init__(self, writer: "WideRowWriter") -> None:
        self.writer = writer

    def check(self, frame: pl.DataFrame) -> None:
        self.writer.check(self._cells(frame))

    def committed(self) -> int:
        return self.writer.committed()

    def write(self, frame: pl.DataFrame, end: int, epoch: int) -> int:
        return self.writer.write(self._cells(frame), end, epoch)

    def _cells(self, frame: pl.DataFrame) -> pl.DataFrame:
        timed = pl.col(TIME)
        if WINDOW_START in frame.columns:
            timed = pl.when(pl.col(WINDOW_START) > MIN_US).then(pl.col(WINDOW_START)).otherwise(pl.col(TIME))
        return _rows(frame.with_columns(timed.alias("_timestamp")), "_row_key", "_timestamp")

    def close(self) -> None:
        self.writer.close()


def tables_folder(data: Path) -> Path:
    """Where a data folder keeps its tables."""
    return data / "tables"


def rows_folder(data: Path) -> Path:
    """Where a data folder keeps its row stores."""
    return data / "rows"


def open_sink(stage: Stage, data: Path | None) -> SinkWriter | ObjectsSink:
    """The writer for a sink stage's only task. PipelineError if there is no folder to keep stores in."""
    transform = stage.node.transform
    if isinstance(transform, WriteToFiles):
        from streamflow.stores.files import FileSpec, FileWriter, ObjectWriter, is_remote

        t = transform
        spec_of_files = FileSpec(t.prefix, t.suffix, t.format, t.compression, t.header)
        if is_remote(t.prefix):
            return ObjectsSink(ObjectWriter(spec_of_files, stage.topic))
        return _AppendingSink(FileWriter(spec_of_files, stage.topic), FILES_REST_MIN_S)
    if data is None:
        raise PipelineError(f"{stage.node.label}: a store needs a folder. Run with data='some-folder', or on a folder.")
    app = f"{stage.topic}/0"
    if isinstance(transform, WriteToTable):
        from streamflow.stores.table import TableSpec, TableWriter

        spec = TableSpec(transform.table, transform.partition_by, transform.key)
        return _AppendingSink(TableWriter(tables_folder(data), spec, app), TABLE_REST_MIN_S)
    assert isinstance(transform, WriteToRows)
    from streamflow.stores.widerow import WideRowSpec, WideRowWriter

    return _RowsSink(WideRowWriter(rows_folder(data), WideRowSpec(transform.name, transform.family), app))


def _rows(frame: pl.DataFrame, *reserved: str) -> pl.DataFrame:
    names = [name for name in frame.columns if not name.startswith("_") or name in (OFFSET, *reserved)]
    return frame.select(names)
