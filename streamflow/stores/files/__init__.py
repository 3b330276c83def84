"""Files as bounded input, read in shards, and as a sink with exactly-once appends. Bytes, lines and rows live here;
what they mean as events belongs to the engine.

`access.py` finds and opens files, here and in object stores, compressed or not; `shards.py` divides them; `lines.py`
and `rows.py` read a shard piece by piece from any position; `encoding.py` makes files of rows, which `writer.py` writes
here and `objects.py` in object stores.
"""

from streamflow.stores.files.access import Compression, compression_of, is_remote
from streamflow.stores.files.encoding import FileSpec
from streamflow.stores.files.lines import LineReader
from streamflow.stores.files.objects import ObjectWriter
from streamflow.stores.files.rows import RowReader
from streamflow.stores.files.shards import Division, Shard, check_unchanged, list_shards
from streamflow.stores.files.writer import FileWriter

__all__ = [
    "Compression",
    "Division",
    "FileSpec",
    "FileWriter",
    "LineReader",
    "ObjectWriter",
    "RowReader",
    "Shard",
    "check_unchanged",
    "compression_of",
    "is_remote",
    "list_shards",
]
