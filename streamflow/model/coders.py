"""Coders: a value as bytes and back. Apache Beam's names, for state that says what it holds; all but those of bytes and
text pickle. Pure."""

import pickle
from typing import Any


class Coder:
    """Subclass it for a form of your own; equal values need not give equal bytes."""

    def encode(self, value: Any) -> bytes:
        return pickle.dumps(value, protocol=5)

    def decode(self, encoded: bytes) -> Any:
        return pickle.loads(encoded)

    def is_deterministic(self) -> bool:
        """As in Apache Beam; keys have an encoding of their own here, whatever their coder."""
        return False


class PickleCoder(Coder):
    """Anything that can be pickled."""

    def __init__(self, *components: Any) -> None:
        """`components`: the coders of what it consists of, which pickling does not need."""


class BytesCoder(Coder):
    def encode(self, value: bytes) -> bytes:
        return bytes(value)

    def decode(self, encoded: bytes) -> bytes:
        return encoded


class StrUtf8Coder(Coder):
    def encode(self, value: str) -> bytes:
        return value.encode()

    def decode(self, encoded: bytes) -> str:
        return encoded.decode()


class ToBytesCoder(Coder):
    """The text of any value, which is not to be read back; bytes as they are."""

    def encode(self, value: Any) -> bytes:
        return value if isinstance(value, bytes) else str(value).encode()

    def decode(self, encoded: bytes) -> Any:
        raise NotImplementedError("ToBytesCoder can't decode: what it encodes is only to be looked at.")


class BooleanCoder(PickleCoder): ...


class FastPrimitivesCoder(PickleCoder): ...


class FloatCoder(PickleCoder): ...


class IterableCoder(PickleCoder): ...


class ListCoder(PickleCoder): ...


class MapCoder(PickleCoder): ...


class NullableCoder(PickleCoder): ...


class TimestampCoder(PickleCoder): ...


class TupleCoder(PickleCoder): ...


class TupleSequenceCoder(PickleCoder): ...


class VarIntCoder(PickleCoder): ...


class CoderRegistry:
    """Which coder values of a class have. It is needed for keys of groups of a class of one's own: equal ones must
    give equal bytes."""

    def __init__(self) -> None:
        self._coders: dict[type, Coder] = {}

    def register_coder(self, typehint_type: type, coder: type[Coder] | Coder) -> None:
        """Values of just this class are encoded by that coder, in this process."""
        self._coders[typehint_type] = coder() if isinstance(coder, type) else coder

    def get_coder(self, typehint: Any) -> Coder:
        return self._coders.get(typehint) or PickleCoder()

    def is_registered(self, typehint: type) -> bool:
        return typehint in self._coders


registry = CoderRegistry()
