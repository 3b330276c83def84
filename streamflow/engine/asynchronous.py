"""A DoFn with async functions, as the operator on the row path sees it: its calls are made together, and the operator
waits for all of them. So a step's outputs are all there before it is committed, and a step that is given up has none.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from streamflow.engine.calls import Calls
from streamflow.engine.context import StepContext
from streamflow.engine.outputs import Place, Placed, all_placed
from streamflow.model.batch import Elements, OnBad
from streamflow.model.user_metrics import RECORDER
from streamflow.model.window import IntervalWindow
from streamflow.transforms.asynchronous import AsyncOptions, given
from streamflow.transforms.dofn import DoFn, Guarded

if TYPE_CHECKING:
    from streamflow.engine.bundle import Outcome

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

    def process_all(
        self,
        elements: Elements,
        places: Callable[[Elements, int], Sequence[Place]],
        process: Callable[[Elements, int, IntervalWindow | None], Any],
        on_bad: OnBad,
        context: StepContext,
        out: Elements,
    ) -> None:
        """Calls for all elements, once for each of their `places`, which one try covers together. What is given is
        added to `out`, in the order that was chosen."""

        recorder = RECORDER.get()

        async def call(i: int) -> list[Any]:
            RECORDER.set(recorder)  # the loop has a thread of its own
            try:
                return [await given(process(elements, i, window)) for _, window in places(elements, i)]
            except (SystemExit, KeyboardInterrupt) as error:
                # It would end the loop's thread, and who waits for it would wait for ever.
                raise RuntimeError(f"the function raised {type(error).__name__}") from error

        bundle = self._calls.run(call, len(elements), self._options)
        context.counts["calls_retried"] += bundle.retried
        context.counts["calls_timed_out"] += bundle.timed_out
        for outcome in bundle.outcomes:
            value, offset = elements.values[outcome.index], elements.offsets[outcome.index]
            results: list[Placed] = []
            try:
                of_element = places(elements, outcome.index)
                for outputs, place in zip(self._given(value, outcome, len(of_element)), of_element, strict=True):
                    results += all_placed(outputs, *place)
            except Exception as error:
                on_bad(value, offset, error)
                continue
            for result, time_us, window in results:
                out.append(result, time_us, offset, window, elements.pane(outcome.index))

    def _given(self, element: Any, outcome: "Outcome", count: int) -> Sequence[Any]:
        """The outputs for each of the places; raises the error unless exceptions are an output."""
        if outcome.error is None:
            outputs: Sequence[Any] = outcome.value
            return outputs
        if self._guard is None or not isinstance(outcome.error, self._guard.exc_class):
            raise outcome.error
        return [[self._guard.letter(element, outcome.error)]] * count
