"""Every backend behind one fixture; the clock is the tests'."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from subscribing import START_US, Bench

from streamflow.base.clock import ManualClock
from streamflow.topics import open_log
from streamflow.topics.protocol import Log


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_US)


@pytest.fixture(params=["memory", "folder"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Callable[[], Log]]:
    """Opens one more handle on the same log."""
    handles: list[Log] = []
    url = f"memory://{secrets.token_hex(4)}" if request.param == "memory" else tmp_path / "log"

    def open_one() -> Log:
        handles.append(open_log(url, clock=clock))
        return handles[-1]

    yield open_one
    for log in handles:
        log.close()


@pytest.fixture
def bench(opened: Callable[[], Log], clock: ManualClock) -> Bench:
    return Bench(opened, clock)
