"""Types of elements as Python writes them: `int`, `tuple[str, int]`, `Optional[str]`, `Iterable[T]`.

Which fits which, which a value has, and what of a type is known. What is not known is `Any`, and fits: a type is only
refused where it is surely wrong.
"""

import collections.abc
import inspect
import types
import typing
from collections.abc import Iterable, Sequence
from numbers import Complex, Integral, Real
from typing import Any, TypeVar

from streamflow.base.errors import TypeCheckError
from streamflow.model.window import TimestampedValue

Bindings = dict[Any, Any]
"""What type variables stand for."""

VALUES_LOOKED_INTO = 1000
"""Of so many values at most the types of what they contain are found out."""

_CONTAINERS = {list, set, frozenset, tuple, dict, TimestampedValue}
_NUMBERS: dict[Any, type] = {int: Integral, float: Real, complex: Complex}
"""What will do for it without being of it, as everywhere in Python; NumPy's numbers too."""


def normal(hint: Any) -> Any:
    """One way to write a type: `typing.List[int]` is `list[int]`, None is its class; what can't be told is Any."""
    if hint is None:
        return type(None)
    if hint is inspect.Parameter.empty or isinstance(hint, (str, typing.ForwardRef)):
        return Any
    if isinstance(hint, typing.NewType):
        return normal(hint.__supertype__)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return normal(args[0])
    if origin in (typing.Union, types.UnionType):
        return union_of(normal(arg) for arg in args)
    if origin is None or origin in (collections.abc.Callable, typing.Literal):
        return hint
    if not args:
        return origin
    return types.GenericAlias(origin, tuple(arg if arg is Ellipsis else normal(arg) for arg in args))


def union_of(hints: Iterable[Any]) -> Any:
    """Any of them; Any if nothing is known of one, or if there are none."""
    members = list(dict.fromkeys(part for hint in hints for part in members_of(hint)))
    return Any if not members or Any in members else typing.Union[tuple(members)]  # noqa: UP007 - of a list


