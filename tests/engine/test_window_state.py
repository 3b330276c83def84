"""Window state of one task: what fires when, what is late, what is dropped, what is forgotten, what survives."""

from collections import defaultdict
from dataclasses import dataclass, field

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from state_making import (
    ACCUMULATING,
    DISCARDING,
    LATENESS,
    SIZE,
    Event,
    Keeper,
    Pane,
    column_combiner,
    of_batch,
    partial,
    steps,
    unexpected,
    windowing,
)

from streamflow.engine.combine.contract import EVENTS, LATE, ON_TIME, Combiner
from streamflow.engine.combine.rows import RowCombiner
from streamflow.engine.ledger import Ledger
from streamflow.engine.memory import StateMemory
from streamflow.engine.state import Fired, WindowState
from streamflow.model.batch import Elements
from streamflow.model.time import MIN_US
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START
from streamflow.model.windowing import AccumulationMode, Windowing
from streamflow.topics.frames import read_compact
from streamflow.transforms.combine import CombinePerKey


def panes(combiner: Combiner, fired: Fired) -> list[Pane]:
    return sorted(pane for frame in fired.panes for pane in of_batch(combiner.final(frame, unexpected)))


def in_memory(combiner: Combiner, of: Windowing) -> WindowState:
    """A state without any durable segment."""
    return WindowState(combiner, of, Ledger([], lambda sequence: b""), StateMemory(1 << 30))


class Machine:
    """A state with its watermark, moved by (events, new watermark)."""

    def __init__(self, of: Windowing) -> None:
        self.combiner = column_combiner(of)
        self.state = in_memory(self.combiner, of)
        self.watermark = MIN_US

    def step(self, events: list[Event], watermark: int | None = None) -> tuple[list[Pane], int, int]:
        """(panes, late, dropped)"""
        after = self.watermark if watermark is None else watermark
        incoming = [partial(self.combiner, events)] if events else []
        fired = self.state.step(incoming, self.watermark, after)
        self.watermark = after
        return panes(self.combiner, fired), fired.late, fired.dropped


def test_window_fires_once_when_the_watermark_reaches_its_end() -> None:
    machine = Machine(windowing())
    assert machine.step([("a", 1, 5), ("b", 9, 1)], 9) == ([], 0, 0)
    assert machine.step([("a", 2, 5)], 10) == ([("a", 0, 10, 0), ("b", 0, 1, 0)], 0, 0)
    assert machine.step([], 15) == ([], 0, 0)


def test_event_behind_the_watermark_is_on_time_while_its_window_is_open() -> None:
    machine = Machine(windowing())
    machine.step([("a", 8, 1)], 9)
    assert machine.step([("a", 1, 1)]) == ([], 0, 0)
    assert machine.step([], 10) == ([("a", 0, 2, 0)], 0, 0)


def test_events_of_the_step_that_closes_their_window_are_on_time() -> None:
    assert Machine(windowing()).step([("a", 1, 1)], 25) == ([("a", 0, 1, 0)], 0, 0)


@pytest.mark.parametrize(("mode", "late_total"), [(ACCUMULATING, 107), (DISCARDING, 7)])
def test_late_pane_holds_everything_or_only_what_is_new(mode: AccumulationMode, late_total: int) -> None:
    machine = Machine(windowing(mode))
    machine.step([("a", 1, 100), ("b", 1, 1)], 10)
    assert machine.step([("a", 2, 3), ("a", 3, 4)]) == ([("a", 0, late_total, 1)], 2, 0)


@pytest.mark.parametrize("mode", [ACCUMULATING, DISCARDING])
def test_pane_index_counts_the_panes_of_a_key_and_window(mode: AccumulationMode) -> None:
    machine = Machine(windowing(mode))
    machine.step([("a", 1, 1)], 10)
    indexes = [machine.step([("a", 1, 1)])[0][0][3] for _ in range(3)]
    assert indexes == [1, 2, 3]
    assert machine.step([("late only", 1, 1)])[0] == [("late only", 0, 1, 0)]
    assert machine.step([("late only", 1, 1)])[0][0][3] == 1


