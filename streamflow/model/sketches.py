"""CombineFns that are near the truth in bounded space, for elements of any kind: how many different ones, and where the
parts of equal size in their order begin. `statistics` has what is like it on columns."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any

import xxhash

from streamflow.base.errors import PipelineError
from streamflow.model.combine_fns import ByText
from streamflow.model.combiner import CombineFn
from streamflow.model.keys import encode_key

HASHES = 2.0**64
"""How many there are."""


class ApproximateUniqueCombineFn(CombineFn):
    """How many different elements: exact below `size` of them, beyond it with a standard error of 1/√size.

    It keeps the `size` least hashes: where the last of them lies tells how dense they are (k minimum values; Bar-Yossef
    et al., 2002). Elements are compared as keys are."""

    def __init__(self, size: int) -> None:
        self.size = size

    def create_accumulator(self) -> set[int]:
        return set()

    def add_input(self, accumulator: set[int], element: Any) -> set[int]:
        accumulator.add(xxhash.xxh3_64_intdigest(encode_key(element)))
        return self.compact(accumulator) if len(accumulator) > 2 * self.size else accumulator

    def merge_accumulators(self, accumulators: Iterable[set[int]]) -> set[int]:
        return self.compact(set[int]().union(*accumulators))

    def compact(self, accumulator: set[int], *args: Any, **kwargs: Any) -> set[int]:
        return set(sorted(accumulator)[: self.size])

    def extract_output(self, accumulator: set[int]) -> int:
        return distinct_of(self.compact(accumulator), self.size)


def distinct_of(least: set[int], size: int) -> int:
    """How many 64-bit hashes there are, of which these are the `size` least."""
    return len(least) if len(least) < size else int((size - 1) / (max(least) / HASHES))


Weighted = tuple[Any, float]
"""An element, and how many it stands for."""
Summary = tuple[list[list[Weighted]], list[Any]]
"""Levels of weighted elements, and the first and last of all elements."""


class ApproximateQuantilesCombineFn(CombineFn):
    """`num_quantiles` elements as a list: the least, the greatest, and those in between that part all into equal sizes.

    `epsilon`: how far an element may be from its true place, as a part of all (default: 1/num_quantiles); up to
    2 × `size` elements the answer is exact; beyond it, how elements fell into batches may matter, within these bounds.
    `key`, `reverse`: as in `sorted`. `weighted`: elements are pairs of element and weight. `input_batched`: they are
    lists, if weighted pairs of lists.

    Once a level holds more than 2 × `size` elements, `size` of them, at equal distances by weight, stand for all on the
    next level (after Manku, Rajagopalan and Lindsay, 1998)."""

    def __init__(
        self,
        num_quantiles: int,
        size: int,
        key: Callable[[Any], Any] | None = None,
        reverse: bool = False,
        weighted: bool = False,
        input_batched: bool = False,
    ) -> None:
        if num_quantiles < 2:
            raise PipelineError(f"num_quantiles must be 2 or more, got {num_quantiles}: least and greatest are two.")
        self.num_quantiles, self.size, self.key = num_quantiles, size, key
        self.reverse, self.weighted, self.input_batched = reverse, weighted, input_batched

    SIZE_MIN = 1_024
    """Less would save little."""

    @classmethod
    def create(
        cls,
        num_quantiles: int,
        epsilon: float | None = None,
        max_num_elements: float | None = None,
        key: Callable[[Any], Any] | None = None,
        reverse: bool = False,
        weighted: bool = False,
        input_batched: bool = False,
    ) -> "ApproximateQuantilesCombineFn":
        """With the size that keeps `epsilon` for `max_num_elements` (default: 10⁹): each level adds 1/(2 × size)."""
        levels = math.log2(max_num_elements or 1e9)
        size = max(cls.SIZE_MIN, math.ceil(levels / (2 * (epsilon or 1 / max(1, num_quantiles)))))
        return cls(num_quantiles, size, key, reverse, weighted, input_batched)

    def create_accumulator(self) -> Summary:
        return [[]], []

    def add_input(self, accumulator: Summary, element: Any) -> Summary:
        return self.add_inputs(accumulator, [element])

    def add_inputs(self, accumulator: Summary, elements: Iterable[Any]) -> Summary:
        entries = [entry for element in elements for entry in self._entries(element)]
        return self.merge_accumulators([accumulator, ([entries], [value for value, _ in entries])])

    def _entries(self, element: Any) -> Iterable[Weighted]:
        if not self.input_batched:
            return [element if self.weighted else (element, 1)]
        return zip(*element, strict=True) if self.weighted else ((value, 1) for value in element)

    def merge_accumulators(self, accumulators: Iterable[Summary]) -> Summary:
        every, ends = zip(*accumulators, strict=True)
        levels = [list(chain.from_iterable(level)) for level in zip_longest(*every, fillvalue=[])]
        for i, level in enumerate(levels):  # it grows on the way
            if len(level) > 2 * self.size:
                levels[i] = []
                if i + 1 == len(levels):
                    levels.append([])
                levels[i + 1] += self._thinned(level)
        return levels, self._ends(chain.from_iterable(ends))

    def _ends(self, values: Iterable[Any]) -> list[Any]:
        ordered = sorted(values, key=self._rank, reverse=self.reverse)
        return [ordered[0], ordered[-1]] if ordered else []

    def _thinned(self, entries: list[Weighted]) -> list[Weighted]:
        step = sum(weight for _, weight in entries) / self.size
        places = ((i + 0.5) * step for i in range(self.size))
        return [(value, step) for value in self._at(self._sorted(entries), places)]

    def _at(self, ordered: Sequence[Weighted], places: Iterable[float]) -> list[Any]:
        """The elements that cover these places, rising, on a line where each is as long as its weight."""
        found = []
        i, end = 0, ordered[0][1]
        for place in places:
            while end <= place and i + 1 < len(ordered):
                i += 1
                end += ordered[i][1]
            found.append(ordered[i][0])
        return found

    def _sorted(self, entries: Iterable[Weighted]) -> list[Weighted]:
        return sorted(entries, key=lambda entry: self._rank(entry[0]), reverse=self.reverse)

    def _rank(self, value: Any) -> Any:
        return value if self.key is None else (self.key(value), ByText(value))

    def extract_output(self, accumulator: Summary) -> list[Any]:
        levels, ends = accumulator
        if not ends:
            return []
        ordered = self._sorted(chain.from_iterable(levels))
        whole, parts = sum(weight for _, weight in ordered), self.num_quantiles - 1
        # Elements are whole: of n the last is at place n - 1. Weights need not be.
        places = ((i * whole - (not self.weighted)) / parts for i in range(1, parts))
        return [ends[0], *self._at(ordered, places), ends[1]]
