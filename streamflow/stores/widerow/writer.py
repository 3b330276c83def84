"""Frames into wide rows, exactly once, and back into dicts for people. How values become bytes is decided here."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import polars as pl

from streamflow.base.errors import DataError
from streamflow.model.batch import OFFSET
from streamflow.model.time import Timestamp
from streamflow.stores._common import check_name
from streamflow.stores.widerow.encoding import encode_family, encode_row
from streamflow.stores.widerow.model import CellWrite, Row
from streamflow.stores.widerow.store import WideRowStore

ROW_KEY = "_row_key"
TIMESTAMP = "_timestamp"

_INT64 = struct.Struct(">q")
_FLOAT64 = struct.Struct(">d")


@dataclass(frozen=True, slots=True)
class WideRowSpec:
    """The store `name` and the family that a sink writes. DataError for names that are not allowed."""

    name: str
    family: str

    def __post_init__(self) -> None:
        check_name("row store", self.name)
        encode_family(self.family)


class WideRowWriter:
    """Writes the output of one `app` (pipeline/sink/partition) to `spec.name` under `root`. Close it after use."""

    def __init__(self, root: Path, spec: WideRowSpec, app: str) -> None:
        self.spec = spec
        self.app = app
        self._store = WideRowStore(row_folder(root, spec.name))

    def committed(self) -> int:
        """The end of the input stored by this app: the offset to go on from; 0 if there is nothing yet."""
        return self._store.position(self.app).end

    def check(self, frame: pl.DataFrame) -> None:
        """DataError if the store can't hold these rows as they are. Looks at no offsets, so that a repetition after a
        crash finds the same rows bad."""
        _check(frame, self.spec.name, 1 << 62)
        for key in frame[ROW_KEY].cast(pl.Binary).unique():
            encode_row(key)
        known = self._store.types()
        for column in frame.columns:
            if column in (OFFSET, ROW_KEY, TIMESTAMP) or frame[column].null_count() == frame.height:
                continue
            recorded, got = known.get((self.spec.family, column.encode())), _kind(frame.schema[column])
            if got not in _ALWAYS_ENCODABLE or frame.schema[column] in (pl.UInt64, pl.Int128):
                _encode(frame[column].drop_nulls())
            if recorded not in (None, got):
                raise DataError(
                    f"row store '{self.spec.name}': column '{self.spec.family}:{column}' holds {recorded}, got {got}. "
                    "Cast it, or write to another column"
                )

    def write(self, frame: pl.DataFrame, end: int, epoch: int) -> int:
        """Store the rows of `frame` not stored yet, and that the app's input is covered up to `end`; durable on return.

        `frame` has `_offset` (Int64: each row's input offset, below `end`), `_row_key` (String or Binary), `_timestamp`
        (Int64 µs) and one column for each qualifier of the family; a null writes no cell. Integers are stored as 8-byte
        big-endian signed (Bigtable's counter format), floats as 8-byte big-endian IEEE, strings and binaries as they
        are, anything else as JSON. Returns the number of rows stored. FencedError if the app was continued with a
        higher epoch; DataError if the frame is not as described or a column was of another type before. Nothing is
        stored then."""
        _check(frame, self.spec.name, end)
        fresh = frame.filter(pl.col(OFFSET) >= self.committed()).sort(OFFSET, maintain_order=True)
        cells: list[CellWrite] = []
        types: dict[tuple[str, bytes], str] = {}
        for column in fresh.columns:
            if column in (OFFSET, ROW_KEY, TIMESTAMP):
                continue
            part = fresh.filter(pl.col(column).is_not_null())
            if part.height:
                kind, values = _encode(part[column])
                types[self.spec.family, column.encode()] = kind
                cells += self._cells(part, column.encode(), values)
        self._store.apply(self.app, epoch, end, cells, types)
        return fresh.height

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _cells(self, part: pl.DataFrame, qualifier: bytes, values: list[bytes]) -> list[CellWrite]:
        family = self.spec.family
        keys = part[ROW_KEY].cast(pl.Binary)
        return [
            CellWrite(offset, key, family, qualifier, timestamp_us, value)
            for offset, key, timestamp_us, value in zip(part[OFFSET], keys, part[TIMESTAMP], values, strict=True)
        ]


def row_folder(root: Path, name: str) -> Path:
    """`<root>/<name>`."""
    return root / name


def row_stores(root: Path) -> list[str]:
    """The names of all row stores, sorted."""
    return sorted(path.parent.name for path in root.glob("*/data.mdb"))


def rows_as_dicts(
    store: WideRowStore, prefix: bytes = b"", limit: int | None = None, key: bytes | None = None
) -> list[dict[str, Any]]:
    """Rows for people, by prefix or the one with `key`: `row`, and `cells` with `column` (`family:qualifier`),
    `timestamp` (ISO 8601, UTC) and `value` of the newest cell of each column, decoded by its recorded type. Bytes that
    are not UTF-8 are shown escaped."""
    types = store.types()
    rows = store.scan(prefix, limit=limit) if key is None else filter(None, [store.read_row(key)])
    return [{"row": _text(row.key), "cells": _newest_cells(row, types)} for row in rows]


def _newest_cells(row: Row, types: Mapping[tuple[str, bytes], str]) -> list[dict[str, Any]]:
    return [
        {
            "column": f"{family}:{_text(qualifier)}",
            "timestamp": _time_text(cells[0].timestamp_us),
            "value": decode_value(types.get((family, qualifier), "binary"), cells[0].value),
        }
        for family, columns in row.families.items()
        for qualifier, cells in columns.items()
    ]


def decode_value(kind: str, value: bytes) -> Any:
    """The value of a cell whose column has the recorded type `kind`; binary as text."""
    match kind:
        case "int64":
            return _INT64.unpack(value)[0]
        case "float64":
            return _FLOAT64.unpack(value)[0]
        case "string" | "binary":
            return _text(value)
        case _:
            return orjson.loads(value)


_ALWAYS_ENCODABLE = ("int64", "float64", "string", "binary")
"""Kinds of which every value has a form, but for integers of more than 64 bits signed."""


def _kind(dtype: pl.DataType) -> str:
    """The name under which a column's type is recorded."""
    if dtype.is_integer():
        return "int64"
    if dtype.is_float():
        return "float64"
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return "string"
    return "binary" if dtype == pl.Binary else dtype.base_type().__name__.lower()


def _encode(series: pl.Series) -> tuple[str, list[bytes]]:
    """The type to record and the bytes of each value of a column without nulls."""
    kind = _kind(series.dtype)
    match kind:
        case "int64":
            try:
                return kind, _pack(_INT64.pack, series.cast(pl.Int64))
            except pl.exceptions.InvalidOperationError as error:
                raise DataError(f"column '{series.name}' has values above 64 bits signed. Cast it to String") from error
        case "float64":
            return kind, _pack(_FLOAT64.pack, series.cast(pl.Float64))
        case "string":
            return kind, series.cast(pl.String).cast(pl.Binary).to_list()
        case "binary":
            return kind, series.to_list()
    try:
        return kind, [orjson.dumps(value, default=str) for value in series.to_list()]
    except orjson.JSONEncodeError as error:
        raise DataError(
            f"column '{series.name}' of type {series.dtype} has no JSON form: {error}. Cast it to String"
        ) from error


def _pack(pack: Callable[[Any], bytes], series: pl.Series) -> list[bytes]:
    return list(map(pack, series.to_list()))


def _time_text(timestamp_us: int) -> str:
    try:
        return Timestamp(micros=timestamp_us).as_datetime().isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{timestamp_us} µs"


def _text(data: bytes) -> str:
    return data.decode(errors="backslashreplace")


def _check(frame: pl.DataFrame, store: str, end: int) -> None:
    for column, allowed in ((OFFSET, (pl.Int64,)), (ROW_KEY, (pl.String, pl.Binary)), (TIMESTAMP, (pl.Int64,))):
        dtype = frame.schema.get(column)
        if dtype not in allowed or frame[column].null_count():
            expected = " or ".join(str(a) for a in allowed)
            raise DataError(
                f"row store '{store}': column '{column}' must be {expected} without nulls, got {dtype}. "
                "Set it in the sink"
            )
    highest = frame.select(pl.col(OFFSET).max()).item()
    if highest is not None and highest >= end:
        raise DataError(
            f"row store '{store}': a row has offset {highest}, not below the write's end {end}. "
            "Pass the end of the whole batch"
        )
