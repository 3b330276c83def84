"""What a table is, and how that is remembered and checked. Pure: opens no table.

The spec lives in the Delta table's own configuration (`streamflow.key`; the partition columns are Delta's). It is thus
written by the very commit that creates the table, can't disagree with it, and moves with the folder, which a file
beside it would not.
"""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from streamflow.base.errors import ConflictError, DataError, PipelineError
from streamflow.model.batch import RESERVED
from streamflow.stores._common import check_name
from streamflow.stores.table.remote import Facts

KEY_PROPERTY = "streamflow.key"

_READER_FEATURES = frozenset({"timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
_WRITER_VERSION_MAX = 2


@dataclass(frozen=True, slots=True)
class TableSpec:
    """`partition_by`: columns (string, integer, date or bool) whose values become folders, which prune reads.

    `key`: readers see only the newest row of each key: the one with the highest input offset. That is the newest event
    only if all events of a key come from one input partition, so partition the sink's input by the key. PipelineError
    if a column is named twice or is a reserved one; DataError if the name can't be a folder."""

    name: str
    partition_by: tuple[str, ...] = ()
    key: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name("table", self.name)
        for what, columns in (("partition_by", self.partition_by), ("key", self.key)):
            if len(set(columns)) != len(columns):
                raise PipelineError(f"table '{self.name}': {what} {list(columns)} names a column twice. Name each once")
            if reserved := sorted(set(RESERVED) & set(columns)):
                raise PipelineError(
                    f"table '{self.name}': {what} uses the reserved column '{reserved[0]}'. "
                    "Copy it to another name first"
                )

    def configuration(self) -> dict[str, str | None]:
        """The Delta table properties that carry the spec."""
        return {KEY_PROPERTY: msgspec.json.encode(self.key).decode()} if self.key else {}


def table_folder(root: Path, name: str) -> Path:
    """`<root>/<name>`. DataError if there is a '%' in it, which the Delta library decodes once too often."""
    if "%" in str(root.absolute()):
        raise DataError(f"folder '{root}' can't hold tables because of the '%' in its path. Use another folder")
    return root / name


def check_readable(table: Facts, name: str) -> None:
    """ConflictError if data files alone don't tell the rows (deletion vectors, column mapping)."""
    configuration = table.configuration
    unknown = set(table.reader_features - _READER_FEATURES)
    if configuration.get("delta.enableDeletionVectors", "").lower() == "true":
        unknown.add("deletionVectors")
    if configuration.get("delta.columnMapping.mode", "none").lower() != "none":
        unknown.add("columnMapping")
    if unknown:
        raise ConflictError(
            f"table '{name}' uses {', '.join(sorted(unknown))}, which StreamFlow does not read. "
            "Rewrite it as a plain Delta table"
        )


def check_writable(table: Facts, spec: TableSpec) -> None:
    """ConflictError if the table was made with another spec or asks more of writers than this one does."""
    stored = stored_spec(table, spec.name)
    if stored != spec:
        raise ConflictError(
            f"table '{spec.name}' exists with partition_by={list(stored.partition_by)}, key={list(stored.key)}, "
            f"not partition_by={list(spec.partition_by)}, key={list(spec.key)}. Use another table name or the same spec"
        )
    version = table.min_writer_version
    if version > _WRITER_VERSION_MAX:
        raise ConflictError(
            f"table '{spec.name}' requires Delta writer version {version}, above {_WRITER_VERSION_MAX}. "
            "Write to a table of its own and merge there"
        )


def stored_spec(table: Facts, name: str) -> TableSpec:
    """The spec the table was created with."""
    key = msgspec.json.decode(table.configuration.get(KEY_PROPERTY, "[]"), type=tuple[str, ...])
    return TableSpec(name, table.partition_by, key)
