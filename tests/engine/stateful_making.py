"""A DoFn with state as a machine that takes elements, watermarks and times of the clock by hand. No test of its own
lives here."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from keyed_making import Durable

import streamflow as sf
from streamflow.coders import BytesCoder
from streamflow.engine.context import StepContext
from streamflow.engine.keyed import KeyedState
from streamflow.engine.ledger import Ledger
from streamflow.engine.outputs import keyed_rows
from streamflow.engine.stateful import StatefulHead
from streamflow.model.batch import Elements
from streamflow.model.time import MIN_US, timestamp_us
from streamflow.model.window import FixedWindows
from streamflow.model.windowing import Windowing
from streamflow.topics import codec
from streamflow.topics.protocol import Record
from streamflow.transforms.elementwise import ParDo
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import BagStateSpec, CombiningValueStateSpec, TimerSpec, on_timer

WINDOWS_OF_10 = Windowing(FixedWindows(10), allowed_lateness_us=5_000_000)


def at(value: Any, seconds: float, key: str = "k") -> sf.TimestampedValue:
    return sf.TimestampedValue((key, value), seconds)


class Indexed(sf.DoFn):
    INDEX = CombiningValueStateSpec("index", sum)

    def process(self, element: Any, index: Any = sf.DoFn.StateParam(INDEX)) -> Iterator[Any]:
        yield (*element, index.read())
        index.add(1)


class Buffered(sf.DoFn):
    """Everything so far, once the watermark has come to 20."""

    BUFFER = BagStateSpec("buffer", BytesCoder())
    EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)

    def process(
        self, element: Any, buffer: Any = sf.DoFn.StateParam(BUFFER), expiry: Any = sf.DoFn.TimerParam(EXPIRY)
    ) -> None:
        buffer.add(b"A%d" % element[1])
        expiry.set(20)

    @on_timer(EXPIRY)
    def expired(self, buffer: Any = sf.DoFn.StateParam(BUFFER)) -> Iterator[Any]:
        yield b"".join(buffer.read())


class Machine:
    """`log`: all that was given so far, as (value, event time in seconds)."""

    def __init__(self, fn: sf.DoFn, windowing: Windowing | None = None) -> None:
        self.transform, self.windowing = ParDo(fn), windowing or Windowing()
        self.durable, self.counts, self.dead = Durable(), dict[str, float](), list[Any]()
        self.log: list[tuple[Any, float]] = []
        self.watermark_us, self.now_us, self.offset = MIN_US, 0, 0
        self.claim()

    def claim(self) -> None:
        """Everything that is not durable is gone."""
        infos = [self.durable.infos[sequence] for sequence in sorted(self.durable.infos)]
        ledger, gone_at = Ledger(infos, self.durable.payloads.__getitem__), self.windowing.gone_at
        self.state = KeyedState(ledger, gone_at, self.durable.watermark_us, 2)
        self.head = StatefulHead(self.transform, self.state, gone_at, "fn")

    def step(self, *elements: Any, to: float | None = None, now: float | None = None, commit: bool = True) -> list[Any]:
        """Elements (`TimestampedValue`, or values at the watermark), then the watermark and the clock (seconds) go on;
        what came of it."""
        if now is not None:
            self.now_us = timestamp_us(now)
        before_us, after_us = self.watermark_us, self.watermark_us if to is None else timestamp_us(to)
        context = StepContext(now_us=self.now_us)
        self.head.absorb(self._records(elements, context), context)
        out: list[tuple[Any, float]] = []
        for batch in self.head.fire(before_us, after_us, context):
            assert isinstance(batch, Elements)
            out += [(value, time_us / 1e6) for value, time_us in zip(batch.values, batch.times, strict=True)]
        if commit:
            self.durable.commit(self.head.delta(self.offset, after_us, context), after_us)
            self.watermark_us = after_us
            self.log += out
            for name, value in context.counts.items():
                self.counts[name] = self.counts.get(name, 0) + value
            self.dead += [(letter.value, str(letter.error)) for letter in context.dead]
        return [value for value, _ in out]

    def _records(self, elements: Sequence[Any], context: StepContext) -> list[Record]:
        batch = Elements()
        for each in elements:
            timed = each if isinstance(each, sf.TimestampedValue) else None
            value, time_us = (timed.value, timed.time_us) if timed else (each, max(self.watermark_us, 0))
            batch.append(value, time_us, self.offset, None)
        frame = keyed_rows(batch, self.windowing, context.on_bad("fn"))
        if not frame.height:
            return []
        record = replace(codec.encode_frame("t", 0, frame), offset=self.offset)
        self.offset = record.end
        return [record]
