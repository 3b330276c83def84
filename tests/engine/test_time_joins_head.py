"""The head of a join by time, step by step: when rows come out, what is too late, what is kept, what it holds."""

from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from keyed_making import Durable

import streamflow as sf
from streamflow.engine import timejoin
from streamflow.engine.context import StepContext
from streamflow.engine.ledger import Ledger
from streamflow.engine.memory import StateMemory
from streamflow.engine.timejoin import TimeJoinHead
from streamflow.model.time import MAX_US, MIN_US
from streamflow.topics import codec
from streamflow.topics.protocol import Record
from streamflow.transforms.time_joins import FROM_LEFT, TimeJoin

US = 1_000_000
SIDES = {"l": (True, "left.v"), "r": (False, "right.v")}


class Machine:
    """Takes rows as (side, key, event time in seconds, value), and watermarks in seconds."""

    def __init__(self, join: Any) -> None:
        p = sf.Pipeline()
        left, right = (
            p | name >> sf.ReadFromTopic(name, schema={"k": str, "v": int}, bounded=True) for name in ("left", "right")
        )
        transform = (left | join(right)).producer.transform
        assert isinstance(transform, TimeJoin)
        self.transform, self.durable, self.counts = transform, Durable(), dict[str, float]()
        self.watermark_us, self.offset, self.memory, self.bytes = MIN_US, 0, StateMemory(1), 0.0
        self.claim()

    def claim(self) -> None:
        """Everything that is not durable is gone."""
        infos = [self.durable.infos[sequence] for sequence in sorted(self.durable.infos)]
        self.head = TimeJoinHead(
            self.transform, Ledger(infos, self.durable.payloads.__getitem__), self.durable.watermark_us, 1, self.memory
        )

    def step(self, *rows: tuple[str, str, float, int], to: float | None = None) -> list[Any]:
        """What came of it: (event time in seconds, value of the left, value of the right), in order."""
        after_us = self.watermark_us if to is None else MAX_US if to == float("inf") else round(to * US)
        context = StepContext()
        self.head.absorb([self._record(*row) for row in rows], context)
        out: list[Any] = []
        for batch in self.head.fire(self.watermark_us, after_us, context):
            assert isinstance(batch, pl.DataFrame)
            out += [(at / US, v, w) for at, v, w in batch.select("_time", "v", "v_right").iter_rows()]
        self.durable.commit(self.head.delta(self.offset, after_us, context), after_us)
        self.watermark_us = after_us
        self.bytes += context.counts.pop("state_bytes_keyed", 0)
        for name, value in context.counts.items():
            self.counts[name] = self.counts.get(name, 0) + value
        return sorted(out, key=repr)

    def _record(self, side: str, key: str, at: float, value: int) -> Record:
        left, column = SIDES[side]
        frame = pl.DataFrame({"_time": [round(at * US)], FROM_LEFT: [left], "key.k": [key], column: [value]})
        record = replace(codec.encode_frame("t", 0, frame, internal=True), offset=self.offset)
        self.offset = record.end
        return record

    @property
    def held_s(self) -> float:
        return self.head.hold_us / US if self.head.hold_us < MAX_US else float("inf")

    @property
    def durable_rows(self) -> int:
        return sum(info.rows for info in self.durable.infos.values())


def interval(how: Any, lower: float = -2, upper: float = 5) -> Machine:
    return Machine(lambda right: sf.IntervalJoin(right, on="k", lower=lower, upper=upper, how=how))


def as_of(**options: Any) -> Machine:
    return Machine(lambda right: sf.AsOfJoin(right, on="k", **options))


@pytest.fixture(params=["kept", "claimed anew"])
def again(request: pytest.FixtureRequest) -> Any:
    """Between steps: nothing, or all that is not durable is lost."""
    return (lambda machine: None) if request.param == "kept" else Machine.claim


@pytest.fixture(autouse=True)
def _look_through_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timejoin, "_SPARE_ROWS", 0)


def test_a_pair_comes_out_at_once_and_holds_nothing_back(again: Any) -> None:
    machine = interval("inner")
    assert machine.step(("l", "a", 10, 1), ("r", "b", 10, 2), to=9) == []
    again(machine)
    assert machine.step(("r", "a", 15, 3), ("r", "a", 8, 4), ("r", "a", 15.1, 5), ("r", "a", 7.9, 6)) == [
        (10.0, 1, 4),
        (15.0, 1, 3),
    ]
    assert machine.held_s == float("inf")


@pytest.mark.parametrize(
    ("how", "alone"),
    [("left", [(10.0, 1, None)]), ("right", [(20.0, None, 2)]), ("full", [(10.0, 1, None), (20.0, None, 2)])],
)
def test_a_row_without_a_partner_comes_out_with_its_own_time_when_none_can_come_any_more(
    how: Any, alone: list[Any], again: Any
) -> None:
    machine = interval(how)
    assert machine.step(("l", "a", 10, 1), ("r", "a", 20, 2), to=10) == []
    again(machine)
    assert machine.held_s == (20 if how == "right" else 10)
    assert machine.step(to=15) == []  # at 15 one may still come
    again(machine)
    found = machine.step(to=15.000001)
    again(machine)
    found += machine.step(to=22)
    assert machine.held_s == (20 if how != "left" else float("inf"))
    again(machine)
    found += machine.step(to=22.000001)
    assert found == alone
    assert machine.held_s == float("inf")
    assert machine.step(to=float("inf")) == []


