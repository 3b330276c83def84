"""Sessions on columns: each pane is that of the reference model; batches, lost steps and state on disk change neither
the final panes nor what is late or dropped."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pipelines import ordered
from reference_model import END, Model, Window

import streamflow as sf
from streamflow.engine.combine.columns import ColumnCombiner
from streamflow.engine.context import StepContext
from streamflow.engine.heads import GroupingHead
from streamflow.engine.ledger import Ledger
from streamflow.engine.memory import StateMemory
from streamflow.engine.sessions import SessionState
from streamflow.model.batch import PANE, PANE_INFO
from streamflow.model.panes import PANE_ONLY, PaneInfo
from streamflow.model.time import MAX_US, MIN_US
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START, Sessions
from streamflow.model.windowing import Windowing
from streamflow.topics import codec
from streamflow.topics.protocol import StateSegment

S = 1_000_000
GAP_S = 5
ACCUMULATING, DISCARDING = sf.AccumulationMode.ACCUMULATING, sf.AccumulationMode.DISCARDING
Event = tuple[str | None, int, int]
"""Key, second, value."""
Pane = tuple[Any, ...]
"""Key, start, end, timing, index, index of those not early, whether first, whether last, values."""


class Engine:
    """The head of a grouping with its durable segments. What is not committed is lost with the head."""

    def __init__(self, of: Windowing, *, memory_bytes: int = 1 << 30, segments_max: int = 2) -> None:
        self.of, self.segments_max = of, segments_max
        self.combiner = ColumnCombiner(sf.Aggregate(by=["k"], values=sf.CollectList("v"), n=sf.Count()), of)
        self.memory = StateMemory(memory_bytes)
        self.segments: dict[int, StateSegment] = {}
        self.watermark_us = MIN_US
        self.counts: Counter[str] = Counter()
        self.claim()

    def claim(self) -> None:
        ledger = Ledger([self.segments[n].info for n in sorted(self.segments)], lambda n: self.segments[n].payload)
        self.head = GroupingHead(self.combiner, self.of, ledger, self.memory, self.segments_max, "g")
        assert isinstance(self.head.state, SessionState)
        self.state = self.head.state

    def step(self, events: Sequence[Event], watermark_us: int, *, crashes: bool = False) -> list[Pane]:
        context = StepContext()
        rows = [(key, value, at * S, -1) for key, at, value in events]
        schema = {"k": pl.String, "v": pl.Int64, TIME: pl.Int64, "_offset": pl.Int64}
        frame = self.combiner.partial(pl.DataFrame(rows, schema=schema, orient="row"), unexpected)
        records = [codec.encode_frame("g", 0, part) for part in (frame.head(2), frame.tail(-2)) if part.height]
        self.head.absorb(records, context)
        panes = [pane for batch in self.head.fire(self.watermark_us, watermark_us, context) for pane in shown(batch)]
        delta = self.head.delta(0, watermark_us, context)
        assert not context.dead
        if crashes:
            self.head.close()
            self.claim()
            return self.step(events, watermark_us)
        for sequence in delta.drop:
            del self.segments[sequence]
        for segment in delta.add:
            self.segments[segment.info.sequence] = segment
        self.watermark_us = watermark_us
        self.counts.update(context.counts)
        self.memory.settle()
        return panes


def unexpected(value: object, offset: int, error: Exception) -> None:
    raise error


def shown(batch: Any) -> list[Pane]:
    assert isinstance(batch, pl.DataFrame)
    panes = []
    for row in batch.to_dicts():
        pane = PaneInfo.unpacked(row[PANE], row[PANE_INFO]) if PANE_INFO in row else PANE_ONLY
        start, end = row[WINDOW_START] // S, row[WINDOW_END] // S
        assert row[TIME] == row[WINDOW_END] - 1
        assert row["n"] == len(row["values"])
        flags = pane.timing.name, pane.index, pane.nonspeculative_index, pane.is_first, pane.is_last
        panes.append((row["k"], start, end, *flags, sorted(row["values"])))
    return panes


class Reference(Model):
    """`finals`: of each window the last pane, unless it has become part of another one; `late`: how many events came
    to a window that was past."""

    def __init__(self, lateness_s: int, *, accumulating: bool) -> None:
        super().__init__(("sessions", GAP_S), ("default",), lateness_s, accumulating, None, True, False)
        self.finals: dict[tuple[Any, int, int], Pane] = {}
        self.late = 0

    def element(self, key: str, start: int, end: int, at: int, value: int) -> None:
        dropped, before = self.dropped, len(self.out)
        super().element(key, start, end, at, value)
        self.late += self.dropped == dropped and len(self.out) > before

    def merge(self, key: str, start: int, end: int) -> tuple[int, int]:
        before = [(each.key, each.start, each.end) for each in self.open]
        bounds = super().merge(key, start, end)
        still = [(each.key, each.start, each.end) for each in self.open]
        for each in before:
            if each not in still:
                self.finals.pop(each, None)
        return bounds

    def pane(self, of: Window, last: bool) -> None:
        super().pane(of, last)
        self.finals[of.key, of.start, of.end] = pane_of(self.out[-1])


def pane_of(of_model: Pane) -> Pane:
    *known, stamp, values = of_model
    assert stamp is None
    return (*known, values)


def windowing(lateness_s: int = 0, mode: Any = ACCUMULATING) -> Windowing:
    return sf.WindowInto(Sessions(GAP_S), accumulation_mode=mode, allowed_lateness=lateness_s).windowing


events = st.tuples(st.sampled_from(["a", "b", None]), st.integers(-5, 40), st.integers(0, 9))
steps = st.lists(st.tuples(st.lists(events, max_size=8), st.integers(0, 12), st.booleans()), max_size=8)
"""Events, how far the watermark goes on after them, and whether the last of them is done twice, the first in vain."""
lateness = st.sampled_from([0, 0, 3, 10, 100])


def played(
    script: Any, lateness_s: int, mode: Any, parts: int, memory_bytes: int = 1 << 30
) -> tuple[Reference, Engine, list[Pane], list[Pane]]:
    """Both, and the panes that each has given; `parts`: into how many steps of the engine the events of one fall."""
    model = Reference(lateness_s, accumulating=mode is ACCUMULATING)
    engine = Engine(windowing(lateness_s, mode), memory_bytes=memory_bytes)
    expected, found, watermark_s = list[Pane](), list[Pane](), -10
    for batch, later_s, crashes in [([], 0, False), *script]:
        watermark_s += later_s
        expected += map(pane_of, model.play(0, batch, watermark_s))
        size = max(1, -(-len(batch) // parts))
        for begin in range(0, max(1, len(batch)), size):
            is_last = begin + size >= len(batch)
            reached_us = watermark_s * S if is_last else engine.watermark_us
            found += engine.step(batch[begin : begin + size], reached_us, crashes=crashes and is_last)
    expected += map(pane_of, model.play(0, [], END))
    return model, engine, expected, found + engine.step([], MAX_US)


@settings(max_examples=60, deadline=None)
@given(script=steps, lateness_s=lateness, mode=st.sampled_from([ACCUMULATING, DISCARDING]))
@example([([("a", 0, 1), ("a", 3, 2)], 19, True), ([("a", 4, 3)], 0, True), ([("a", 8, 4)], 0, True)], 100, DISCARDING)
def test_each_pane_is_that_of_the_reference_model(script: Any, lateness_s: int, mode: Any) -> None:
    model, engine, expected, found = played(script, lateness_s, mode, parts=8)
    assert ordered(found) == ordered(expected)
    assert (engine.counts["late"], engine.counts["dropped"]) == (model.late, model.dropped)
    assert engine.state.rows() == len(engine.segments) == 0


@settings(max_examples=60, deadline=None)
@given(script=steps, lateness_s=lateness, parts=st.integers(1, 3), memory_bytes=st.sampled_from([0, 1 << 30]))
@example([([], 22, False), ([("a", 0, 1), ("a", 4, 2), ("a", 8, 3)], 0, False)], 100, 1, 0)
def test_batches_change_neither_final_panes_nor_what_is_late(
    script: Any, lateness_s: int, parts: int, memory_bytes: int
) -> None:
    """Late events of one step that fall into one session give one pane."""
    model, engine, expected, found = played(script, lateness_s, ACCUMULATING, parts, memory_bytes)
    assert {without_index(pane) for pane in found} <= {without_index(pane) for pane in expected}
    assert len({place(pane): pane for pane in found}.keys() & model.finals.keys()) == len(model.finals)
    last = {place(pane): without_index(pane) for pane in found}
    assert all(last[of] == without_index(pane) for of, pane in model.finals.items())
    assert (engine.counts["late"], engine.counts["dropped"]) == (model.late, model.dropped)
    assert engine.state.rows() == len(engine.segments) == 0


@settings(max_examples=40, deadline=None)
@given(script=steps, lateness_s=lateness, parts=st.integers(1, 3), memory_bytes=st.sampled_from([0, 1 << 30]))
def test_discarding_panes_give_each_event_once(script: Any, lateness_s: int, parts: int, memory_bytes: int) -> None:
    model, _, expected, found = played(script, lateness_s, DISCARDING, parts, memory_bytes)
    assert {place(pane) for pane in found} >= model.finals.keys()
    assert values_by_key(found) == values_by_key(expected)


def place(pane: Pane) -> tuple[Any, ...]:
    return pane[:3]


def without_index(pane: Pane) -> tuple[Any, ...]:
    """What is the same whatever panes there were before."""
    return (*pane[:4], pane[7], tuple(pane[8]))


def values_by_key(panes: Sequence[Pane]) -> Counter[Any]:
    return Counter((pane[0], value) for pane in panes for value in pane[-1])


def test_sessions_are_said_to_be_grouped_on_columns() -> None:
    p = sf.Pipeline("p")
    events = p | sf.ReadFromTopic("in", schema={"k": str, "v": int}) | sf.WindowInto(Sessions(GAP_S))
    events | sf.Aggregate(by=["k"], n=sf.Count()) | sf.WriteToTopic("out")
    assert "_acc" not in p.explain()
