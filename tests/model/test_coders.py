"""Coders: what they write is what Apache Beam's standard coders write, and can be read again."""

import pickle
import typing
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow import coders
from streamflow.base.errors import DataError
from streamflow.model.keys import encode_key
from streamflow.model.time import Timestamp
from streamflow.model.window import GlobalWindow, IntervalWindow

INT, TEXT, FLAG = coders.VarIntCoder(), coders.StrUtf8Coder(), coders.BooleanCoder()

BYTES: list[tuple[coders.Coder, Any, bytes]] = [
    (INT, 1, b"\x01"),
    (INT, 300, b"\xac\x02"),
    (INT, -1, b"\xff" * 9 + b"\x01"),
    (coders.FloatCoder(), 1.5, b"?\xf8\0\0\0\0\0\0"),
    (FLAG, True, b"\x01"),
    (TEXT, "é", b"\xc3\xa9"),
    (coders.BytesCoder(), b"\0a", b"\0a"),
    (coders.TupleCoder([INT, TEXT]), (1, "ab"), b"\x01ab"),
    (coders.TupleCoder([TEXT, TEXT]), ("ab", "c"), b"\x02abc"),
    (coders.TupleCoder([coders.TupleCoder([TEXT, TEXT]), INT]), (("a", "b"), 1), b"\x01a\x01b\x01"),
    (coders.ListCoder(TEXT), ["a", "bc"], b"\0\0\0\x02\x01a\x02bc"),
    (coders.IterableCoder(INT), [1, 2], b"\0\0\0\x02\x01\x02"),
    (coders.TupleSequenceCoder(INT), (1, 2), b"\0\0\0\x02\x01\x02"),
    (coders.MapCoder(TEXT, INT), {"a": 1}, b"\0\0\0\x01\x01a\x01"),
    (coders.NullableCoder(INT), None, b"\0"),
    (coders.NullableCoder(TEXT), "a", b"\x01a"),
    (coders.GlobalWindowCoder(), GlobalWindow(), b""),
]


@pytest.mark.parametrize(("coder", "value", "encoded"), BYTES, ids=[f"{c!r} {v!r}" for c, v, _ in BYTES])
def test_standard_coders_write_the_standard_bytes(coder: coders.Coder, value: Any, encoded: bytes) -> None:
    assert coder.encode(value) == encoded
    assert coder.decode(encoded) == value
    assert coder.decode_nested(coder.encode_nested(value)) == value
    assert coder.estimate_size(value) == len(encoded)


ANY = st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3), max_leaves=5
)
VALUES: dict[str, tuple[coders.Coder, st.SearchStrategy[Any]]] = {
    "numbers": (INT, st.integers(-(2**63), 2**63 - 1)),
    "floats": (coders.FloatCoder(), st.floats(allow_nan=False)),
    "times": (coders.TimestampCoder(), st.integers(-(2**62), 2**62).map(lambda us: Timestamp(micros=us))),
    "windows": (
        coders.IntervalWindowCoder(),
        st.tuples(st.integers(-9, 9), st.integers(0, 9)).map(lambda w: IntervalWindow(w[0], sum(w))),
    ),
    "anything": (coders.FastPrimitivesCoder(), ANY),
    "anything as text": (coders.Base64PickleCoder(), ANY),
    "lists of maps": (
        coders.ListCoder(coders.MapCoder(TEXT, coders.NullableCoder(INT))),
        st.lists(st.dictionaries(st.text(max_size=3), st.none() | st.integers(0, 300), max_size=3), max_size=3),
    ),
    "without components": (coders.TupleCoder([coders.ListCoder(), coders.MapCoder()]), st.just(([1, "a"], {2: None}))),
}


@pytest.mark.parametrize("name", VALUES)
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_values_can_be_read_again_alone_and_within_others(name: str, data: st.DataObject) -> None:
    coder, values = VALUES[name]
    value = data.draw(values)
    assert coder.decode(coder.encode(value)) == value
    within = coders.TupleCoder([coder, TEXT, coder])
    assert within.decode(within.encode((value, "x", value))) == (value, "x", value)


class Word:
    """No value of its own: two of one text are two objects, unless a coder says otherwise."""

    def __init__(self, text: str) -> None:
        self.text = text


