"""Joins by time give what DuckDB says of the same events: when workers die at any commit, before or after it was
applied, and for any number of partitions and workers and any size of batches.
"""

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
from crash_making import OpenLog, die_again_and_again, die_once, logs, work
from pipelines import end_topic, make_topic, ordered, publish_json, read_events

import streamflow as sf
from streamflow.base.clock import ManualClock, SystemClock
from streamflow.examples.nexmark.check import expected
from streamflow.model.time import MAX_US
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_drained
from streamflow.runtime.worker import Worker
from streamflow.testing.crashing import WrappedLog
from streamflow.topics.protocol import Log

NAME = "p"
SETTINGS = sf.Settings(partitions=2, step_events_max=4, commit_events_max=1, compact_segments=1)
DISORDER_S = 5
US = 1_000_000


def events(seed: int, count: int) -> list[tuple[float, dict[str, Any]]]:
    """(arrival, event), in that order: out of order by less than the sources allow."""
    random_ = random.Random(seed)
    rows = [{"k": random_.choice("abc"), "v": seed * 100 + i, "at": random_.randrange(60) * US} for i in range(count)]
    return sorted(
        ((row["at"] / US + random_.uniform(0, DISORDER_S - 0.1), row) for row in rows), key=lambda pair: pair[0]
    )


ARRIVALS = {
    ("left", 0): events(1, 12),
    ("left", 1): events(2, 12),
    ("right", 0): events(3, 9),
    ("right", 1): events(4, 9),
}
SIDES = {side: [[row for _, row in ARRIVALS[side, partition]] for partition in (0, 1)] for side in ("left", "right")}
"""By topic and partition."""

ANSWERS = {
    "interval": """select coalesce(l.k, r.k) k, l.v v, r.v v_right, l.at as at, r.at as at_right
        from left_ l full join right_ r on l.k = r.k and r.at between l.at - 3000000 and l.at + 6000000""",
    "counts": """with joined as (select greatest(l.at, r.at) as at from left_ l join right_ r
            on l.k = r.k and r.at between l.at - 3000000 and l.at + 6000000
        union all select l.at from left_ l where not exists (from right_ r
            where l.k = r.k and r.at between l.at - 3000000 and l.at + 6000000)
        union all select r.at from right_ r where not exists (from left_ l
            where l.k = r.k and r.at between l.at - 3000000 and l.at + 6000000))
        select count(*) n, cast(floor(joined.at / 10000000.0) as bigint) w from joined group by w""",
    "asof": """select l.k, l.v, r.v v_right, l.at, r.at at_right
        from left_ l asof left join once r on l.k = r.k and l.at >= r.at""",
    "table": """select l.k, l.v, r.v v_right, l.at, r.at at_right
        from left_ l asof join once r on l.k = r.k and l.at >= r.at where r.v % 3 > 0""",
}


def answers() -> dict[str, Any]:
    left_, right_ = (pl.DataFrame([row for part in parts for row in part]) for parts in SIDES.values())
    once = right_.sort("v").unique(["k", "at"], keep="last")
    frames = {"left_": left_, "right_": right_, "once": once}
    found = {name: ordered(expected(query, frames).to_dicts()) for name, query in ANSWERS.items()}
    return found | {"dropped": 0}


