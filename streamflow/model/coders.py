"""Coders: a value as bytes and back, for state that says what it holds and for keys of a user's own classes. Names and
bytes are those of Apache Beam's standard coders, but for times, which are to the microsecond here. Pure.

*Nested* is what stands within something longer: it must show where it ends, so texts, bytes, and whatever a coder of
the user's own gives, have their length before them there.
"""

import base64
import pickle
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Self

from streamflow.model.time import Timestamp
from streamflow.model.window import GLOBAL_WINDOW, IntervalWindow

Read = tuple[Any, int]
"""A value and where what follows it begins."""

_COUNT, _DOUBLE, _TIME = struct.Struct(">i"), struct.Struct(">d"), struct.Struct(">Q")
_TIME_BIAS = 1 << 63
"""Makes times into numbers that, as big-endian bytes, are ordered as they are."""


class Coder:
    """Subclass it for a form of your own, with `encode` and `decode`; one that keys are to be coded by gives equal
    bytes for equal values, and says so by `is_deterministic`."""

    def encode(self, value: Any) -> bytes:
        raise NotImplementedError(f"{type(self).__name__} must define encode(value).")

    def decode(self, encoded: bytes) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define decode(encoded).")

    def is_deterministic(self) -> bool:
        return False

    def as_deterministic_coder(self, step_label: str, error_message: str | None = None) -> "Coder":
        """Itself; ValueError if equal values may have different bytes."""
        if not self.is_deterministic():
            raise ValueError(
                error_message or f"{self!r} is not deterministic, so '{step_label}' can't code keys by it."
            )
        return self

    def estimate_size(self, value: Any) -> int:
        """In bytes; exact."""
        return len(self.encode(value))

    def encode_nested(self, value: Any) -> bytes:
        out = bytearray()
        self.write(value, out, nested=True)
        return bytes(out)

    def decode_nested(self, encoded: bytes) -> Any:
        return self.read(encoded, 0, nested=True)[0]

    def write(self, value: Any, out: bytearray, nested: bool) -> None:
        encoded = self.encode(value)
        if nested:
            _write_varint(len(encoded), out)
        out += encoded

    def read(self, encoded: bytes, at: int, nested: bool) -> Read:
        size, at = _read_varint(encoded, at) if nested else (len(encoded) - at, at)
        return self.decode(encoded[at : at + size]), at + size

    def coders(self) -> tuple["Coder", ...]:
        """What it consists of."""
        return ()

    @classmethod
    def from_type_hint(cls, typehint: Any, registry: Any) -> Self:
        return cls()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}[{', '.join(map(repr, self.coders()))}]" if self.coders() else type(self).__name__


class PickleCoder(Coder):
    """Anything that can be pickled."""

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(value, protocol=5)

    def decode(self, encoded: bytes) -> Any:
        return pickle.loads(encoded)


class Base64PickleCoder(PickleCoder):
    """The same as text."""

    def encode(self, value: Any) -> bytes:
        return base64.b64encode(super().encode(value))

    def decode(self, encoded: bytes) -> Any:
        return super().decode(base64.b64decode(encoded))


class FastPrimitivesCoder(PickleCoder):
    """What is taken where nothing is known of the values. `fallback_coder` is there for Beam's sake."""

    def __init__(self, fallback_coder: Coder | None = None) -> None: ...


class RowCoder(PickleCoder):
    """Named tuples and Rows; here pickled, whatever `schema` is. As keys they need no coder."""

    def __init__(self, schema: Any = None) -> None: ...


class BytesCoder(Coder):
    def encode(self, value: bytes) -> bytes:
        return bytes(value)

    def decode(self, encoded: bytes) -> bytes:
        return encoded

    def is_deterministic(self) -> bool:
        return True


class StrUtf8Coder(Coder):
    def encode(self, value: str) -> bytes:
        return value.encode()

    def decode(self, encoded: bytes) -> str:
        return encoded.decode()

    def is_deterministic(self) -> bool:
        return True


class ToBytesCoder(Coder):
    """What is no bytes yet as the text of `str`. Can't be undone."""

    def encode(self, value: Any) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode()

    def is_deterministic(self) -> bool:
        return True


class _Written(Coder):
    """A coder that is stated by `write` and `read`."""

    def encode(self, value: Any) -> bytes:
        out = bytearray()
        self.write(value, out, nested=False)
        return bytes(out)

    def decode(self, encoded: bytes) -> Any:
        return self.read(encoded, 0, nested=False)[0]

    def is_deterministic(self) -> bool:
        return all(coder.is_deterministic() for coder in self.coders())


class BooleanCoder(_Written):
    def write(self, value: bool, out: bytearray, nested: bool) -> None:
        out.append(bool(value))

    def read(self, encoded: bytes, at: int, nested: bool) -> Read:
        return bool(encoded[at]), at + 1


class VarIntCoder(_Written):
    """Whole numbers of 64 bits, small ones in one byte. TypeError for anything else, ValueError for longer ones."""

    def write(self, value: int, out: bytearray, nested: bool) -> None:
        if not -_TIME_BIAS <= value < _TIME_BIAS:
            raise ValueError(f"{value} is no number of 64 bits.")
        _write_varint(value & 0xFFFF_FFFF_FFFF_FFFF, out)

    def read(self, encoded: bytes, at: int, nested: bool) -> Read:
        value, at = _read_varint(encoded, at)
        return value - (1 << 64) if value >= _TIME_BIAS else value, at


