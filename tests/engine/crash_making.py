"""Pipelines whose workers die at a chosen commit, and again and again. No test of its own lives here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.engine.plan import Plan
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker
from streamflow.testing.crashing import Died, dying
from streamflow.topics.protocol import Log

Build = Callable[[sf.Settings], sf.Pipeline]
OpenLog = Callable[[], Log]


@contextmanager
def logs(kind: str, folder: Path, fill: Callable[[Log], None]) -> Iterator[OpenLog]:
    """Gives what opens a log of its own ('memory' or 'folder') each time it is called, filled with the same events."""
    opened: list[Log] = []

    def open_log() -> Log:
        log = sf.open_log("memory://" if kind == "memory" else folder / f"log{len(opened)}")
        opened.append(log)
        fill(log)
        return log

    yield open_log
    for log in opened:
        log.close()


def work(plan: Plan, log: Log, clock: Any, worker_id: str) -> None:
    Worker(plan, log, None, worker_id=worker_id, clock=clock, until=lambda snapshot: is_finished(plan, snapshot)).run()


def die_once(build: Build, settings: sf.Settings, log: Log, k: int, *, applied: bool) -> None:
    """The first worker dies at its k-th commit, before or after it is applied; a second one comes to the end."""
    clock = ManualClock()
    with pytest.raises(Died):
        work(launch(build(settings), log, settings), dying(log, k, applied=applied), clock, "first")
    clock.advance(settings.lease_s + 1)
    work(launch(build(settings), log, settings), log, clock, "second")


def die_again_and_again(build: Build, settings: sf.Settings, log: Log) -> int:
    """Each worker dies at its second commit, in turn before and after it is applied, until one comes to the end. How
    many there were."""
    clock = ManualClock()
    for life in range(1, 500):
        try:
            plan = launch(build(settings), log, settings)
            work(plan, dying(log, 1, applied=life % 2 == 0), clock, f"life {life}")
        except Died:
            log.prune()
            clock.advance(settings.lease_s + 1)
        else:
            return life
    raise AssertionError("no life came to the end")
