"""Wide rows with Bigtable's data model on LMDB: `WideRowStore` (cells), `WideRowWriter` (frames, exactly-once).

Row key → family → qualifier → cells by timestamp, newest first. Timestamps always come from the caller, so writing
again is writing the same. Only row storage lives here; garbage-collection rules and filters do not exist yet.
"""

from streamflow.stores.widerow.model import (
    Cell,
    CellWrite,
    DeleteFromColumn,
    DeleteFromFamily,
    DeleteFromRow,
    Mutation,
    Row,
    SetCell,
)
from streamflow.stores.widerow.store import WideRowStore
from streamflow.stores.widerow.writer import (
    WideRowSpec,
    WideRowWriter,
    row_folder,
    row_stores,
    rows_as_dicts,
)

__all__ = [
    "Cell",
    "CellWrite",
    "DeleteFromColumn",
    "DeleteFromFamily",
    "DeleteFromRow",
    "Mutation",
    "Row",
    "SetCell",
    "WideRowSpec",
    "WideRowStore",
    "WideRowWriter",
    "row_folder",
    "row_stores",
    "rows_as_dicts",
]
