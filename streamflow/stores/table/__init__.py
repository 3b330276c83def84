"""Columnar tables in the Delta Lake format: `TableWriter` (exactly-once), `Catalog` (SQL).

Only Delta, Parquet and SQL live here. Any Delta reader can read the tables; only `TableWriter` keeps its promises of
durability and of one row per input row, so nothing else should write them.
"""

from streamflow.stores.table.catalog import Catalog, TableInfo
from streamflow.stores.table.spec import TableSpec
from streamflow.stores.table.writer import TableWriter

__all__ = ["Catalog", "TableInfo", "TableSpec", "TableWriter"]
