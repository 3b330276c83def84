"""Async functions, some of whose calls fail or hang, under a worker that dies at any commit, before or after it was
applied: what comes out is what a quiet run gives.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from jumping import jumping_calls
from pipelines import dead_letters, end_topic, make_topic, ordered, publish_json, read_events

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.engine.plan import Plan
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker
from streamflow.testing.crashing import Died, WrappedLog, dying
from streamflow.topics.protocol import Log

NAME = "p"
SETTINGS = sf.Settings(partitions=2, step_events_max=4, commit_events_max=1, compact_segments=1)


@pytest.fixture(params=["memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Log]]:
    """Opens a log of its own, with the same events in it, each time it is called."""
    opened: list[Log] = []

    def open_log() -> Log:
        log = sf.open_log("memory://" if request.param == "memory" else tmp_path / f"log{len(opened)}")
        opened.append(log)
        make_topic(log, partitions=2)
        for i in range(4):
            publish_json(log, [{"n": 4 * i + j, "at": j * 7_000_000} for j in range(4)], partition=i % 2)
        end_topic(log)
        return log

    yield open_log
    for log in opened:
        log.close()


class Enrich(sf.DoFn):
    """Slower for smaller numbers; every third works at its second try only, 6 never does, and 9 hangs."""

    def __init__(self) -> None:
        self.tried: set[int] = set()

    async def setup(self) -> None:  # type: ignore[override]
        self.lock = asyncio.Lock()

    async def process(self, element: int) -> AsyncIterator[Any]:  # type: ignore[override]
        await asyncio.sleep(1 / (element + 1))
        async with self.lock:
            yield ("even" if element % 2 == 0 else "odd"), element
        if element == 9:
            await asyncio.Event().wait()
        if element == 6 or (element % 3 == 0 and element not in self.tried):
            self.tried.add(element)
            raise OSError(f"no answer for {element}")
        yield sf.TaggedOutput("done", {"n": element})


def pipeline() -> sf.Pipeline:
    p = sf.Pipeline(NAME, settings=SETTINGS)
    events = p | sf.ReadFromTopic("in", schema={"n": int, "at": int}, event_time="at", disorder=100)
    numbers = events | sf.WindowInto(sf.FixedWindows(10)) | sf.Map(lambda row: row["n"])
    enrich = sf.ParDo(Enrich()).with_async(concurrency=3, timeout_s=5, retries=2, ordered=False)
    pairs, done = numbers | "Enrich" >> enrich.with_outputs("done", main="pairs")
    done | "Done" >> sf.WriteToTopic("done")
    lists = pairs | sf.GroupByKey() | sf.MapTuple(lambda key, numbers: {"k": key, "ns": sorted(numbers)})
    lists | "Out" >> sf.WriteToTopic("out")
    return p


def start(log: Log) -> Plan:
    return launch(pipeline(), log, SETTINGS)


def work(plan: Plan, log: Log, clock: ManualClock, worker_id: str) -> None:
    until = lambda snapshot: is_finished(plan, snapshot)  # noqa: E731
    Worker(plan, log, None, worker_id=worker_id, clock=clock, calls=jumping_calls(), until=until).run()


def result(log: Log) -> dict[str, Any]:
    tasks = log.snapshot(NAME).tasks.values()
    names = ("events_in", "dead_lettered", "calls_retried", "calls_timed_out")
    return {
        "events": {topic: ordered(read_events(log, topic)) for topic in ("out", "done")},
        "dead": sorted((letter["input"], letter["error"]) for letter in dead_letters(log, NAME)),
        "counters": {name: sum(task.counters.get(name, 0) for task in tasks) for name in names[1:]},
    }


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
def test_death_at_any_commit_changes_nothing(place: Callable[[], Log], applied: bool) -> None:
    log = place()
    wrapped = WrappedLog(log, lambda n, commit: commit())
    work(start(log), cast(Log, wrapped), ManualClock(), "only")
    expected = result(log)
    good = [n for n in range(16) if n not in (6, 9)]
    assert expected["events"]["done"] == ordered({"n": n} for n in good)
    assert sorted(n for row in expected["events"]["out"] for n in row["ns"]) == good
    assert [n for n, _ in expected["dead"]] == [6, 9]
    assert expected["counters"] == {"dead_lettered": 2, "calls_retried": 4 + 2 + 2, "calls_timed_out": 3}
    assert wrapped.commits > 5
    for k in range(wrapped.commits):
        log, clock = place(), ManualClock()
        plan = start(log)
        with pytest.raises(Died):
            work(plan, dying(log, k, applied=applied), clock, "first")
        clock.advance(SETTINGS.lease_s + 1)
        work(start(log), log, clock, "second")
        assert result(log) == expected, f"died at commit {k}"
        log.close()
