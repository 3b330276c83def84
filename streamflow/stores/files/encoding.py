"""What a file of rows looks like: its format, its compression, and what that has no form for. Pure."""

import bz2
import gzip
import io
from dataclasses import dataclass
from typing import Literal

import polars as pl

from streamflow.base.errors import DataError
from streamflow.model.batch import OFFSET
from streamflow.stores.files.access import Compression, compression_of, zstandard

Format = Literal["text", "csv", "json", "parquet"]
LINE = "line"
"""The column of a frame that is to be written as text."""
_UNFIT: dict[str, tuple[type[pl.DataType], ...]] = {
    "csv": (pl.List, pl.Array, pl.Struct, pl.Binary, pl.Object),
    "json": (pl.Binary, pl.Object),
}
"""What a format has no form for."""


@dataclass(frozen=True, slots=True)
class FileSpec:
    """`prefix`: the path that the names begin with; `header`: of each text file, or whether CSV files have one."""

    prefix: str
    suffix: str
    format: Format
    compression: Compression = "auto"
    header: str | bool | None = True


def check(frame: pl.DataFrame, form: Format) -> None:
    """DataError if files of this format can't hold rows of such columns."""
    rows = frame.drop(OFFSET, strict=False)
    if not rows.width:
        raise DataError("the rows have no columns. Write text instead, or give dicts")
    for name, dtype in rows.schema.items():
        if isinstance(dtype, _UNFIT.get(form, (pl.Object,))):
            raise DataError(f"column '{name}' is {dtype}, which {form} can't hold. Cast or drop it")


def encoded(rows: pl.DataFrame, spec: FileSpec) -> bytes:
    """A whole file of the rows; the same bytes for the same rows."""
    buffer = io.BytesIO()
    if spec.format == "parquet":
        rows.write_parquet(buffer, compression="zstd", compression_level=1)
        return buffer.getvalue()
    if spec.format == "json":
        rows.write_ndjson(buffer)
    elif spec.format == "csv":
        rows.write_csv(buffer, include_header=bool(spec.header))
    else:
        head = [spec.header] if isinstance(spec.header, str) else []
        buffer.write("".join(f"{line}\n" for line in [*head, *rows[LINE].to_list()]).encode())
    return _packed(buffer.getvalue(), compression_of(spec.suffix and f"x{spec.suffix}", spec.compression))


def _packed(data: bytes, compression: Compression) -> bytes:
    if compression == "gzip":
        return gzip.compress(data, compresslevel=6, mtime=0)
    if compression == "bzip2":
        return bz2.compress(data)
    if compression == "zstd":
        packed: bytes = zstandard().ZstdCompressor().compress(data)
        return packed
    return data
