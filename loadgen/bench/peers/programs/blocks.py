"""A file of lines in blocks that several readers share."""

import os
from collections.abc import Iterator

BLOCK_BYTES = 4 << 20
"""About 17,000 events: enough that the cost per batch does not show, little enough to stay in the caches."""
LINE_BYTES_MAX = 1 << 16


def blocks(path: str, reader: int, readers: int, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The blocks n of whole lines with `n % readers == reader`.

    Block n ends with the first line end at or after `(n + 1) * block_bytes`, and the next one starts there.
    The file ends with a line end; ValueError for a line of more than `LINE_BYTES_MAX`.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for start in range(reader * block_bytes, size, readers * block_bytes):
            data = os.pread(file.fileno(), block_bytes + LINE_BYTES_MAX, start)
            first = data.index(b"\n") + 1 if start else 0
            end = data.index(b"\n", block_bytes) + 1 if len(data) > block_bytes else len(data)
            yield data[first:end]
