"""The head of a stage whose elements come by the clock: it takes up when to begin, when to end and how often, and gives
what is due. Which element is next of each is the task's only state, and part of the step's commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from streamflow.engine.context import StepContext
from streamflow.engine.ledger import Delta
from streamflow.engine.source import with_offsets
from streamflow.model.batch import Batch, Elements, to_elements
from streamflow.model.time import MAX_US
from streamflow.topics.protocol import Record, SegmentInfo, StateSegment
from streamflow.transforms.periodicsequence import Firing, Span, due_us, span_of


@dataclass(slots=True)
class _Run:
    """`next`: the number of its next element."""

    span: Span
    next: int = 0

    @property
    def due_us(self) -> int:
        return due_us(self.span, self.next)


class PeriodicHead:
    """`state`: sequence and payload of what is durable, if there is something; `events_max`: what one step gives."""

    time_max_us: int | None = None

    def __init__(self, firing: Firing, state: tuple[int, bytes] | None, events_max: int, label: str) -> None:
        self._firing, self._events_max, self._label = firing, events_max, label
        self._sequence, payload = (-1, b"[]") if state is None else state
        self._is_stored = state is not None
        self._runs = [_Run((begin, stop_us, every), i) for begin, stop_us, every, i in orjson.loads(payload)]
        self._changed = False

    @property
    def due_us(self) -> int | None:
        return min((run.due_us for run in self._runs), default=None)

    @property
    def hold_us(self) -> int:
        return min((self._firing.watermark_us(run.span, run.next) for run in self._runs), default=MAX_US)

    def absorb(self, records: Sequence[Record], context: StepContext) -> None:
        on_bad = context.on_bad(self._label)
        for elements in (to_elements(with_offsets(record)) for record in records):
            for value, offset in zip(elements.values, elements.offsets, strict=True):
                try:
                    self._runs.append(_Run(span_of(value)))
                except Exception as error:
                    on_bad(value, offset, error)
                else:
                    self._changed = True

    def fire(self, before_us: int, after_us: int, context: StepContext) -> list[Batch]:
        out = Elements()
        for run in self._runs:
            while run.due_us <= context.now_us and len(out) < self._events_max:
                value, time_us = self._firing.element(run.span, run.next)
                out.append(value, time_us, -1, None)
                run.next += 1
        self._changed = self._changed or len(out) > 0
        self._runs = [run for run in self._runs if run.due_us < MAX_US]
        return [out]

    def delta(self, stamp: int, watermark_us: int, context: StepContext) -> Delta:
        if not self._changed:
            return Delta()
        delta = Delta(drop=[self._sequence] if self._is_stored else [])
        self._changed, self._is_stored = False, bool(self._runs)
        if self._runs:
            self._sequence += 1
            payload = orjson.dumps([[*run.span, run.next] for run in self._runs])
            delta.add.append(StateSegment(SegmentInfo(self._sequence, stamp, watermark_us), payload))
        return delta

    def close(self) -> None: ...
