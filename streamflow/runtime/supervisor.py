"""The supervisor: starts workers, replaces dead ones, changes their number, and lets all drain at the end.

It computes nothing and holds no truth: killed at any line, its workers go on, and the next supervisor adopts them.
One per pipeline and folder, by a file lock.
"""

import fcntl
import logging
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from streamflow.base.errors import ConflictError, StreamFlowError
from streamflow.engine.plan import Plan
from streamflow.runtime import hints, work
from streamflow.runtime.assignment import coordinate
from streamflow.runtime.autoscaler import Decision, Memory, Observation, Policy, decide
from streamflow.runtime.decisions import Entry, append
from streamflow.runtime.observing import Observer, heaviest
from streamflow.runtime.processes import is_alive
from streamflow.runtime.worker import Stop
from streamflow.topics.protocol import Log, Snapshot, WorkerInfo

logger = logging.getLogger(__name__)

TICK_S = 0.1
COORDINATE_S = 0.5
"""How often it looks at all without a visible cause. A commit is one; of the assignment, an exit of a worker."""
START_S = 15.0
"""A worker that has not joined by then is not counted any more."""
WORKER_ENVIRONMENT = {"POLARS_MAX_THREADS": "1", "POLARS_SKIP_CPU_CHECK": "1"}
"""One compute thread each; and this process has made sure already that Polars can run here."""
DRAIN_S = 4.0
"""What workers get to finish their step; Ctrl-C is to end within 5 s."""
CRASHES_MAX = 5
"""Workers that may fail one after the other, none of which has lived for HEALTHY_S."""
HEALTHY_S = 10.0
LOG_BYTES_MAX = 100_000
"""Of the end of the workers' log, read for a message."""

BY_HAND = "set by hand"
NOT_ASKED = "not asked yet"
"""Reasons for a number of workers that are not the autoscaler's."""

_NEXT_ENTRY = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ ", re.MULTILINE)
LOCK_TRIES = 5
LOCK_RETRY_S = 0.05
"""Who only asks whether there is a supervisor holds the lock for an instant."""


