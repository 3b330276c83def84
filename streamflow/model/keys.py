"""Keys of groups as bytes: what is equal as a key, in every process."""

from typing import Any

import msgspec

from streamflow.base.errors import DataError

_encoder = msgspec.msgpack.Encoder(order="deterministic")


def encode_key(key: Any) -> bytes:
    """Equal keys give equal bytes, in every process. DataError for a type without such an encoding."""
    try:
        return _encoder.encode(key)
    except (TypeError, OverflowError) as error:
        raise DataError(
            f"{key!r} can't be a key: {error}. Use numbers, strings, bytes, dates, tuples, dataclasses or None."
        ) from error
