"""What a test says of a PCollection: `assert_that(pcoll, equal_to([1, 2]))`, with Apache Beam's names.

The statement becomes part of the pipeline. It is checked when the input has ended, also if nothing has arrived, and one
that does not hold ends the run, which raises AssertionFailedError.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, NamedTuple

from streamflow.base.errors import AssertionFailedError, PipelineError
from streamflow.model.combine_fns import ToListCombineFn
from streamflow.model.graph import PCollection, PTransform, Shape
from streamflow.model.window import GlobalWindows
from streamflow.transforms.combine import CombineGlobally
from streamflow.transforms.elementwise import DoFn, Map
from streamflow.transforms.window import Restated, WindowInto

__all__ = [
    "AssertThat",
    "BeamAssertException",
    "SortLists",
    "TestWindowedValue",
    "assert_that",
    "contains_in_any_order",
    "equal_to",
    "equal_to_approx",
    "equal_to_per_window",
    "is_empty",
    "is_not_empty",
    "matches_all",
]

BeamAssertException = AssertionFailedError
"""Beam's name of it."""

Matcher = Callable[[Any], object]
"""Takes the elements, and raises if they are not right. What it returns does not matter."""

_SHOWN_MAX = 20
_SHOWN_CHARS_MAX = 500
"""Of what is wrong, a message shows so many elements, each so far."""


class TestWindowedValue(NamedTuple):
    """An element with its event time and windows, as `assert_that(…, reify_windows=True)` gives it to the matcher."""

    value: Any
    timestamp: Any
    windows: Sequence[Any]


TestWindowedValue.__test__ = False  # type: ignore[attr-defined] # it is no test, whatever pytest thinks of its name


def assert_that(
    actual: PCollection,
    matcher: Matcher,
    label: str = "assert_that",
    reify_windows: bool = False,
    use_global_window: bool = True,
) -> None:
    """Makes the pipeline check that `matcher` takes all elements of the collection.

    `reify_windows`: it gets TestWindowedValues. `use_global_window=False`: it gets, for each window that has any, a
    pair of its elements and the window. Endless input is checked once its publishers have ended it. PipelineError if
    the pipeline has run before, for then nobody would look.
    """
    actual | AssertThat(matcher, label, reify_windows, use_global_window)


class AssertThat(PTransform):
    """`assert_that` as a transform: `pcoll | AssertThat(equal_to([1]))`."""

    def __init__(
        self,
        matcher: Matcher,
        label: str = "assert_that",
        reify_windows: bool = False,
        use_global_window: bool = True,
    ) -> None:
        per_window = isinstance(matcher, _EqualToPerWindow)
        self.matcher, self.name = matcher, label
        self.reify_windows = reify_windows or per_window
        self.use_global_window = use_global_window or per_window

    def default_label(self) -> str:
        return self.label or self.name

    def expand(self, pcoll: PCollection) -> Any:
        if getattr(pcoll.pipeline, "result", None) is not None:
            raise PipelineError(
                f"{self.name} comes too late: the pipeline has run. Write it before, inside the `with`."
            )
        values = pcoll | "Reify" >> Map(_reified) if self.reify_windows else pcoll
        if self.use_global_window:
            return values | "Whole" >> _WholeInput() | "Collect" >> CombineGlobally(ToListCombineFn()) | self._match()
        collect = CombineGlobally(ToListCombineFn()).without_defaults()
        return values | "Ends" >> _Ending() | "Collect" >> collect | "AddWindow" >> Map(_with_window) | self._match()

    def _match(self) -> PTransform:
        def match(actual: Any) -> None:
            try:
                self.matcher(actual)
            except Exception as error:
                raise AssertionFailedError(f"{self.name}: {error}") from error

        return "Match" >> Map(match)


class _Ending(Restated):
    """The same windows of what will end, whoever reads it: an assertion waits for that."""

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        return replace(inputs[0].shape, bounded=True)


class _WholeInput(WindowInto):
    """One window for all of what will end."""

    def __init__(self) -> None:
        super().__init__(GlobalWindows())

    def output(self, inputs: Sequence[PCollection]) -> Shape:
        return replace(super().output(inputs), bounded=True)


def _reified(element: Any, timestamp: Any = DoFn.TimestampParam, window: Any = DoFn.WindowParam) -> Any:
    return TestWindowedValue(element, timestamp, [window])


def _with_window(elements: Any, window: Any = DoFn.WindowParam) -> Any:
    return elements, window


def equal_to(expected: Iterable[Any], equals_fn: Callable[[Any, Any], bool] | None = None) -> Matcher:
    """The elements are these, in any order. `equals_fn(expected, actual)` says what is equal, instead of `==`."""
    wanted = list(expected)

    def matcher(actual: Iterable[Any]) -> None:
        _check(wanted, list(actual), equals_fn)

    return matcher