@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
def test_a_late_row_is_dropped_exactly_when_its_interval_has_passed(how: Any, again: Any) -> None:
    machine = interval(how)
    machine.step(("l", "a", 100, 1), ("r", "a", 105, 2), to=105)
    again(machine)
    # At 105 the interval of a left row reaches 5 further than its time, that of a right one 2.
    assert machine.step(("l", "z", 99.9, 3), ("r", "z", 102.9, 4)) == []
    assert machine.counts == {"dropped": 2, "late": 0}
    found = machine.step(("r", "a", 103, 5), ("l", "a", 101, 6))
    assert machine.counts == {"dropped": 2, "late": 2}
    assert found == [(103.0, 1, 5), (103.0, 6, 5), (105.0, 6, 2)]


@pytest.mark.parametrize("how", ["inner", "left", "right", "full"])
def test_what_came_out_alone_is_not_joined_later(how: Any, again: Any) -> None:
    """The left row is due when the right one comes late, which is not due itself."""
    machine = interval(how, lower=-10, upper=0)
    machine.step(("l", "a", 10, 1), to=10)
    again(machine)
    found = machine.step(to=11)
    again(machine)
    found += machine.step(("r", "a", 10, 2))
    again(machine)
    found += machine.step(to=float("inf"))
    alone = {"left": [(10.0, 1, None)], "right": [(10.0, None, 2)], "inner": []}
    assert sorted(found, key=repr) == alone.get(how, [*alone["left"], *alone["right"]])


@pytest.mark.parametrize(("how", "gone_at"), [("inner", 15), ("left", 17), ("right", 17), ("full", 17)])
def test_rows_are_freed_when_they_can_not_be_joined_any_more(how: Any, gone_at: float) -> None:
    machine = interval(how)
    machine.step(*(("lr"[i % 2], "a", 10, i) for i in range(20)), to=9)
    assert machine.durable_rows == 20
    machine.step(to=gone_at)
    assert machine.durable_rows > 0
    machine.step(to=gone_at + 0.000001)
    assert machine.durable_rows == 0
    assert [rows.height for rows in machine.head._kept] == [0, 0]


def test_a_row_is_joined_as_of_its_time_whenever_the_others_come(again: Any) -> None:
    machine = as_of()
    assert machine.step(("l", "a", 10, 1), ("r", "a", 12, 2), ("r", "a", 3, 3), to=10) == []
    again(machine)
    assert machine.step(("r", "a", 10, 4), ("l", "b", 10, 5)) == []
    again(machine)
    assert machine.step(to=11) == [(10.0, 1, 4), (10.0, 5, None)]
    assert machine.held_s == float("inf")
    again(machine)
    # What is late of the right counts from now on, of the left it is dropped.
    assert machine.step(("r", "a", 10.5, 6), ("l", "a", 10, 7), ("l", "a", 11, 8)) == []
    assert machine.counts == {"late": 1, "dropped": 1}
    again(machine)
    assert machine.step(("r", "a", 9, 9), to=11.5) == [(11.0, 8, 6)]
    again(machine)
    assert machine.step(("l", "a", 20, 10), to=float("inf")) == [(20.0, 10, 2)]


def test_forward_holds_the_watermark_back_by_the_tolerance(again: Any) -> None:
    machine = as_of(direction="forward", tolerance=5)
    machine.step(("l", "a", 10, 1), ("l", "b", 11, 2), to=12)
    again(machine)
    assert machine.held_s == 10
    assert machine.step(("r", "a", 15, 3), ("r", "a", 15.5, 4), to=15) == []
    again(machine)
    assert machine.step(to=15.1) == [(10.0, 1, 3)]
    assert machine.held_s == 11
    again(machine)
    assert machine.step(to=21) == [(11.0, 2, None)]
    assert machine.durable_rows == 0


def test_of_what_is_behind_the_watermark_the_newest_of_each_key_is_kept() -> None:
    machine = as_of()
    for at in range(50):
        machine.step(("r", "ab"[at % 2], at, at), to=at)
    assert sum(rows.height for rows in machine.head._kept) <= 7
    assert machine.durable_rows <= 7
    machine.claim()
    assert machine.step(("l", "a", 100, 1), ("l", "b", 100, 2), to=101) == [(100.0, 1, 48), (100.0, 2, 49)]


def test_a_tolerance_frees_the_newest_too() -> None:
    machine = as_of(tolerance=5)
    machine.step(("r", "a", 10, 1), to=15)
    assert machine.durable_rows == 1
    machine.step(to=15.000001)
    assert machine.durable_rows == 0
    assert machine.step(("r", "a", 10, 1)) == []
    assert machine.counts == {"dropped": 1, "late": 0}


def test_rows_that_are_kept_count_against_the_memory_of_the_worker(again: Any) -> None:
    machine = interval("full")
    machine.step(*(("l", "a", at, at) for at in range(100)), to=0)
    kept = machine.memory.overdrawn()
    assert kept > 100 * 24
    assert machine.bytes == kept
    again(machine)
    machine.step(to=200)
    assert machine.bytes == 0
