"""Columnar tables in the Delta Lake format: `TableWriter` (exactly-once), `Catalog` (SQL).

Only Delta, Parquet and SQL live here. Any Delta reader can read the tables; only `TableWriter` keeps its promises of
durability and of one row per input row, so nothing else should write them.
Writers, which workers hold, never load the Delta library: `remote.py` has it run in a process of its own.
"""

from typing import TYPE_CHECKING

from streamflow.stores.table.spec import TableSpec
from streamflow.stores.table.writer import TableWriter

if TYPE_CHECKING:
    from streamflow.stores.table.catalog import Catalog, TableInfo

__all__ = ["Catalog", "TableInfo", "TableSpec", "TableWriter"]


def __getattr__(name: str) -> object:
    # With the catalog comes DuckDB, and 35 MB that workers, which only write, can do without.
    if name in ("Catalog", "TableInfo"):
        from streamflow.stores.table import catalog

        return getattr(catalog, name)
    raise AttributeError(f"module 'streamflow.stores.table' has no attribute '{name}'")
