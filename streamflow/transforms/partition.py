"""Partition: one PCollection as several, by a function that numbers them."""

from collections.abc import Callable, Iterable
from typing import Any

from streamflow.base.errors import DataError, PipelineError
from streamflow.model.graph import PCollection, PTransform
from streamflow.transforms.asynchronous import is_async
from streamflow.transforms.dofn import FunctionDoFn, name_of
from streamflow.transforms.elementwise import ParDo
from streamflow.transforms.outputs import DoOutputsTuple, TaggedOutput


class PartitionFn:
    """Says to which of `num_partitions` an element belongs, counted from 0."""

    def partition_for(self, element: Any, num_partitions: int, *args: Any, **kwargs: Any) -> int:
        raise PipelineError(f"{type(self).__name__} must define partition_for(self, element, num_partitions).")


class Partition(PTransform):
    """Splits a PCollection into `n`: `small, large = pcoll | Partition(lambda number, n: number > 9, 2)`. An element
    for which `fn` gives no number in `[0, n)` is a bad one."""

    def __init__(self, fn: PartitionFn | Callable[..., int], n: int, *args: Any, **kwargs: Any) -> None:
        if not isinstance(n, int) or n < 1:
            raise PipelineError(f"the number of partitions must be at least 1, got {n!r}.")
        if not isinstance(fn, PartitionFn) and not callable(fn):
            raise PipelineError(f"Partition takes a function, not {fn!r}. Write Partition(fn, {n}).")
        if is_async(fn.partition_for if isinstance(fn, PartitionFn) else fn):
            raise PipelineError(
                f"Partition can't await {name_of(fn)}. Apply it with Map before, and split by its result."
            )
        self.fn, self.n, self.args, self.kwargs = fn, n, args, kwargs

    def default_label(self) -> str:
        return self.label or f"Partition({name_of(self.fn)})"

    def expand(self, pcoll: PCollection) -> DoOutputsTuple:
        function = self.fn.partition_for if isinstance(self.fn, PartitionFn) else self.fn
        split: DoOutputsTuple = pcoll | ParDo(_ToPartition(function, self.n), *self.args, **self.kwargs).with_outputs(
            *map(str, range(self.n))
        )
        return split


class _ToPartition(FunctionDoFn):
    def __init__(self, fn: Callable[..., Any], n: int) -> None:
        super().__init__(fn)
        self.n = n

    def default_type_hints(self) -> None:
        """What the function gives is no output."""

    def infer_output_type(self, input_type: Any) -> Any:
        return input_type

    def process(self, element: Any, *args: Any, **kwargs: Any) -> Iterable[Any]:
        number = self.fn(element, self.n, *args, **kwargs)
        if isinstance(number, bool) or not hasattr(number, "__index__"):
            raise DataError(f"{name_of(self)} gives {number!r}, a {type(number).__name__}, which numbers no partition.")
        if not 0 <= number < self.n:
            raise DataError(f"there is no partition {number!r} of {self.n}: they are counted from 0.")
        return (TaggedOutput(str(int(number)), element),)
