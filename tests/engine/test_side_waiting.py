"""The head of a function with side inputs as a machine: what it lets through, in which order, and what it keeps."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from keyed_making import Durable

import streamflow as sf
from streamflow import pvalue
from streamflow.engine.context import StepContext
from streamflow.engine.keyed import KeyedState
from streamflow.engine.ledger import Ledger
from streamflow.engine.sidehead import SidesHead
from streamflow.engine.sides import Beside, Broadcast, closes, mark
from streamflow.model.batch import Elements, to_elements
from streamflow.model.time import MAX_US, MIN_US
from streamflow.model.window import IntervalWindow
from streamflow.model.windowing import Windowing
from streamflow.topics import codec
from streamflow.topics.protocol import Record
from streamflow.transforms.elementwise import ParDo

TEN = sf.FixedWindows(10)
Row = tuple[str, Any, float]
"""("main", value, its time), ("pane", values, begin of their window) or ("mark", None, watermark), in seconds."""


class Machine:
    """Inputs in windows of ten seconds, with one list in such windows beside them."""

    def __init__(self, lateness_s: int = 0, side: Any = TEN) -> None:
        p = sf.Pipeline()
        self.transform: ParDo = sf.Map(max, pvalue.AsList(p | sf.Create([1]) | sf.WindowInto(side)))
        self.windowing = Windowing(TEN, lateness_s * 1_000_000)
        self.durable, self.context, self.offset = Durable(), StepContext(), 0
        self.watermark_us, self.promised_us = MIN_US, MIN_US
        self.claim()

    def claim(self) -> None:
        infos = [self.durable.infos[sequence] for sequence in sorted(self.durable.infos)]
        ledger = Ledger(infos, self.durable.payloads.__getitem__)
        self.state = KeyedState(ledger, self.windowing.gone_at, self.promised_us, 2)
        self.head = SidesHead(self.transform, self.windowing, self.state)

    def step(self, *rows: Row, to: float | None = None) -> list[tuple[Any, list[Any]]]:
        """(value, the list beside it) of what goes through."""
        after_us = self.watermark_us if to is None else round(to * 1e6)
        self.head.absorb([record for row in rows for record in self._records(row)], self.context)
        out = []
        for batch in self.head.fire(self.watermark_us, after_us, self.context):
            elements = to_elements(batch)
            for i, value in enumerate(elements.values):
                (values,), _ = self.head.views.arguments(elements.window(i))
                out.append((value, values))
        self.durable.commit(self.head.delta(self.offset, after_us, self.context), after_us)
        self.watermark_us = after_us
        self.promised_us = min(after_us, max(self.head.hold_us, self.promised_us))
        return out

    def _records(self, row: Row) -> Sequence[Record]:
        kind, value, seconds = row
        time_us, context = round(seconds * 1e6), StepContext()
        if kind == "mark":
            records = mark("t", 1, 0, time_us)
        else:
            window = IntervalWindow.of_us(time_us, time_us + 10_000_000) if kind == "pane" else None
            batch = Elements([value], [time_us], [-1], None if window is None else [window])
            pane = Broadcast("fn", "t", 1, 0, lists=True)
            (pane if window else Beside("fn", "t", 0, self.windowing, windowed=True)).run(batch, context)
            records = [codec.encode_frame("t", 0, frame) for frame in context.frames["t", 0]]
        placed = [replace(record, offset=self.offset) for record in records]
        self.offset += len(placed)
        return placed


def main(*values_and_times: tuple[Any, float]) -> list[Row]:
    return [("main", value, seconds) for value, seconds in values_and_times]


@pytest.mark.parametrize("claims", [False, True])
def test_who_waits_goes_on_in_the_order_of_arrival(claims: bool) -> None:
    machine = Machine()
    assert machine.step(*main(("a", 12), ("b", 3), ("c", 25), ("d", 14), ("e", 4))) == []
    if claims:
        machine.claim()
    assert machine.step(("mark", None, 20)) == [("a", []), ("b", []), ("d", []), ("e", [])]
    if claims:
        machine.claim()
    assert machine.step(*main(("f", 26), ("g", 16)), ("pane", [1], 20), *main(("h", 27))) == [
        ("g", []),
        ("c", [1]),
        ("f", [1]),
        ("h", [1]),
    ]


@pytest.mark.parametrize("split", [False, True], ids=["in one step", "in several"])
def test_newest_pane_counts_for_what_comes_after_it(split: bool) -> None:
    machine = Machine()
    rows: list[Row] = [
        ("pane", [1], 0),
        ("main", "a", 1),
        ("pane", [1, 2], 0),
        ("main", "b", 2),
        ("mark", None, 10),
        ("pane", [], 0),
        ("main", "c", 3),
    ]
    steps = [machine.step(row) for row in rows] if split else [machine.step(*rows)]
    assert [each for step in steps for each in step] == [("a", [1]), ("b", [1, 2]), ("c", [])]


@pytest.mark.parametrize("claims", [False, True])
def test_who_waits_keeps_its_side_though_the_watermark_has_passed(claims: bool) -> None:
    machine = Machine()
    machine.step(*main(("a", 3)), to=30)
    assert machine.head.hold_us == 3_000_000
    machine.step(("pane", [5], 10), to=MAX_US / 1e6)
    if claims:
        machine.claim()
    assert machine.head.hold_us == 3_000_000
    assert machine.step(("pane", [7], 0)) == [("a", [7])]
    assert machine.head.hold_us == MAX_US
    assert len(machine.state) == 0


def test_late_element_does_not_lose_what_it_waits_for() -> None:
    machine = Machine(lateness_s=30)
    machine.step(("mark", None, 0), to=25)
    assert machine.step(*main(("late", 4), ("dropped", -30))) == []
    assert machine.context.counts["dropped"] == 1
    machine.claim()
    assert machine.step(("pane", [1], 0), to=100) == [("late", [1])]


def test_state_goes_with_the_windows() -> None:
    machine, sizes = Machine(lateness_s=10), []
    for n in range(40):
        start = n * 10
        machine.step(*main(*((i, start + i / 10) for i in range(50))), to=start)
        machine.step(("pane", list(range(20)), start), ("mark", None, start + 10), to=start + 9)
        rows = sum(info.rows for info in machine.durable.infos.values())
        sizes.append((len(machine.state), rows, len(machine.durable.infos)))
        if n % 7 == 0:
            machine.claim()
    assert max(entries for entries, _, _ in sizes) <= 4
    assert max(rows for _, rows, _ in sizes[20:]) <= max(rows for _, rows, _ in sizes[:20]) < 2_500
    assert max(segments for _, _, segments in sizes) < 20
    machine.step(("mark", None, MAX_US / 1e6), to=MAX_US / 1e6)
    assert (len(machine.state), machine.durable.infos) == (0, {})


@pytest.mark.parametrize(
    ("fn", "before", "after", "expected"),
    [
        (TEN, 1, 9.999999, False),
        (TEN, 9.999999, 10, True),
        (TEN, 10, 10, False),
        (TEN, 5, 35, True),
        (sf.SlidingWindows(20, 10), 11, 19, False),
        (sf.SlidingWindows(20, 10), 19, 20, True),
        (sf.SlidingWindows(5, 20), 7, 27, True),
        (sf.GlobalWindows(), 1, 1e9, False),
        (sf.GlobalWindows(), 1, MAX_US / 1e6, True),
        (TEN, MAX_US / 1e6, MAX_US / 1e6, False),
    ],
)
def test_sides_are_marked_when_a_window_closes(fn: Any, before: float, after: float, expected: bool) -> None:
    assert closes(Windowing(fn), round(before * 1e6), round(after * 1e6)) is expected
