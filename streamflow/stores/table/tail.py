"""The tail of a Delta log: appends plain data commits, and tells what others have appended. Knows no rows and no files.

A plain commit has only actions that are appended blindly: `commitInfo`, `add`, `txn`. They are written here, as the
protocol says (PROTOCOL.md of github.com/delta-io/delta: actions, and one commit per version, put if absent), because
the library replays the log for each of its commits, which was 12 of a small write's 17 ms of CPU time. All else, from
creating a table to checkpoints, is the library's.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import orjson

from streamflow.stores._common import sync_path
from streamflow.stores.table.files import AddedFile

_PLAIN = frozenset({"commitInfo", "add", "txn"})


def commit_file(log: Path, version: int) -> Path:
    return log / f"{version:020}.json"


def append(log: Path, version: int, content: bytes) -> bool:
    """Put the commit there, whole and durable; False if there is one of that version already.

    FileNotFoundError if the folder `log` is gone."""
    target = commit_file(log, version)
    draft = log / f"_commit_{uuid4().hex}.json.tmp"
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # Unlike a rename, a link replaces nothing.
        os.link(draft, target)
    except FileExistsError:
        return False
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
    sync_path(log)
    return True


def end_of_appends(log: Path, version: int, app: str) -> int | None:
    """The newest version reached from `version` over plain commits of others; None if one is not plain, or is of `app`:
    then the table's state must be read anew."""
    while True:
        try:
            content = commit_file(log, version + 1).read_bytes()
        except FileNotFoundError:
            return version
        actions = [orjson.loads(line) for line in content.splitlines() if line.strip()]
        if any(not action.keys() <= _PLAIN or action.get("txn", {}).get("appId") == app for action in actions):
            return None
        version += 1


def plain_commit(adds: Sequence[AddedFile], partition_by: Sequence[str], app: str, end: int, now_us: int) -> bytes:
    """An append of files, and that `app` is covered up to `end`."""
    now_ms = now_us // 1_000
    parameters = {"mode": "Append", "partitionBy": orjson.dumps(list(partition_by)).decode()}
    info = {"timestamp": now_ms, "operation": "WRITE", "operationParameters": parameters, "engineInfo": "streamflow"}
    actions: list[dict[str, object]] = [{"commitInfo": info}, {"txn": {"appId": app, "version": end}}]
    actions += [
        {
            "add": {
                "path": quote(add.path, safe="/="),
                "partitionValues": add.partition_values,
                "size": add.size,
                "modificationTime": add.modification_time,
                "dataChange": True,
                "stats": add.stats,
            }
        }
        for add in adds
    ]
    return b"".join(orjson.dumps(action, option=orjson.OPT_APPEND_NEWLINE) for action in actions)
