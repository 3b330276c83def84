"""Exactly-once appends to a Delta table: one commit per write, carrying the input offset it covers.

The protocol of a write: see what was committed since; drop the rows that are stored already; write and fsync the data
files; fsync the log so far; append the commit with the app transaction (app, end), durably; only then return. A commit
is refused if another holder of the same app committed in between. Reading belongs in `catalog.py`.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from streamflow.base.clock import Clock, SystemClock
from streamflow.base.errors import ConflictError, CorruptionError, DataError, FencedError
from streamflow.model.batch import OFFSET
from streamflow.stores._common import make_folder, sync_path
from streamflow.stores.table.delta_schema import from_delta, to_delta
from streamflow.stores.table.files import check_folder_names, remove_files, write_files
from streamflow.stores.table.remote import ask
from streamflow.stores.table.schema import (
    check_partition_types,
    columns_to_add,
    conform,
    storage_schema,
    without_null,
)
from streamflow.stores.table.spec import TableSpec, check_readable, check_writable, table_folder
from streamflow.stores.table.tail import append, commit_file, end_of_appends, plain_commit

CHECKPOINT_EVERY = 100
"""Versions between checkpoints of the Delta log. Opening a table costs about 0.06 ms per version since the last one, a
checkpoint 0.15 s: this keeps both small for each commit."""
COMMIT_ATTEMPTS_MAX = 20
"""Bound on losing races against other apps' schema changes; each loss means that somebody else went on."""
APPEND_ATTEMPTS_MAX = 1_000
"""The same for races against their rows, which cost a fraction of a millisecond each."""
KNOWN_FOR_S = 3_600.0
"""How long what was read of a table is trusted to have been followed. Commits are deleted after LOG_RETENTION at the
earliest: within an hour none can have come and gone."""
LOG_RETENTION = "interval 7 days"
"""Commits older than this and covered by a checkpoint are deleted, or a busy table's log would grow without bound."""


@dataclass(slots=True)
class _State:
    """A table at a version, as far as a writer must know it. `end`: what the writer's app has committed."""

    version: int
    schema: Mapping[str, pl.DataType]
    end: int
    read_s: float


