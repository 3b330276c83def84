"""A process that fills a store from where it stands to `total`, for tests that kill it.

    appender.py table|rows|files ROOT NAME APP TOTAL BATCH

Prints `writing` before its first write. The content is a function of the offset alone, as a replayed log would give it.
"""

import sys
from pathlib import Path

import polars as pl

from streamflow.stores.files import FileSpec, FileWriter
from streamflow.stores.table import TableSpec, TableWriter
from streamflow.stores.widerow import WideRowSpec, WideRowWriter


def content(start: int, end: int, app: str) -> pl.DataFrame:
    """Rows with offsets `[start, end)`."""
    offset = pl.int_range(start, end, eager=True)
    return pl.DataFrame({"_offset": offset}).with_columns(
        app=pl.lit(app), n=pl.col("_offset"), text=pl.format("value {}", "_offset")
    )


def main() -> None:
    kind, root, name, app, total, batch = sys.argv[1:]
    write, start = {"table": _table, "rows": _rows, "files": _files}[kind](Path(root), name, app)
    print("writing", flush=True)
    while start < int(total):
        end = min(start + int(batch), int(total))
        write(content(start, end, app), end)
        start = end


def _table(root: Path, name: str, app: str):  # type: ignore[no-untyped-def]
    writer = TableWriter(root, TableSpec(name, partition_by=("app",)), app)
    return writer.write, writer.committed()


def _rows(root: Path, name: str, app: str):  # type: ignore[no-untyped-def]
    writer = WideRowWriter(root, WideRowSpec(name, "f"), app)

    def write(frame: pl.DataFrame, end: int) -> int:
        keyed = frame.with_columns(
            _row_key=pl.format("{}#{}", "app", pl.col("n") % 100), _timestamp=pl.col("n") * 1_000
        )
        return writer.write(keyed.drop("app"), end, epoch=1)

    return write, writer.committed()


def _files(root: Path, name: str, app: str):  # type: ignore[no-untyped-def]
    writer = FileWriter(FileSpec(str(root / name), ".csv", "csv"), app)
    return writer.write, writer.committed()


if __name__ == "__main__":
    main()
