"""What the tests of this folder share: processes that write stores and can be killed."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

APPEND = Path(__file__).parent / "appender.py"
EXIT_WITHIN_S = 60


@pytest.fixture
def appender() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start `appender.py` with these arguments; whatever still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def go(*arguments: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, str(APPEND), *map(str, arguments)], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def kill_in_a_loop(appender: Callable[..., "subprocess.Popen[str]"]) -> Callable[..., int]:
    """Start the appender again and again, killing it after each of the given delays (seconds, counted from its first
    write); then let it finish. Returns how many were killed while they still worked."""

    def go(delays_s: list[float], *arguments: object) -> int:
        killed = 0
        for delay in delays_s:
            process = appender(*arguments)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.kill()
            killed += process.wait(EXIT_WITHIN_S) != 0
        last = appender(*arguments)
        last.communicate(timeout=EXIT_WITHIN_S)
        assert last.returncode == 0
        return killed

    return go
