"""How a cell's address becomes one LMDB key of at most 511 bytes that sorts as the address does. Pure; no LMDB here.

    key = row · family 00 01 · qualifier · (2^63 - 1 - timestamp) as 8 bytes

Rows and qualifiers are escaped (00 → 00 FF) and ended by 00 01, so that any bytes sort as they should, a prefix before
what it starts. One whose escaped form is too long keeps its first bytes and then 00 02 and a 128-bit hash; the store
keeps the full bytes beside. Keys with different kept bytes, and any long key and any short one, still compare right.
Only long keys with the *same* kept bytes (320 of a row, 80 of a qualifier) are in the order of their hashes: they are
adjacent, and the store sorts each such group by the full bytes while reading, so that its scans are in byte order.
"""

import re
from hashlib import blake2b

from streamflow.base.errors import DataError

KEY_BYTES_MAX = 511
ROW_BYTES_MAX = 4_096
QUALIFIER_BYTES_MAX = 16_384
TIMESTAMP_BYTES = 8

_ROW_KEPT_MAX = 320
_QUALIFIER_KEPT_MAX = 80
_END = b"\x00\x01"
_HASHED = b"\x00\x02"
_AFTER_HASHED = b"\x00\x03"
_HASH_BYTES = 16
_FAMILY = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PART = re.compile(rb"((?:[^\x00]|\x00\xff)*)\x00(?:\x01|\x02.{16})", re.DOTALL)
_TIMESTAMP_TOP = (1 << 63) - 1

assert KEY_BYTES_MAX >= _ROW_KEPT_MAX + 18 + 64 + 2 + _QUALIFIER_KEPT_MAX + 18 + TIMESTAMP_BYTES


def encode_row(row_key: bytes) -> bytes:
    """The start of all keys of a row, and of no other row's. DataError unless it has 1 to 4096 bytes."""
    if not 0 < len(row_key) <= ROW_BYTES_MAX:
        raise DataError(
            f"a row key has {len(row_key)} bytes, expected 1 to {ROW_BYTES_MAX}. Shorten it or hash its tail"
        )
    return _encode(row_key, _ROW_KEPT_MAX)


def encode_column(family: str, qualifier: bytes) -> bytes:
    """What follows the row in a key. DataError for a family that is not 1-64 of `[A-Za-z0-9._-]` or a qualifier above
    16 KiB."""
    if len(qualifier) > QUALIFIER_BYTES_MAX:
        raise DataError(f"a qualifier has {len(qualifier)} bytes, expected at most {QUALIFIER_BYTES_MAX}. Shorten it")
    return encode_family(family) + encode_qualifier(qualifier)


def encode_family(family: str) -> bytes:
    """The start of all columns of a family."""
    if not _FAMILY.fullmatch(family):
        raise DataError(f"family '{family}' is not allowed. Use 1-64 letters, digits, '.', '_' or '-'")
    return family.encode() + _END


def encode_qualifier(qualifier: bytes) -> bytes:
    return _encode(qualifier, _QUALIFIER_KEPT_MAX)


def encode_timestamp(timestamp_us: int) -> bytes:
    """8 bytes that sort newest first. DataError outside 64 bits."""
    if not -_TIMESTAMP_TOP - 1 <= timestamp_us <= _TIMESTAMP_TOP:
        raise DataError(f"timestamp {timestamp_us} does not fit 64 bits. Give microseconds since 1970")
    return (_TIMESTAMP_TOP - timestamp_us).to_bytes(TIMESTAMP_BYTES, "big")


def decode_timestamp(key: bytes) -> int:
    """The timestamp of a cell's key."""
    return _TIMESTAMP_TOP - int.from_bytes(key[-TIMESTAMP_BYTES:], "big")


def row_part(key: bytes) -> bytes:
    """The encoded row at the start of a cell's key."""
    return _match(key)


def split_column(column: bytes) -> tuple[str, bytes]:
    """An encoded column as family and *encoded* qualifier."""
    family = _match(column)
    return family[: -len(_END)].decode(), column[len(family) :]


def is_hashed(part: bytes) -> bool:
    """Whether an encoded row or qualifier is one whose full bytes are kept beside."""
    return len(part) - len(_kept(part)) > len(_END)


def decode(part: bytes) -> bytes:
    """The bytes of an encoded row or qualifier that is not hashed."""
    return _unescape(part[: -len(_END)])


def group_start(part: bytes) -> bytes:
    """What all hashed parts with the same kept bytes start with."""
    return _kept(part) + _HASHED


def group_end(part: bytes) -> bytes:
    """The first key after the group."""
    return _kept(part) + _AFTER_HASHED


def seek_row(row_key: bytes) -> bytes:
    """A key at or before all cells of rows at or after `row_key`, and after those of all lesser rows that are not in
    the same group of long keys."""
    escaped = _escape(row_key)
    return escaped if len(escaped) <= _ROW_KEPT_MAX else _keep(escaped, _ROW_KEPT_MAX) + _HASHED


def prefix_end(prefix: bytes) -> bytes | None:
    """The least bytes after all that start with `prefix`; None if there are none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes([stripped[-1] + 1]) if stripped else None


def _escape(data: bytes) -> bytes:
    return data.replace(b"\x00", b"\x00\xff")


def _unescape(data: bytes) -> bytes:
    return data.replace(b"\x00\xff", b"\x00")


def _encode(data: bytes, kept_max: int) -> bytes:
    escaped = _escape(data)
    if len(escaped) <= kept_max:
        return escaped + _END
    return _keep(escaped, kept_max) + _HASHED + blake2b(data, digest_size=_HASH_BYTES).digest()


def _keep(escaped: bytes, kept_max: int) -> bytes:
    kept = escaped[:kept_max]
    # An escape is not cut in half: a lone 00 at the end would be the start of a terminator.
    return kept[:-1] if kept.endswith(b"\x00") else kept


def _match(data: bytes) -> bytes:
    found = _PART.match(data)
    if found is None:
        raise DataError(f"{data[:40]!r} is not a key of this store. Check that the folder is a StreamFlow row store")
    return found[0]


def _kept(part: bytes) -> bytes:
    found = _PART.match(part)
    return found[1] if found else part