class FloatCoder(_Written):
    def write(self, value: float, out: bytearray, nested: bool) -> None:
        out += _DOUBLE.pack(value)

    def read(self, encoded: bytes, at: int, nested: bool) -> Read:
        return _DOUBLE.unpack_from(encoded, at)[0], at + _DOUBLE.size


class TimestampCoder(_Written):
    def write(self, value: Timestamp, out: bytearray, nested: bool) -> None:
        out += _TIME.pack(value.micros + _TIME_BIAS)

    def read(self, encoded: bytes, at: int, nested: bool) -> Read:
        return Timestamp(micros=_TIME.unpack_from(encoded, at)[0] - _TIME_BIAS), at + _TIME.size


class GlobalWindowCoder(_Written):
    def write(self, value: IntervalWindow, out: bytearray, nested: bool) -> None: ...

    def read(self, encoded: bytes, at: int, nested: bool) -> Read:
        return GLOBAL_WINDOW, at


class IntervalWindowCoder(_Written):
    """Its end, then how long it is."""

    def write(self, value: IntervalWindow, out: bytearray, nested: bool) -> None:
        out += _TIME.pack(value.end_us + _TIME_BIAS)
        _write_varint(value.end_us - value.start_us, out)

    def read(self, encoded: bytes, at: int, nested: bool) -> Read:
        end_us = _TIME.unpack_from(encoded, at)[0] - _TIME_BIAS
        length_us, at = _read_varint(encoded, at + _TIME.size)
        return IntervalWindow.of_us(end_us - length_us, end_us), at


class TupleCoder(_Written):
    """Tuples of one length: a coder for each place."""

    def __init__(self, components: Iterable[Coder]) -> None:
        self._coders = tuple(components)

    def coders(self) -> tuple[Coder, ...]:
        return self._coders

    def write(self, value: Sequence[Any], out: bytearray, nested: bool) -> None:
        if len(value) != len(self._coders):
            raise ValueError(f"{value!r} has {len(value)} places instead of {len(self._coders)}.")
        last = len(value) - 1
        for place, (coder, part) in enumerate(zip(self._coders, value, strict=True)):
            coder.write(part, out, nested or place < last)

    def read(self, encoded: bytes, at: int, nested: bool) -> Read:
        parts = []
        last = len(self._coders) - 1
        for place, coder in enumerate(self._coders):
            part, at = coder.read(encoded, at, nested or place < last)
            parts.append(part)
        return tuple(parts), at

    @classmethod
    def from_type_hint(cls, typehint: Any, registry: Any) -> Self:
        return cls(registry.get_coder(part) for part in typehint.__args__)


class _OfOne(_Written):
    """Made of one coder, by default one for anything."""

    def __init__(self, component: Coder | None = None) -> None:
        self._coder = component or FastPrimitivesCoder()

    def coders(self) -> tuple[Coder, ...]:
        return (self._coder,)

    @classmethod
    def from_type_hint(cls, typehint: Any, registry: Any) -> Self:
        return cls(registry.get_coder(typehint.__args__[0]))


class ListCoder(_OfOne):
    """How many there are, then each."""

    _made: type = list

    def write(self, value: Sequence[Any], out: bytearray, nested: bool) -> None:
        out += _COUNT.pack(len(value))
        for part in value:
            self._coder.write(part, out, nested=True)

    def read(self, encoded: bytes, at: int, nested: bool) -> Read:
        parts = []
        (count,), at = _COUNT.unpack_from(encoded, at), at + _COUNT.size
        for _ in range(count):
            part, at = self._coder.read(encoded, at, nested=True)
            parts.append(part)
        return self._made(parts), at


class IterableCoder(ListCoder): ...


class TupleSequenceCoder(ListCoder):
    """Tuples of any length, of values of one kind."""

    _made = tuple


class NullableCoder(_OfOne):
    """None, or what the other coder takes."""

    def write(self, value: Any, out: bytearray, nested: bool) -> None:
        out.append(value is not None)
        if value is not None:
            self._coder.write(value, out, nested)

    def read(self, encoded: bytes, at: int, nested: bool) -> Read:
        return self._coder.read(encoded, at + 1, nested) if encoded[at] else (None, at + 1)

    @classmethod
    def from_type_hint(cls, typehint: Any, registry: Any) -> Self:
        return cls(registry.get_coder(next(part for part in typehint.__args__ if part is not type(None))))


class MapCoder(_Written):
    """How many keys there are, then each with its value."""

    def __init__(self, key_coder: Coder | None = None, value_coder: Coder | None = None) -> None:
        self._pair = TupleCoder([key_coder or FastPrimitivesCoder(), value_coder or FastPrimitivesCoder()])

    def coders(self) -> tuple[Coder, ...]:
        return self._pair.coders()

    def write(self, value: dict[Any, Any], out: bytearray, nested: bool) -> None:
        out += _COUNT.pack(len(value))
        for pair in value.items():
            self._pair.write(pair, out, nested=True)

    def read(self, encoded: bytes, at: int, nested: bool) -> Read:
        pairs = []
        (count,), at = _COUNT.unpack_from(encoded, at), at + _COUNT.size
        for _ in range(count):
            pair, at = self._pair.read(encoded, at, nested=True)
            pairs.append(pair)
        return dict(pairs), at

    def is_deterministic(self) -> bool:
        return False

    @classmethod
    def from_type_hint(cls, typehint: Any, registry: Any) -> Self:
        return cls(*map(registry.get_coder, typehint.__args__))


def _write_varint(value: int, out: bytearray) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _read_varint(encoded: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = encoded[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
