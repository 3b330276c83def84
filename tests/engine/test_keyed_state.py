"""Keyed state is a dict, whatever steps, compactions, claims and deaths lie between."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from keyed_making import Durable, gone_at
from pipelines import make_topic, publish_json

import streamflow as sf
from streamflow.engine.keyed import KeyedState
from streamflow.engine.ledger import Ledger
from streamflow.engine.memory import StateMemory
from streamflow.model.window import GLOBAL_WINDOW, IntervalWindow
from streamflow.transforms.userstate import BagStateSpec

WINDOWS = [*(IntervalWindow.of_us(*bounds) for bounds in ((0, 10), (10, 20), (0, 30))), GLOBAL_WINDOW]


def contents(state: KeyedState) -> dict[tuple[bytes, IntervalWindow, bytes], bytes]:
    found = {(k, w, name): value for k, w in state.groups() for name, value in state.entries(k, w).items()}
    assert len(state) == len(found)
    return found


entries = st.tuples(st.sampled_from([b"a", b"b", b""]), st.sampled_from(WINDOWS), st.sampled_from([b"n", b"m", b""]))
changes = st.tuples(entries, st.none() | st.binary(max_size=2))
steps = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(["keep", "undo"]), st.lists(changes, max_size=4)), max_size=4),
        st.integers(0, 8),
        st.sampled_from(["go on", "claim again", "die before the commit"]),
    ),
    max_size=14,
)


@given(steps, st.integers(1, 3))
def test_state_equals_a_dict_after_any_steps_compactions_and_claims(
    steps: list[tuple[list[tuple[str, list[tuple[tuple[bytes, IntervalWindow, bytes], bytes | None]]]], int, str]],
    segments_max: int,
) -> None:
    durable, expected = Durable(), dict[tuple[bytes, IntervalWindow, bytes], bytes]()
    state, watermark_us, grown_bytes = durable.claimed(segments_max), 0, 0
    for attempts, advance_us, then in steps:
        after = dict(expected)
        for fate, attempt in attempts:
            state.mark()
            kept = dict(after)
            for (key, window, name), value in attempt:
                if gone_at(window.end_us) <= watermark_us:
                    continue
                if value is None:
                    state.delete(key, window, name)
                    kept.pop((key, window, name), None)
                else:
                    state.put(key, window, name, value)
                    kept[key, window, name] = value
                assert state.get(key, window, name) == value
            if fate == "undo":
                state.undo()
            else:
                after = kept
            assert contents(state) == after
        if then == "die before the commit":
            state = durable.claimed(segments_max)
            assert contents(state) == expected
            continue
        watermark_us += advance_us
        expected = {e: v for e, v in after.items() if gone_at(e[1].end_us) > watermark_us}
        assert set(state.expire(watermark_us)) == {e[:2] for e in after} - {e[:2] for e in expected}
        durable.commit(state.delta(0, watermark_us), watermark_us)
        grown_bytes += state.grown_bytes()
        assert grown_bytes == sum(len(name) + len(value) + 150 for (_, _, name), value in expected.items())
        if then == "claim again":
            state = durable.claimed(segments_max)
        assert contents(state) == expected


def test_segments_do_not_grow_with_the_steps_but_with_what_is_held() -> None:
    durable = Durable()
    state = durable.claimed()
    for n in range(500):
        state.put(b"key", GLOBAL_WINDOW, b"%d" % (n % 3), b"%d" % n)
        if n % 2:
            state.delete(b"key", GLOBAL_WINDOW, b"%d" % (n % 3))
        durable.commit(state.delta(n, 0), 0)
    assert sum(info.rows for info in durable.infos.values()) < 20


def test_step_that_changes_nothing_writes_nothing_and_a_claim_reads_nothing_until_it_is_asked() -> None:
    durable = Durable()
    state = durable.claimed()
    state.put(b"k", GLOBAL_WINDOW, b"n", b"1")
    durable.commit(state.delta(0, 0), 0)
    state.put(b"k", GLOBAL_WINDOW, b"n", b"1")
    assert not state.delta(1, 0).add
    ledger = Ledger(list(durable.infos.values()), durable.payloads.__getitem__)
    lazy = KeyedState(ledger, gone_at, 0, 1)
    assert not lazy.delta(2, 0).add
    assert ledger.bytes_read == 0
    assert lazy.get(b"k", GLOBAL_WINDOW, b"n") == b"1"
    assert ledger.bytes_read > 0


def test_state_leaves_the_less_memory_to_others_until_it_is_closed() -> None:
    memory = StateMemory(1000)
    state = KeyedState(Ledger([], lambda sequence: b""), gone_at, 0, 1, memory)
    assert memory.has_room(500)
    state.put(b"k", GLOBAL_WINDOW, b"n", b"v" * 99)
    state.delta(0, 0)
    assert memory.has_room(250)
    assert not memory.has_room(251)
    state.close()
    assert memory.has_room(500)


def test_windows_that_are_over_take_their_segments_with_them() -> None:
    durable = Durable()
    state = durable.claimed()
    state.put(b"k", IntervalWindow.of_us(0, 10), b"n", b"1")
    durable.commit(state.delta(0, 0), 0)
    state.expire(15)
    delta = state.delta(1, 15)
    assert delta.drop == [0]
    assert not delta.add


def test_what_was_deleted_stays_so_while_a_large_older_segment_still_has_it() -> None:
    durable = Durable()
    state = durable.claimed()
    names = [b"%d" % n for n in range(900)]
    for name in names:
        state.put(b"k", GLOBAL_WINDOW, name, b"old")
    durable.commit(state.delta(0, 0), 0)
    for n in range(30):
        state.delete(b"k", GLOBAL_WINDOW, names[n])
        state.put(b"k", GLOBAL_WINDOW, names[n + 400], b"new")
        durable.commit(state.delta(n, 0), 0)
        old, new = set(names[n + 1 : 400]) | set(names[n + 401 :]), set(names[400 : n + 401])
        expected = {(b"k", GLOBAL_WINDOW, name): b"new" if name in new else b"old" for name in old | new}
        assert contents(durable.claimed()) == expected
    assert 2 <= len(durable.infos) < 20
    assert 0 in durable.infos, "the large one was not written again"


class Kept(sf.DoFn):
    BAG = BagStateSpec("bag")

    def process(self, element: Any, bag: Any = sf.DoFn.StateParam(BAG)) -> None:
        bag.add(element[1])


def kept(rows: Any) -> None:
    rows | sf.Map(lambda row: (row["k"], "x" * 5_000)) | sf.ParDo(Kept())


def joined(rows: Any) -> None:
    rows | sf.IntervalJoin(rows, on="v", lower=-9, upper=9, how="full")


@pytest.mark.parametrize("build", [kept, joined])
def test_state_beyond_the_bound_is_told_with_what_helps(build: Any, caplog: pytest.LogCaptureFixture) -> None:
    for state_bytes_max, times in ((1_000, 1), (1 << 30, 0)):
        caplog.clear()
        log = sf.open_log("memory://")
        make_topic(log, partitions=1)
        publish_json(log, [{"k": "a", "v": i} for i in range(200)])
        p = sf.Pipeline("p", settings=sf.Settings(partitions=1, state_bytes_max=state_bytes_max))
        build(p | sf.ReadFromTopic("in", schema={"k": str, "v": int}))
        p.run(on=log, until="drained")
        told = [record.getMessage() for record in caplog.records if "state_bytes_max" in record.getMessage()]
        assert len(told) == times
        assert all("Keep less (a ttl, shorter windows" in text for text in told)
