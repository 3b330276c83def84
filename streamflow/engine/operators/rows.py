"""Operators on the row path: what looks at one element at a time, mostly by calling a function of the user's."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from streamflow.engine.asynchronous import AsyncFn
from streamflow.engine.calls import Calls
from streamflow.engine.context import StepContext
from streamflow.engine.context_params import Contexts
from streamflow.engine.operators.contract import Inner, Operator
from streamflow.engine.outputs import Place, Placed, all_placed, finished, key_of, keyed_rows, with_tag, without_tags
from streamflow.engine.sides import Views
from streamflow.model.batch import VALUE, Batch, Elements, OnBad, in_windows, to_elements
from streamflow.model.panes import PANE_UNKNOWN
from streamflow.model.time import Timestamp
from streamflow.model.user_metrics import at_step
from streamflow.model.window import IntervalWindow
from streamflow.model.windowing import Windowing
from streamflow.transforms.dofn import asks_window
from streamflow.transforms.elementwise import DoFn, ParDo
from streamflow.transforms.outputs import WindowedValue
from streamflow.transforms.params import Param
from streamflow.transforms.window import WindowInto


class RowOperator(Inner):
    """A DoFn over the elements of the batch, one at a time, or if it is async many. `views`: its side inputs, if it has
    any."""

    def __init__(
        self,
        label: str,
        transform: ParDo,
        windowing: Windowing,
        children: Sequence[Operator],
        calls: Calls,
        views: Views | None,
    ) -> None:
        super().__init__(label, children)
        self.fn = copy.deepcopy(transform.fn)
        if transform.asynchronous is not None:
            self.fn = AsyncFn(self.fn, transform.asynchronous, calls)
        self.args, self.kwargs, self.params, self.views = transform.args, transform.kwargs, transform.params, views
        self.tagged = transform.tags is not None
        self.windowing = windowing
        self.asks_key = any(param is DoFn.KeyParam for param in self.params.values())
        self.asks_place = any(param is DoFn.WindowedValueParam for param in self.params.values())
        self.per_window = asks_window(self.params)
        self.fn.setup()
        self.contexts = Contexts(transform.params)

    def run(self, batch: Batch, context: StepContext) -> None:
        self.hand_on(self._outputs(to_elements(batch), context.on_bad(self.label), context), context)

    def _outputs(self, elements: Elements, on_bad: OnBad, context: StepContext) -> Elements:
        out = Elements()
        at_step(self.label)
        with self.contexts.bundle():
            self._bundle(elements, on_bad, context, out)
        if not self.tagged:
            context.counts["outputs_unread"] += without_tags(out)
        return out

    def _bundle(self, elements: Elements, on_bad: OnBad, context: StepContext, out: Elements) -> None:
        self.fn.start_bundle()
        if isinstance(self.fn, AsyncFn):
            self.fn.process_all(elements, self._places, self._process, on_bad, context, out)
        else:
            self._process_each(elements, on_bad, out)
        windowed = self.windowing.assigned or self.per_window
        for result, time_us, window in finished(self.fn, windowed):
            out.append(result, time_us, -1, window)

    def _process_each(self, elements: Elements, on_bad: OnBad, out: Elements) -> None:
        for i, value in enumerate(elements.values):
            results: list[Placed] = []
            try:
                for time_us, window in self._places(elements, i):
                    results += all_placed(self._process(elements, i, window), time_us, window)
            except Exception as error:
                on_bad(value, elements.offsets[i], error)
                continue
            for result, time_us, window in results:
                out.append(result, time_us, elements.offsets[i], window, elements.pane(i))

    def _places(self, elements: Elements, i: int) -> Sequence[Place]:
        """For each time and window that the function is called for the element."""
        time_us, window = elements.times[i], elements.window(i) if self.windowing.assigned else None
        if self.per_window and window is None:
            return [(time_us, each) for each in self.windowing.fn.at(time_us)]
        return ((time_us, window),)

    def _process(self, elements: Elements, i: int, window: IntervalWindow | None) -> Any:
        args, kwargs = (self.args, self.kwargs) if self.views is None else self.views.arguments(window)
        return self.fn.process(elements.values[i], *args, **kwargs, **self._asked(elements, i, window))

    def _asked(self, elements: Elements, i: int, window: IntervalWindow | None) -> dict[str, Any]:
        if not self.params:
            return {}
        value = elements.values[i]
        offers: dict[Param, Any] = {
            DoFn.TimestampParam: Timestamp(micros=elements.times[i]),
            DoFn.WindowParam: window,
            DoFn.ElementParam: value,
            DoFn.KeyParam: key_of(value) if self.asks_key else None,
            DoFn.PaneInfoParam: elements.pane(i) or PANE_UNKNOWN,
            **self.contexts.values,
        }
        if self.asks_place:
            windows = () if window is None else (window,)
            place = WindowedValue(value, offers[DoFn.TimestampParam], list(windows), offers[DoFn.PaneInfoParam])
            offers[DoFn.WindowedValueParam] = place
        return {name: offers[param] for name, param in self.params.items()}

    def close(self) -> None:
        self.contexts.close()
        self.fn.teardown()
        super().close()


class FilterOperator(RowOperator):
    """A function that decides about elements. It takes rows as dicts, but the frame itself goes on."""

    def run(self, batch: Batch, context: StepContext) -> None:
        if isinstance(batch, Elements) or VALUE in batch.columns or self.per_window:
            super().run(batch, context)
            return
        elements = to_elements(batch)
        offsets, on_bad = elements.offsets, context.on_bad(self.label)
        rows = replace(elements, offsets=list(range(len(elements))))
        kept = self._outputs(rows, lambda value, row, error: on_bad(value, offsets[row], error), context)
        self.hand_on(batch[kept.offsets] if len(kept) < batch.height else batch, context)


class TaggedOperator(Inner):
    """One of several outputs."""

    def __init__(self, label: str, tag: str | None, children: Sequence[Operator]) -> None:
        super().__init__(label, children)
        self.tag = tag

    def run(self, batch: Batch, context: StepContext) -> None:
        assert isinstance(batch, Elements)
        self.hand_on(with_tag(batch, self.tag), context)


class WindowOperator(Inner):
    """Windows given to each element where it comes by: those of a function of the user's own, or other ones where an
    element is in several, each of which goes on by itself."""

    def __init__(self, label: str, transform: WindowInto, before: Windowing, children: Sequence[Operator]) -> None:
        super().__init__(label, children)
        self.windowing, self.before = transform.windowing, before

    def run(self, batch: Batch, context: StepContext) -> None:
        elements, on_bad = to_elements(batch), context.on_bad(self.label)
        rows: list[int] = []
        windows: list[IntervalWindow] = []
        for i, value in enumerate(elements.values):
            time_us = elements.times[i]
            so_far: list[IntervalWindow | None] = [elements.window(i) if self.before.assigned else None]
            if self.before.may_spread:
                so_far[:] = self.before.fn.at(time_us)
            try:
                assigned = [each for window in so_far for each in self.windowing.windows(time_us, value, window)]
            except Exception as error:
                on_bad(value, elements.offsets[i], error)
                continue
            rows += [i] * len(assigned)
            windows += assigned
        self.hand_on(in_windows(batch, rows, windows), context)


class KeyedRows(Inner):
    """(key, value) pairs as rows with the key's encoding, one for each of their windows."""

    def __init__(self, label: str, windowing: Windowing, children: Sequence[Operator]) -> None:
        super().__init__(label, children)
        self.windowing = windowing

    def run(self, batch: Batch, context: StepContext) -> None:
        self.hand_on(keyed_rows(to_elements(batch), self.windowing, context.on_bad(self.label)), context)


class PartialOperator(Inner):
    """The partial combine of the row path. `close_fn`: lets go of the CombineFn."""

    def __init__(
        self,
        label: str,
        partial: Callable[[Batch, OnBad], pl.DataFrame],
        close_fn: Callable[[], None],
        children: Sequence[Operator],
    ) -> None:
        super().__init__(label, children)
        self.partial, self.close_fn = partial, close_fn

    def run(self, batch: Batch, context: StepContext) -> None:
        at_step(self.label)
        self.hand_on(self.partial(batch, context.on_bad(self.label)), context)

    def close(self) -> None:
        self.close_fn()
        super().close()