def members_of(hint: Any) -> tuple[Any, ...]:
    """Of a union its members, else the type alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def shown(hint: Any) -> str:
    """A type as it is written."""
    return hint.__name__ if type(hint) is type else str(hint).replace("typing.", "").replace("collections.abc.", "")


def fits(given: Any, wanted: Any, bindings: Bindings | None = None) -> bool:
    """Whether elements of the one type can be given to what wants the other. `bindings` gets what the wanted one's type
    variables stand for."""
    given, wanted = _of_literals(normal(given)), _of_literals(normal(wanted))
    if isinstance(wanted, TypeVar):
        if bindings is not None:
            bindings[wanted] = union_of([bindings[wanted], given]) if wanted in bindings else given
        return _within_bounds(given, wanted)
    if given == wanted and bindings is None:
        return True
    if wanted in (Any, object) or given is Any or isinstance(given, TypeVar):
        return True
    if len(members_of(given)) > 1:
        return all(fits(each, wanted, bindings) for each in members_of(given))
    if len(members_of(wanted)) > 1:
        return any(fits(given, each, bindings) for each in members_of(wanted))
    of_given, of_wanted = typing.get_origin(given) or given, typing.get_origin(wanted) or wanted
    if not _is_known(of_given) or not _is_known(of_wanted):
        return True
    try:
        related = issubclass(of_given, _NUMBERS.get(of_wanted, of_wanted))
    except TypeError:  # a protocol that can't be asked
        return True
    return related and _parameters_fit(given, wanted, of_wanted, bindings)


def _of_literals(hint: Any) -> Any:
    return union_of(map(type, typing.get_args(hint))) if typing.get_origin(hint) is typing.Literal else hint


def _within_bounds(given: Any, variable: TypeVar) -> bool:
    limits = variable.__constraints__ or (() if variable.__bound__ is None else (variable.__bound__,))
    return not limits or any(fits(given, limit) for limit in limits)


def _parameters_fit(given: Any, wanted: Any, of_wanted: type, bindings: Bindings | None) -> bool:
    of_given, has, wants = typing.get_origin(given) or given, typing.get_args(given), typing.get_args(wanted)
    if not wants or not has:
        return True
    if of_given is tuple:
        return _places_fit(has, wants, of_wanted, bindings)
    return all(fits(one, other, bindings) for one, other in zip(has, wants, strict=False))


def _places_fit(has: tuple[Any, ...], wants: tuple[Any, ...], of_wanted: type, bindings: Bindings | None) -> bool:
    """Of a tuple; what is wanted may be an iterable."""
    many, items = has[-1] is Ellipsis, [each for each in has if each is not Ellipsis]
    if of_wanted is not tuple or wants[-1] is Ellipsis:
        return all(fits(item, wants[0], bindings) for item in items)
    if many:
        return all(fits(items[0], each, bindings) for each in wants)
    return len(items) == len(wants) and all(fits(*pair, bindings) for pair in zip(items, wants, strict=True))


def _is_known(kind: Any) -> bool:
    # Any is a class too, of which nothing is known.
    return isinstance(kind, type) and kind not in (Any, object)


def bound(hint: Any, bindings: Bindings) -> Any:
    """The type with its variables replaced by what they stand for; Any for those of which nothing is known."""
    hint = normal(hint)
    if isinstance(hint, TypeVar):
        return bindings.get(hint, Any)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if len(members_of(hint)) > 1:
        return union_of(bound(each, bindings) for each in members_of(hint))
    if origin in (None, collections.abc.Callable, typing.Literal) or not args:
        return hint
    return types.GenericAlias(origin, tuple(arg if arg is Ellipsis else bound(arg, bindings) for arg in args))


def item_of(hint: Any, of: str = "its output") -> Any:
    """What an iterable of this type consists of, nothing where it is None. TypeCheckError if it is none. `of`: what
    the message calls it."""
    members = [each for each in members_of(normal(hint)) if each is not type(None)]
    items = []
    for member in members:
        origin, args = typing.get_origin(member) or member, typing.get_args(member)
        if not _is_known(origin):
            return Any
        if not issubclass(origin, (collections.abc.Iterable, collections.abc.AsyncIterable)) or origin in (str, bytes):
            raise TypeCheckError(
                f"{of} is said to be {shown(member)}, which is not iterable. Annotate it as Iterable[{shown(member)}], "
                "or use Map."
            )
        parts = [arg for arg in args if arg is not Ellipsis]
        items += parts if origin is tuple else parts[:1] or [Any]
    return union_of(items)


def pair_of(hint: Any) -> tuple[Any, Any] | None:
    """Key and value of pairs of this type; None if it is surely no type of pairs."""
    keys, values = [], []
    for member in members_of(normal(hint)):
        origin, args = typing.get_origin(member) or member, typing.get_args(member)
        if isinstance(origin, type) and issubclass(origin, tuple) and args and args[-1] is not Ellipsis:
            if len(args) != 2:
                return None
            keys.append(args[0])
            values.append(args[1])
        elif not _is_known(origin) or _may_be_pair(origin):
            return Any, Any
        else:
            return None
    return union_of(keys), union_of(values)


def _may_be_pair(kind: type) -> bool:
    scalar = (str, bytes, int, float, complex, type(None), collections.abc.Mapping, collections.abc.Set)
    return hasattr(kind, "__iter__") and not issubclass(kind, scalar)


def type_of(value: Any) -> Any:
    """The type of a value, with that of what it contains."""
    kind = type(value)
    if kind not in _CONTAINERS:
        return kind
    if kind is TimestampedValue:
        return type_of(value.value)
    if kind is tuple:
        return types.GenericAlias(tuple, tuple(map(type_of, value))) if value else tuple
    if not value:
        return kind
    if kind is dict:
        return types.GenericAlias(dict, (type_of_all(list(value)), type_of_all(list(value.values()))))
    return types.GenericAlias(kind, (type_of_all(list(value)),))


def type_of_all(values: Sequence[Any]) -> Any:
    """The type that all values have: a union if they differ. Of very many only their classes count."""
    kinds = set(map(type, values))
    if kinds.isdisjoint(_CONTAINERS):
        return union_of(kinds)
    if len(values) > VALUES_LOOKED_INTO:
        return union_of(Any if kind is TimestampedValue else kind for kind in kinds)
    return union_of(map(type_of, values))


def holds(value: Any, wanted: Any) -> bool:
    """Whether a value is of the type, which an empty container always is of its kind."""
    return fits(type_of(value), wanted)
