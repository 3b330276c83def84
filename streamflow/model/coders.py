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
