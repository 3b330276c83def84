"""What the tests of this folder share: the command as a real process, and what a topic holds."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import polars as pl
import pytest

from streamflow.topics.codec import decode
from streamflow.topics.protocol import TopicLog

EXIT_WITHIN_S = 60


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Start `loadgen` with these arguments; whatever still runs at the end of the test is killed."""
    started: list[subprocess.Popen[str]] = []

    def go(*arguments: object) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", "loadgen", *map(str, arguments)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def finish(start: Callable[..., "subprocess.Popen[str]"]) -> Callable[..., tuple[int, str, str]]:
    """Run `loadgen` with these arguments (or wait for a started one): exit code, stdout, stderr."""

    def go(*arguments: object) -> tuple[int, str, str]:
        given = arguments[0] if arguments else None
        process = given if isinstance(given, subprocess.Popen) else start(*arguments)
        out, err = process.communicate(timeout=EXIT_WITHIN_S)
        return process.returncode, out, err

    return go


@pytest.fixture
def frames() -> Callable[[TopicLog, str], list[pl.DataFrame]]:
    """Every record of a topic, decoded, partition by partition."""

    def go(log: TopicLog, topic: str) -> list[pl.DataFrame]:
        partitions = range(log.topic(topic).config.partitions)
        return [decode(record) for partition in partitions for record in log.read(topic, partition, 0)]

    return go
