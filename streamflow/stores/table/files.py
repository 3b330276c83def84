"""Durable Parquet files of a Delta table, and the actions that announce them. Knows no commit and no transaction."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import orjson
import polars as pl

from streamflow.base.errors import DataError
from streamflow.model.time import Timestamp
from streamflow.stores._common import sync_path

NULL_FOLDER = "__HIVE_DEFAULT_PARTITION__"
_FOLDER_BYTES_MAX = 255
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()


@dataclass(frozen=True, slots=True)
class AddedFile:
    """Delta's `add` action. `path`: relative to the table's folder, its parts quoted already; `stats`: JSON."""

    path: str
    size: int
    partition_values: Mapping[str, str | None]
    modification_time: int
    stats: str


def write_files(folder: Path, frame: pl.DataFrame, partition_by: Sequence[str], now_us: int) -> list[AddedFile]:
    """One fsynced file per partition present in `frame` (which has the table's schema), in `folder`. They belong to the
    table only once a commit names them. DataError if a partition value is too long for a folder name."""
    actions, touched = [], {folder}
    for values, part in _partitions(frame, partition_by):
        relative = "".join(f"{_folder_name(column, value)}/" for column, value in values.items())
        target = folder / relative / f"part-{uuid4().hex}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_parquet(
            target, compression="zstd", compression_level=1, statistics=True
        )  # level 3 takes twice as long for hardly less
        sync_path(target)
        touched.update(p for p in target.parents if p.is_relative_to(folder))
        actions.append(
            AddedFile(
                path=f"{relative}{target.name}",
                size=os.path.getsize(target),
                partition_values=values,
                modification_time=now_us // 1_000,
                stats=orjson.dumps(_stats(part)).decode(),
            )
        )
    for path in sorted(touched, reverse=True):
        sync_path(path)
    return actions


def check_folder_names(frame: pl.DataFrame, partition_by: Sequence[str]) -> None:
    """DataError if a value of a partition column can't be the name of a folder."""
    for column in partition_by:
        if column in frame.columns:
            for value in frame[column].unique():
                _folder_name(column, _partition_value(value))


def remove_files(folder: Path, actions: Sequence[AddedFile]) -> None:
    """Delete files whose commit failed."""
    for action in actions:
        (folder / action.path).unlink(missing_ok=True)


def _partitions(
    frame: pl.DataFrame, partition_by: Sequence[str]
) -> Iterator[tuple[dict[str, str | None], pl.DataFrame]]:
    if not partition_by:
        yield {}, frame
        return
    groups = frame.partition_by(list(partition_by), as_dict=True, maintain_order=True)
    merged: dict[tuple[str | None, ...], list[pl.DataFrame]] = {}
    for values, part in groups.items():
        merged.setdefault(tuple(_partition_value(v) for v in values), []).append(part.drop(partition_by))
    for texts, parts in merged.items():
        yield dict(zip(partition_by, texts, strict=True)), pl.concat(parts)


def _partition_value(value: object) -> str | None:
    # Delta has no empty string in a partition column: its protocol reads "" as null.
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date) else str(value)


def _folder_name(column: str, value: str | None) -> str:
    name = f"{quote(column, safe='')}={NULL_FOLDER if value is None else quote(value, safe='')}"
    if len(name) > _FOLDER_BYTES_MAX:
        raise DataError(
            f"partition column '{column}': value '{value[:40] if value else value}…' is too long for a folder name. "
            "Partition by something shorter"
        )
    return name


def _stats(frame: pl.DataFrame) -> dict[str, object]:
    """Delta's file statistics. Bounds only for types where they can't be misread (no strings, which readers expect to
    be truncated in one exact way; no floats with NaN)."""
    nulls = frame.null_count().row(0, named=True)
    bounded = [
        name
        for name, dtype in frame.schema.items()
        if (dtype.is_integer() or dtype.is_temporal() or (dtype.is_float() and frame[name].is_finite().all()))
        and nulls[name] < frame.height
    ]
    low, high = _bounds(frame, bounded, "min"), _bounds(frame, bounded, "max")
    known = low.keys() & high.keys()
    return {
        "numRecords": frame.height,
        "minValues": {name: low[name] for name in bounded if name in known},
        "maxValues": {name: high[name] for name in bounded if name in known},
        "nullCount": {n: c for n, c in nulls.items() if not frame.schema[n].is_nested()},
    }


def _bounds(frame: pl.DataFrame, columns: Sequence[str], which: str) -> dict[str, object]:
    if not columns:
        return {}
    extremes = [getattr(pl.col(c).to_physical(), which)() for c in columns]
    bounds: dict[str, object] = {}
    for name, value in frame.select(extremes).row(0, named=True).items():
        # Years outside 1 to 9999 have no text form: such a file goes without bounds in that column.
        with suppress(OverflowError, ValueError):
            bounds[name] = _bound_text(frame.schema[name], value)
    return bounds


def _bound_text(dtype: pl.DataType, value: int | float) -> object:
    if dtype == pl.Date:
        return date.fromordinal(_EPOCH_ORDINAL + int(value)).isoformat()
    if isinstance(dtype, pl.Datetime):
        utc = Timestamp(micros=int(value)).to_utc_datetime()
        return utc.isoformat(timespec="microseconds") + "Z"
    return value
