"""The CombineFns that Apache Beam has ready made. An order among equals is settled by the values, so that an answer
does not depend on batches."""

import heapq
import pickle
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import reduce
from itertools import chain
from operator import itemgetter
from types import GenericAlias
from typing import Any

from streamflow.model.combiner import CombineFn, ListCombineFn
from streamflow.model.time import MIN_TIMESTAMP
from streamflow.model.type_hints import with_input_types, with_output_types
from streamflow.model.types import pair_of


@with_output_types(int)
class CountCombineFn(CombineFn):
    """How many elements."""

    def create_accumulator(self) -> int:
        return 0

    def add_input(self, accumulator: int, element: Any) -> int:
        return accumulator + 1

    def add_inputs(self, accumulator: int, elements: Iterable[Any]) -> int:
        return accumulator + sum(1 for _ in elements)

    def merge_accumulators(self, accumulators: Iterable[int]) -> int:
        return sum(accumulators)

    def extract_output(self, accumulator: int) -> int:
        return accumulator


@with_output_types(float)
class MeanCombineFn(CombineFn):
    """The arithmetic mean; NaN of nothing."""

    def create_accumulator(self) -> tuple[Any, int]:
        return 0, 0

    def add_input(self, accumulator: tuple[Any, int], element: Any) -> tuple[Any, int]:
        return accumulator[0] + element, accumulator[1] + 1

    def merge_accumulators(self, accumulators: Iterable[tuple[Any, int]]) -> tuple[Any, int]:
        totals, counts = zip(*accumulators, strict=True)
        return sum(totals), sum(counts)

    def extract_output(self, accumulator: tuple[Any, int]) -> float:
        total, count = accumulator
        return total / count if count else float("nan")


class ByText:
    """Settles the order of elements that are equal otherwise; their text is made only where it comes to that."""

    __slots__ = ("element",)

    def __init__(self, element: Any) -> None:
        self.element = element

    def __lt__(self, other: "ByText") -> bool:
        return repr(self.element) < repr(other.element)


