"""Which type fits which, and which a value has."""

import typing
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, Literal, TypeVar

import pytest

from streamflow.base.errors import TypeCheckError
from streamflow.model.types import bound, fits, holds, item_of, normal, pair_of, type_of

T = TypeVar("T")
N = TypeVar("N", bound=int)


class Whole:
    """A number of another kind, as NumPy has them."""


Integral.register(Whole)


@pytest.mark.parametrize(
    ("given", "wanted", "fit"),
    [
        (int, int, True),
        (str, int, False),
        (bool, int, True),
        (int, float, True),
        (float, int, False),
        (Whole, int, True),
        (Whole, float, True),
        (Whole, str, False),
        (Any, int, True),
        (int, Any, True),
        (int, object, True),
        (type(None), int, False),
        (type(None), int | None, True),
        (int | str, int, False),
        (int, int | str, True),
        (int | None, float | None, True),
        (Literal["a"], str, True),
        (Literal["a"], int, False),
        (typing.NewType("Id", int), int, True),
        (tuple[int, str], tuple[int, str], True),
        (tuple[int, str], tuple[int, int], False),
        (tuple[int, str], tuple[int, str, str], False),
        (tuple[int, str], typing.Tuple[int, T], True),  # noqa: UP006 - the other way to write it
        (tuple[int, int], tuple[int, ...], True),
        (tuple[int, str], Iterable[int], False),
        (tuple, tuple[int, str], True),
        (list[int], Iterable[int], True),
        (list[int], Sequence[str], False),
        (list[int], set[int], False),
        (dict[str, int], Mapping[str, float], True),
        (dict[str, int], dict[int, int], False),
        (int, Iterable, False),
        (str, N, False),
    ],
)
def test_a_type_is_refused_only_where_it_is_surely_wrong(given: Any, wanted: Any, fit: bool) -> None:
    assert fits(given, wanted) is fit


def test_type_variables_stand_for_what_was_given() -> None:
    bindings: dict[Any, Any] = {}
    assert fits(tuple[str, int], tuple[T, int], bindings)
    assert bound(dict[T, list[T]], bindings) == dict[str, list[str]]
    assert bound(dict[T, int], {}) == dict[Any, int]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, int),
        (None, type(None)),
        (("a", 1), tuple[str, int]),
        ([1, 2], list[int]),
        ([], list),
        ({"a": [1.5]}, dict[str, list[float]]),
        ([1, None], list[int | None]),
    ],
)
def test_a_value_has_the_type_of_what_it_contains(value: Any, kind: Any) -> None:
    assert normal(type_of(value)) == normal(kind)
    assert holds(value, kind)


def test_many_values_are_not_looked_into() -> None:
    assert type_of([(1, 2)] * 10_000) == list[tuple]


def test_items_and_pairs_of_types() -> None:
    assert item_of(list[int] | None) is int
    assert item_of(tuple[int, str]) == int | str
    assert item_of(Any) is Any
    with pytest.raises(TypeCheckError, match="int, which is not iterable"):
        item_of(int)
    assert pair_of(tuple[str, int]) == (str, int)
    assert (pair_of(Any), pair_of(list[int])) == ((Any, Any), (Any, Any))
    assert (pair_of(int), pair_of(str), pair_of(tuple[int, int, int])) == (None, None, None)
