"""CombineFn, as in Apache Beam: reductions whose accumulators are made anywhere and merged in any order."""

from collections.abc import Callable, Iterable
from typing import Any

from streamflow.base.errors import PipelineError


class CombineFn:
    """An associative, commutative reduction.

    One instance serves many keys; only accumulators hold data. Accumulators cross the shuffle pickled."""

    def setup(self) -> None:
        """Once before the first use in a worker."""

    def create_accumulator(self) -> Any:
        raise PipelineError(f"{type(self).__name__} must define create_accumulator().")

    def add_input(self, accumulator: Any, element: Any) -> Any:
        raise PipelineError(f"{type(self).__name__} must define add_input(accumulator, element).")

    def add_inputs(self, accumulator: Any, elements: Iterable[Any]) -> Any:
        for element in elements:
            accumulator = self.add_input(accumulator, element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        raise PipelineError(f"{type(self).__name__} must define merge_accumulators(accumulators).")

    def extract_output(self, accumulator: Any) -> Any:
        raise PipelineError(f"{type(self).__name__} must define extract_output(accumulator).")

    def compact(self, accumulator: Any) -> Any:
        """A smaller equivalent of the accumulator, before it is written to a log."""
        return accumulator

    def apply(self, elements: Iterable[Any]) -> Any:
        """The whole reduction at once."""
        return self.extract_output(self.add_inputs(self.create_accumulator(), elements))

    @staticmethod
    def of(fn: "CombineFn | Callable[..., Any]") -> "CombineFn":
        """A CombineFn as it is, or one made of a callable over an iterable, such as `sum` or `max`."""
        if isinstance(fn, CombineFn):
            return fn
        if isinstance(fn, type) and issubclass(fn, CombineFn):
            return fn()
        if callable(fn):
            return CallableCombineFn(fn)
        raise PipelineError(f"{fn!r} can't combine. Give a CombineFn, or a function over an iterable such as sum.")


class CallableCombineFn(CombineFn):
    """A function over an iterable that may be applied to its own results: `sum`, `min`, `max`, `any`…

    The accumulator is a list that is reduced to one element whenever it reaches ten."""

    _BUFFER = 10

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn

    def create_accumulator(self) -> list[Any]:
        return []

    def add_input(self, accumulator: list[Any], element: Any) -> list[Any]:
        accumulator.append(element)
        return self.compact(accumulator) if len(accumulator) >= self._BUFFER else accumulator

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        return self.compact([element for accumulator in accumulators for element in accumulator])

    def compact(self, accumulator: list[Any]) -> list[Any]:
        # One element is reduced too, so that a value the function can't take is found where it comes from.
        return [self.fn(accumulator)] if accumulator else accumulator

    def extract_output(self, accumulator: list[Any]) -> Any:
        return self.fn(accumulator)


class ListCombineFn(CombineFn):
    """All elements as a list: what GroupByKey is made of."""

    def create_accumulator(self) -> list[Any]:
        return []

    def add_input(self, accumulator: list[Any], element: Any) -> list[Any]:
        accumulator.append(element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        return [element for accumulator in accumulators for element in accumulator]

    def extract_output(self, accumulator: list[Any]) -> list[Any]:
        return accumulator
