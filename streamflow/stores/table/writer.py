"""Exactly-once appends to a Delta table: one commit per write, carrying the input offset it covers.

The protocol of a write: refresh the handle; drop the rows that are stored already; write and fsync the data files;
commit with the app transaction (app, end); fsync the log up to that commit; only then return. Delta refuses the commit
if another holder of the same app committed since the refresh. Reading belongs in `catalog.py`.
"""

from contextlib import suppress
from pathlib import Path

import polars as pl
from deltalake import CommitProperties, DeltaTable, PostCommitHookProperties, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction

from streamflow.base.clock import Clock, SystemClock
from streamflow.base.errors import ConflictError, CorruptionError, DataError, FencedError
from streamflow.model.batch import OFFSET
from streamflow.stores._common import make_folder, sync_path
from streamflow.stores.table.files import check_folder_names, remove_files, write_files
from streamflow.stores.table.schema import (
    check_partition_types,
    columns_to_add,
    conform,
    storage_schema,
    without_null,
)
from streamflow.stores.table.spec import TableSpec, check_writable, open_table, table_folder

CHECKPOINT_EVERY = 100
"""Versions between checkpoints of the Delta log. A refresh costs about 0.06 ms per version since the handle was opened
at a checkpoint, a checkpoint 10 ms and more: this keeps both at a few milliseconds per commit."""
COMMIT_ATTEMPTS_MAX = 20
"""Bound on losing races against other apps' schema changes; each loss means that somebody else went on."""
LOG_RETENTION = "interval 7 days"
"""Commits older than this and covered by a checkpoint are deleted, or a busy table's log would grow without bound."""

_NO_HOOKS = PostCommitHookProperties(create_checkpoint=False, cleanup_expired_logs=False)


