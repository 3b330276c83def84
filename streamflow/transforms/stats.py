"""Apache Beam's ApproximateUnique and ApproximateQuantiles. On columns: `sf.ApproxDistinct` and `sf.Quantiles`."""

import math
from collections.abc import Callable
from typing import Any

from streamflow.base.errors import PipelineError
from streamflow.model.combiner import CombineFn
from streamflow.model.graph import PCollection, PTransform
from streamflow.model.sketches import ApproximateQuantilesCombineFn, ApproximateUniqueCombineFn
from streamflow.transforms.combine import CombinePerKey
from streamflow.transforms.combiners import CombineFnTransform

__all__ = [
    "ApproximateQuantiles",
    "ApproximateQuantilesCombineFn",
    "ApproximateUnique",
    "ApproximateUniqueCombineFn",
]


class ApproximateUnique:
    """About how many different elements there are. Either `size`, 16 or more: how many are told apart exactly, or
    `error`, 0.01 to 0.5: how far off the answer may be, as a part of it."""

    class Globally(CombineFnTransform):
        def __init__(self, size: int | None = None, error: float | None = None) -> None:
            self.size = _size(size, error)

        def fn(self) -> CombineFn:
            return ApproximateUniqueCombineFn(self.size)

    class PerKey(PTransform):
        """(key, value) → (key, about how many different values)."""

        def __init__(self, size: int | None = None, error: float | None = None) -> None:
            self.size = _size(size, error)

        def expand(self, pcoll: PCollection) -> Any:
            return pcoll | CombinePerKey(ApproximateUniqueCombineFn(self.size))


def _size(size: int | None, error: float | None) -> int:
    if (size is None) == (error is None):
        raise PipelineError(f"ApproximateUnique needs either size or error, got size={size} and error={error}.")
    if error is not None:
        if not 0.01 <= error <= 0.5:
            raise PipelineError(f"ApproximateUnique needs an error from 0.01 to 0.5, got {error}.")
        return math.ceil(4 / error**2)
    if not isinstance(size, int) or size < 16:
        raise PipelineError(f"ApproximateUnique needs a size of 16 or more, got {size}: its error is about 2/√size.")
    return size


class ApproximateQuantiles:
    """The least element, the greatest, and those that part all in between into equal sizes, as one list of
    `num_quantiles`. For the options see ApproximateQuantilesCombineFn."""

    class Globally(CombineFnTransform):
        def __init__(
            self,
            num_quantiles: int,
            key: Callable[[Any], Any] | None = None,
            reverse: bool = False,
            weighted: bool = False,
            input_batched: bool = False,
        ) -> None:
            self.combine = ApproximateQuantilesCombineFn.create(
                num_quantiles, key=key, reverse=reverse, weighted=weighted, input_batched=input_batched
            )

        def fn(self) -> CombineFn:
            return self.combine

    class PerKey(PTransform):
        """(key, value) → (key, list of values)."""

        def __init__(
            self,
            num_quantiles: int,
            key: Callable[[Any], Any] | None = None,
            reverse: bool = False,
            weighted: bool = False,
            input_batched: bool = False,
        ) -> None:
            self.combine = ApproximateQuantilesCombineFn.create(
                num_quantiles, key=key, reverse=reverse, weighted=weighted, input_batched=input_batched
            )

        def expand(self, pcoll: PCollection) -> Any:
            return pcoll | CombinePerKey(self.combine)
