"""A frame as bytes and back. Nothing about records, topics or events.

    stream    one Arrow IPC stream: what any client reads and writes
    compact   rows u32 | bytes u32 of the first stream | a stream of the first row | a stream of the columns that vary

The compact form is the engine's own, for what it writes once and reads soon. Many columns hold one value from top to
bottom there (a window, a flag, a count of one), and take no room then, nor time to be written and read.
"""

import io
import struct

import polars as pl

from streamflow.base.errors import CorruptionError, DataError

_COMPRESS_MIN_BYTES = 2_048
"""Below this LZ4's block headers eat what it saves (measured: 50 events of 40 bytes break even)."""
_COMPACT_ROWS_MIN = 500
"""In fewer rows there is less to gain than a second stream costs."""
_COMPACT = struct.Struct("<II")


def write_stream(frame: pl.DataFrame, *, compress: bool = True) -> bytes:
    """An Arrow IPC stream, LZ4 if that is wanted and gains anything. DataError for columns of Python objects."""
    for name, dtype in frame.schema.items():
        if _has_objects(dtype):
            raise DataError(
                f"column '{name}' holds Python objects, which only this process could read back. Cast it to a real type"
            )
    buffer = io.BytesIO()
    try:
        frame.rechunk().write_ipc_stream(
            buffer,
            compression="lz4" if compress and frame.estimated_size() >= _COMPRESS_MIN_BYTES else "uncompressed",
            compat_level=pl.CompatLevel.oldest(),  # a third smaller and faster than with views of strings
        )
    except (Exception, pl.exceptions.PanicException) as error:
        raise DataError(
            f"a frame can't be written as Arrow: {error}. Cast the odd column of {dict(frame.schema)}"
        ) from error
    return buffer.getvalue()


def read_stream(payload: bytes | memoryview, columns: list[str] | None = None) -> pl.DataFrame:
    """What `write_stream` wrote, or only these of its columns; missing ones are left out. What these bytes make Polars
    raise if they are others."""
    try:
        # Of a view this makes the one copy that Polars needs; from a bytes object it would be three times as slow.
        return pl.read_ipc_stream(io.BytesIO(payload), columns=columns)
    except pl.exceptions.ColumnNotFoundError:
        frame = pl.read_ipc_stream(io.BytesIO(payload))
        return frame[[name for name in columns or () if name in frame.columns]]


def write_compact(frame: pl.DataFrame) -> bytes:
    """The frame in the compact form, not compressed. DataError as `write_stream`."""
    varying = frame
    if frame.height >= _COMPACT_ROWS_MIN:
        # One is kept, so that there is something to say how many rows there are.
        varying = frame.select([s for s in frame if not _is_constant(s)] or frame.columns[:1])
    first = write_stream(frame.head(1), compress=False) if varying.width < frame.width else b""
    return b"".join((_COMPACT.pack(frame.height, len(first)), first, write_stream(varying, compress=False)))


def read_compact(payload: bytes | memoryview) -> pl.DataFrame:
    """What `write_compact` wrote. CorruptionError if these are other bytes."""
    try:
        view = memoryview(payload)
        rows, size = _COMPACT.unpack_from(view)
        begin = _COMPACT.size
        frame = read_stream(view[begin + size :])
        if size:
            first = read_stream(view[begin : begin + size])
            # As literals, for names may look like patterns.
            varying = {column.name: pl.lit(column) for column in frame}
            frame = frame.select(varying.get(column.name, pl.lit(column).first()) for column in first)
    except (Exception, pl.exceptions.PanicException) as error:
        raise CorruptionError(
            f"{len(payload):,} bytes are not a frame: {error}. Restore them, or reset what needs them"
        ) from error
    if frame.height != rows:
        raise CorruptionError(f"a frame of {rows} rows has {frame.height}. Restore it, or reset what needs it")
    return frame


def _is_constant(column: pl.Series) -> bool:
    """Is it one value from top to bottom? Only columns that can be looked through at once are."""
    dtype = column.dtype
    if not (dtype.is_integer() or dtype.is_temporal()) or column[0] != column[-1] or column[0] is None:
        return False
    return not column.null_count() and bool(column.min() == column.max())


def _has_objects(dtype: pl.DataType) -> bool:
    if isinstance(dtype, pl.Struct):
        return any(_has_objects(field.dtype) for field in dtype.fields if isinstance(field.dtype, pl.DataType))
    if isinstance(dtype, (pl.List, pl.Array)):
        return isinstance(dtype.inner, pl.DataType) and _has_objects(dtype.inner)
    return dtype == pl.Object
