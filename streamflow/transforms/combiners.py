"""The combiners that Apache Beam has ready made, as transforms: Count, Mean, Top, Sample, ToList, ToDict, ToSet and
Latest. Their CombineFns can be had from here too, as in Beam."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Self

from streamflow.base.errors import PipelineError
from streamflow.model.combine_fns import (
    CountCombineFn,
    Largest,
    LatestCombineFn,
    MeanCombineFn,
    SampleCombineFn,
    SingleInputTupleCombineFn,
    Smallest,
    ToDictCombineFn,
    ToListCombineFn,
    TopCombineFn,
    ToSetCombineFn,
    TupleCombineFn,
)
from streamflow.model.combiner import CombineFn
from streamflow.model.graph import PCollection, PTransform
from streamflow.transforms.combine import CombineGlobally, CombinePerKey
from streamflow.transforms.elementwise import DoFn, FlatMap, Map, MapTuple
from streamflow.transforms.ptransform import ptransform_fn

__all__ = [
    "Count",
    "CountCombineFn",
    "Largest",
    "Latest",
    "LatestCombineFn",
    "Mean",
    "MeanCombineFn",
    "Sample",
    "SampleCombineFn",
    "SingleInputTupleCombineFn",
    "Smallest",
    "ToDict",
    "ToDictCombineFn",
    "ToList",
    "ToListCombineFn",
    "ToSet",
    "ToSetCombineFn",
    "Top",
    "TopCombineFn",
    "TupleCombineFn",
]


class CombineFnTransform(PTransform, ABC):
    """All elements of a window to one value by a CombineFn; `without_defaults()` as in CombineGlobally."""

    has_defaults = True

    def with_defaults(self, has_defaults: bool = True) -> Self:
        clone = copy.copy(self)
        clone.has_defaults = has_defaults
        return clone

    def without_defaults(self) -> Self:
        return self.with_defaults(False)

    @abstractmethod
    def fn(self) -> CombineFn: ...

    def prepared(self, pcoll: PCollection) -> Any:
        """The elements as the CombineFn takes them."""
        return pcoll

    def expand(self, pcoll: PCollection) -> Any:
        whole = CombineGlobally(self.fn())
        return self.prepared(pcoll) | (whole if self.has_defaults else whole.without_defaults())


class Count:
    """How many elements there are, or of each kind."""

    class Globally(CombineFnTransform):
        """How many elements."""

        def fn(self) -> CombineFn:
            return CountCombineFn()

    class PerKey(PTransform):
        """(key, value) → (key, how many)."""

        def expand(self, pcoll: PCollection) -> Any:
            return pcoll | CombinePerKey(CountCombineFn())

    class PerElement(PTransform):
        """(element, how often it occurs). Elements are compared as keys are: 1, 1.0 and True differ."""

        def expand(self, pcoll: PCollection) -> Any:
            return pcoll | Map(lambda element: (element, None)) | CombinePerKey(CountCombineFn())


class Mean:
    """Arithmetic means."""

    class Globally(CombineFnTransform):
        """The arithmetic mean of the elements."""

        def fn(self) -> CombineFn:
            return MeanCombineFn()

    class PerKey(PTransform):
        """(key, number) → (key, mean)."""

        def expand(self, pcoll: PCollection) -> Any:
            return pcoll | CombinePerKey(MeanCombineFn())


class Top:
    """The greatest or least elements, as lists. `key`, `reverse`: see TopCombineFn."""

    class Of(CombineFnTransform):
        """One list of the `n` greatest elements."""

        def __init__(self, n: int, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
            self.n, self.key, self.reverse = n, key, reverse

        def default_label(self) -> str:
            return self.label or f"Top({self.n})"

        def fn(self) -> CombineFn:
            return TopCombineFn(self.n, self.key, self.reverse)

    class PerKey(PTransform):
        """(key, value) → (key, list of the `n` greatest values)."""

        def __init__(self, n: int, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
            self.n, self.key, self.reverse = n, key, reverse

        def default_label(self) -> str:
            return self.label or f"TopPerKey({self.n})"

        def expand(self, pcoll: PCollection) -> Any:
            return pcoll | CombinePerKey(TopCombineFn(self.n, self.key, self.reverse))

    @staticmethod
    @ptransform_fn
    def Largest(pcoll: PCollection, n: int, has_defaults: bool = True, key: Any = None) -> Any:  # noqa: N802
        """One list of the `n` greatest elements, the greatest first."""
        return pcoll | Top.Of(n, key).with_defaults(has_defaults)

    @staticmethod
    @ptransform_fn
    def Smallest(pcoll: PCollection, n: int, has_defaults: bool = True, key: Any = None) -> Any:  # noqa: N802
        """One list of the `n` least elements, the least first."""
        return pcoll | Top.Of(n, key, reverse=True).with_defaults(has_defaults)

    @staticmethod
    @ptransform_fn
    def LargestPerKey(pcoll: PCollection, n: int, key: Any = None) -> Any:  # noqa: N802
        """(key, value) → (key, list of the `n` greatest values)."""
        return pcoll | Top.PerKey(n, key)

    @staticmethod
    @ptransform_fn
    def SmallestPerKey(pcoll: PCollection, n: int, *, key: Any = None, reverse: bool = True) -> Any:  # noqa: N802
        """(key, value) → (key, list of the `n` least values)."""
        return pcoll | Top.PerKey(n, key, reverse=reverse)


class Sample:
    """Some elements, chosen by chance. `seed`: see SampleCombineFn."""

    class FixedSizeGlobally(CombineFnTransform):
        """One list of `n` elements, or of all if there are fewer."""

        def __init__(self, n: int, seed: int | str | None = None) -> None:
            self.n, self.seed = n, seed

        def default_label(self) -> str:
            return self.label or f"FixedSizeGlobally({self.n})"

        def fn(self) -> CombineFn:
            return SampleCombineFn(self.n, self.seed)

    class FixedSizePerKey(PTransform):
        """(key, value) → (key, list of `n` values)."""

        def __init__(self, n: int, seed: int | str | None = None) -> None:
            self.n, self.seed = n, seed

        def default_label(self) -> str:
            return self.label or f"FixedSizePerKey({self.n})"

        def expand(self, pcoll: PCollection) -> Any:
            return pcoll | CombinePerKey(SampleCombineFn(self.n, self.seed))

    class Any(PTransform):
        """Some `n` elements, whichever, as elements and not as a list; all of them if there are fewer."""

        def __init__(self, n: int) -> None:
            if n < 0:
                raise PipelineError(f"there are no {n} elements. Give a number from 0 on.")
            self.n = n

        def default_label(self) -> str:
            return self.label or f"Any({self.n})"

        def expand(self, pcoll: PCollection) -> PCollection:
            chosen = pcoll | Sample.FixedSizeGlobally(self.n).without_defaults()
            some: PCollection = chosen | FlatMap()
            return some


class ToList(CombineFnTransform):
    """All elements as one list, in no particular order."""

    def fn(self) -> CombineFn:
        return ToListCombineFn()


class ToSet(CombineFnTransform):
    """All elements as one set."""

    def fn(self) -> CombineFn:
        return ToSetCombineFn()


class ToDict(CombineFnTransform):
    """All (key, value) pairs as one dict; of several values of a key it has one."""

    def fn(self) -> CombineFn:
        return ToDictCombineFn()


class Latest:
    """What has the latest event time; of several, the one whose text is the greatest."""

    class Globally(CombineFnTransform):
        """The element of the latest event time."""

        def fn(self) -> CombineFn:
            return LatestCombineFn()

        def prepared(self, pcoll: PCollection) -> Any:
            def timed(element: Any, timestamp: Any = DoFn.TimestampParam) -> Any:
                return element, timestamp

            return pcoll | Map(timed)

    class PerKey(PTransform):
        """(key, value) → (key, the value of the latest event time)."""

        def expand(self, pcoll: PCollection) -> Any:
            def timed(key: Any, value: Any, timestamp: Any = DoFn.TimestampParam) -> Any:
                return key, (value, timestamp)

            return pcoll | MapTuple(timed) | CombinePerKey(LatestCombineFn())
