"""Keys of groups as bytes: what is equal as a key, in every process."""

from typing import Any

import msgspec

from streamflow.base.errors import DataError
from streamflow.model.coders import registry


def _registered(key: Any) -> bytes:
    """A key of a class with a coder of its own."""
    if registry.is_registered(type(key)):
        return registry.get_coder(type(key)).encode(key)
    raise TypeError(f"Encoding objects of type {type(key).__name__} is unsupported")


_encoder = msgspec.msgpack.Encoder(order="deterministic", enc_hook=_registered)


def encode_key(key: Any) -> bytes:
    """Equal keys give equal bytes, in every process. DataError for a type without such an encoding."""
    try:
        return _encoder.encode(key)
    except (TypeError, OverflowError) as error:
        raise DataError(
            f"{key!r} can't be a key: {error}. Use numbers, strings, bytes, dates, tuples, dataclasses or None, or "
            "coders.registry.register_coder(…)."
        ) from error