def equal_to_approx(expected: Iterable[Any], rel_tol: float = 1e-9, abs_tol: float = 0.0) -> Matcher:
    """The elements are these, in any order, and numbers nearly: see `math.isclose`, also within lists and tuples."""

    def near(wanted: Any, element: Any) -> bool:
        numbers = isinstance(wanted, Real) and isinstance(element, Real)
        if numbers and not isinstance(wanted, bool) and not isinstance(element, bool):
            return math.isclose(wanted, element, rel_tol=rel_tol, abs_tol=abs_tol)
        if isinstance(wanted, (list, tuple)) and type(wanted) is type(element):
            return len(wanted) == len(element) and all(map(near, wanted, element))
        return bool(wanted == element)

    return equal_to(expected, near)


def equal_to_per_window(expected_window_to_elements: Mapping[Any, Iterable[Any]]) -> Matcher:
    """The elements are these in each window, in any order, and there are no others: `{window: [element…]}`."""
    return _EqualToPerWindow({window: list(elements) for window, elements in expected_window_to_elements.items()})


class _EqualToPerWindow:
    def __init__(self, expected: Mapping[Any, list[Any]]) -> None:
        self.expected = expected

    def __call__(self, actual: Iterable[TestWindowedValue]) -> None:
        found: dict[Any, list[Any]] = {window: [] for window in self.expected}
        for value in actual:
            found.setdefault(value.windows[0], []).append(value.value)
        for window, elements in found.items():
            try:
                _check(self.expected.get(window, []), elements, None)
            except AssertionFailedError as error:
                raise AssertionFailedError(f"in {window}: {error}") from None


def matches_all(expected: Iterable[Any]) -> Matcher:
    """Each element fits one of these, each of these one element: values, or matchers with `matches(element)`, as
    PyHamcrest has them."""

    def fits(wanted: Any, element: Any) -> bool:
        return bool(wanted.matches(element)) if hasattr(wanted, "matches") else bool(wanted == element)

    return equal_to(expected, fits)


def is_empty() -> Matcher:
    """There are no elements."""
    return equal_to([])


def is_not_empty() -> Matcher:
    """There is an element at least."""

    def matcher(actual: Iterable[Any]) -> None:
        if not list(actual):
            raise AssertionFailedError("there are no elements, but some were expected.")

    return matcher


def contains_in_any_order(iterable: Iterable[Any]) -> Any:
    """Equal to every iterable of the same elements: `equal_to([("a", contains_in_any_order([1, 2]))])`."""
    return _InAnyOrder(list(iterable))


class _InAnyOrder:
    __hash__ = None  # type: ignore[assignment] # equal ones can't be found by it

    def __init__(self, elements: list[Any]) -> None:
        self.elements = elements

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Iterable) and not any(_difference(self.elements, list(other), None))

    def __repr__(self) -> str:
        return f"InAnyOrder({self.elements!r})"


def _check(expected: list[Any], actual: list[Any], equals: Callable[[Any, Any], bool] | None) -> None:
    missing, unexpected = _difference(expected, actual, equals)
    if missing or unexpected:
        right = len(actual) - len(unexpected)
        lines = [f"{right} of {len(actual)} elements are as expected, of {len(expected)} that should be there."]
        raise AssertionFailedError("\n".join([*lines, *_shown("missing", missing), *_shown("unexpected", unexpected)]))


def _shown(what: str, elements: list[Any]) -> list[str]:
    lines = [f"  {what}: {repr(element)[:_SHOWN_CHARS_MAX]}" for element in elements[:_SHOWN_MAX]]
    more = len(elements) - _SHOWN_MAX
    return [*lines, f"  {what}: … and {more} more"] if more > 0 else lines


def _difference(
    expected: list[Any], actual: list[Any], equals: Callable[[Any, Any], bool] | None
) -> tuple[list[Any], list[Any]]:
    """What of the one has no partner in the other, and the reverse."""
    if equals is None:
        try:
            wanted, found = Counter(expected), Counter(actual)
        except TypeError:
            pass
        else:
            return list((wanted - found).elements()), list((found - wanted).elements())
    return _unpaired(expected, actual, equals or (lambda one, other: bool(one == other)))


def _unpaired(
    expected: list[Any], actual: list[Any], equals: Callable[[Any, Any], bool]
) -> tuple[list[Any], list[Any]]:
    """After pairing as many as possible: what is equal need not be so transitively (augmenting paths, Kuhn 1955)."""
    partner: dict[int, int] = {}

    def place(wanted: int, tried: set[int]) -> bool:
        for i, element in enumerate(actual):
            if i not in tried and equals(expected[wanted], element):
                tried.add(i)
                if i not in partner or place(partner[i], tried):
                    partner[i] = wanted
                    return True
        return False

    missing = [wanted for i, wanted in enumerate(expected) if not place(i, set())]
    return missing, [element for i, element in enumerate(actual) if i not in partner]


def _sorted_lists(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_sorted_lists, value))
    if isinstance(value, Mapping):
        return {key: _sorted_lists(each) for key, each in value.items()}
    return sorted(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else value


SortLists = Map(_sorted_lists)
"""Elements with all lists in them sorted, also within tuples and dicts: for values whose order is not defined."""
