"""A run of the flights demonstration as real processes, for tests that disturb it. Nothing here decides what is
right."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from streamflow.topics import open_log
from streamflow.topics.protocol import Log, Snapshot, TopicConfig

TARGET = "streamflow.examples.flights"
PIPELINE = "flights"
FLIGHTS = 336_776


@dataclass
class FlightsRun:
    """A supervisor with workers, and loadgen at `rate` events/s, on `data`; killed with its workers on exit."""

    data: Path
    workers: int
    rate: int
    log: Log = field(init=False)
    supervisor: subprocess.Popen[bytes] = field(init=False)
    loadgen: subprocess.Popen[bytes] = field(init=False)

    def __enter__(self) -> Self:
        self.log = open_log(self.data)
        self.log.create_topic("flights", TopicConfig(16))
        self.start_supervisor()
        wait_for(lambda: len(self.snapshot().workers) == self.workers, 60, "all workers to join")
        command = [sys.executable, "-m", "loadgen", "flights", "--to", str(self.data), "--rate", str(self.rate)]
        self.loadgen = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self.loadgen, self.supervisor):
            if process.poll() is None:
                process.kill()
            process.wait()
        for pid in self.worker_pids():
            kill(pid)
        self.log.close()

    def start_supervisor(self) -> None:
        command = ["run", TARGET, "--data", str(self.data), "--workers", str(self.workers), "--until", "finished"]
        self.supervisor = subprocess.Popen(
            [sys.executable, "-m", "streamflow", *command, "--quiet", "--port", "0"], stderr=subprocess.DEVNULL
        )

    def snapshot(self) -> Snapshot:
        if PIPELINE not in self.log.pipelines():
            return Snapshot({}, {}, {}, {})
        return self.log.snapshot(PIPELINE)

    def worker_pids(self) -> list[int]:
        return sorted(worker.pid for worker in self.snapshot().workers.values())

    def wait_finished(self, timeout_s: float) -> None:
        assert self.loadgen.wait(timeout_s) == 0
        assert self.supervisor.wait(timeout_s) == 0


def kill(pid: int) -> bool:
    """SIGKILL; False if it was gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)
