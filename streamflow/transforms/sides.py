"""Side inputs: how a function is given the whole of another PCollection beside its elements, as in Apache Beam.

    rates = pipeline | "Rates" >> sf.Create([("EUR", 1.1), ("GBP", 1.3)])
    prices | sf.Map(lambda price, rates: price.amount * rates[price.currency], sf.pvalue.AsDict(rates))

An element sees what of the side is in the window that holds the last instant of the element's own window. It waits
until that is known: until a pane of that window has come, or the side's watermark has passed its end. Of several panes
the newest counts, for the elements that come after it, and it is all that they see: where late data is allowed, let the
side accumulate. What a function is given is shared: it must not change it.
"""

from collections.abc import Sequence
from types import GenericAlias
from typing import Any

from streamflow.base.errors import DataError, PipelineError
from streamflow.model.graph import PCollection
from streamflow.model.types import pair_of

_REQUIRED = object()


class EmptySideInput:
    """What an `AsSingleton` of nothing gives if it has no default."""


class AsSideInput:
    """A PCollection as an argument of a transform. Not used itself: take one of the classes below."""

    def __init__(self, pcoll: PCollection) -> None:
        if not isinstance(pcoll, PCollection):
            raise PipelineError(f"{type(self).__name__} takes a PCollection, not {pcoll!r}.")
        self.pvalue = pcoll

    def made(self, values: Sequence[Any]) -> Any:
        """What the function is given for these elements of the side. DataError if they have no such form."""
        return list(values)

    @property
    def element_type(self) -> Any:
        """Of what the function is given."""
        return GenericAlias(list, (self.pvalue.element_type,))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.pvalue!r})"


class AsIter(AsSideInput):
    """All elements, to be iterated over."""


class AsList(AsSideInput):
    """All elements as a list, in no particular order."""


class AsSingleton(AsSideInput):
    """The only element; `default_value` if there is none (an `EmptySideInput` if that isn't given either). With more
    than one, the elements that ask for it are bad ones."""

    def __init__(self, pcoll: PCollection, default_value: Any = _REQUIRED) -> None:
        super().__init__(pcoll)
        self.default_value = default_value

    @property
    def element_type(self) -> Any:
        return self.pvalue.element_type

    def made(self, values: Sequence[Any]) -> Any:
        if len(values) > 1:
            raise DataError(
                f"a PCollection of {len(values)} elements is no singleton: the first are {values[0]!r} and "
                f"{values[1]!r}. Use AsList, or combine them before."
            )
        if values:
            return values[0]
        return EmptySideInput() if self.default_value is _REQUIRED else self.default_value


class AsDict(AsSideInput):
    """(key, value) pairs as a dict; of several values of a key one is in it."""

    @property
    def element_type(self) -> Any:
        return GenericAlias(dict, pair_of(self.pvalue.element_type) or (Any, Any))

    def made(self, values: Sequence[Any]) -> Any:
        return dict(map(_pair, values))


class AsMultiMap(AsSideInput):
    """(key, value) pairs as a dict from each key to the list of its values."""

    @property
    def element_type(self) -> Any:
        key, value = pair_of(self.pvalue.element_type) or (Any, Any)
        return GenericAlias(dict, (key, GenericAlias(list, (value,))))

    def made(self, values: Sequence[Any]) -> Any:
        lists: dict[Any, list[Any]] = {}
        for key, value in map(_pair, values):
            lists.setdefault(key, []).append(value)
        return lists


def _pair(element: Any) -> tuple[Any, Any]:
    if isinstance(element, (tuple, list)) and len(element) == 2:
        return element[0], element[1]
    raise DataError(f"a side input by key needs (key, value) pairs, got {element!r}. Make them with Map.")
