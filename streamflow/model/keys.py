"""Keys of groups as bytes: what is equal as a key, in every process."""

from typing import Any

import msgspec
import orjson

from streamflow.base.errors import DataError
from streamflow.model.coder_registry import registry


def _by_coder(key: Any) -> Any:
    """What the encoder does not know may have a coder of the user's own."""
    coder = registry.own.get(type(key))
    if coder is None:
        raise TypeError(f"objects of type {type(key).__name__} have no encoding")
    coder.as_deterministic_coder("the grouping")
    return [f"{type(key).__module__}.{type(key).__qualname__}", coder.encode(key)]


_encoder = msgspec.msgpack.Encoder(enc_hook=_by_coder, order="deterministic")


def encode_key(key: Any) -> bytes:
    """Equal keys give equal bytes, in every process. DataError for a type without such an encoding."""
    try:
        return _encoder.encode(key)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{key!r} can't be a key: {error}. Use numbers, strings, bytes, dates, tuples, dataclasses or None, or "
            "register a deterministic coder: coders.registry.register_coder(type, coder)."
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
