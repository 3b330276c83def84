"""Sinks of a user's own for bounded PCollections, as in Apache Beam: written in parts, put in place by one last step.

Each batch of a task has a writer, whose result is committed with the step. A step that is repeated after a crash opens
another writer, and the result of the one before is lost with it: `finalize_write` is given the results of what counts,
and nothing else, so that what it puts in place is there exactly once. It is itself repeated if its own step is.
"""

import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from streamflow.base.errors import PipelineError
from streamflow.model.graph import PCollection, PTransform
from streamflow.model.window import GLOBAL_WINDOW, GlobalWindows
from streamflow.transforms.collections import Create
from streamflow.transforms.elementwise import DoFn, FlatMap, Map, ParDo
from streamflow.transforms.outputs import WindowedValue
from streamflow.transforms.sides import AsIter, AsSingleton
from streamflow.transforms.window import WindowInto


class Writer:
    """Writes one part."""

    def write(self, value: Any) -> None:
        raise PipelineError(f"{type(self).__name__} must define write(value).")

    def close(self) -> Any:
        """No more comes. Gives what `finalize_write` needs to know of this part."""
        raise PipelineError(f"{type(self).__name__} must define close().")


class Sink:
    """What `Write` writes to. It is pickled to the tasks."""

    def initialize_write(self) -> Any:
        """Once, before all else, and again if its step is repeated. Gives what the writers need to know."""
        raise PipelineError(f"{type(self).__name__} must define initialize_write().")

    def open_writer(self, init_result: Any, uid: str) -> Writer:
        """For a batch. `uid` is no other writer's."""
        raise PipelineError(f"{type(self).__name__} must define open_writer(init_result, uid).")

    def pre_finalize(self, init_result: Any, writer_results: Iterable[Any]) -> Any:
        """Before `finalize_write`, which gets what it gives."""
        return None

    def finalize_write(self, init_result: Any, writer_results: Iterable[Any], pre_finalize_result: Any) -> Any:
        """When all is written: puts the parts in place. Its outputs, if any, are those of `Write`."""
        raise PipelineError(f"{type(self).__name__} must define finalize_write(init_result, writer_results, …).")


class Write(PTransform):
    """Writes a PCollection to a Sink; a transform instead of one is applied as it is."""

    def __init__(self, sink: Sink | PTransform) -> None:
        if not isinstance(sink, (Sink, PTransform)):
            raise PipelineError(f"Write takes a Sink, not {sink!r}.")
        self.sink = sink

    def default_label(self) -> str:
        return self.label or f"Write({type(self.sink).__name__})"

    def expand(self, pcoll: PCollection) -> Any:
        if isinstance(self.sink, PTransform):
            return pcoll | self.sink
        sink, begin = self.sink, pcoll.pipeline | "Begin" >> Create([None])
        init = AsSingleton(begin | "Initialize" >> Map(lambda _: sink.initialize_write()))
        parts = pcoll | "Whole" >> WindowInto(GlobalWindows()) | "WriteParts" >> ParDo(_WriteParts(sink), init)
        return begin | "Finalize" >> FlatMap(_finalized, sink, init, AsIter(parts))


class _WriteParts(DoFn):
    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._writer: Writer | None = None

    def start_bundle(self) -> None:
        self._writer = None

    def process(self, element: Any, init_result: Any) -> None:
        if self._writer is None:
            self._writer = self.sink.open_writer(init_result, uuid.uuid4().hex)
        self._writer.write(element)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._writer is not None:
            yield WindowedValue(self._writer.close(), GLOBAL_WINDOW.max_timestamp(), [GLOBAL_WINDOW])


def _finalized(_: None, sink: Sink, init_result: Any, writer_results: Iterable[Any]) -> list[Any]:
    before = sink.pre_finalize(init_result, writer_results)
    return list(sink.finalize_write(init_result, writer_results, before) or ())
