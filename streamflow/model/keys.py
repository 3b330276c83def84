"""Keys of groups as bytes: what is equal as a key, in every process."""

from typing import Any

import msgspec
import orjson

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


def key_text(key: Any) -> str:
    """The key as people read and type it: text as it is, all else as JSON, a composite key as an array."""
    if isinstance(key, str):
        return key
    text = orjson.dumps(key, default=_plain, option=orjson.OPT_NON_STR_KEYS).decode()
    return str(orjson.loads(text)) if text.startswith('"') else text


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, set, frozenset)):
        return list(value)
    return value.decode("utf-8", errors="backslashreplace") if isinstance(value, bytes) else str(value)
