"""Both backends behind one fixture, and the few words in which the tests speak of records and tasks."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from topic_making import NOW_US

from streamflow.base.clock import ManualClock
from streamflow.topics.embedded import EmbeddedLog
from streamflow.topics.memory import MemoryLog
from streamflow.topics.protocol import Log


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW_US)


@pytest.fixture(params=["memory", "embedded"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Callable[[], Log]]:
    """Opens one more handle on the same log."""
    handles: list[Log] = []
    name = secrets.token_hex(4)

    def open_one() -> Log:
        memory = request.param == "memory"
        log: Log = MemoryLog(name, clock=clock) if memory else EmbeddedLog(tmp_path / "log", clock=clock)
        handles.append(log)
        return log

    yield open_one
    for log in handles:
        log.close()


@pytest.fixture
def log(open_log: Callable[[], Log]) -> Log:
    return open_log()


@pytest.fixture
def embedded(tmp_path: Path, clock: ManualClock) -> Iterator[EmbeddedLog]:
    log = EmbeddedLog(tmp_path / "log", clock=clock)
    yield log
    log.close()
