"""Which partition an event goes to: pure functions of keys and counts. No log, no frame layout, no state.

The law: equal keys meet in one partition, whatever type carries them. A key's partition is a hash of its
bytes modulo the partition count; text counts as its UTF-8 bytes, whole numbers as their decimal text,
booleans as `true` and `false`. It depends on nothing but the key, so it is the same in every process,
version and language. The hash is the log's: CRC-32, but on Kafka that of Kafka's own clients, so that all agree.
"""

import struct
from collections.abc import Callable
from zlib import crc32

import polars as pl

from streamflow.base.errors import DataError

Key = bytes | str
KeyHash = Callable[[bytes], int]
"""At least 0."""

_DISTINCT_MIN_ROWS = 2_000
"""From here on finding the distinct keys costs less than hashing each row's."""


def key_bytes(key: Key) -> bytes:
    return key.encode() if isinstance(key, str) else key


def murmur2(key: bytes) -> int:
    """Kafka's: the low 31 bits of MurmurHash2 (32 bits) with the seed of its clients."""
    whole = len(key) & ~3
    h = 0x9747B28C ^ len(key)
    for k in struct.unpack_from(f"<{whole >> 2}I", key):
        k = k * _M & _MASK
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    if rest := key[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return (h ^ h >> 15) & 0x7FFFFFFF


_M, _MASK = 0x5BD1E995, 0xFFFFFFFF


def partition_of(key: Key, partitions: int, key_hash: KeyHash = crc32) -> int:
    """In `[0, partitions)`."""
    return key_hash(key_bytes(key)) % partitions


def partition_column(keys: pl.Series, partitions: int, *, spread: int = 0, key_hash: KeyHash = crc32) -> pl.Series:
    """UInt32 partition of each row; null keys share partition `spread % partitions`.

    DataError for keys whose bytes are not well defined (floats, times, nested types).
    """
    text = _as_bytes(keys)
    if len(text) < _DISTINCT_MIN_ROWS:
        rows = [spread % partitions if key is None else key_hash(key) % partitions for key in text.to_list()]
        return pl.Series("partition", rows, dtype=pl.UInt32)
    distinct = text.unique().drop_nulls()
    targets = pl.Series([key_hash(key) % partitions for key in distinct], dtype=pl.UInt32)
    keyless = pl.lit(spread % partitions, dtype=pl.UInt32)
    return text.to_frame("key").select(
        partition=pl.col("key").replace_strict(distinct, targets, default=keyless, return_dtype=pl.UInt32)
    )["partition"]


def _as_bytes(keys: pl.Series) -> pl.Series:
    dtype = keys.dtype
    if dtype == pl.Binary:
        return keys
    if dtype in (pl.String, pl.Categorical, pl.Enum, pl.Boolean, pl.Null) or dtype.is_integer():
        return keys.cast(pl.String).cast(pl.Binary)
    raise DataError(
        f"key column '{keys.name}' has type {dtype}, which has no one spelling in bytes. "
        "Cast it to String, Binary or an integer"
    )
