"""How the outcome of a simulated run differs from the quiet one: what is missing, extra or different. Pure."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from streamflow.testing.taps import plain

SHOWN_MAX = 8
"""Of each kind, of each output."""
SHOWN_CHARS_MAX = 300
CLOSE = 1e-9
"""Numbers that differ relatively by less are equal: sums depend on the order of their summands."""

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
        if key is not None and len(lost) == len(new) == 1:
            different.append(f"{_shown(lost[0])} was to be, {_shown(new[0])} is there")
        else:
            missing += map(_shown, lost)
            extra += map(_shown, new)
    kinds = {"missing": missing, "extra": extra, "different": different}
    if not any(kinds.values()):
        return []
    total = sum(map(len, expected.values()))
    counts = ", ".join(f"{len(rows)} {kind}" for kind, rows in kinds.items() if rows)
    return [f"'{name}': {counts}, of {total} rows", *(line for kind in kinds for line in _listed(kind, kinds[kind]))]


def _unpaired(expected: Sequence[Any], found: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """What has no equal on the other side; then what has no close one either."""
    lost, new = _without(expected, found), _without(found, expected)
    for value in list(lost):
        partner = next((i for i, other in enumerate(new) if is_close(value, other)), None)
        if partner is not None:
            lost.remove(value)
            del new[partner]
    return lost, new


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
