"""How the outcome of a simulated run differs from the quiet one: what is missing, extra or different. Pure."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from streamflow.testing.taps import plain

SHOWN_MAX = 8
"""Of each kind, of each output."""
SHOWN_CHARS_MAX = 300
PAIRED_MAX = 100
"""With so many missing rows of a window none looks for the one that it has become."""
CLOSE = 1e-9
"""Numbers that differ relatively by less are equal: sums depend on the order of their summands."""

_NONE = object()
Finals = Mapping[str, Mapping[Any, Sequence[Any]]]
"""Of each output the values that count, by what identifies them."""


def difference(expected: Finals, found: Finals) -> list[str]:
    """In words, a line each; nothing if the two are equal."""
    lines: list[str] = []
    for name in expected:
        lines += _of_output(name, expected[name], found[name])
    return lines


def _of_output(name: str, expected: Mapping[Any, Sequence[Any]], found: Mapping[Any, Sequence[Any]]) -> list[str]:
    missing: list[str] = []
    extra: list[str] = []
    different: list[str] = []
    for key in [*expected, *(key for key in found if key not in expected)]:
        lost, new = _unpaired(expected.get(key, ()), found.get(key, ()))
        for value in list(lost) if len(lost) <= PAIRED_MAX else ():
            alike = max(new, key=lambda other: _alike(value, other), default=None)
            if alike is not None and (_alike(value, alike) or len(lost) == len(new) == 1):
                different.append(f"{_shown(value)} was to be, {_shown(alike)} is there")
                lost, new = _removed(lost, value), _removed(new, alike)
        missing += map(_shown, lost)
        extra += map(_shown, new)
    kinds = {"different": sorted(different), "missing": sorted(missing), "extra": sorted(extra)}
    if not any(kinds.values()):
        return []
    total = sum(map(len, expected.values()))
    counts = ", ".join(f"{len(rows)} {kind}" for kind, rows in kinds.items() if rows)
    return [f"'{name}': {counts}, of {total} rows", *(line for kind in kinds for line in _listed(kind, kinds[kind]))]


def _unpaired(expected: Sequence[Any], found: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What has no equal on the other side; then what has no close one either."""
    lost, new = _without(expected, found), _without(found, expected)
    candidates: dict[Any, list[Any]] = defaultdict(list)
    for other in new:
        candidates[_skeleton(other)].append(other)
    for value in list(lost):
        others = candidates[_skeleton(value)]
        partner = next((other for other in others if is_close(value, other)), _NONE)
        if partner is not _NONE:
            candidates[_skeleton(value)] = _removed(others, partner)
            lost, new = _removed(lost, value), _removed(new, partner)
    return lost, new


def _skeleton(value: Any) -> Any:
    """Equal for values that differ in the size of numbers alone, so that few are compared with each."""
    if isinstance(value, float):
        return float
    if isinstance(value, Mapping):
        return frozenset((key, _skeleton(each)) for key, each in value.items())
    return tuple(map(_skeleton, value)) if isinstance(value, (list, tuple)) else plain(value)


def _removed(values: Sequence[Any], value: Any) -> list[Any]:
    """By identity: equal ones need not be the same."""
    at = next(i for i, each in enumerate(values) if each is value)
    return [*values[:at], *values[at + 1 :]]


def _alike(one: Any, other: Any) -> list[bool]:
    """Which fields or places of two rows are equal, the first of which is mostly the key; nothing if it differs."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        pairs = [(one[name], other.get(name)) for name in one]
    elif isinstance(one, tuple) and isinstance(other, tuple):
        pairs = list(zip(one, other, strict=False))
    else:
        return []
    equal = [is_close(*pair) for pair in pairs]
    return equal if equal and equal[0] else []


def _without(values: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    left = Counter(map(plain, others))
    rest = []
    for value in values:
        if left[key := plain(value)] > 0:
            left[key] -= 1
        else:
            rest.append(value)
    return rest


def is_close(one: Any, other: Any) -> bool:
    """Equal, but for the last digits of numbers in it."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=1e-12) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(is_close(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and type(one) is type(other):
        return len(one) == len(other) and all(map(is_close, one, other))
    return bool(one == other)


def _shown(value: Any) -> str:
    return repr(value)[:SHOWN_CHARS_MAX]


def _listed(kind: str, rows: Sequence[str]) -> list[str]:
    more = len(rows) - SHOWN_MAX
    return [*(f"  {kind}: {row}" for row in rows[:SHOWN_MAX]), *([f"  {kind}: … and {more} more"] if more > 0 else [])]
