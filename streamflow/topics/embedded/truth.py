"""The database that says what is true: connections and transactions. No statement on its rows.

Two connections for each handle: one that writes, under a lock, in exclusive transactions; one that reads and
so notices what any other connection commits, this handle's writing one included. Tables:

    topic, part      a topic; each partition's next offset and next byte
    file, chunk      a segment file and how many rows point into it; a record's place, offset and publication time
    producer         the last sequence of each (topic, producer name)
    pipeline, task   fingerprint; offset, watermark, epoch, owner, assignee and counters (a JSON object) of each task
    state            a task's state segments: their places, and what the task wants to know of them unread
    worker           the members of each pipeline
    meta             facts about the folder
"""

import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from streamflow.base.errors import ConflictError, CorruptionError, PipelineError, StreamFlowError
from streamflow.topics.embedded.schema import SCHEMA
from streamflow.topics.embedded.segments import no_space, sync_folder
from streamflow.topics.embedded.signal import Signal
from streamflow.topics.embedded.subscription_rows import TABLES

DATABASE = "streamflow.db"
SCHEMA_VERSION = 3
_APPLICATION_ID = 0x5F10_0001
_BUSY_TIMEOUT_MS = 60_000
"""Transactions take milliseconds: a minute means that a process is stopped inside one."""
_ROW_HASH_KEY = "polars_row_hash"
_LOOK_S = 1.0
"""A process killed between its commit and the signal is noticed this late at the latest."""
_POLL_MIN_S = 0.001
_POLL_MAX_S = 0.02
"""Without signals, a wait looks this often at first and after a while: latency against an idle worker's CPU time."""


