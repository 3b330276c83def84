"""One LMDB environment per folder and process: opening, growing, retrying. Knows nothing of rows.

LMDB must not be opened twice in a process, its map may be resized only while the process has no transaction, and what
one process has grown the others must adopt. So all handles of a folder share one environment here, and work is handed
in as functions that each run in one short transaction and may be run again.
"""

import os
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from typing import TypeVar

import lmdb

from streamflow.base.errors import ConflictError, CorruptionError, NotFoundError, StreamFlowError
from streamflow.stores._common import make_folder, sync_path

MAP_BYTES_DEFAULT = 1 << 30
"""Address space, not disk: the file grows with its content."""
MAP_BYTES_MAX = 1 << 44
READERS_MAX = 1_022
DATABASES = (b"cells", b"rows", b"qualifiers", b"meta")

_Result = TypeVar("_Result")
_BROKEN = (lmdb.CorruptedError, lmdb.PageNotFoundError, lmdb.InvalidError, lmdb.PanicError)


class Environment:
    """Use `acquire` and `release`, not the constructor."""

    def __init__(self, path: Path, readonly: bool, map_bytes: int) -> None:
        self.path = path
        self.readonly = readonly
        self.users = 0
        self._lock = RLock()
        self._open(map_bytes)

    def read(self, work: Callable[[lmdb.Transaction], _Result]) -> _Result:
        """Run `work` on one consistent state."""
        return self._run(work, write=False)

    def write(self, work: Callable[[lmdb.Transaction], _Result]) -> _Result:
        """Run `work` and commit, durably; nothing is changed if it raises. Runs again if the map has to grow."""
        return self._run(work, write=True)

    def database(self, name: bytes) -> lmdb._Database:
        return self._databases[name]

    def make_writable(self) -> None:
        """Reopen an environment that was opened for reading only."""
        with self._lock:
            if self.readonly:
                self.close()
                self.readonly = False
                self._open(MAP_BYTES_DEFAULT)

    def close(self) -> None:
        with self._lock:
            self._env.close()

    def _run(self, work: Callable[[lmdb.Transaction], _Result], *, write: bool) -> _Result:
        with self._lock:
            while True:
                try:
                    with self._env.begin(write=write) as transaction:
                        return work(transaction)
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.MapResizedError:
                    self._env.set_mapsize(0)
                except _BROKEN as error:
                    raise CorruptionError(
                        f"row store '{self.path.name}' can't be read: {error}. Restore its folder"
                    ) from error

    def _grow(self) -> None:
        size = 2 * self._env.info()["map_size"]
        if size > MAP_BYTES_MAX:
            raise ConflictError(f"row store '{self.path.name}' is full at {size // 2} bytes. Split it into several")
        self._env.set_mapsize(size)

    def _open(self, map_bytes: int) -> None:
        if not self.readonly:
            make_folder(self.path)
        elif not (self.path / "data.mdb").exists():
            raise NotFoundError(f"row store '{self.path.name}' does not exist. Has anything been written to it yet?")
        try:
            self._env = lmdb.open(
                os.fspath(self.path),
                map_size=map_bytes,
                max_dbs=len(DATABASES),
                max_readers=READERS_MAX,
                readonly=self.readonly,
                create=not self.readonly,
                lock=not self.readonly or _may_lock(self.path),
            )
        except _BROKEN as error:
            raise CorruptionError(
                f"row store '{self.path.name}' can't be opened: {error}. Restore its folder"
            ) from error
        except lmdb.Error as error:
            raise StreamFlowError(
                f"row store '{self.path.name}' can't be opened: {error}. Check its files' permissions"
            ) from error
        # Readers that were killed would hold on to old pages for ever.
        self._env.reader_check()
        self._open_databases()

    def _open_databases(self) -> None:
        def create_all(transaction: lmdb.Transaction) -> dict[bytes, lmdb._Database]:
            return {name: self._env.open_db(name, txn=transaction) for name in DATABASES}

        try:
            if self.readonly:
                # Not in one transaction: a read-only one ends by abort, and its new handles with it.
                self._databases = {name: self._env.open_db(name, create=False) for name in DATABASES}
            else:
                self._databases = self._run(create_all, write=True)
        except lmdb.NotFoundError as error:
            self._env.close()
            raise NotFoundError(
                f"row store '{self.path.name}' is still empty. Has anything been written to it yet?"
            ) from error
        if not self.readonly:
            sync_path(self.path)


def _may_lock(path: Path) -> bool:
    """Readers note themselves in the lock file. Where they may not, nobody of theirs writes either."""
    lock = path / "lock.mdb"
    return os.access(lock if lock.exists() else path, os.W_OK)


_environments: dict[Path, Environment] = {}
_environments_lock = RLock()


def acquire(path: Path, *, readonly: bool, map_bytes: int = MAP_BYTES_DEFAULT) -> Environment:
    """The environment of the folder, opened if it is not open in this process. NotFoundError if it is to be read only
    and is not there."""
    path = path.absolute()
    with _environments_lock:
        environment = _environments.get(path)
        if environment is None:
            environment = _environments[path] = Environment(path, readonly, map_bytes)
        elif not readonly:
            environment.make_writable()
        environment.users += 1
        return environment


def release(environment: Environment) -> None:
    """Give it back; the last user closes it."""
    with _environments_lock:
        environment.users -= 1
        if environment.users == 0:
            del _environments[environment.path]
            environment.close()
