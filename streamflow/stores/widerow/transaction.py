"""Reading and changing rows within one LMDB transaction. Opens, commits and retries nothing; see `environment.py`."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import lmdb

from streamflow.base.errors import CorruptionError, DataError
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
    row_part,
    seek_row,
    split_column,
)
from streamflow.stores.widerow.environment import Environment
from streamflow.stores.widerow.model import (
    Cell,
    CellWrite,
    DeleteFromColumn,
    DeleteFromFamily,
    DeleteFromRow,
    Mutation,
    Position,
    Row,
    SetCell,
)

_POSITION = struct.Struct(">qq")
_TYPE = b"type/"
_AFTER_COLUMNS = b"\xff"
"""Above the first byte of every family, so above all cells of a row."""
_AFTER_QUALIFIERS = b"\xff" * 128
"""Longer and higher than any encoded qualifier."""


class Reader:
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
            encoded = row_part(_key(cursor))
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
        for key, value in _items(cursor):
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
        cursor.set_range(_TYPE)
        for key, value in _items(cursor):
            if not key.startswith(_TYPE):
                break
            found[self._column(key[len(_TYPE) :])] = value.decode()
        return found

    def _group(self, encoded: bytes) -> list[tuple[bytes, bytes]]:
        """(encoded, row key) of the row, or in key order of all long rows that can't be told apart by what is kept."""
        if not is_hashed(encoded):
            return [(encoded, decode(encoded))]
        start = group_start(encoded)
        group = []
        cursor = self._transaction.cursor(self._rows)
        cursor.set_range(start)
        for part, row_key in _items(cursor):
            if not part.startswith(start):
                break
            group.append((part, row_key))
        return sorted(group, key=lambda pair: pair[1])

    def _column(self, encoded: bytes) -> tuple[str, bytes]:
        if (known := self._columns.get(encoded)) is not None:
            return known
        family, part = split_column(encoded)
        qualifier = _get(self._transaction, part, self._qualifiers) if is_hashed(part) else decode(part)
        if qualifier is None:
            raise CorruptionError(f"family '{family}' has a long qualifier without its name. Report this bug")
        self._columns[encoded] = family, qualifier
        return family, qualifier


class Changes:
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
        stored = _get(self._transaction, _app_key(app), self._meta)
        return Position(*_POSITION.unpack(stored)) if stored else Position(0, 0)

    def set_position(self, app: str, position: Position) -> None:
        self._transaction.put(_app_key(app), _POSITION.pack(*position), db=self._meta)

    def check_types(self, store: str, types: Mapping[tuple[str, bytes], str]) -> None:
        """Record the types of new columns; DataError if one is known with another."""
        for (family, qualifier), kind in types.items():
            key = _TYPE + self._column(family, qualifier)
            known = _get(self._transaction, key, self._meta)
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
                    self._delete(start, start + _AFTER_QUALIFIERS)
                case DeleteFromRow():
                    self._delete(encoded, encoded + _AFTER_COLUMNS)
        if is_hashed(encoded):
            self._forget_if_empty(encoded)

    def _delete(self, first: bytes, last: bytes) -> None:
        """Cells with keys in `[first, last]`."""
        cursor = self._transaction.cursor(self._cells)
        found = cursor.set_range(first)
        while found and _key(cursor) <= last:
            cursor.delete()
            found = bool(_key(cursor))

    def _forget_if_empty(self, encoded: bytes) -> None:
        cursor = self._transaction.cursor(self._cells)
        if not (cursor.set_range(encoded) and _key(cursor).startswith(encoded)):
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
        if _get(self._transaction, part, database) != full:
            raise DataError(f"{full[:40]!r}… has the same 128-bit hash as another long key. Change one byte of it")


def _app_key(app: str) -> bytes:
    return b"app/" + encode_qualifier(app.encode())


# Transactions are opened without `buffers`, so all that comes out of them is bytes.


def _items(cursor: lmdb.Cursor) -> Iterator[tuple[bytes, bytes]]:
    return cast(Iterator[tuple[bytes, bytes]], iter(cursor))


def _key(cursor: lmdb.Cursor) -> bytes:
    return cast(bytes, cursor.key())


def _get(transaction: lmdb.Transaction, key: bytes, database: lmdb._Database) -> bytes | None:
    return cast("bytes | None", transaction.get(key, db=database))
