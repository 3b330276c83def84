"""What a row is and what can be done to it: data only, no storage."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


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
