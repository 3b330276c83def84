"""Events, partials and heads for the tests of window state. No test of its own lives here."""

from collections import Counter

import polars as pl
from hypothesis import strategies as st

import streamflow as sf
from streamflow.engine.combine.columns import ColumnCombiner
from streamflow.engine.combine.contract import Combiner
from streamflow.engine.context import DeadLetter, StepContext
from streamflow.engine.heads import GroupingHead
from streamflow.engine.ledger import Ledger
from streamflow.engine.memory import StateMemory
from streamflow.model.batch import PANE, Batch
from streamflow.model.time import MIN_US, Duration
from streamflow.model.window import TIME, WINDOW_START
from streamflow.model.windowing import AccumulationMode, Windowing
from streamflow.topics import codec
from streamflow.topics.protocol import StateSegment

Pane = tuple[str | None, int, int, int]
"""Key, window start, total, pane index."""
Event = tuple[str, int, int]
"""Key, event time, value."""

SIZE, LATENESS = 10, 20
DISCARDING, ACCUMULATING = AccumulationMode.DISCARDING, AccumulationMode.ACCUMULATING


def windowing(mode: AccumulationMode = ACCUMULATING, lateness: int = LATENESS) -> Windowing:
    return Windowing(sf.FixedWindows(Duration(micros=SIZE)), lateness, mode)


def column_combiner(of: Windowing) -> ColumnCombiner:
    return ColumnCombiner(sf.Aggregate(by=["k"], total=sf.Sum("v")), of)


def partial(combiner: Combiner, events: list[Event]) -> pl.DataFrame:
    frame = pl.DataFrame(
        [(k, t, v, -1) for k, t, v in events],
        schema=["k", TIME, "v", "_offset"],
        orient="row",
        infer_schema_length=None,
    )
    return combiner.partial(frame, unexpected)


def unexpected(value: object, offset: int, error: Exception) -> None:
    raise error


def of_batch(batch: Batch) -> list[Pane]:
    assert isinstance(batch, pl.DataFrame)
    return batch.select("k", WINDOW_START, "total", PANE).rows()


steps = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from("abc"), st.integers(-30, 60), st.integers(-5, 5)), max_size=6),
        st.integers(0, 15),
    ),
    max_size=12,
)


class Keeper:
    """A grouping head with its persisted segments: restarted from them whenever asked. `context` is the last step's;
    `totals` and `dead` are over all steps."""

    def __init__(
        self, of: Windowing, segments_max: int, memory_bytes: int = 1 << 30, *, combiner: Combiner | None = None
    ) -> None:
        self.of, self.segments_max, self.memory = of, segments_max, StateMemory(memory_bytes)
        self.combiner = combiner or column_combiner(of)
        self.segments: dict[int, StateSegment] = {}
        self.reads = self.bytes_read = 0
        self.totals: Counter[str] = Counter()
        self.dead: list[DeadLetter] = []
        self.watermark = MIN_US
        self.head = self._opened()

    def restart(self) -> None:
        self.head.close()
        self.head = self._opened()

    def _opened(self) -> GroupingHead:
        ledger = Ledger([self.segments[sequence].info for sequence in sorted(self.segments)], self._read)
        return GroupingHead(self.combiner, self.of, ledger, self.memory, self.segments_max, "group")

    def _read(self, sequence: int) -> bytes:
        segment = self.segments[sequence]
        self.reads += 1
        self.bytes_read += segment.info.memory_bytes
        return segment.payload

    def step(self, events: list[Event], after: int) -> list[Pane]:
        frames = self.fire([partial(self.combiner, events)] if events else [], after)
        return sorted(pane for frame in frames for pane in of_batch(frame))

    def fire(self, incoming: list[pl.DataFrame], after: int) -> list[Batch]:
        """A step and its commit."""
        self.context = StepContext()
        self.head.absorb([codec.encode_frame("t", 0, frame) for frame in incoming], self.context)
        batches = list(self.head.fire(self.watermark, after, self.context))
        self.watermark = after
        delta = self.head.delta(0, after, self.context)
        self.totals.update(self.context.counts)
        self.dead += self.context.dead
        assert len(delta.drop) == len(set(delta.drop))
        for sequence in delta.drop:
            del self.segments[sequence]
        for segment in delta.add:
            assert segment.info.sequence not in self.segments
            self.segments[segment.info.sequence] = segment
        self.memory.settle()
        return batches
