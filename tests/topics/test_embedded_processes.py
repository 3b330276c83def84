"""Several processes on one folder, undisturbed and killed: nothing lost, nothing twice."""

import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from crashing_publisher import EVENTS, POINTS

from streamflow.topics import codec
from streamflow.topics.embedded import EmbeddedLog
from streamflow.topics.protocol import Record, TopicConfig

SCRIPT = Path(__file__).with_name("crashing_publisher.py")
PARTITIONS = 4


def start(folder: Path, name: str, point: str = "never", nth: int = 0) -> subprocess.Popen[str]:
    """A publisher that is about to publish."""
    command = [sys.executable, str(SCRIPT), str(folder), "t", name, point, str(nth)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen[str]) -> None:
    assert process.wait(30) == -signal.SIGKILL
    assert process.stdout is not None
    process.stdout.close()


def all_records(log: EmbeddedLog) -> list[Record]:
    records = []
    for partition in range(PARTITIONS):
        of_partition = log.read("t", partition, 0)
        ends = [0, *(record.end for record in of_partition)]
        assert [record.offset for record in of_partition] == ends[:-1], "offsets are contiguous"
        assert log.end("t", partition) == ends[-1]
        records += of_partition
    return records


def check_exactly_once(log: EmbeddedLog, names: list[str]) -> int:
    """Every sequence up to the last is there whole and once, in order within each partition; how many there are."""
    counts: Counter[tuple[str, int]] = Counter()
    newest: dict[tuple[str, int], int] = {}
    for record in all_records(log):
        for event in codec.decode(record)["_json"].to_list():
            match = re.fullmatch(rb"(\w+):(\d+):(\d+)", event)
            assert match is not None
            name, sequence = match[1].decode(), int(match[2])
            counts[name, sequence] += 1
            assert sequence >= newest.get((name, record.partition), 0)
            newest[name, record.partition] = sequence
    last = {name: log.last_sequence("t", name) for name in names}
    assert counts == {(name, sequence): EVENTS for name in names for sequence in range(last[name] + 1)}
    return len(counts)


def test_several_processes_publish_at_once_without_loss(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    names = ["a", "b", "c"]
    with closing(EmbeddedLog(folder)) as log:
        log.create_topic("t", TopicConfig(partitions=PARTITIONS))
        processes = [start(folder, name) for name in names]
        deadline_s = time.monotonic() + 60
        while min(log.last_sequence("t", name) for name in names) < 100 and time.monotonic() < deadline_s:
            log.wait_changed(0.1)
        for process in processes:
            process.kill()
            finish(process)
        assert check_exactly_once(log, names) > 300


@pytest.mark.chaos
def test_publishers_killed_anywhere_leave_each_event_exactly_once(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    names = ["a", "b"]
    rng = random.Random(20_240_101)
    points = list(POINTS) * 4
    rng.shuffle(points)
    with closing(EmbeddedLog(folder)) as log:
        log.create_topic("t", TopicConfig(partitions=PARTITIONS))
        for point in points:
            itself = start(folder, "a", point, rng.randrange(8))
            other = start(folder, "b")
            finish(itself)
            time.sleep(rng.random() * 0.02)
            other.kill()
            finish(other)
            check_exactly_once(log, names)
        assert log.last_sequence("t", "a") > 20
        referenced = len(all_records(log))
        log.prune()
        assert len(all_records(log)) == referenced
        log.delete_topic("t")
        assert log.prune() > 0
        assert list(folder.glob("topics/*/*.seg")) == [], "files of killed writers are free"
