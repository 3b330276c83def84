"""CombineFn, as in Apache Beam: reductions whose accumulators are made anywhere and merged in any order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import GenericAlias
from typing import Any

from streamflow.base.errors import PipelineError
from streamflow.model.type_hints import IOTypeHints, WithTypeHints, hints_of
from streamflow.model.types import Bindings, bound, fits, item_of


class CombineFn(WithTypeHints):
    """An associative, commutative reduction.

    One instance serves many keys; only accumulators hold data. Accumulators cross the shuffle pickled."""

    def setup(self, *args: Any, **kwargs: Any) -> None:
        """Once before the first use in a worker."""

    def teardown(self, *args: Any, **kwargs: Any) -> None:
        """Once when a worker lets go of it."""

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

    def compact(self, accumulator: Any, *args: Any, **kwargs: Any) -> Any:
        """A smaller equivalent of the accumulator, before it is written to a log."""
        return accumulator

    def apply(self, elements: Iterable[Any]) -> Any:
        """The whole reduction at once."""
        return self.extract_output(self.add_inputs(self.create_accumulator(), elements))

    def infer_output_type(self, input_type: Any) -> Any:
        """What type the results have, for elements of that type, where nothing is said of it. May be overridden."""
        return Any

    def output_type_for(self, input_type: Any) -> Any:
        """What is known of the results, for elements of that type."""
        hints, bindings = self.get_type_hints(), Bindings()
        if not hints.has_simple_output_type():
            return self.infer_output_type(input_type)
        if hints.element is not None:
            fits(input_type, hints.element, bindings)
        return bound(hints.simple_output_type(), bindings)

    @staticmethod
    def from_callable(fn: Callable[..., Any]) -> "CombineFn":
        """One made of a function over an iterable."""
        return CombineFn.of(fn)

    @staticmethod
    def of(fn: "CombineFn | Callable[..., Any]", *args: Any, **kwargs: Any) -> "CombineFn":
        """A CombineFn as it is, or one made of a callable over an iterable, such as `sum` or `max`. `args`, `kwargs`:
        what its methods, or the callable, get besides."""
        if isinstance(fn, type) and issubclass(fn, CombineFn):
            fn = fn()
        if isinstance(fn, CallableCombineFn) and (args or kwargs):
            return CallableCombineFn(fn.fn, args, kwargs)
        if isinstance(fn, CombineFn):
            return CurriedCombineFn(fn, args, kwargs) if args or kwargs else fn
        if callable(fn):
            return CallableCombineFn(fn, args, kwargs)
        raise PipelineError(f"{fn!r} can't combine. Give a CombineFn, or a function over an iterable such as sum.")


class PartialCombineFn(CombineFn):
    """The first half of a CombineFn: its result is the accumulator."""

    def __init__(self, fn: CombineFn) -> None:
        self.fn = fn

    def setup(self) -> None:
        self.fn.setup()

    def teardown(self) -> None:
        self.fn.teardown()

    def create_accumulator(self) -> Any:
        return self.fn.create_accumulator()

    def add_input(self, accumulator: Any, element: Any) -> Any:
        return self.fn.add_input(accumulator, element)

    def add_inputs(self, accumulator: Any, elements: Iterable[Any]) -> Any:
        return self.fn.add_inputs(accumulator, elements)

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        return self.fn.merge_accumulators(accumulators)

    def compact(self, accumulator: Any) -> Any:
        return self.fn.compact(accumulator)

    def extract_output(self, accumulator: Any) -> Any:
        return accumulator

    def default_type_hints(self) -> IOTypeHints:
        return IOTypeHints(self.fn.get_type_hints().input_types)


class MergingCombineFn(PartialCombineFn):
    """The second half of a CombineFn: its inputs are accumulators."""

    def add_input(self, accumulator: Any, element: Any) -> Any:
        return self.fn.merge_accumulators([accumulator, element])

    def add_inputs(self, accumulator: Any, elements: Iterable[Any]) -> Any:
        return self.fn.merge_accumulators([accumulator, *elements])

    def extract_output(self, accumulator: Any) -> Any:
        return self.fn.extract_output(accumulator)

    def default_type_hints(self) -> IOTypeHints:
        return IOTypeHints(None, self.fn.get_type_hints().output_types)


class CurriedCombineFn(CombineFn):
    """A CombineFn whose methods get further arguments, as `CombinePerKey(fn, *args, **kwargs)` gives them."""

    def __init__(self, fn: CombineFn, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.fn: Any = fn
        self.args, self.kwargs = args, kwargs

    def setup(self) -> None:
        self.fn.setup(*self.args, **self.kwargs)

    def teardown(self) -> None:
        self.fn.teardown(*self.args, **self.kwargs)

    def create_accumulator(self) -> Any:
        return self.fn.create_accumulator(*self.args, **self.kwargs)

    def add_input(self, accumulator: Any, element: Any) -> Any:
        return self.fn.add_input(accumulator, element, *self.args, **self.kwargs)

    def merge_accumulators(self, accumulators: Iterable[Any]) -> Any:
        return self.fn.merge_accumulators(accumulators, *self.args, **self.kwargs)

    def compact(self, accumulator: Any) -> Any:
        return self.fn.compact(accumulator, *self.args, **self.kwargs)

    def extract_output(self, accumulator: Any) -> Any:
        return self.fn.extract_output(accumulator, *self.args, **self.kwargs)

    def default_type_hints(self) -> IOTypeHints:
        of_fn: IOTypeHints = self.fn.get_type_hints()
        return of_fn

    def infer_output_type(self, input_type: Any) -> Any:
        return self.fn.infer_output_type(input_type)


class CallableCombineFn(CombineFn):
    """A function over an iterable that may be applied to its own results: `sum`, `min`, `max`, `any`…

    The accumulator is a list that is reduced to one element whenever it reaches ten."""

    _BUFFER = 10

    def __init__(
        self, fn: Callable[..., Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> None:
        self.fn, self.args, self.kwargs = fn, args, kwargs or {}

    def create_accumulator(self) -> list[Any]:
        return []

    def add_input(self, accumulator: list[Any], element: Any) -> list[Any]:
        accumulator.append(element)
        return self.compact(accumulator) if len(accumulator) >= self._BUFFER else accumulator

    def merge_accumulators(self, accumulators: Iterable[list[Any]]) -> list[Any]:
        return self.compact([element for accumulator in accumulators for element in accumulator])

    def compact(self, accumulator: list[Any]) -> list[Any]:
        # One element is reduced too, so that a value the function can't take is found where it comes from.
        return [self.extract_output(accumulator)] if accumulator else accumulator

    def extract_output(self, accumulator: list[Any]) -> Any:
        return self.fn(accumulator, *self.args, **self.kwargs)

    def default_type_hints(self) -> IOTypeHints:
        """Of the function: it wants an iterable of elements, and gives what the results are."""
        hints = hints_of(self.fn).with_defaults(IOTypeHints.from_callable(self.fn))
        if hints.element is None:
            return hints
        return hints.with_input_types(item_of(hints.element, f"what {self.fn!r} combines"))

    def infer_output_type(self, input_type: Any) -> Any:
        return input_type if self.fn in (sum, min, max) else Any


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

    def infer_output_type(self, input_type: Any) -> Any:
        return GenericAlias(list, (input_type,))
