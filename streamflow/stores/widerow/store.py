"""Rows, cells and mutations on one LMDB folder: Bigtable's model without its server.

Every call is one durable transaction, or reads in short ones; a row is always read whole, as it was at one instant. A
scan is not a snapshot: rows written while it runs may or may not be in it. Types of values belong in `writer.py`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import lmdb

from streamflow.base.errors import ConflictError, FencedError
from streamflow.stores.widerow.encoding import encode_row, prefix_end
from streamflow.stores.widerow.environment import MAP_BYTES_DEFAULT, Environment, acquire, release
from streamflow.stores.widerow.model import CellWrite, Mutation, Position, Row
from streamflow.stores.widerow.transaction import Changes, Reader

SCAN_ROWS = 256
"""Rows read per transaction of a scan: bounds memory, and how long a reader keeps old pages from being reused."""


class WideRowStore:
    """The row store in the folder `path`, created if it is missing unless `readonly` (then NotFoundError).

    Several processes and threads may use it at once; writes queue. `map_bytes`: where the map starts; it grows."""

    def __init__(self, path: Path, *, readonly: bool = False, map_bytes: int = MAP_BYTES_DEFAULT) -> None:
        self.path = path
        self.readonly = readonly
        self._environment: Environment | None = acquire(path, readonly=readonly, map_bytes=map_bytes)

    def mutate(self, row_key: bytes, mutations: Sequence[Mutation]) -> None:
        """Apply the mutations to the row in order, atomically and durably. DataError, and no change, if one is bad."""
        self.mutate_rows([(row_key, mutations)])

    def mutate_rows(self, rows: Sequence[tuple[bytes, Sequence[Mutation]]]) -> None:
        """`mutate` for many rows, all in one transaction: all or none."""

        def work(transaction: lmdb.Transaction) -> None:
            changes = Changes(self._open_environment(), transaction)
            for row_key, mutations in rows:
                changes.mutate(row_key, mutations)

        self._writable().write(work)

    def apply(
        self,
        app: str,
        epoch: int,
        end: int,
        cells: Sequence[CellWrite],
        types: Mapping[tuple[str, bytes], str] | None = None,
    ) -> int:
        """Store the cells that are not stored yet, and with them how far `app` has come; one durable transaction.

        Cells of offsets below the app's stored end are skipped; of cells with the same address the last one counts.
        `types` names the value type of columns. Returns the number of cells written. FencedError if the app was
        continued with a higher epoch, DataError if a column was written with another type before; then nothing is
        changed."""

        def work(transaction: lmdb.Transaction) -> int:
            changes = Changes(self._open_environment(), transaction)
            stored = changes.position(app)
            if epoch < stored.epoch:
                raise FencedError(
                    f"row store '{self.path.name}': app '{app}' was continued with epoch {stored.epoch}, "
                    f"above {epoch}. Drop this work, it is done there"
                )
            fresh = [cell for cell in cells if cell.offset >= stored.end] if end > stored.end else []
            if fresh:
                changes.check_types(self.path.name, types or {})
                changes.put(fresh)
            if (epoch, end) > stored:
                changes.set_position(app, Position(epoch, max(end, stored.end)))
            return len(fresh)

        return self._writable().write(work)

    def position(self, app: str) -> Position:
        """What `apply` stored last for the app; zeros if nothing."""
        environment = self._open_environment()
        return environment.read(lambda transaction: Changes(environment, transaction).position(app))

    def types(self) -> dict[tuple[str, bytes], str]:
        """The recorded value types: (family, qualifier) → name."""
        environment = self._open_environment()
        return environment.read(lambda transaction: Reader(environment, transaction).types())

    def read_row(self, row_key: bytes) -> Row | None:
        """The whole row; None if it has no cells."""
        encoded = encode_row(row_key)
        environment = self._open_environment()
        return environment.read(lambda transaction: Reader(environment, transaction).row(encoded, row_key))

    def scan(
        self,
        prefix: bytes = b"",
        start: bytes | None = None,
        end: bytes | None = None,
        limit: int | None = None,
    ) -> Iterator[Row]:
        """Rows in byte order of their keys that start with `prefix` and lie in `[start, end)`, at most `limit`."""
        low = max(prefix, start or b"")
        ends = [bound for bound in (prefix_end(prefix), end) if bound is not None]
        high = min(ends) if ends else None
        after: bytes | None = None
        left = limit if limit is not None else 1 << 62
        while left > 0:
            rows = self._chunk(low, after, high, min(left, SCAN_ROWS))
            yield from rows
            if len(rows) < min(left, SCAN_ROWS):
                return
            left -= len(rows)
            after = rows[-1].key

    def close(self) -> None:
        if self._environment is not None:
            release(self._environment)
            self._environment = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _chunk(self, low: bytes, after: bytes | None, high: bytes | None, count: int) -> list[Row]:
        environment = self._open_environment()
        return environment.read(lambda transaction: Reader(environment, transaction).rows(low, after, high, count))

    def _open_environment(self) -> Environment:
        if self._environment is None:
            raise ConflictError(f"row store '{self.path.name}' is closed. Open it anew")
        return self._environment

    def _writable(self) -> Environment:
        if self.readonly:
            raise ConflictError(f"row store '{self.path.name}' was opened for reading. Open it without readonly")
        return self._open_environment()