class TopCombineFn(CombineFn):
    """The `n` greatest elements as a list, the greatest first; with `reverse` the least, the least first.

    `key`: a function of an element that gives what is compared, as in `sorted`."""

    _SLACK = 16
    """An accumulator is cut to n elements when it has twice as many and these."""

    def __init__(self, n: int, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> None:
        self.n, self.key, self.reverse = n, key, reverse

    def create_accumulator(self) -> list[Any]:
        return []

    def add_input(self, accumulator: list[Any], element: Any) -> list[Any]:
        accumulator.append(element)
        return self.compact(accumulator) if len(accumulator) > 2 * self.n + self._SLACK else accumulator

    def add_inputs(self, accumulator: list[Any], elements: Iterable[Any]) -> list[Any]:
        return self._best(chain(accumulator, elements))

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        return self._best(chain.from_iterable(accumulators))

    def compact(self, accumulator: list[Any]) -> list[Any]:
        return self._best(accumulator)

    def extract_output(self, accumulator: list[Any]) -> list[Any]:
        return self._best(accumulator)

    def _best(self, elements: Iterable[Any]) -> list[Any]:
        choose = heapq.nsmallest if self.reverse else heapq.nlargest
        return choose(self.n, elements, key=None if self.key is None else self._rank)

    def _rank(self, element: Any) -> tuple[Any, ByText]:
        assert self.key is not None
        return self.key(element), ByText(element)

    def infer_output_type(self, input_type: Any) -> Any:
        return GenericAlias(list, (input_type,))


class Largest(TopCombineFn):
    """The `n` greatest elements, the greatest first."""


class Smallest(TopCombineFn):
    """The `n` least elements, the least first."""

    def __init__(self, n: int) -> None:
        super().__init__(n, reverse=True)


class SampleCombineFn(CombineFn):
    """`n` elements without replacement, each with the same chance; all if there are fewer.

    `seed`: the same elements in the same batches then give the same sample."""

    def __init__(self, n: int, seed: int | str | None = None) -> None:
        self.n, self.seed = n, seed

    def create_accumulator(self) -> tuple[int, list[tuple[float, Any]]]:
        return 0, []

    def add_input(self, accumulator: tuple[int, list[Any]], element: Any) -> tuple[int, list[Any]]:
        return self.add_inputs(accumulator, [element])

    def add_inputs(self, accumulator: tuple[int, list[Any]], elements: Iterable[Any]) -> tuple[int, list[Any]]:
        seen, drawn = accumulator
        batch = list(elements)
        lot = self._lots(seen, batch)
        return seen + len(batch), self._first([*drawn, *((lot.random(), element) for element in batch)])

    def merge_accumulators(self, accumulators: Iterable[tuple[int, list[Any]]]) -> tuple[int, list[Any]]:
        seen, drawn = zip(*accumulators, strict=True)
        return sum(seen), self._first(chain.from_iterable(drawn))

    def extract_output(self, accumulator: tuple[int, list[Any]]) -> list[Any]:
        return [element for _, element in accumulator[1]]

    def _lots(self, seen: int, batch: Sequence[Any]) -> random.Random:
        """Batches must draw different numbers: with equal ones, what stands at one place would be chosen together."""
        return random.Random() if self.seed is None else random.Random(pickle.dumps((self.seed, seen, batch)))

    def _first(self, drawn: Iterable[tuple[float, Any]]) -> list[tuple[float, Any]]:
        return heapq.nsmallest(self.n, drawn, key=itemgetter(0))

    def infer_output_type(self, input_type: Any) -> Any:
        return GenericAlias(list, (input_type,))


class ToListCombineFn(ListCombineFn):
    """All elements as a list."""


class ToSetCombineFn(CombineFn):
    """All elements as a set."""

    def create_accumulator(self) -> set[Any]:
        return set()

    def add_input(self, accumulator: set[Any], element: Any) -> set[Any]:
        accumulator.add(element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[set[Any]]) -> set[Any]:
        return set().union(*accumulators)

    def extract_output(self, accumulator: set[Any]) -> set[Any]:
        return accumulator

    def infer_output_type(self, input_type: Any) -> Any:
        return GenericAlias(set, (input_type,))


class ToDictCombineFn(CombineFn):
    """(key, value) pairs as a dict; of several values of a key, one."""

    def create_accumulator(self) -> dict[Any, Any]:
        return {}

    def add_input(self, accumulator: dict[Any, Any], element: Any) -> dict[Any, Any]:
        key, value = element
        return self._put(accumulator, key, value)

    def merge_accumulators(self, accumulators: Iterable[dict[Any, Any]]) -> dict[Any, Any]:
        merged: dict[Any, Any] = {}
        for accumulator in accumulators:
            for key, value in accumulator.items():
                self._put(merged, key, value)
        return merged

    def extract_output(self, accumulator: dict[Any, Any]) -> dict[Any, Any]:
        return accumulator

    def _put(self, values: dict[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
        if key not in values or ByText(values[key]) < ByText(value):
            values[key] = value
        return values

    def infer_output_type(self, input_type: Any) -> Any:
        return GenericAlias(dict, pair_of(input_type) or (Any, Any))


@with_input_types(tuple[Any, Any])
class LatestCombineFn(CombineFn):
    """(value, event time) → the value of the latest time; None of nothing."""

    def create_accumulator(self) -> tuple[Any, Any]:
        return None, MIN_TIMESTAMP

    def add_input(self, accumulator: tuple[Any, Any], element: tuple[Any, Any]) -> tuple[Any, Any]:
        later = (accumulator[1], ByText(accumulator[0])) < (element[1], ByText(element[0]))
        return element if later else accumulator

    def merge_accumulators(self, accumulators: Iterable[tuple[Any, Any]]) -> tuple[Any, Any]:
        return reduce(self.add_input, accumulators, self.create_accumulator())

    def extract_output(self, accumulator: tuple[Any, Any]) -> Any:
        return accumulator[0]

    def infer_output_type(self, input_type: Any) -> Any:
        return (pair_of(input_type) or (Any, Any))[0]


class _SeveralCombineFn(CombineFn, ABC):
    """Several CombineFns side by side; the result is a tuple."""

    def __init__(
        self, *combiners: CombineFn | Callable[..., Any], merge_accumulators_batch_size: int | None = None
    ) -> None:
        """`merge_accumulators_batch_size` is Apache Beam's: here accumulators are merged as they come."""
        self.combiners = [CombineFn.of(fn) for fn in combiners]

    @abstractmethod
    def inputs(self, element: Any) -> Iterable[Any]:
        """What of the element goes to each CombineFn."""

    def setup(self) -> None:
        for fn in self.combiners:
            fn.setup()

    def teardown(self) -> None:
        for fn in self.combiners:
            fn.teardown()

    def create_accumulator(self) -> list[Any]:
        return [fn.create_accumulator() for fn in self.combiners]

    def add_input(self, accumulator: list[Any], element: Any) -> list[Any]:
        triples = zip(self.combiners, accumulator, self.inputs(element), strict=True)
        return [fn.add_input(part, value) for fn, part, value in triples]

    def add_inputs(self, accumulator: list[Any], elements: Iterable[Any]) -> list[Any]:
        columns = list(zip(*map(self.inputs, elements), strict=True)) or [()] * len(self.combiners)
        triples = zip(self.combiners, accumulator, columns, strict=True)
        return [fn.add_inputs(part, values) for fn, part, values in triples]

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        pairs = zip(self.combiners, zip(*accumulators, strict=True), strict=True)
        return [fn.merge_accumulators(parts) for fn, parts in pairs]

    def compact(self, accumulator: list[Any]) -> list[Any]:
        return [fn.compact(part) for fn, part in zip(self.combiners, accumulator, strict=True)]

    def extract_output(self, accumulator: list[Any]) -> tuple[Any, ...]:
        return tuple(fn.extract_output(part) for fn, part in zip(self.combiners, accumulator, strict=True))


class TupleCombineFn(_SeveralCombineFn):
    """Tuples, the k-th place of each by the k-th CombineFn."""

    def inputs(self, element: Any) -> Iterable[Any]:
        values: Iterable[Any] = element
        return values

    def with_common_input(self) -> "SingleInputTupleCombineFn":
        return SingleInputTupleCombineFn(*self.combiners)


class SingleInputTupleCombineFn(_SeveralCombineFn):
    """Each element by every CombineFn."""

    def inputs(self, element: Any) -> Iterable[Any]:
        return [element] * len(self.combiners)
