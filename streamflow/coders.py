"""Apache Beam's module of this name: how state writes its values."""

from streamflow.model.coders import (
    BooleanCoder,
    BytesCoder,
    Coder,
    FastPrimitivesCoder,
    FloatCoder,
    IterableCoder,
    ListCoder,
    MapCoder,
    NullableCoder,
    PickleCoder,
    StrUtf8Coder,
    TimestampCoder,
    TupleCoder,
    TupleSequenceCoder,
    VarIntCoder,
)

__all__ = [
    "BooleanCoder",
    "BytesCoder",
    "Coder",
    "FastPrimitivesCoder",
    "FloatCoder",
    "IterableCoder",
    "ListCoder",
    "MapCoder",
    "NullableCoder",
    "PickleCoder",
    "StrUtf8Coder",
    "TimestampCoder",
    "TupleCoder",
    "TupleSequenceCoder",
    "VarIntCoder",
]
