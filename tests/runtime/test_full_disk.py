"""A full disk: workers and their supervisor wait, say so, and go on once there is space; nothing is lost or doubled."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pipelines import end_topic, make_topic, publish_json, read_events

import streamflow as sf

EVENTS = 20_000
PIPELINE = """
import streamflow as sf

pipeline = sf.Pipeline("padding")
(
    pipeline
    | sf.ReadFromTopic("numbers")
    | sf.Map(lambda event: {"n": event["n"], "pad": "x" * 1000})
    | sf.WriteToTopic("out")
)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 48 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no small disk can be made here: mount is not allowed")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_on_a_full_disk_workers_wait_and_go_on(tmp_path: Path, disk: Path) -> None:
    target, data = tmp_path / "padding.py", disk / "data"
    target.write_text(PIPELINE)
    with closing(sf.open_log(data)) as log:
        make_topic(log, "numbers", partitions=2)
        make_topic(log, "out", partitions=1)
        for partition in range(2):
            numbers = range(partition, EVENTS, 2)
            publish_json(log, [{"n": n} for n in numbers], topic="numbers", partition=partition)
        end_topic(log, "numbers")
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - (4 << 20)))
    command = [sys.executable, "-m", "streamflow", "run", str(target), "--data", str(data), "--workers", "2"]
    with subprocess.Popen([*command, "--until", "finished", "--port", "0"], stderr=subprocess.PIPE, text=True) as run:
        try:
            wait_for(lambda: "no space left for the log" in said(data), 30, "the workers to say so")
            filler.unlink()
            _, told = run.communicate(timeout=40)
        finally:
            run.kill()
    assert run.returncode == 0, told
    assert "MB of space are left" in told
    assert "replacing" not in told
    with closing(sf.open_log(data)) as log:
        assert sorted(event["n"] for event in read_events(log, "out")) == list(range(EVENTS))


def said(data: Path) -> str:
    file = data / "logs" / "padding.log"
    return file.read_text() if file.exists() else ""


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)
