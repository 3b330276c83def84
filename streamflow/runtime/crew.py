"""The crew: the worker processes of a supervisor. Starts them, asks them to go, notes how they ended.

It decides nothing about how many there should be. Workers of an earlier supervisor are part of it too, as far as the
log names them and their processes live.
"""

import logging
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from streamflow.base.errors import StreamFlowError
from streamflow.runtime import work
from streamflow.runtime.processes import is_alive
from streamflow.topics.protocol import Snapshot, WorkerInfo

logger = logging.getLogger(__name__)

START_S = 15.0
"""A worker that has not joined by then is not counted any more."""
WORKER_ENVIRONMENT = {"POLARS_MAX_THREADS": "1", "POLARS_SKIP_CPU_CHECK": "1"}
"""One compute thread each; and this process has made sure already that Polars can run here."""
DRAIN_S = 4.0
"""What workers get to finish their step; Ctrl-C is to end within 5 s."""
DUMP_S = 1.0
"""What a worker that does not go gets to write its stacks before it is killed."""
CRASHES_MAX = 5
"""Workers that may fail one after the other, none of which has lived for HEALTHY_S."""
HEALTHY_S = 10.0
LOG_BYTES_MAX = 100_000
"""Of the end of the workers' log, read for a message."""

_NEXT_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ", re.MULTILINE)


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    started_s: float
    draining: bool = False
    joined: bool = False
    lost_s: float | None = None
    """Since when it has lived without being a member."""
    told: bool = False


@dataclass(slots=True)
class Crew:
    """`target`: how workers find the pipeline; `arguments`: what they are told besides. `log_file`: where they write
    what they have to say."""

    pipeline: str
    target: str
    data: Path
    log_file: Path
    arguments: Sequence[str] = ()
    _children: dict[str, _Child] = field(default_factory=dict, init=False)
    _crashes: int = field(default=0, init=False)
    _spawn_at_s: float = field(default=0.0, init=False)
    _log_start: int = field(default=0, init=False)

    def begin(self) -> None:
        """From here on the log is this crew's."""
        self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0

    def running(self, snapshot: Snapshot) -> list[str]:
        """Ids of workers that work or are about to, the oldest first: members that do not drain, and children that are
        still starting."""
        now_s = time.monotonic()
        members = [worker.id for worker in snapshot.workers.values() if not worker.draining and is_alive(worker)]
        members = [worker for worker in members if worker not in self._children or not self._children[worker].draining]
        starting = [
            worker
            for worker, child in self._children.items()
            if worker not in snapshot.workers and not child.draining and now_s - child.started_s < START_S
        ]
        return sorted(members + starting, key=self._started_s)

    def _started_s(self, worker: str) -> float:
        """Those of an earlier supervisor are older than any of this one."""
        child = self._children.get(worker)
        return child.started_s if child else 0.0

    def adjust(self, snapshot: Snapshot, running: Sequence[str], wanted: int) -> None:
        """Start those that are missing, and let the youngest of too many go: they hold the least."""
        if len(running) < wanted and time.monotonic() >= self._spawn_at_s:
            for _ in range(wanted - len(running)):
                self._spawn()
        for worker in running[wanted:]:
            self.dismiss(worker, snapshot.workers.get(worker))

    def _spawn(self) -> None:
        worker = f"{self.pipeline}-{secrets.token_hex(3)}"
        command = [sys.executable, "-m", work.__name__, self.target, str(self.data), worker, *self.arguments]
        # A session of its own: Ctrl-C reaches only the supervisor, which lets the workers drain.
        with self._open_log() as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**WORKER_ENVIRONMENT, **os.environ},
            )
        self._children[worker] = _Child(process, time.monotonic())

    def _open_log(self) -> IO[bytes]:
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        return self.log_file.open("ab")

    def dismiss(self, worker: str, member: WorkerInfo | None) -> None:
        """Ask it to finish its step and go."""
        if (child := self._children.get(worker)) is not None:
            child.draining = True
            child.process.terminate()
        elif member is not None and is_alive(member):
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGTERM)

    def end_lost(self, snapshot: Snapshot, after_s: float) -> None:
        """End processes that were members, are none any more and have not ended or come back for `after_s`: whatever
        they do is void, and it keeps a processor or memory busy. They are told to write where they are first."""
        now_s = time.monotonic()
        for worker, child in self._children.items():
            child.joined |= worker in snapshot.workers
            if not child.joined or worker in snapshot.workers:
                child.lost_s = None
                continue
            child.lost_s = child.lost_s or now_s
            if now_s - child.lost_s > after_s + DUMP_S:
                child.process.kill()
            elif now_s - child.lost_s > after_s and not child.told:
                child.told = True
                logger.warning("worker %s was taken for dead and still runs, ending it", worker)
                child.process.send_signal(signal.SIGABRT)

    def reap(self) -> bool:
        """Take note of exits. A crash delays the next start, more each time; several in a row raise StreamFlowError, as
        does one that says that another worker could do no better."""
        exited = [(worker, child) for worker, child in self._children.items() if child.process.poll() is not None]
        for worker, child in exited:
            del self._children[worker]
            if child.draining:
                continue
            code = child.process.returncode
            if code == work.EXIT_HOPELESS:
                raise StreamFlowError(self._hopeless(worker))
            logger.warning("worker %s %s, replacing it", worker, self._how_it_ended(worker, code))
            if code <= 0 or time.monotonic() - child.started_s > HEALTHY_S:
                self._crashes = 0
                continue
            self._crashes += 1
            self._spawn_at_s = time.monotonic() + 0.25 * 2**self._crashes
            if self._crashes >= CRASHES_MAX:
                raise StreamFlowError(f"{self._crashes} workers in a row failed. {self._end_of_log()}")
        return bool(exited)

    def drain(self, members: Mapping[str, WorkerInfo]) -> None:
        """Every worker finishes its step and goes; who has not gone in time is killed, which loses nothing."""
        for worker in {*members, *self._children}:
            self.dismiss(worker, members.get(worker))
        deadline_s = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline_s and self._left(members):
            time.sleep(0.02)
        for pid in self._left(members):
            logger.warning("process %s did not drain within %s s, killing it", pid, DRAIN_S)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for child in self._children.values():
            child.process.wait()

    def _left(self, members: Mapping[str, WorkerInfo]) -> list[int]:
        pids = [child.process.pid for child in self._children.values() if child.process.poll() is None]
        return pids + [w.pid for w in members.values() if w.id not in self._children and is_alive(w)]

    def _how_it_ended(self, worker: str, code: int) -> str:
        if code <= 0:
            return f"was killed by {signal.Signals(-code).name}" if code else "was asked to go"
        words = [line for line in self._log_lines() if worker in line] or self._log_lines()
        return f"exited with {code} ({words[-1] if words else f'nothing in {self.log_file}'})"

    def _hopeless(self, worker: str) -> str:
        """What the worker said, which is the error of one of its tasks."""
        _, found, rest = "\n".join(self._log_lines()).rpartition(f"{worker}: {work.HOPELESS}: ")
        said = _NEXT_ENTRY.split(rest)[0].rstrip()
        return said if found else f"worker {worker} can't run this pipeline. {self._end_of_log()}"

    def _end_of_log(self) -> str:
        lines = self._log_lines()[-15:]
        if not lines:
            return f"They wrote nothing to '{self.log_file}'. Run one alone to see: `streamflow worker`."
        return f"The end of '{self.log_file}':\n" + "\n".join(lines)

    def _log_lines(self) -> list[str]:
        """What this crew has written."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - LOG_BYTES_MAX))
                return log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []
