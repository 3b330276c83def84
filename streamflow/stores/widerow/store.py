"""Rows, cells and mutations on one LMDB folder: Bigtable's model without its server.

Every call is one durable transaction, or reads in short ones; a row is always read whole, as it was at one instant. A
scan is not a snapshot: rows written while it runs may or may not be in it. Types of values belong in `writer.py`.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import lmdb

from streamflow.base.errors import ConflictError, CorruptionError, DataError, FencedError
from streamflow.stores.widerow.encoding import (
    TIMESTAMP_BYTES,
    decode,
    decode_timestamp,
    encode_column,
    encode_family,
    encode_qualifier,
    encode_row,
    encode_timestamp,
    group_end,
    group_start,
    is_hashed,
    prefix_end,
    row_part,
    seek_row,
    split_column,
)
from streamflow.stores.widerow.environment import MAP_BYTES_DEFAULT, Environment, acquire, release

SCAN_ROWS = 256
"""Rows read per transaction of a scan: bounds memory, and how long a reader keeps old pages from being reused."""

_POSITION = struct.Struct(">qq")
_AFTER_COLUMNS = b"\xff"
"""Above the first byte of every family, so above all cells of a row."""


class Cell(NamedTuple):
    timestamp_us: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Row:
    """`families`: family → qualifier → cells, newest first; families and qualifiers in byte order."""

    key: bytes
    families: Mapping[str, Mapping[bytes, Sequence[Cell]]] = field(default_factory=dict)

    def newest(self, family: str, qualifier: bytes) -> bytes | None:
        """The value of the newest cell of a column; None if it has none."""
        cells = self.families.get(family, {}).get(qualifier)
        return cells[0].value if cells else None


@dataclass(frozen=True, slots=True)
class SetCell:
    """Write a cell; one with the same timestamp is replaced."""

    family: str
    qualifier: bytes
    timestamp_us: int
    value: bytes


@dataclass(frozen=True, slots=True)
class DeleteFromColumn:
    """Delete the column's cells with timestamps in `[start_us, end_us)`; None is unbounded."""

    family: str
    qualifier: bytes
    start_us: int | None = None
    end_us: int | None = None


@dataclass(frozen=True, slots=True)
class DeleteFromFamily:
    family: str


@dataclass(frozen=True, slots=True)
class DeleteFromRow:
    pass


Mutation = SetCell | DeleteFromColumn | DeleteFromFamily | DeleteFromRow


class CellWrite(NamedTuple):
    """A cell on its way into the store, with the offset of the input row it comes from."""

    offset: int
    row_key: bytes
    family: str
    qualifier: bytes
    timestamp_us: int
    value: bytes


class Position(NamedTuple):
    """How far an app has come: its newest epoch, and the end of the input it has stored."""

    epoch: int
    end: int


class WideRowStore:
    """The row store in the folder `path`, created if it is missing unless `readonly` (then NotFoundError).

    Several processes and threads may use it at once; writes queue. `map_bytes` is only where the map starts: it grows."""

    def __init__(self, path: Path, *, readonly: bool = False, map_bytes: int = MAP_BYTES_DEFAULT) -> None:
        self.path = path
        self.readonly = readonly
        self._environment: Environment | None = acquire(path, readonly=readonly, map_bytes=map_bytes)

    def mutate(self, row_key: bytes, mutations: Sequence[Mutation]) -> None:
        """Apply the mutations to the row in order, atomically and durably. DataError, and no change, if one is invalid."""
        self.mutate_rows([(row_key, mutations)])

    def mutate_rows(self, rows: Sequence[tuple[bytes, Sequence[Mutation]]]) -> None:
        """`mutate` for many rows, all in one transaction: all or none."""

        def work(transaction: lmdb.Transaction) -> None:
            changes = _Changes(self._open_environment(), transaction)
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
            changes = _Changes(self._open_environment(), transaction)
            stored = changes.position(app)
            if epoch < stored.epoch:
                raise FencedError(
                    f"row store '{self.path.name}': app '{app}' was continued with epoch {stored.epoch}, above {epoch}. "
                    "Drop this work, it is done there"
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
        return environment.read(lambda transaction: _Changes(environment, transaction).position(app))

    def types(self) -> dict[tuple[str, bytes], str]:
        """The recorded value types: (family, qualifier) → name."""
        environment = self._open_environment()
        return environment.read(lambda transaction: _Reader(environment, transaction).types())

    def read_row(self, row_key: bytes) -> Row | None:
        """The whole row; None if it has no cells."""
        encoded = encode_row(row_key)
        environment = self._open_environment()
        return environment.read(lambda transaction: _Reader(environment, transaction).row(encoded, row_key))

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
        return environment.read(lambda transaction: _Reader(environment, transaction).rows(low, after, high, count))

    def _open_environment(self) -> Environment:
        if self._environment is None:
            raise ConflictError(f"row store '{self.path.name}' is closed. Open it anew")
        return self._environment

    def _writable(self) -> Environment:
        if self.readonly:
            raise ConflictError(f"row store '{self.path.name}' was opened for reading. Open it without readonly")
        return self._open_environment()


class _Reader:
    """Reads rows within one transaction."""

    def __init__(self, environment: Environment, transaction: lmdb.Transaction) -> None:
        self._transaction = transaction
        self._cells = environment.database(b"cells")
        self._rows = environment.database(b"rows")
        self._qualifiers = environment.database(b"qualifiers")
        self._meta = environment.database(b"meta")
        self._columns: dict[bytes, tuple[str, bytes]] = {}

    def rows(self, low: bytes, after: bytes | None, high: bytes | None, count: int) -> list[Row]:
        """Up to `count` rows in `[low, high)`, greater than `after`."""
        rows: list[Row] = []
        cursor = self._transaction.cursor(self._cells)
        if after is None:
            found = cursor.set_range(seek_row(low)) if low else cursor.first()
        else:
            encoded = encode_row(after)
            found = cursor.set_range(group_start(encoded) if is_hashed(encoded) else encoded + _AFTER_COLUMNS)
        while found and len(rows) < count:
            encoded = row_part(cursor.key())
            for part, row_key in self._group(encoded):
                if row_key < low or (after is not None and row_key <= after):
                    continue
                if (high is not None and row_key >= high) or len(rows) == count:
                    return rows
                if (row := self.row(part, row_key)) is not None:
                    rows.append(row)
            found = cursor.set_range(group_end(encoded) if is_hashed(encoded) else encoded + _AFTER_COLUMNS)
        return rows

    def row(self, encoded: bytes, row_key: bytes) -> Row | None:
        families: dict[str, dict[bytes, list[Cell]]] = {}
        cells: list[Cell] = []
        column = None
        start = len(encoded)
        hashed = False
        cursor = self._transaction.cursor(self._cells)
        if not cursor.set_range(encoded):
            return None
        for key, value in cursor:
            if not key.startswith(encoded):
                break
            if (found := key[start:-TIMESTAMP_BYTES]) != column:
                column = found
                family, qualifier = self._column(found)
                hashed = hashed or is_hashed(split_column(found)[1])
                cells = families.setdefault(family, {}).setdefault(qualifier, [])
            cells.append(Cell(decode_timestamp(key), value))
        if hashed:
            families = {family: dict(sorted(columns.items())) for family, columns in families.items()}
        return Row(row_key, families) if families else None

    def types(self) -> dict[tuple[str, bytes], str]:
        found = {}
        cursor = self._transaction.cursor(self._meta)
        cursor.set_range(b"type/")
        for key, value in cursor:
            if not key.startswith(b"type/"):
                break
            found[self._column(key[len(b"type/") :])] = value.decode()
        return found

    def _group(self, encoded: bytes) -> list[tuple[bytes, bytes]]:
        """(encoded, row key) of the row, or in key order of all long rows that can't be told apart by what is kept."""
        if not is_hashed(encoded):
            return [(encoded, decode(encoded))]
        start = group_start(encoded)
        group = []
        cursor = self._transaction.cursor(self._rows)
        cursor.set_range(start)
        for part, row_key in cursor:
            if not part.startswith(start):
                break
            group.append((part, row_key))
        return sorted(group, key=lambda pair: pair[1])

    def _column(self, encoded: bytes) -> tuple[str, bytes]:
        if (known := self._columns.get(encoded)) is not None:
            return known
        family, part = split_column(encoded)
        if is_hashed(part):
            qualifier = self._transaction.get(part, db=self._qualifiers)
            if qualifier is None:
                raise CorruptionError(f"family '{family}' has a long qualifier without its name. Report this bug")
        else:
            qualifier = decode(part)
        self._columns[encoded] = family, qualifier
        return family, qualifier


class _Changes:
    """Changes cells and metadata within one transaction."""

    def __init__(self, environment: Environment, transaction: lmdb.Transaction) -> None:
        self._transaction = transaction
        self._cells = environment.database(b"cells")
        self._rows = environment.database(b"rows")
        self._qualifiers = environment.database(b"qualifiers")
        self._meta = environment.database(b"meta")
        self._encoded_rows: dict[bytes, bytes] = {}
        self._encoded_columns: dict[tuple[str, bytes], bytes] = {}

    def position(self, app: str) -> Position:
        stored = self._transaction.get(_app_key(app), db=self._meta)
        return Position(*_POSITION.unpack(stored)) if stored else Position(0, 0)

    def set_position(self, app: str, position: Position) -> None:
        self._transaction.put(_app_key(app), _POSITION.pack(*position), db=self._meta)

    def check_types(self, store: str, types: Mapping[tuple[str, bytes], str]) -> None:
        """Record the types of new columns; DataError if one is known with another."""
        for (family, qualifier), kind in types.items():
            key = b"type/" + self._column(family, qualifier)
            known = self._transaction.get(key, db=self._meta)
            if known is None:
                self._transaction.put(key, kind.encode(), db=self._meta)
            elif known.decode() != kind:
                raise DataError(
                    f"row store '{store}': column '{family}:{qualifier.decode(errors='replace')}' holds "
                    f"{known.decode()}, got {kind}. Cast it, or write to another column"
                )

    def put(self, cells: Sequence[CellWrite]) -> None:
        items = {
            self._row(cell.row_key)
            + self._column(cell.family, cell.qualifier)
            + encode_timestamp(cell.timestamp_us): cell.value
            for cell in cells
        }
        # In key order LMDB touches each page once.
        self._transaction.cursor(self._cells).putmulti(sorted(items.items()))

    def mutate(self, row_key: bytes, mutations: Sequence[Mutation]) -> None:
        encoded = encode_row(row_key)
        for mutation in mutations:
            match mutation:
                case SetCell(family, qualifier, timestamp_us, value):
                    self.put([CellWrite(0, row_key, family, qualifier, timestamp_us, value)])
                case DeleteFromColumn(family, qualifier, start_us, end_us):
                    column = encoded + encode_column(family, qualifier)
                    newest = encode_timestamp(end_us - 1) if end_us is not None else b""
                    oldest = encode_timestamp(start_us) if start_us is not None else b"\xff" * TIMESTAMP_BYTES
                    self._delete(column + newest, column + oldest)
                case DeleteFromFamily(family):
                    start = encoded + encode_family(family)
                    self._delete(start, start + b"\xff" * 128)
                case DeleteFromRow():
                    self._delete(encoded, encoded + _AFTER_COLUMNS)
        if is_hashed(encoded):
            self._forget_if_empty(encoded)

    def _delete(self, first: bytes, last: bytes) -> None:
        """Cells with keys in `[first, last]`."""
        cursor = self._transaction.cursor(self._cells)
        found = cursor.set_range(first)
        while found and cursor.key() <= last:
            cursor.delete()
            found = bool(cursor.key())

    def _forget_if_empty(self, encoded: bytes) -> None:
        cursor = self._transaction.cursor(self._cells)
        if not (cursor.set_range(encoded) and cursor.key().startswith(encoded)):
            self._transaction.delete(encoded, db=self._rows)
            self._encoded_rows.clear()

    def _row(self, row_key: bytes) -> bytes:
        encoded = self._encoded_rows.get(row_key)
        if encoded is None:
            encoded = self._encoded_rows[row_key] = encode_row(row_key)
            if is_hashed(encoded):
                self._keep(self._rows, encoded, row_key)
        return encoded

    def _column(self, family: str, qualifier: bytes) -> bytes:
        encoded = self._encoded_columns.get((family, qualifier))
        if encoded is None:
            encoded = self._encoded_columns[family, qualifier] = encode_column(family, qualifier)
            part = encode_qualifier(qualifier)
            if is_hashed(part):
                self._keep(self._qualifiers, part, qualifier)
        return encoded

    def _keep(self, database: lmdb._Database, part: bytes, full: bytes) -> None:
        if self._transaction.put(part, full, db=database, overwrite=False):
            return
        if self._transaction.get(part, db=database) != full:
            raise DataError(f"{full[:40]!r}… has the same 128-bit hash as another long key. Change one byte of it")


def _app_key(app: str) -> bytes:
    return b"app/" + encode_qualifier(app.encode())