def pipeline(settings: sf.Settings) -> sf.Pipeline:
    """A grouping behind what may wait, for which it must not be late."""
    p = sf.Pipeline(NAME, settings=settings)
    schema = {"k": str, "v": int, "at": int}
    left, right = (p | sf.ReadFromTopic(name, schema=schema, event_time="at", disorder=DISORDER_S) for name in SIDES)
    joined = left | sf.WindowInto(sf.FixedWindows(10)) | sf.IntervalJoin(right, on="k", lower=-3, upper=6, how="full")
    joined | "Out interval" >> sf.WriteToTopic("interval")
    counts = joined | sf.Aggregate(n=sf.Count())
    counts = counts | sf.Select("n", w=sf.col("window_start").dt.epoch("s") // 10)
    counts | "Out counts" >> sf.WriteToTopic("counts")
    left | sf.AsOfJoin(right, on="k") | "Out asof" >> sf.WriteToTopic("asof")
    changes = right | sf.WithColumns(gone=sf.col("v") % 3 == 0)
    left | sf.TableJoin(changes, on="k", deleted="gone") | "Out table" >> sf.WriteToTopic("table")
    return p


def fill(log: Log) -> None:
    for topic, parts in SIDES.items():
        make_topic(log, topic, partitions=2)
        for partition, rows in enumerate(parts):
            for begin in range(0, len(rows), 3):
                publish_json(log, rows[begin : begin + 3], topic=topic, partition=partition)
        end_topic(log, topic)


@pytest.fixture(params=["memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLog]:
    """Opens a log of its own, with the same events in it, each time it is called."""
    with logs(request.param, tmp_path, fill) as open_log:
        yield open_log


def result(log: Log) -> dict[str, Any]:
    tasks = log.snapshot(NAME).tasks.values()
    return {
        **{topic: ordered(read_events(log, topic)) for topic in ANSWERS},
        "dropped": sum(task.counters.get("dropped", 0) + task.counters.get("late", 0) for task in tasks),
    }


def undisturbed(log: Log, settings: sf.Settings = SETTINGS) -> tuple[dict[str, Any], int, bool]:
    """What it gives, how many commits that takes, and whether the watermark was held back."""
    held = False

    def on_commit(n: int, commit: Callable[[], list[bool]]) -> list[bool]:
        nonlocal held
        results = commit()
        log.prune()
        states = log.snapshot(NAME).tasks.values()
        held = held or any(s.task.stage == "intervaljoin-match" and s.hold_us < s.watermark_us < MAX_US for s in states)
        return results

    wrapped = WrappedLog(log, on_commit)
    work(launch(pipeline(settings), log, settings), cast(Log, wrapped), ManualClock(), "only")
    return result(log), wrapped.commits, held


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
def test_death_at_any_commit_changes_nothing(place: OpenLog, applied: bool, request: pytest.FixtureRequest) -> None:
    wanted = answers()
    found, commits, held = undisturbed(place())
    assert found == wanted
    assert held
    each = 3 if request.node.callspec.params["place"] == "memory" else 9
    for k in range(0, commits, each):
        log = place()
        die_once(pipeline, SETTINGS, log, k, applied=applied)
        assert result(log) == wanted, f"died at commit {k}"
        log.close()


def test_dying_again_and_again_still_comes_to_the_same_end(place: OpenLog) -> None:
    log = place()
    assert die_again_and_again(pipeline, SETTINGS, log) > 4
    assert result(log) == answers()


@pytest.mark.parametrize("partitions", [1, 3])
@pytest.mark.parametrize("step_events_max", [1, 3, 1000])
def test_partitions_and_batches_change_nothing(place: OpenLog, partitions: int, step_events_max: int) -> None:
    settings = sf.Settings(partitions=partitions, step_events_max=step_events_max)
    assert undisturbed(place(), settings)[0] == answers()


@pytest.mark.parametrize("at_once", [1, 5])
def test_when_events_come_changes_nothing(at_once: int) -> None:
    """All that has come is worked off before the next are published, so the watermark goes in small steps: what waits
    is not late for what comes after it."""
    log = sf.open_log("memory://")
    for topic in SIDES:
        make_topic(log, topic, partitions=2)
    plan = launch(pipeline(SETTINGS), log, SETTINGS)

    def drain() -> None:
        Worker(plan, log, None, clock=ManualClock(), until=lambda snapshot: is_drained(plan, snapshot)).run()

    arrivals = sorted((at, place, row) for place, rows in ARRIVALS.items() for at, row in rows)
    for i, (_, (topic, partition), row) in enumerate(arrivals):
        publish_json(log, [row], topic=topic, partition=partition)
        if i % at_once == 0:
            drain()
    for topic in SIDES:
        end_topic(log, topic)
    work(plan, log, ManualClock(), "last")
    assert result(log) == answers()


def test_three_workers_give_the_same(place: OpenLog) -> None:
    log, settings = place(), sf.Settings(partitions=3, step_events_max=4)
    plan = launch(pipeline(settings), log, settings)
    threads = [
        threading.Thread(target=work, args=(plan, log, SystemClock(), f"worker {i}"), daemon=True) for i in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert result(log) == answers()
