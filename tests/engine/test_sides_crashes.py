"""Side inputs under workers that die at any commit, before or after it was applied: what comes out is what plain Python
says, for any number of partitions and size of batches.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from crash_making import OpenLog, die_again_and_again, die_once, logs, work
from pipelines import dead_letters, end_topic, ordered, read_events
from side_making import MAIN, SIDE, in_window, make_topics, publish, read, window_of

import streamflow as sf
from streamflow import pvalue
from streamflow.base.clock import ManualClock
from streamflow.model.time import MAX_US
from streamflow.runtime.launch import launch
from streamflow.testing.crashing import WrappedLog
from streamflow.topics.protocol import Log

NAME = "p"
SETTINGS = sf.Settings(partitions=2, step_events_max=4, commit_events_max=1, compact_segments=1)
DISORDER_S = 8
NAMES = {0: "even", 1: "odd"}


def events(seed: int, count: int, every_s: float) -> list[tuple[int, float]]:
    """Out of order by less than the disorder that the sources allow."""
    random_ = random.Random(seed)
    return [(seed * 1000 + i, i * every_s + random_.uniform(0, DISORDER_S - 1)) for i in range(count)]


ELEMENTS = {0: events(1, 9, 5), 1: events(2, 9, 5)}
LETTERS = {0: events(3, 5, 8), 1: events(4, 4, 11)}
"""By partition."""


def seen(
    v: int, values: list[int], total: int, names: dict[int, str], window: Any = sf.DoFn.WindowParam
) -> tuple[float, dict[str, Any]]:
    if v % 7 == 3:
        raise ValueError("ends badly")
    start = float(window.start)
    return start, {"v": v, "w": start, "values": sorted(values), "total": total, "name": names[v % 2]}


def pipeline(settings: sf.Settings) -> sf.Pipeline:
    """A grouping behind what may wait, for which it must not be late."""
    p = sf.Pipeline(NAME, settings=settings)
    main = read(p, MAIN, sf.WindowInto(sf.FixedWindows(5)), disorder=DISORDER_S)
    side = read(p, SIDE, sf.WindowInto(sf.FixedWindows(10)), disorder=DISORDER_S)
    total = side | sf.CombineGlobally(sum).as_singleton_view()
    names = pvalue.AsDict(p | "Names" >> sf.Create(NAMES))
    pairs = main | "Sided" >> sf.Map(seen, pvalue.AsList(side), total=total, names=names)
    pairs | sf.Map(lambda pair: pair[1]) | "Out" >> sf.WriteToTopic("out")
    counts = pairs | "Ones" >> sf.Map(lambda pair: (pair[0], 1)) | "Count" >> sf.CombinePerKey(sum)
    counts | sf.Map(lambda pair: {"w": pair[0], "n": pair[1]}) | "Counts" >> sf.WriteToTopic("counts")
    return p


def answer() -> dict[str, Any]:
    letters = [event for of_partition in LETTERS.values() for event in of_partition]
    rows, counts = [], dict[float, int]()
    elements = [event for of_partition in ELEMENTS.values() for event in of_partition]
    for v, seconds in elements:
        start, values = window_of(seconds, 5), in_window(letters, window_of(seconds, 10))
        if v % 7 != 3:
            rows.append({"v": v, "w": start, "values": values, "total": sum(values), "name": NAMES[v % 2]})
            counts[start] = counts.get(start, 0) + 1
    return {
        "out": ordered(rows),
        "counts": ordered({"w": start, "n": n} for start, n in counts.items()),
        "dead": sorted(v for v, _ in elements if v % 7 == 3),
        "dropped": 0,
    }


def fill(log: Log) -> None:
    make_topics(log, partitions=2)
    for topic, of_topic in {MAIN: ELEMENTS, SIDE: LETTERS}.items():
        for partition, of_partition in of_topic.items():
            for begin in range(0, len(of_partition), 3):
                publish(log, topic, of_partition[begin : begin + 3], partition)
        end_topic(log, topic)


@pytest.fixture(params=["memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLog]:
    """Opens a log of its own, with the same events in it, each time it is called."""
    with logs(request.param, tmp_path, fill) as open_log:
        yield open_log


def result(log: Log) -> dict[str, Any]:
    tasks = log.snapshot(NAME).tasks.values()
    return {
        **{topic: ordered(read_events(log, topic)) for topic in ("out", "counts")},
        "dead": sorted(letter["input"] for letter in dead_letters(log, NAME)),
        "dropped": sum(task.counters.get("dropped", 0) for task in tasks),
    }


def undisturbed(log: Log, settings: sf.Settings = SETTINGS) -> tuple[dict[str, Any], int, bool]:
    """What it gives, how many commits that takes, and whether elements had to wait."""
    waited = False

    def on_commit(n: int, commit: Callable[[], list[bool]]) -> list[bool]:
        nonlocal waited
        results = commit()
        log.prune()
        tasks = log.snapshot(NAME).tasks.values()
        waited = waited or any(state.task.stage == "sided" and state.hold_us < MAX_US for state in tasks)
        return results

    wrapped = WrappedLog(log, on_commit)
    work(launch(pipeline(settings), log, settings), cast(Log, wrapped), ManualClock(), "only")
    return result(log), wrapped.commits, waited


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
def test_death_at_any_commit_changes_nothing(place: OpenLog, applied: bool, request: pytest.FixtureRequest) -> None:
    found, commits, waited = undisturbed(place())
    assert found == answer()
    assert waited
    each = 1 if request.node.callspec.params["place"] == "memory" else 5
    for k in range(0, commits, each):
        log = place()
        die_once(pipeline, SETTINGS, log, k, applied=applied)
        assert result(log) == answer(), f"died at commit {k}"
        log.close()


def test_dying_again_and_again_still_comes_to_the_same_end(place: OpenLog) -> None:
    log = place()
    assert die_again_and_again(pipeline, SETTINGS, log) > 4
    assert result(log) == answer()


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("step_events_max", [1, 3, 1000])
def test_partitions_and_batches_change_nothing(place: OpenLog, partitions: int, step_events_max: int) -> None:
    settings = sf.Settings(partitions=partitions, step_events_max=step_events_max)
    assert undisturbed(place(), settings)[0] == answer()