def test_event_is_dropped_exactly_when_the_end_and_the_lateness_have_passed() -> None:
    machine = Machine(windowing())
    machine.step([], 10 + LATENESS - 1)
    assert machine.step([("a", 9, 1)]) == ([("a", 0, 1, 0)], 1, 0)
    machine.step([], 10 + LATENESS)
    assert machine.step([("a", 9, 1)]) == ([], 0, 1)
    assert machine.step([("a", 10, 1)]) == ([("a", 10, 1, 0)], 1, 0)


def test_without_lateness_an_event_of_a_closed_window_is_dropped() -> None:
    machine = Machine(windowing(lateness=0))
    machine.step([("a", 1, 1)], 10)
    assert machine.step([("a", 1, 1), ("a", 11, 1)]) == ([], 0, 1)


def test_dropped_events_are_counted_one_by_one_though_partials_hold_many() -> None:
    machine = Machine(windowing())
    machine.step([], 100)
    assert machine.step([("a", 1, 1)] * 3 + [("b", 2, 1)]) == ([], 0, 4)


def test_state_is_freed_when_the_lateness_has_passed() -> None:
    machine = Machine(windowing())
    machine.step([("a", 1, 1), ("a", 11, 1)], 10)
    assert machine.state.rows() == 2
    machine.step([], 10 + LATENESS - 1)
    assert machine.state.rows() == 2
    machine.step([], 10 + LATENESS)
    assert machine.state.rows() == 1
    machine.step([], 20 + LATENESS)
    assert machine.state.rows() == 0


def test_state_holds_a_row_per_key_and_window_however_many_steps_brought_it() -> None:
    machine = Machine(windowing())
    for _ in range(50):
        machine.step([("a", 1, 1), ("b", 1, 1)])
    assert machine.state.rows() <= 4
    (frame,) = machine.state.step([], MIN_US, 10).panes
    assert sorted(frame.select("k", "total", EVENTS, ON_TIME, LATE).rows()) == [
        ("a", 50, 50, 1, 0),
        ("b", 50, 50, 1, 0),
    ]


def test_null_is_a_key_like_any_other() -> None:
    combiner = column_combiner(windowing())
    state = in_memory(combiner, windowing())
    null = pl.DataFrame({"k": pl.Series([None], dtype=pl.String), TIME: [1], "v": [2], "_offset": [-1]})
    first = panes(combiner, state.step([combiner.partial(null, unexpected)], MIN_US, 10))
    late = panes(combiner, state.step([combiner.partial(null, unexpected)], 10, 10))
    assert [first, late] == [[(None, 0, 2, 0)], [(None, 0, 4, 1)]]


def test_row_combiner_gives_the_same_panes() -> None:
    of = windowing()
    combiner = RowCombiner(CombinePerKey(sum), of)
    state = in_memory(combiner, of)

    def step(pairs: list[tuple[str, int]], before: int, after: int) -> list[object]:
        elements = Elements(list(pairs), [1] * len(pairs), [-1] * len(pairs))
        fired = state.step([combiner.partial(elements, unexpected)], before, after)
        batches = [combiner.final(frame, unexpected) for frame in fired.panes]
        return sorted(value for batch in batches if isinstance(batch, Elements) for value in batch.values)

    assert step([("a", 1), ("b", 2)], MIN_US, 9) == []
    assert step([("a", 3)], 9, 10) == [("a", 4), ("b", 2)]
    assert step([("a", 5)], 10, 10) == [("a", 9)]