@dataclass(slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    started_s: float
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Status:
    """What the supervisor sees (without counters) and wants, for those who watch."""

    snapshot: Snapshot
    workers: int
    wanted: int
    decision: str


@dataclass(slots=True)
class Supervisor:
    """`target`: how workers find the pipeline. `wanted`: workers to begin with; with an elastic `policy` the
    autoscaler changes it. `until`: drain and return when it holds (else run until stopped). `on_start`: called once
    this is the pipeline's only supervisor, before anything else. `on_status`: told a few times per second."""

    plan: Plan
    log: Log
    data: Path
    target: str
    wanted: int
    policy: Policy
    until: Callable[[Snapshot], bool] | None = None
    stop: Stop = field(default_factory=Stop)
    on_start: Callable[[], None] = lambda: None
    on_status: Callable[[Status], None] = lambda status: None
    decision: Decision = field(default=Decision(0, NOT_ASKED), init=False)
    _children: dict[str, _Child] = field(default_factory=dict, init=False)
    _memory: Memory = field(default_factory=Memory, init=False)
    _observer: Observer = field(init=False)
    _crashes: int = field(default=0, init=False)
    _spawn_at_s: float = field(default=0.0, init=False)
    _coordinate_at_s: float = field(default=0.0, init=False)
    _log_start: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._observer = Observer(self.plan)

    def run(self) -> None:
        """ConflictError if the pipeline has a supervisor already; StreamFlowError if its workers keep crashing, or
        one says that another could do no better. What `scale` asked of an earlier supervisor is forgotten."""
        with self._lock():
            self.on_start()
            self._log_start = self.log_file.stat().st_size if self.log_file.exists() else 0
            self.log.request_workers(self.plan.pipeline, None)
            try:
                while not self.stop.requested and self._tick():
                    time.sleep(TICK_S)
            finally:
                self._drain()

    @property
    def log_file(self) -> Path:
        """Where workers write what they have to say."""
        return self.data / "logs" / f"{self.plan.pipeline}.log"

    def _tick(self) -> bool:
        exited = self._reap()
        due = exited or time.monotonic() >= self._coordinate_at_s
        if not self.log.wait_changed(0) and not due:
            return True
        snapshot = self._snapshot()
        if due:
            self._coordinate_at_s = time.monotonic() + COORDINATE_S
            assign = coordinate(time.time_ns() // 1000, self.plan.settings.lease_s, is_alive)
            if assign(snapshot):
                self.log.reassign(self.plan.pipeline, assign)
                snapshot = self._snapshot()
        if snapshot.stopping or (self.until is not None and self.until(snapshot)):
            return False
        running = self._running(snapshot)
        self._decide(snapshot, running)
        self._adjust(snapshot, running)
        self.on_status(Status(snapshot, len(running), self.wanted, self.decision.reason))
        return True

    def _snapshot(self) -> Snapshot:
        return self.log.snapshot(self.plan.pipeline, counters=False)

    def _running(self, snapshot: Snapshot) -> list[str]:
        """Ids of workers that work or are about to: members that do not drain, and children that are still starting."""
        now_s = time.monotonic()
        members = [worker.id for worker in snapshot.workers.values() if not worker.draining and is_alive(worker)]
        members = [worker for worker in members if worker not in self._children or not self._children[worker].draining]
        starting = [
            worker
            for worker, child in self._children.items()
            if worker not in snapshot.workers and not child.draining and now_s - child.started_s < START_S
        ]
        return members + starting

    def _decide(self, snapshot: Snapshot, running: list[str]) -> None:
        if self.policy.is_elastic:
            started_s = {worker: child.started_s for worker, child in self._children.items()}
            self._observer.notice(snapshot, time.monotonic(), started_s)
        if snapshot.workers_wanted is not None:
            self.wanted = snapshot.workers_wanted
            self.decision = Decision(self.wanted, BY_HAND)
        elif not self.policy.is_elastic:
            if self.decision.reason == BY_HAND:
                self.wanted = self.policy.workers_min
                self.decision = Decision(self.wanted, "as started")
        elif (not self.wanted or self._observer.is_due(time.monotonic())) and (
            seen := self._observe(running)
        ) is not None:
            self._memory, self.decision = decide(self._memory, seen, self.policy)
            append(self.data, self.plan.pipeline, Entry(time.time_ns() // 1000, seen, self.policy, self.decision))
            if self.decision.workers != self.wanted:
                logger.info("workers %s → %s (%s)", self.wanted, self.decision.workers, self.decision.reason)
            self.wanted = self.decision.workers

    def _observe(self, running: list[str]) -> Observation | None:
        snapshot = self.log.snapshot(self.plan.pipeline)
        members = [worker for worker in running if worker in snapshot.workers]
        starting_s = [self._children[w].started_s for w in running if w not in snapshot.workers and w in self._children]
        seen = self._observer.observe(snapshot, time.monotonic(), self.wanted, members, starting_s)
        late = heaviest(snapshot, (stage.name for stage in self.plan.stages if not stage.upstream))
        if seen is None or late is None:
            return seen
        return replace(seen, age_s=self.log.backlog(late.topic, late.task.partition, late.offset).oldest_age_s)

    def _adjust(self, snapshot: Snapshot, running: list[str]) -> None:
        if len(running) < self.wanted and time.monotonic() >= self._spawn_at_s:
            for _ in range(self.wanted - len(running)):
                self._spawn()
        for worker in sorted(running, key=lambda id_: self._age(snapshot, id_))[: max(0, len(running) - self.wanted)]:
            self._terminate(worker, snapshot.workers.get(worker))

    def _age(self, snapshot: Snapshot, worker: str) -> float:
        """The youngest go first: they hold the least."""
        child, member = self._children.get(worker), snapshot.workers.get(worker)
        return -child.started_s if child else 0.0 if member else -time.monotonic()

    def _spawn(self) -> None:
        worker = f"{self.plan.pipeline}-{secrets.token_hex(3)}"
        command = [sys.executable, "-m", work.__name__, self.target, str(self.data), worker]
        command += [work.EXPLAIN_PANES] if self.plan.settings.explain_panes else []
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

    def _terminate(self, worker: str, member: WorkerInfo | None) -> None:
        if (child := self._children.get(worker)) is not None:
            child.draining = True
            child.process.terminate()
        elif member is not None and is_alive(member):
            with suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGTERM)

    def _reap(self) -> bool:
        """Take note of exits. A crash delays the next start, more each time; several in a row end the supervisor."""
        exited = [(worker, child) for worker, child in self._children.items() if child.process.poll() is not None]
        for worker, child in exited:
            del self._children[worker]
            if child.draining:
                continue
            if child.process.returncode == work.EXIT_HOPELESS:
                raise StreamFlowError(self._hopeless(worker))
            logger.warning("worker %s %s, replacing it", worker, self._how_it_ended(worker, child))
            if child.process.returncode < 0 or time.monotonic() - child.started_s > HEALTHY_S:
                self._crashes = 0
                continue
            self._crashes += 1
            self._spawn_at_s = time.monotonic() + 0.25 * 2**self._crashes
            if self._crashes >= CRASHES_MAX:
                raise StreamFlowError(f"{self._crashes} workers in a row failed. {self._end_of_log()}")
        return bool(exited)

    def _how_it_ended(self, worker: str, child: _Child) -> str:
        code = child.process.returncode
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
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
        """What this supervisor's workers have written."""
        try:
            with self.log_file.open("rb") as log:
                log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - LOG_BYTES_MAX))
                return log.read().decode(errors="replace").splitlines()
        except FileNotFoundError:
            return []

    def _drain(self) -> None:
        """Every worker finishes its step and goes; who has not gone in time is killed, which loses nothing."""
        members = self.log.snapshot(self.plan.pipeline).workers
        for worker in {*members, *self._children}:
            self._terminate(worker, members.get(worker))
        deadline_s = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline_s and self._left(members):
            time.sleep(0.02)
        for pid in self._left(members):
            logger.warning("process %s did not drain within %s s, killing it", pid, DRAIN_S)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for child in self._children.values():
            child.process.wait()

    def _left(self, members: object) -> list[int]:
        pids = [child.process.pid for child in self._children.values() if child.process.poll() is None]
        adopted = members.values() if isinstance(members, dict) else ()
        return pids + [w.pid for w in adopted if w.id not in self._children and is_alive(w)]

    def _lock(self) -> IO[str]:
        path = _lock_file(self.data, self.plan.pipeline)
        lock = path.open("a+")
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOCK_RETRY_S)
            else:
                return lock
        lock.close()
        name, folder = self.plan.pipeline, self.data
        raise ConflictError(
            f"pipeline '{name}' in '{folder}' is already supervised. Change its workers with "
            f"{hints.command(f'scale {name} N', folder)}, or stop it with {hints.command(f'stop {name}', folder)}."
        )


def is_supervised(data: Path, pipeline: str) -> bool:
    """A supervisor of that pipeline is at work on that folder."""
    try:
        with _lock_file(data, pipeline).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _lock_file(data: Path, pipeline: str) -> Path:
    return data / f"{pipeline}.supervisor.lock"
