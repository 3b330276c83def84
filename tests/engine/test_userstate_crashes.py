"""DoFns with state and both kinds of timers under workers that die at any commit, before or after it was applied: what
comes out is what a quiet run gives, for any number of partitions and size of batches.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from crash_making import OpenLog, die_again_and_again, die_once, logs, work
from pipelines import dead_letters, end_topic, make_topic, ordered, publish_json, read_events

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_drained
from streamflow.runtime.worker import Worker
from streamflow.testing.crashing import WrappedLog
from streamflow.topics.protocol import Log
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import (
    BagStateSpec,
    CombiningValueStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)

NAME = "p"
SETTINGS = sf.Settings(partitions=2, step_events_max=4, commit_events_max=1, compact_segments=1)
DUE_S = 5.0
"""By the clock, which stands still in a life and goes on by more than that from one to the next."""


class Session(sf.DoFn):
    """At the end of each window what has come; and once, when the clock has gone on or at the latest then, that there
    was something. Its answer depends on neither order nor batches, nor on what the clock says."""

    VALUES = BagStateSpec("values")
    COUNT = CombiningValueStateSpec("count", sum)
    TICKED = ReadModifyWriteStateSpec("ticked")
    END = TimerSpec("end", TimeDomain.WATERMARK)
    TICK = TimerSpec("tick", TimeDomain.REAL_TIME)

    def process(
        self,
        element: Any,
        values: Any = sf.DoFn.StateParam(VALUES),
        count: Any = sf.DoFn.StateParam(COUNT),
        end: Any = sf.DoFn.TimerParam(END),
        tick: Any = sf.DoFn.TimerParam(TICK),
        window: Any = sf.DoFn.WindowParam,
    ) -> None:
        values.add(element[1])
        if count.read() == 0:
            tick.set(DUE_S)
        count.add(1)
        end.set(window.end)
        if element[1] % 10 == 3:
            raise ValueError("ends in 3")

    @on_timer(END)
    def close(
        self,
        values: Any = sf.DoFn.StateParam(VALUES),
        count: Any = sf.DoFn.StateParam(COUNT),
        key: Any = sf.DoFn.KeyParam,
        window: Any = sf.DoFn.WindowParam,
    ) -> Iterator[Any]:
        yield key, {"k": key, "w": float(window.start), "n": count.read(), "values": sorted(values.read())}

    @on_timer(TICK)
    def tell(
        self, ticked: Any = sf.DoFn.StateParam(TICKED), key: Any = sf.DoFn.KeyParam, window: Any = sf.DoFn.WindowParam
    ) -> Iterator[Any]:
        times = (ticked.read() or 0) + 1
        ticked.write(times)
        yield sf.TaggedOutput("ticks", {"k": key, "w": float(window.start), "times": times})


def pipeline(settings: sf.Settings) -> sf.Pipeline:
    """A second one behind the first, so that what the first holds back must not be late for the second."""
    p = sf.Pipeline(NAME, settings=settings)
    schema = {"k": str, "v": int, "at": int}
    events = (
        p | sf.ReadFromTopic("in", schema=schema, event_time="at", disorder=100) | sf.WindowInto(sf.FixedWindows(10))
    )
    pairs = events | sf.Map(lambda row: (row["k"], row["v"]))
    outputs = pairs | "Session" >> sf.ParDo(Session()).with_outputs("ticks", main="closed")
    outputs.closed | sf.Map(lambda pair: pair[1]) | "Out" >> sf.WriteToTopic("out")
    outputs.ticks | "Out ticks" >> sf.WriteToTopic("ticks")
    counts = outputs.ticks | sf.Map(lambda tick: (tick["k"], 1)) | "Count" >> sf.CombinePerKey(sum)
    counts | sf.Map(lambda pair: {"k": pair[0], "n": pair[1]}) | "Out counts" >> sf.WriteToTopic("counts")
    return p


def fill(log: Log) -> None:
    make_topic(log, partitions=2)
    for i in range(4):
        events = [{"k": "abc"[(i + j) % 3], "v": i * 10 + j, "at": (j * 7 - i) * 1_000_000} for j in range(4)]
        publish_json(log, events, partition=i % 2)
    end_topic(log)


@pytest.fixture(params=["memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLog]:
    """Opens a log of its own, with the same events in it, each time it is called."""
    with logs(request.param, tmp_path, fill) as open_log:
        yield open_log


def result(log: Log) -> dict[str, Any]:
    tasks = log.snapshot(NAME).tasks.values()
    return {
        "events": {topic: ordered(read_events(log, topic)) for topic in ("out", "ticks", "counts")},
        "dead": sorted((letter["input"], letter["error"]) for letter in dead_letters(log, NAME)),
        "counters": {name: sum(task.counters.get(name, 0) for task in tasks) for name in ("late", "dropped")},
    }


def undisturbed(log: Log, settings: sf.Settings = SETTINGS) -> tuple[dict[str, Any], int]:
    """And how many commits it takes."""
    wrapped = WrappedLog(log, lambda n, commit: commit())
    work(launch(pipeline(settings), log, settings), cast(Log, wrapped), ManualClock(), "only")
    return result(log), wrapped.commits


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
def test_death_at_any_commit_changes_nothing(place: OpenLog, applied: bool) -> None:
    expected, commits = undisturbed(place())
    assert commits > 5
    assert len(expected["dead"]) == 4
    assert expected["counters"] == {"late": 0, "dropped": 0}
    assert {tick["times"] for tick in expected["events"]["ticks"]} == {1}
    for k in range(commits):
        log = place()
        die_once(pipeline, SETTINGS, log, k, applied=applied)
        assert result(log) == expected, f"died at commit {k}"
        log.close()


def test_dying_again_and_again_still_comes_to_the_same_end(place: OpenLog) -> None:
    expected, commits = undisturbed(place())
    log = place()
    assert 3 < die_again_and_again(pipeline, SETTINGS, log) <= commits
    assert result(log) == expected


@pytest.mark.parametrize("partitions", [1, 5])
@pytest.mark.parametrize("step_events_max", [1, 3, 1000])
def test_partitions_and_batches_change_nothing(place: OpenLog, partitions: int, step_events_max: int) -> None:
    settings = sf.Settings(partitions=partitions, step_events_max=step_events_max)
    assert undisturbed(place(), settings)[0] == undisturbed(place())[0]


class Delay(sf.DoFn):
    """Gives values ten seconds of the clock after the first of them, whose time they all get."""

    WAITING = BagStateSpec("waiting")
    DUE = TimerSpec("due", TimeDomain.REAL_TIME)

    def process(
        self, element: Any, waiting: Any = sf.DoFn.StateParam(WAITING), due: Any = sf.DoFn.TimerParam(DUE)
    ) -> None:
        if not waiting.read():
            due.set_relative(10)
        waiting.add(element[1])

    @on_timer(DUE)
    def give(self, waiting: Any = sf.DoFn.StateParam(WAITING), key: Any = sf.DoFn.KeyParam) -> Iterator[Any]:
        yield from ((key, value) for value in waiting.read())
        waiting.clear()


def test_what_waits_for_the_clock_holds_the_watermark_of_what_comes_after() -> None:
    """Without that, the windows behind would have closed before what was kept back comes."""
    log = sf.open_log("memory://")
    make_topic(log, partitions=1)
    settings, clock = sf.Settings(partitions=1), ManualClock()
    p = sf.Pipeline(NAME, settings=settings)
    events = p | sf.ReadFromTopic("in", schema={"v": int, "at": int}, event_time="at")
    delayed = events | sf.Map(lambda row: ("k", row["v"])) | sf.ParDo(Delay())
    sums = delayed | sf.WindowInto(sf.FixedWindows(10)) | sf.CombinePerKey(sum)
    sums | sf.Map(lambda pair: {"sum": pair[1]}) | sf.WriteToTopic("out")
    plan = launch(p, log, settings)

    def drained() -> list[Any]:
        Worker(plan, log, None, clock=clock, until=lambda snapshot: is_drained(plan, snapshot)).run()
        return [event["sum"] for event in read_events(log)]

    publish_json(log, [{"v": 1, "at": 3_000_000}, {"v": 2, "at": 4_000_000}])
    assert drained() == []
    publish_json(log, [{"v": 4, "at": 25_000_000}])
    assert drained() == []
    marks = {state.task.stage: state.watermark_us for state in log.snapshot(NAME).tasks.values()}
    assert (marks["pardo-delay"], marks["combineperkey-sum"]) == (25_000_000, 3_000_000)
    clock.advance(10)
    publish_json(log, [{"v": 8, "at": 27_000_000}])
    assert drained() == [7]
    end_topic(log)
    assert drained() == [7, 8]
    assert all(not state.counters.get("dropped") for state in log.snapshot(NAME).tasks.values())
