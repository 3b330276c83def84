"""A DoFn with async functions, as the operator on the row path sees it: its calls are made together, and the operator
waits for all of them. So a step's outputs are all there before it is committed, and a step that is given up has none.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from streamflow.engine.calls import Calls, Outcome
from streamflow.engine.context import StepContext
from streamflow.transforms.asynchronous import AsyncOptions, given
from streamflow.transforms.core import DoFn, Guarded
from streamflow.transforms.outputs import TaggedOutput

logger = logging.getLogger(__name__)

LIFECYCLE_S_MAX = 60.0
"""What setup, start_bundle and finish_bundle may take each."""
TEARDOWN_S_MAX = 2.0
"""Ctrl-C is to end a worker within seconds."""


class AsyncFn(DoFn):
    """All methods of the DoFn run in the loop's thread, async or not: a client that `setup` makes is at home there."""

    def __init__(self, fn: DoFn, options: AsyncOptions, calls: Calls) -> None:
        self._guard = fn if isinstance(fn, Guarded) else None
        self._fn = fn.fn if isinstance(fn, Guarded) else fn
        self._options, self._calls = options, calls

    def setup(self) -> None:
        self._calls.wait(self._fn.setup, LIFECYCLE_S_MAX)

    def start_bundle(self) -> None:
        self._calls.wait(self._fn.start_bundle, LIFECYCLE_S_MAX)

    def process(self, element: Any, *args: Any, **kwargs: Any) -> Any:
        return self._fn.process(element, *args, **kwargs)

    def finish_bundle(self) -> Iterable[Any] | None:
        outputs: Iterable[Any] | None = self._calls.wait(self._fn.finish_bundle, LIFECYCLE_S_MAX)
        return outputs

    def teardown(self) -> None:
        try:
            self._calls.wait(self._fn.teardown, TEARDOWN_S_MAX, interruptible=False)
        except TimeoutError:
            logger.warning("%s.teardown took longer than %g s and was cancelled", type(self._fn), TEARDOWN_S_MAX)

    def outcomes(self, count: int, parts: Callable[[int], Iterable[Any]], context: StepContext) -> Iterator[Outcome]:
        """Of each element what its calls gave, as a list. `parts(i)` calls for element i: once for each of its windows,
        where it has several; one try covers them all."""

        async def call(index: int) -> list[Any]:
            try:
                return [await given(part) for part in parts(index)]
            except (SystemExit, KeyboardInterrupt) as error:
                # It would end the loop's thread, and who waits for it would wait for ever.
                raise RuntimeError(f"the function raised {type(error).__name__}") from error

        bundle = self._calls.run(call, count, self._options)
        context.counts["calls_retried"] += bundle.retried
        context.counts["calls_timed_out"] += bundle.timed_out
        yield from bundle.outcomes

    def letter(self, element: Any, error: Exception) -> TaggedOutput | None:
        """What stands for an element that failed after its last try, if there is an output for such."""
        if self._guard is None or not isinstance(error, self._guard.exc_class):
            return None
        return self._guard.letter(element, error)