class TableWriter:
    """Appends the output of one `app` (pipeline/sink/partition) to the table `spec.name` under `root`.

    One process at a time should hold an app; a former holder that wakes up does no harm. Not for use by several threads
    at once. ConflictError if the table exists with another spec or uses Delta features this writer does not know."""

    def __init__(self, root: Path, spec: TableSpec, app: str, clock: Clock | None = None) -> None:
        self.spec = spec
        self.app = app
        self._clock = clock or SystemClock()
        self._folder = table_folder(root, spec.name)
        self._synced = -1
        self._opened_version = 0
        self._table: DeltaTable | None = None
        self._refresh()

    def committed(self) -> int:
        """The end of the input stored by this app: the offset to go on from; 0 if there is nothing yet."""
        return self._committed(self._refresh())

    def check(self, frame: pl.DataFrame) -> None:
        """DataError if the table can't hold these rows as they are. Looks at no offsets, so that a repetition after a
        crash finds the same rows bad."""
        rows = frame.drop(OFFSET)
        self._check_key(rows)
        check_folder_names(rows, self.spec.partition_by)
        stored = storage_schema(rows.schema)
        table = self._table
        if table is None:
            new = {name: without_null(dtype) for name, dtype in stored.items()}
            check_partition_types(self.spec.name, self.spec.partition_by, new)
            conform(rows, new)
        else:
            schema = dict(pl.Schema(table.schema()))
            schema.pop(OFFSET, None)
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
            table = self._refresh()
            committed = self._committed(table)
            fresh = frame.filter(pl.col(OFFSET) >= committed)
            if committed >= end or fresh.is_empty():
                return 0
            shaped = self._shape(fresh)
            try:
                if table is None:
                    self._create(shaped)
                elif new := columns_to_add(storage_schema(shaped.schema), dict(pl.Schema(table.schema()))):
                    self._add_columns(table, shaped, new)
                else:
                    self._store(table, shaped, end)
                    return fresh.height
            except CommitFailedError as error:
                if self.committed() != committed:
                    raise FencedError(
                        f"table '{self.spec.name}': app '{self.app}' was continued by another writer at offset "
                        f"{self.committed()}. Drop this work, it is done there"
                    ) from error
        raise ConflictError(
            f"table '{self.spec.name}' changed {COMMIT_ATTEMPTS_MAX} times while app '{self.app}' tried to write. "
            "Find what keeps changing its schema"
        )

    def _committed(self, table: DeltaTable | None) -> int:
        return 0 if table is None else table.transaction_version(self.app) or 0

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

    def _store(self, table: DeltaTable, frame: pl.DataFrame, end: int) -> None:
        """Write the rows and commit them on the version at which `committed()` was looked up. The handle must not be
        refreshed in between: Delta sees another holder's commits only if they are newer than the handle."""
        schema = dict(pl.Schema(table.schema()))
        actions = write_files(self._folder, conform(frame, schema), self.spec.partition_by, self._clock.now_us())
        # A commit must not become durable before the commits it stands on.
        self._sync_log()
        try:
            self._commit(table, actions, end)
        except CommitFailedError:
            remove_files(self._folder, actions)
            raise
        before = self._synced
        self._sync_log()
        if self._synced // CHECKPOINT_EVERY > before // CHECKPOINT_EVERY:
            self._checkpoint()

    def _commit(self, table: DeltaTable, actions: list[AddAction], end: int) -> None:
        table.create_write_transaction(
            [*actions],
            "append",
            table.schema(),
            list(self.spec.partition_by),
            commit_properties=CommitProperties(app_transactions=[Transaction(self.app, end)]),
            post_commithook_properties=_NO_HOOKS,
        )

    def _create(self, frame: pl.DataFrame) -> None:
        """Make the table, unless another writer was faster."""
        schema = {name: without_null(d) for name, d in storage_schema(frame.schema).items()}
        check_partition_types(self.spec.name, self.spec.partition_by, schema)
        conform(frame, schema)
        make_folder(self._folder / "_delta_log")
        try:
            DeltaTable.create(
                self._folder.absolute().as_uri(),
                Schema.from_arrow(pl.Schema(schema)),
                mode="error",
                partition_by=list(self.spec.partition_by),
                name=self.spec.name,
                configuration={
                    **self.spec.configuration(),
                    "delta.checkpointInterval": str(CHECKPOINT_EVERY),
                    "delta.logRetentionDuration": LOG_RETENTION,
                },
                post_commithook_properties=_NO_HOOKS,
                raise_if_key_not_exists=False,
            )
        except DeltaError:
            if open_table(self._folder) is None:
                raise
        self._refresh()
        self._sync_log()

    def _add_columns(self, table: DeltaTable, frame: pl.DataFrame, new: dict[str, pl.DataType]) -> None:
        conform(frame, dict(pl.Schema(table.schema())) | new)
        self._sync_log()
        table.alter.add_columns(Schema.from_arrow(pl.Schema(new)).fields, post_commithook_properties=_NO_HOOKS)
        self._refresh()
        self._sync_log()

    def _refresh(self) -> DeltaTable | None:
        """The table at its newest version; None before its first write."""
        if self._table is not None:
            try:
                self._table.update_incremental()
            except DeltaError as error:
                raise CorruptionError(
                    f"table '{self.spec.name}' can't be read any more: {error}. Was its folder removed?"
                ) from error
            # A handle replays every version since it was opened; opening anew starts at the last checkpoint.
            if self._table.version() - self._opened_version < CHECKPOINT_EVERY:
                return self._table
        return self._open()

    def _open(self) -> DeltaTable | None:
        self._table = open_table(self._folder)
        if self._table is not None:
            check_writable(self._table, self.spec)
            self._opened_version = self._table.version()
            # Whoever wrote the newest commits may have died before it synced them.
            self._synced = max(self._synced, self._opened_version - 2 * CHECKPOINT_EVERY)
        return self._table

    def _sync_log(self) -> None:
        """fsync every commit that is there and not known to be durable, whoever made it."""
        log = self._folder / "_delta_log"
        known = self._table.version() if self._table is not None else -1
        version = self._synced + 1
        while (path := log / f"{version:020}.json").exists() or version <= known:
            # Old commits may be gone, after a checkpoint.
            with suppress(FileNotFoundError):
                sync_path(path)
            version += 1
        if version > self._synced + 1:
            sync_path(log)
            self._synced = version - 1

    def _checkpoint(self) -> None:
        table = self._open()
        assert table is not None
        table.create_checkpoint()
        log = self._folder / "_delta_log"
        for path in (*log.glob(f"{table.version():020}.checkpoint*.parquet"), log / "_last_checkpoint", log):
            sync_path(path)
        table.cleanup_metadata()
        self._open()


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
