"""What the tests of this folder share: the command as a real process, and what a topic holds."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import orjson
import polars as pl
import pytest

from streamflow.topics.codec import decode
from streamflow.topics.protocol import TopicLog

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
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


def finished(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def told(process: "subprocess.Popen[str]") -> dict[str, object]:
    """The report of a run with --json that must succeed."""
    code, out, err = finished(process)
    assert code == 0, err
    report = orjson.loads(out)
    assert isinstance(report, dict)
    return report


def frames(log: TopicLog, topic: str) -> list[pl.DataFrame]:
    """Every record of the topic, decoded, partition by partition."""
    partitions = range(log.topic(topic).config.partitions)
    return [decode(record) for partition in partitions for record in log.read(topic, partition, 0)]


def documents(log: TopicLog, topic: str) -> list[bytes]:
    """Every JSON event of the topic, sorted."""
    return sorted(document for frame in frames(log, topic) for document in frame["_json"])


def size(log: TopicLog, topic: str) -> int:
    """How many events are committed."""
    return sum(log.end(topic, partition) for partition in range(log.topic(topic).config.partitions))