class Truth:
    """The database of one folder. Threads may share it; a forked child may not."""

    def __init__(self, folder: Path) -> None:
        """Create the database if there is none; one that may not be written to is opened for reading only.

        ConflictError if this version can't use what is there; OSError if there is none and none can be made.
        """
        self._folder = folder
        self._pid = os.getpid()
        self._closed = False
        self._write_lock = threading.RLock()
        self._read_lock = threading.RLock()
        # SQLite polls for its lock with growing pauses. Queueing here first is fair and wakes up at once: of four
        # busy publishers' p99 it made 9 ms instead of 35, their worst 40 ms instead of 230.
        self._queue_fd = _open_queue(folder)
        self._writer: sqlite3.Connection | None = None
        self._look_at_s = 0.0
        try:
            self._signal = Signal(folder, readonly=self._queue_fd is None)
            with self._queued():
                if self._queue_fd is None:
                    self._reader = _connect_readonly(folder)
                    self._check(self._reader)
                else:
                    self._writer = self._connect()
                    self._reader = self._connect()
                    self._prepare(self._writer)
        except BaseException:
            self.close()
            raise
        self._seen = self._data_version()

    @contextmanager
    def transaction(self, *, quiet: bool = False, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Exclusive, durable when it ends without an exception, undone otherwise.

        `quiet`: wakes nobody, because nobody waits for such a change. Not `durable`: a power cut may undo it, with all
        later ones of that kind, up to the next durable one."""
        with self._write_lock, self._queued():
            self._check_usable()
            writer = self._writer
            if writer is None:
                raise StreamFlowError(
                    f"the log in '{self._folder}' can only be read: its files may not be written to. "
                    "Change their permissions, or use a copy"
                )
            with _translated(self._folder, writer):
                if not durable:
                    writer.execute("PRAGMA synchronous = NORMAL")
                writer.execute("BEGIN IMMEDIATE")
                try:
                    yield writer
                    writer.execute("COMMIT")
                except BaseException:
                    if writer.in_transaction:
                        writer.execute("ROLLBACK")
                    raise
                finally:
                    if not durable:
                        writer.execute("PRAGMA synchronous = FULL")
        if not quiet:
            self._signal.send()

    def tell(self) -> None:
        """Wake all that wait for a change."""
        self._signal.send()

    @contextmanager
    def view(self) -> Iterator[sqlite3.Connection]:
        """All reads inside see the same instant; never waits for a writer."""
        with self._read_lock:
            self._check_usable()
            with _translated(self._folder, self._reader):
                self._reader.execute("BEGIN")
                try:
                    yield self._reader
                finally:
                    self._reader.execute("COMMIT")

    def wait_changed(self, timeout_s: float) -> bool:
        """Whether anyone has committed since this was last asked, waiting up to that long for it. Who commits quietly
        ends no wait, but may be noticed."""
        # Real time, not the log's clock: this waits for other processes.
        deadline_s = time.monotonic() + timeout_s
        self._check_usable()
        # First to be waiting, then to look: what is committed in between is not missed.
        if not self._signal.arm():
            return self._poll(deadline_s)
        told = self._signal.wait(0)
        while True:
            now_s = time.monotonic()
            if told or now_s >= self._look_at_s:
                self._look_at_s = now_s + _LOOK_S
                if self._changed():
                    return True
            if now_s >= deadline_s:
                return False
            told = self._signal.wait(min(deadline_s, self._look_at_s) - now_s)
            self._check_usable()

    def _poll(self, deadline_s: float) -> bool:
        pause_s = _POLL_MIN_S
        while not self._changed():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            time.sleep(min(pause_s, left_s))
            pause_s = min(pause_s * 1.5, _POLL_MAX_S)
        return True

    def _changed(self) -> bool:
        with self._read_lock:
            self._check_usable()
            version = self._data_version()
            changed = version != self._seen
            self._seen = version
            return changed

    def close(self) -> None:
        with self._write_lock, self._read_lock:
            if self._closed:
                return
            self._closed = True
            for connection in (getattr(self, "_reader", None), getattr(self, "_writer", None)):
                if connection is not None:
                    connection.close()
            if self._queue_fd is not None:
                os.close(self._queue_fd)
            if (signal := getattr(self, "_signal", None)) is not None:
                signal.close()

    @contextmanager
    def _queued(self) -> Iterator[None]:
        self._check_usable()
        if self._queue_fd is None:
            yield
            return
        fcntl.flock(self._queue_fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._queue_fd, fcntl.LOCK_UN)

    def _check_usable(self) -> None:
        if self._closed:
            raise PipelineError(f"the log in '{self._folder}' was closed. Connect again to use it")
        if os.getpid() != self._pid:
            raise PipelineError(
                f"the log in '{self._folder}' was opened before this process was forked. Connect again in the child"
            )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._folder / DATABASE,
            timeout=_BUSY_TIMEOUT_MS / 1e3,
            isolation_level=None,
            check_same_thread=False,
        )
        with _translated(self._folder):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        return connection

    def _data_version(self) -> int:
        (version,) = self._reader.execute("PRAGMA data_version").fetchone()
        return int(version)

    def _prepare(self, writer: sqlite3.Connection) -> None:
        (version,) = writer.execute("PRAGMA user_version").fetchone()
        (tables,) = writer.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        if not version and not tables:
            self._create(writer)
            return
        self._check(writer)
        writer.executescript(f"BEGIN IMMEDIATE; {TABLES} COMMIT;")

    def _check(self, connection: sqlite3.Connection) -> None:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if application != _APPLICATION_ID:
            raise ConflictError(f"'{self._folder / DATABASE}' is not a StreamFlow log. Use another folder")
        if version > SCHEMA_VERSION:
            raise ConflictError(
                f"the log in '{self._folder}' has format {version}, this StreamFlow knows up to {SCHEMA_VERSION}. "
                "Upgrade StreamFlow, or use another folder"
            )
        if version < SCHEMA_VERSION:
            raise ConflictError(
                f"the log in '{self._folder}' has format {version}, which this StreamFlow has replaced by "
                f"{SCHEMA_VERSION}. Finish it with the version that made it, or begin a new folder"
            )
        stored = connection.execute("SELECT value FROM meta WHERE key = ?", (_ROW_HASH_KEY,)).fetchone()
        if stored is None:
            raise CorruptionError(
                f"the database of the log in '{self._folder}' is damaged: it has lost what it knows of the folder. "
                f"Restore '{DATABASE}' from a copy"
            )
        if stored[0] != row_hash():
            raise ConflictError(
                f"state and shuffles in '{self._folder}' were partitioned by another Polars version, whose row hash "
                f"differs from that of {pl.__version__}. Install the earlier version, or begin a new folder"
            )

    def _create(self, writer: sqlite3.Connection) -> None:
        writer.executescript(
            f"BEGIN IMMEDIATE; {SCHEMA} {TABLES} PRAGMA application_id = {_APPLICATION_ID}; "
            f"PRAGMA user_version = {SCHEMA_VERSION}; "
            f"INSERT INTO meta VALUES ('{_ROW_HASH_KEY}', '{row_hash()}'); COMMIT;"
        )
        sync_folder(self._folder)
        sync_folder(self._folder.parent)


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """What the system says of a folder that can't be used, as our errors."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise StreamFlowError(f"'{folder}' can't be the folder of a log: a file is in the way. Name another") from error
    except OSError as error:
        raise StreamFlowError(
            f"'{folder}' can't be the folder of a log: {error.strerror}. Name one that you may write to"
        ) from error


def row_hash() -> str:
    """What this Polars makes of two known strings: folders remember it, since partitions depend on it."""
    return ",".join(str(value) for value in pl.Series(["a", "b"]).hash(0))


def _open_queue(folder: Path) -> int | None:
    """A descriptor of the file that writers queue at; None if there is a database that may not be written to."""
    try:
        descriptor = os.open(folder / "streamflow.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and (folder / DATABASE).is_file():
            return None
        raise
    # SQLite needs to make files beside the database, too.
    if os.access(folder, os.W_OK):
        return descriptor
    os.close(descriptor)
    return None


def _connect_readonly(folder: Path) -> sqlite3.Connection:
    """Sees what is committed. Without the files that a writer keeps beside the database, nothing can change it."""
    database = folder / DATABASE
    alone = not any(database.with_name(f"{DATABASE}{suffix}").exists() for suffix in ("-wal", "-shm"))
    uri = f"{database.as_uri()}?mode=ro{'&immutable=1' if alone else ''}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    with _translated(folder):
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    return connection


@contextmanager
def _translated(folder: Path, connection: sqlite3.Connection | None = None) -> Iterator[None]:
    """Errors of SQLite as ours. With the connection also those that rows of a damaged database lead to."""
    try:
        yield
    except (StreamFlowError, sqlite3.ProgrammingError):
        raise
    except (sqlite3.DatabaseError, TypeError, ValueError, LookupError) as error:
        code = getattr(error, "sqlite_errorcode", None)
        damaged = code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        if not damaged and code in (None, sqlite3.SQLITE_ERROR):
            # Tables, columns and texts that this version's statements had found before.
            damaged = str(error).startswith(("no such", "Could not decode")) or _fails_check(connection)
        if damaged:
            raise CorruptionError(
                f"the database of the log in '{folder}' is damaged: {error}. Restore '{DATABASE}' from a copy"
            ) from error
        if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
            raise no_space(folder) from error
        if code is not None and code & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise StreamFlowError(
                f"the database of the log in '{folder}' can't be used: {error}. "
                "Check its files' permissions and the space on the disk"
            ) from error
        raise


def _fails_check(connection: sqlite3.Connection | None) -> bool:
    """Looks through all of the database, so only to explain an error."""
    try:
        return connection is not None and connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",)
    except sqlite3.DatabaseError:
        return True
