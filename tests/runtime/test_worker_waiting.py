"""What ends a worker's wait: commits, requests to stop, resting sinks, timers. Nothing here polls within a minute."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pipelines import make_topic, publish_json, read_events

import streamflow as sf
from streamflow.runtime.launch import launch
from streamflow.runtime.worker import Stop, Worker
from streamflow.topics.embedded import truth
from streamflow.topics.protocol import Log, Snapshot
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.trigger import AfterProcessingTime, Repeatedly
from streamflow.transforms.userstate import TimerSpec, on_timer

NEVER_S = 60.0
SETTINGS = sf.Settings(poll_s=NEVER_S, heartbeat_s=NEVER_S, lease_s=10 * NEVER_S, sink_interval_s=0.2)
SOON_S = 20.0
"""For a slow machine; what is waited for comes within milliseconds."""


@pytest.fixture(autouse=True)
def _only_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "_LOOK_S", NEVER_S)


@pytest.fixture(params=["memory", "folder"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"memory://{tmp_path.name}" if request.param == "memory" else str(tmp_path)


def wait_until(log: Log, reached: object, what: str) -> None:
    assert callable(reached)
    deadline_s = time.monotonic() + SOON_S
    while not reached():
        assert time.monotonic() < deadline_s, f"{what} did not come about"
        log.wait_changed(0.05)


@contextmanager
def working(p: sf.Pipeline, url: str, data: Path | None = None) -> Iterator[tuple[Worker, Log]]:
    """A worker in a thread that holds all tasks; it is told to stop at the end, and must."""
    of_worker, log = sf.open_log(url), sf.open_log(url)
    stop = Stop()
    plan = launch(p, of_worker, p.settings)
    worker = Worker(plan, of_worker, data, stop=stop)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        wait_until(log, lambda: all(t.owner for t in log.snapshot(plan.pipeline).tasks.values()), "ownership")
        yield worker, log
    finally:
        stop.request()
        thread.join(SOON_S)
        stopped = not thread.is_alive()
        of_worker.close()
        log.close()
    assert stopped


def pass_through(settings: sf.Settings = SETTINGS) -> sf.Pipeline:
    p = sf.Pipeline("p", settings=settings)
    p | sf.ReadFromTopic("in") | sf.WriteToTopic("out")
    return p


def prepare(url: str) -> Log:
    log = sf.open_log(url)
    for topic in ("in", "out"):
        make_topic(log, topic, partitions=1)
    return log


def test_idle_worker_is_woken_by_what_is_published_and_by_a_request_to_stop(url: str) -> None:
    kept = prepare(url)
    with working(pass_through(), url) as (_, log):
        for nth in range(5):
            publish_json(log, [{"n": nth}])
            wait_until(log, lambda nth=nth: log.end("out", 0) == nth + 1, f"event {nth}")
    kept.close()


def test_idle_worker_looks_at_nothing_while_workers_say_that_they_live(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = prepare(url)
    settings = sf.Settings(poll_s=NEVER_S, heartbeat_s=0.01, lease_s=10 * NEVER_S)
    looks: list[int] = []
    beats: list[int] = []
    with working(pass_through(settings), url) as (worker, log):
        of_worker = worker.log
        snapshot, heartbeat = of_worker.snapshot, of_worker.heartbeat

        def seen(pipeline: str, *, counters: bool = True) -> Snapshot:
            looks.append(1)
            return snapshot(pipeline, counters=counters)

        def beating(worker: str, now_us: int, *, draining: bool = False) -> bool:
            beats.append(1)
            return heartbeat(worker, now_us, draining=draining)

        monkeypatch.setattr(of_worker, "snapshot", seen)
        monkeypatch.setattr(of_worker, "heartbeat", beating)
        wait_until(log, lambda: len(beats) >= 20, "twenty signs of life")
        assert len(looks) <= 3, "the rounds that were under way when the tasks had been claimed"
    kept.close()


def test_trigger_that_waits_for_the_clock_wakes_the_worker(url: str) -> None:
    kept = prepare(url)
    p = sf.Pipeline("p", settings=replace(SETTINGS, partitions=1))
    pairs = p | sf.ReadFromTopic("in") | sf.Map(lambda event: ("k", event["n"]))
    panes = pairs | sf.WindowInto(
        sf.GlobalWindows(), Repeatedly(AfterProcessingTime(0.1)), sf.AccumulationMode.DISCARDING
    )
    panes | sf.CombinePerKey(sum) | sf.WriteToTopic("out")
    with working(p, url) as (_, log):
        for nth in range(1, 4):
            publish_json(log, [{"n": nth}])
            wait_until(log, lambda nth=nth: log.end("out", 0) == nth, f"pane {nth}")
    assert [event[1] for event in read_events(kept)] == [1, 2, 3]
    kept.close()


def test_resting_sink_writes_when_it_has_rested(tmp_path: Path) -> None:
    kept = prepare(str(tmp_path))
    p = sf.Pipeline("p", settings=SETTINGS)
    p | sf.ReadFromTopic("in", schema={"n": int}) | sf.WriteToTable("t")
    with working(p, str(tmp_path), tmp_path) as (_, log):
        for nth in range(5):
            publish_json(log, [{"n": nth}])

        def written() -> bool:
            tasks = log.snapshot("p").tasks.values()
            return sum(task.offset for task in tasks if task.topic != "in") == 5

        wait_until(log, written, "the last row")
    kept.close()


class Later(sf.DoFn):
    """Gives back each element a little later."""

    DUE = TimerSpec("due", TimeDomain.REAL_TIME)

    def process(self, element: tuple[str, int], due: Any = sf.DoFn.TimerParam(DUE)) -> None:
        due.set_relative(0.2)

    @on_timer(DUE)
    def give(self, key: str = sf.DoFn.KeyParam) -> Iterator[dict[str, str]]:
        yield {"key": key}


def test_idle_worker_is_awake_when_a_timer_is_due_by_the_clock(url: str) -> None:
    kept = prepare(url)
    p = sf.Pipeline("p", settings=SETTINGS)
    pairs = p | sf.ReadFromTopic("in", schema={"n": int}) | sf.Map(lambda row: (f"{row['n']}", row["n"]))
    pairs | sf.ParDo(Later()) | sf.WriteToTopic("out")
    with working(p, url) as (_, log):
        for nth in range(3):
            publish_json(log, [{"n": nth}])
            wait_until(log, lambda nth=nth: log.end("out", 0) == nth + 1, f"timer {nth}")
    kept.close()
