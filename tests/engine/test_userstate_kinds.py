"""Kinds of state, and how long what is in them lives."""

from collections.abc import Iterable
from typing import Any

import pytest
from stateful_making import WINDOWS_OF_10, Machine, at

import streamflow as sf
from streamflow.coders import StrUtf8Coder, VarIntCoder
from streamflow.transforms.userstate import (
    BagStateSpec,
    CombiningValueStateSpec,
    MapStateSpec,
    OrderedListStateSpec,
    ReadModifyWriteStateSpec,
    SetStateSpec,
)


class Kinds(sf.DoFn):
    """Runs an expression on states of every kind."""

    VALUE = ReadModifyWriteStateSpec("value", StrUtf8Coder())
    BAG = BagStateSpec("bag")
    SET = SetStateSpec("set", VarIntCoder())
    SUM = CombiningValueStateSpec("sum", VarIntCoder(), sum)
    MAP = MapStateSpec("map")
    LIST = OrderedListStateSpec("list", StrUtf8Coder())
    SHORT = CombiningValueStateSpec("short", sum, ttl=10)

    def process(
        self,
        element: Any,
        value: Any = sf.DoFn.StateParam(VALUE),
        bag: Any = sf.DoFn.StateParam(BAG),
        set_: Any = sf.DoFn.StateParam(SET),
        total: Any = sf.DoFn.StateParam(SUM),
        map_: Any = sf.DoFn.StateParam(MAP),
        list_: Any = sf.DoFn.StateParam(LIST),
        short: Any = sf.DoFn.StateParam(SHORT),
    ) -> Iterable[Any]:
        return [eval(element[1])]


KINDS: dict[str, tuple[list[str], str, Any, Any]] = {
    "value": (["value.write('x')", "value.write('y')"], "value.read()", "y", None),
    "bag": (["bag.add(2)", "bag.add('a' * 5000)", "bag.add(2)"], "bag.read()", [2, "a" * 5000, 2], []),
    "set": (["set_.add(1)", "set_.add(2)", "set_.add(1)"], "sorted(set_.read())", [1, 2], []),
    "total": (["total.add(1)", "total.add(5)"], "total.read()", 6, 0),
    "map": (
        ["map_.put('a', 1)", "map_.put((1, 'b'), 2)", "map_.put('a', 3)", "map_.put('c', 4)", "map_.remove('c')"],
        "(sorted(map_.entries(), key=repr), map_.get('a'), map_.get('z', 0), len(map_.keys()), sum(map_.values()))",
        ([("a", 3), ((1, "b"), 2)], 3, 0, 2, 5),
        ([], None, 0, 0, 0),
    ),
    "list": (
        ["list_.add((3, 'c'))", "list_.add((-1, 'a'))", "list_.add((3, 'd'))", "list_.add((9, 'e'))"],
        "([(float(t), v) for t, v in list_.read()], [v for _, v in list_.read_range(-1, 9)])",
        ([(-1, "a"), (3, "c"), (3, "d"), (9, "e")], ["a", "c", "d"]),
        ([], []),
    ),
    "short": (["short.add(1)", "short.add(5)"], "short.read()", 6, 0),
}


@pytest.mark.parametrize(("changes", "read", "expected", "empty"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("claimed", [False, True], ids=["one step", "claimed again after each"])
def test_states_of_every_kind(changes: list[str], read: str, expected: Any, empty: Any, claimed: bool) -> None:
    m, name = Machine(Kinds()), changes[0].split(".")[0]
    assert m.step(at(read, 0)) == [empty]
    for change in changes:
        m.step(at(change, 0))
        if claimed:
            m.claim()
    assert m.step(at(read, 0), at(read, 0, "other key")) == [expected, empty]
    assert m.step(at(f"[{changes[0]}, 1 / 0]", 0), at(f"{name}.clear() or 1 / 0", 0)) == []
    assert [error for _, error in m.dead] == ["division by zero"] * 2
    if claimed:
        m.claim()
    assert m.step(at(read, 0)) == [expected], "what a bad element has changed is undone"
    m.step(at(f"{name}.clear()", 0))
    if claimed:
        m.claim()
    assert m.step(at(read, 0)) == [empty]
    assert not [n for k, w in m.state.groups() for n in m.state.entries(k, w) if not n.startswith(b"x")]


def test_range_of_an_ordered_list_is_cleared_without_its_limit() -> None:
    m = Machine(Kinds())
    m.step(*(at(f"list_.add(({t}, '{t}'))", 0) for t in (1, 2, 3, 4)), at("list_.clear_range(2, 4)", 0))
    assert m.step(at("[v for _, v in list_.read()]", 0)) == [["1", "4"]]


def test_bag_is_written_in_pieces_not_as_a_whole() -> None:
    m = Machine(Kinds())
    for _ in range(20):
        m.step(*(at(f"bag.add('{'x' * 90}')", 0) for _ in range(50)))
    m.step(at("bag.add('x')", 0))
    newest = m.durable.infos[max(m.durable.infos)]
    assert newest.memory_bytes < 6_000 < 90_000 < sum(info.memory_bytes for info in m.durable.infos.values())
    m.claim()
    assert m.step(at("len(bag.read())", 0)) == [1_001]


def test_state_with_a_time_to_live_is_empty_that_long_after_its_last_change() -> None:
    m = Machine(Kinds())
    read = "(short.read(), total.read())"
    m.step(at("short.add(1)", 5), at("total.add(1)", 5), to=6)
    m.step(at("short.add(1)", 9), at("short.add(1)", 7), to=10)
    m.claim()
    assert m.step(at(read, 18), to=18.9) == [(3, 1)]
    assert m.step(to=19) == []
    assert m.step(at(read, 19)) == [(0, 1)]
    m.step(at("short.add(1)", 3), at("total.clear()", 20))
    assert m.step(to=28.9) == []
    assert len(m.state) == 2
    m.step(to=29)
    assert len(m.state) == 0


def test_state_is_kept_per_key_and_window_until_window_and_lateness_have_passed() -> None:
    m = Machine(Kinds(), WINDOWS_OF_10)
    add = "total.add(1) or total.read()"
    assert m.step(at(add, 1), at(add, 9), at(add, 11), at(add, 1, "b"), to=12) == [1, 2, 1, 1]
    assert m.step(at(add, 5), to=14.9) == [3], "late, but not too late"
    m.step(to=15)
    assert m.step(at(add, 5), at(add, 12)) == [2], "the first is dropped"
    assert m.counts["dropped"] == 1
    m.step(to=25)
    assert len(m.state) == 0
    assert not m.durable.infos