@dataclass
class Naive:
    """The same rules in the plainest words: every event kept, everything worked out anew at each step."""

    mode: AccumulationMode
    watermark: int = MIN_US
    values: dict[tuple[str, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    count: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))

    def step(self, events: list[Event], after: int) -> tuple[list[Pane], int, int]:
        fresh: dict[tuple[str, int], list[int]] = defaultdict(list)
        late = dropped = 0
        for key, time, value in events:
            start = time // SIZE * SIZE
            if start + SIZE + LATENESS <= self.watermark:
                dropped += 1
                continue
            late += start + SIZE <= self.watermark
            fresh[key, start].append(value)
            self.values[key, start].append(value)
        fired = {group: new for group, new in fresh.items() if group[1] + SIZE <= self.watermark}
        closing = {g: all_ for g, all_ in self.values.items() if self.watermark < g[1] + SIZE <= after}
        out: list[Pane] = []
        for group, new in (fired | closing).items():
            total = sum(self.values[group] if self.mode is ACCUMULATING else new)
            out.append((*group, total, self.count[group]))
            self.count[group] += 1
        self.watermark = after
        return sorted(out), late, dropped


@given(steps=steps, mode=st.sampled_from([ACCUMULATING, DISCARDING]))
def test_any_steps_give_what_the_naive_rules_give(steps: list[tuple[list[Event], int]], mode: AccumulationMode) -> None:
    machine, naive = Machine(windowing(mode)), Naive(mode)
    machine.step([], -30)
    naive.step([], -30)
    for events, advance in steps:
        after = machine.watermark + advance
        assert machine.step(events, after) == naive.step(events, after)


@given(
    steps=steps,
    mode=st.sampled_from([ACCUMULATING, DISCARDING]),
    restarts=st.sets(st.integers(0, 11)),
    segments_max=st.sampled_from([0, 1, 3, 1000]),
)
def test_restarts_and_compaction_change_nothing(
    steps: list[tuple[list[Event], int]], mode: AccumulationMode, restarts: set[int], segments_max: int
) -> None:
    undisturbed, restarted = Keeper(windowing(mode), 1000), Keeper(windowing(mode), segments_max)
    for i, (events, advance) in enumerate([([], 0), *steps]):
        after = max(undisturbed.watermark, -30) + advance
        if i in restarts:
            restarted.restart()
        assert restarted.step(events, after) == undisturbed.step(events, after)


def test_compaction_bounds_the_number_of_segments() -> None:
    keeper = Keeper(windowing(), 4)
    counts = []
    for i in range(100):
        keeper.step([("a", 1, 1)], min(i, 9))
        counts.append(len(keeper.segments))
    assert max(counts) <= 5
    assert keeper.step([], 10) == [("a", 0, 100, 0)]


def test_segments_of_windows_that_are_gone_are_dropped() -> None:
    keeper = Keeper(windowing(), 1000)
    for start in range(0, 200, SIZE):
        keeper.step([("a", start, 1)], start)
    assert len(keeper.segments) <= 1 + (SIZE + LATENESS) // SIZE
    keeper.step([], 1000)
    assert keeper.segments == {}


@pytest.mark.parametrize("lateness", [0, LATENESS])
def test_step_persists_only_what_it_brought(lateness: int) -> None:
    keeper = Keeper(windowing(lateness=lateness), 1000)
    keeper.step([(f"key {i}", 1, 1) for i in range(1000)], 5)
    keeper.step([("a", 1, 1)], 6)
    assert [read_compact(keeper.segments[n].payload).height for n in sorted(keeper.segments)] == [1000, 1]


def test_step_that_closes_its_windows_without_lateness_persists_nothing() -> None:
    keeper = Keeper(windowing(lateness=0), 1000)
    assert keeper.step([("a", 1, 1)], 10) == [("a", 0, 1, 0)]
    assert keeper.segments == {}


def test_window_columns_name_the_interval() -> None:
    combiner = column_combiner(windowing())
    (frame,) = in_memory(combiner, windowing()).step([partial(combiner, [("a", -1, 1)])], MIN_US, 0).panes
    batch = combiner.final(frame, unexpected)
    assert isinstance(batch, pl.DataFrame)
    (row,) = batch.select(WINDOW_START, WINDOW_END, TIME, "window_start", "window_end").to_dicts()
    assert (row[WINDOW_START], row[WINDOW_END], row[TIME]) == (-10, 0, -1)
    assert [row[name].timestamp() * 1e6 for name in ("window_start", "window_end")] == [-10, 0]