class TableWriter:
    """Appends the output of one `app` (pipeline/sink/partition) to the table `spec.name` under `root`.

    One process at a time should hold an app; a former holder that wakes up does no harm. Not for use by several threads
    at once. ConflictError if the table exists with another spec or uses Delta features this writer does not know."""

    def __init__(self, root: Path, spec: TableSpec, app: str, clock: Clock | None = None) -> None:
        self.spec = spec
        self.app = app
        self._clock = clock or SystemClock()
        self._folder = table_folder(root, spec.name)
        self._log = self._folder / "_delta_log"
        self._synced = -1
        self._state: _State | None = None
        self._refresh()

    def committed(self) -> int:
        """The end of the input stored by this app: the offset to go on from; 0 if there is nothing yet."""
        return _end(self._refresh())

    def check(self, frame: pl.DataFrame) -> None:
        """DataError if the table can't hold these rows as they are. Looks at no offsets, so that a repetition after a
        crash finds the same rows bad."""
        rows = frame.drop(OFFSET)
        self._check_key(rows)
        check_folder_names(rows, self.spec.partition_by)
        stored = storage_schema(rows.schema)
        if self._state is None:
            new = {name: without_null(dtype) for name, dtype in stored.items()}
            check_partition_types(self.spec.name, self.spec.partition_by, new)
            conform(rows, new)
        else:
            schema = {name: dtype for name, dtype in self._state.schema.items() if name != OFFSET}
            conform(rows, schema | columns_to_add(stored, schema))

    def write(self, frame: pl.DataFrame, end: int) -> int:
        """Store the rows of `frame` not stored yet, and that the app's input is covered up to `end`; durable on return.

        `frame` has `_offset` (Int64: each row's input offset, below `end`) and the table's columns; rows below
        `committed()` are skipped. Returns the number of rows stored; with 0, nothing was committed and `committed()`
        stays. In a table with a key, only the newest of the frame's rows with the same key is stored. New columns are
        added to the table, absent ones are null. DataError if a value can't be stored as it is, FencedError if another
        holder of the app committed meanwhile (nothing of this call was stored), ConflictError after
        `COMMIT_ATTEMPTS_MAX` races lost against schema changes."""
        _check_offsets(frame, self.spec.name, end)
        for _ in range(COMMIT_ATTEMPTS_MAX):
            state = self._refresh()
            committed = _end(state)
            lowest = frame[OFFSET].min()
            again = isinstance(lowest, int) and lowest < committed
            fresh = frame.filter(pl.col(OFFSET) >= committed) if again else frame
            if committed >= end or fresh.is_empty():
                return 0
            shaped = self._shape(fresh)
            if state is None:
                self._create(shaped)
            elif new := columns_to_add(storage_schema(shaped.schema), state.schema):
                self._add_columns(state, shaped, new)
            elif self._store(state, shaped, end):
                return fresh.height
            if (continued := self.committed()) != committed:
                raise FencedError(
                    f"table '{self.spec.name}': app '{self.app}' was continued by another writer at offset "
                    f"{continued}. Drop this work, it is done there"
                )
        raise ConflictError(
            f"table '{self.spec.name}' changed {COMMIT_ATTEMPTS_MAX} times while app '{self.app}' tried to write. "
            "Find what keeps changing its schema"
        )

    def _shape(self, frame: pl.DataFrame) -> pl.DataFrame:
        """What is stored of new rows: with a key, its newest row of each key; without, no offset."""
        if not self.spec.key:
            return frame.drop(OFFSET)
        self._check_key(frame)
        return frame.sort(OFFSET, maintain_order=True).unique(self.spec.key, keep="last", maintain_order=True)

    def _check_key(self, frame: pl.DataFrame) -> None:
        if absent := [c for c in self.spec.key if c not in frame.columns]:
            raise DataError(
                f"table '{self.spec.name}': key column '{absent[0]}' is not in the frame. "
                "Add it, or declare another key"
            )

    def _store(self, state: _State, frame: pl.DataFrame, end: int) -> bool:
        """Write the rows and commit them on `state`; False, and nothing is stored, if more than others' rows was
        committed since."""
        now_us = self._clock.now_us()
        actions = write_files(self._folder, conform(frame, state.schema), self.spec.partition_by, now_us)
        content = plain_commit(actions, self.spec.partition_by, self.app, end, now_us)
        if not self._append(state, content):
            remove_files(self._folder, actions)
            return False
        state.end = end
        return True

    def _append(self, state: _State, content: bytes) -> bool:
        for _ in range(APPEND_ATTEMPTS_MAX):
            # A commit must not become durable before the commits it stands on.
            self._sync_log(state.version)
            if self._append_at(state.version + 1, content):
                before, self._synced, state.version = self._synced, state.version + 1, state.version + 1
                if self._synced // CHECKPOINT_EVERY > before // CHECKPOINT_EVERY:
                    self._ask("checkpoint")
                return True
            reached = end_of_appends(self._log, state.version, self.app)
            if reached is None:
                return False
            state.version = reached
        return False

    def _append_at(self, version: int, content: bytes) -> bool:
        try:
            return append(self._log, version, content)
        except FileNotFoundError as error:
            raise CorruptionError(
                f"table '{self.spec.name}' can't be written any more: {error}. Was its folder removed?"
            ) from error

    def _create(self, frame: pl.DataFrame) -> None:
        """Make the table, unless another writer was faster."""
        schema = {name: without_null(d) for name, d in storage_schema(frame.schema).items()}
        check_partition_types(self.spec.name, self.spec.partition_by, schema)
        conform(frame, schema)
        make_folder(self._log)
        self._ask(
            "create",
            schema=to_delta(schema),
            name=self.spec.name,
            partition_by=self.spec.partition_by,
            configuration={
                **self.spec.configuration(),
                "delta.checkpointInterval": str(CHECKPOINT_EVERY),
                "delta.logRetentionDuration": LOG_RETENTION,
            },
        )
        self._sync_log(0)

    def _add_columns(self, state: _State, frame: pl.DataFrame, new: dict[str, pl.DataType]) -> None:
        """Add them, unless another writer was faster."""
        conform(frame, {**state.schema, **new})
        self._ask("add_columns", schema=to_delta(new), synced=self._synced)
        self._sync_log(state.version)

    def _refresh(self) -> _State | None:
        """The table at its newest version; None before its first write."""
        state = self._state
        if state is not None and self._is_followed(state):
            reached = end_of_appends(self._log, state.version, self.app)
            if reached is not None:
                state.version = reached
                return state
        # Without a log there is nothing to ask the library for.
        return self._ask("look") if state is not None or self._log.exists() else None

    def _is_followed(self, state: _State) -> bool:
        there = commit_file(self._log, state.version).exists()
        return there and self._clock.monotonic_s() - state.read_s < KNOWN_FOR_S

    def _ask(self, do: str, **values: object) -> _State | None:
        """Have the library do that, and take over how it left the table. CorruptionError if that is older than what was
        there before."""
        read_s = self._clock.monotonic_s()
        table = ask(self._folder, do, app=self.app, **values)
        if self._state is not None and (table is None or table.version < self._state.version):
            raise CorruptionError(f"table '{self.spec.name}' can't be read any more. Was its folder removed?")
        if table is None:
            return None
        check_readable(table, self.spec.name)
        check_writable(table, self.spec)
        # Whoever wrote the newest commits may have died before it synced them.
        self._synced = max(self._synced, table.version - 2 * CHECKPOINT_EVERY)
        self._state = _State(table.version, from_delta(self.spec.name, table.schema), table.end, read_s)
        return self._state

    def _sync_log(self, known: int) -> None:
        """fsync every commit up to the version `known` and after it that is not known to be durable, whoever made
        it."""
        version = self._synced + 1
        while (path := commit_file(self._log, version)).exists() or version <= known:
            # Old commits may be gone, after a checkpoint.
            with suppress(FileNotFoundError):
                sync_path(path)
            version += 1
        if version > self._synced + 1:
            sync_path(self._log)
            self._synced = version - 1


def _end(state: _State | None) -> int:
    return 0 if state is None else state.end


def _check_offsets(frame: pl.DataFrame, table: str, end: int) -> None:
    if frame.schema.get(OFFSET) != pl.Int64 or frame[OFFSET].null_count():
        raise DataError(
            f"table '{table}': column '{OFFSET}' must be Int64 without nulls, got {frame.schema.get(OFFSET)}. "
            "Give each row the offset of its input"
        )
    highest = frame.select(pl.col(OFFSET).max()).item()
    if highest is not None and highest >= end:
        raise DataError(
            f"table '{table}': a row has offset {highest}, not below the write's end {end}. "
            "Pass the end of the whole batch"
        )