class WordCoder(coders.Coder):
    def encode(self, value: Word) -> bytes:
        return value.text.encode()

    def decode(self, encoded: bytes) -> Word:
        return Word(encoded.decode())

    def is_deterministic(self) -> bool:
        return True


class VagueCoder(WordCoder):
    def is_deterministic(self) -> bool:
        return False


def test_a_coder_of_ones_own_stands_within_others() -> None:
    both = coders.TupleCoder([WordCoder(), WordCoder()])
    first, second = both.decode(both.encode((Word("a"), Word("bc"))))
    assert (first.text, second.text) == ("a", "bc")


def test_objects_are_keys_by_a_deterministic_coder() -> None:
    own = dict(coders.registry.own)
    try:
        with pytest.raises(DataError, match="type Word have no encoding"):
            encode_key(Word("a"))
        coders.registry.register_coder(Word, WordCoder)
        assert encode_key(Word("a")) == encode_key(Word("a")) != encode_key(Word("b"))
        assert encode_key((Word("a"), 1)) == encode_key((Word("a"), 1))
        assert isinstance(coders.registry.get_coder(Word), WordCoder)
        coders.registry.register_coder(Word, VagueCoder)
        with pytest.raises(DataError, match="VagueCoder is not deterministic"):
            encode_key(Word("a"))
    finally:
        coders.registry.own = own
    with pytest.raises(TypeError, match="takes a class of coders"):
        coders.registry.register_coder(Word, WordCoder())  # type: ignore[arg-type]


def test_rows_have_a_coder_that_can_be_registered_and_as_keys_need_none() -> None:
    class Purchase(typing.NamedTuple):
        user: str
        cost: float

    own, known = dict(coders.registry.own), dict(coders.registry._coders)
    try:
        coders.registry.register_coder(Purchase, coders.RowCoder)
        assert encode_key(Purchase("a", 1.5)) == encode_key(("a", 1.5))
    finally:
        coders.registry.own, coders.registry._coders = own, known


TYPES: list[tuple[Any, coders.Coder]] = [
    (int, INT),
    (tuple[str, int], coders.TupleCoder([TEXT, INT])),
    (tuple[int, ...], coders.TupleSequenceCoder(INT)),
    (typing.List[bool], coders.ListCoder(FLAG)),  # noqa: UP006 - Beam's programs say so
    (typing.Iterable[bytes], coders.IterableCoder(coders.BytesCoder())),
    (dict[str, float], coders.MapCoder(TEXT, coders.FloatCoder())),
    (Optional[str], coders.NullableCoder(TEXT)),  # noqa: UP045
    (int | str, coders.FastPrimitivesCoder()),
    (object, coders.FastPrimitivesCoder()),
    (typing.Any, coders.FastPrimitivesCoder()),
    (typing.Callable[[int], str], coders.FastPrimitivesCoder()),
]


@pytest.mark.parametrize(("hint", "coder"), TYPES, ids=[str(hint) for hint, _ in TYPES])
def test_types_have_the_coders_of_what_they_consist_of(hint: Any, coder: coders.Coder) -> None:
    assert coders.registry.get_coder(hint) == coder
    assert pickle.loads(pickle.dumps(coder)) == coder


def test_coders_are_equal_by_what_they_consist_of() -> None:
    assert coders.ListCoder(INT) == coders.ListCoder(INT) != coders.ListCoder(TEXT)
    assert coders.ListCoder(INT) != coders.IterableCoder(INT)
    assert len({coders.VarIntCoder(), INT}) == 1
    assert coders.ListCoder(INT).is_deterministic()
    assert not coders.ListCoder(coders.PickleCoder()).is_deterministic()
    with pytest.raises(ValueError, match="'Group' can't code keys by it"):
        coders.NullableCoder(coders.PickleCoder()).as_deterministic_coder("Group")


@pytest.mark.parametrize(
    ("coder", "value"), [(INT, "1"), (INT, 1.5), (INT, 2**63), (TEXT, 1), (coders.TupleCoder([INT]), (1, 2))]
)
def test_coders_refuse_what_they_are_not_for(coder: coders.Coder, value: Any) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError)):
        coder.encode(value)
