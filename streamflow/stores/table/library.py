"""The Delta library's side of a writer: run as a process that lives as long as one call. It must import nothing else.

A worker that has loaded the library keeps some 40 MB of it until it ends, and needs it for a tenth of a second when a
table is opened or made, gets a column, or has its log checkpointed. `ask` in `remote.py` starts this file by its path:
as a module of the package it would load Polars, which takes three times as long as the library.

One JSON object on stdin: `do`, `folder` (an absolute path) and what else the call takes; its answer on stdout.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from deltalake import DeltaTable, PostCommitHookProperties, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


def facts(table: DeltaTable) -> dict[str, Any]:
    """What `remote.Facts` takes, but for an app."""
    metadata, protocol = table.metadata(), table.protocol()
    return {
        "version": table.version(),
        "schema": table.schema().to_json(),
        "partition_by": metadata.partition_columns,
        "configuration": metadata.configuration,
        "reader_features": protocol.reader_features or [],
        "min_writer_version": protocol.min_writer_version,
    }


def look(folder: str, app: str) -> dict[str, Any] | None:
    """The table at its newest version; None if there is none."""
    table = _opened(folder)
    return None if table is None else _described(table, app)


def create(
    folder: str, app: str, schema: str, name: str, partition_by: list[str], configuration: dict[str, str | None]
) -> dict[str, Any] | None:
    """Make the table, unless another writer was faster."""
    try:
        table = DeltaTable.create(
            Path(folder).as_uri(),
            Schema.from_json(schema),
            mode="error",
            partition_by=partition_by,
            name=name,
            configuration=configuration,
            post_commithook_properties=_NO_HOOKS,
            raise_if_key_not_exists=False,
        )
    except DeltaError:
        if (there := look(folder, app)) is None:
            raise
        return there
    return _described(table, app)


def add_columns(folder: str, app: str, schema: str, synced: int) -> dict[str, Any] | None:
    """Add the columns of `schema` that are not there in any case, unless another writer was faster; then look. First,
    commits after `synced` are made durable: none may be before those it stands on."""
    if (table := _opened(folder)) is None:
        return None
    there = {field.name.lower() for field in table.schema().fields}
    if new := [field for field in Schema.from_json(schema).fields if field.name.lower() not in there]:
        log = Path(folder) / "_delta_log"
        for version in range(synced + 1, table.version() + 1):
            _sync(log / f"{version:020}.json")
        _sync(log)
        with suppress(CommitFailedError):
            table.alter.add_columns(new, post_commithook_properties=_NO_HOOKS)
    return look(folder, app)


def checkpoint(folder: str, app: str) -> dict[str, Any] | None:
    """Write a checkpoint, durably, and delete the commits that are covered by one and old enough."""
    if (table := _opened(folder)) is None:
        return None
    log = Path(folder) / "_delta_log"
    table.create_checkpoint()
    for path in (*log.glob(f"{table.version():020}.checkpoint*.parquet"), log / "_last_checkpoint", log):
        _sync(path)
    table.cleanup_metadata()
    return _described(table, app)


def _described(table: DeltaTable, app: str) -> dict[str, Any]:
    return {**facts(table), "end": table.transaction_version(app) or 0}


class _UnreadableError(Exception):
    pass


def _opened(folder: str) -> DeltaTable | None:
    try:
        return DeltaTable(Path(folder).as_uri())
    except TableNotFoundError:
        return None
    except DeltaError as error:
        raise _UnreadableError(str(error)) from error


def _sync(path: Path) -> None:
    # Old commits may be gone, after a checkpoint.
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_CALLS: dict[str, Callable[..., dict[str, Any] | None]] = {
    "look": look,
    "create": create,
    "add_columns": add_columns,
    "checkpoint": checkpoint,
}

if __name__ == "__main__":
    # A worker that is told to stop finishes its step, and what that has asked for here.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    request = json.load(sys.stdin)
    try:
        answer = _CALLS[request.pop("do")](**request)
    except _UnreadableError as error:
        answer = {"unreadable": str(error)}
    json.dump(answer, sys.stdout)
