"""The supervisor: replaces dead workers, changes their number, and lets all drain at the end (`crew.py` has their
processes).

It computes nothing and holds no truth: killed at any line, its workers go on, and the next supervisor adopts them.
One per pipeline and folder, by a file lock.
"""

import fcntl
import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from streamflow.base.errors import ConflictError, NoSpaceError
from streamflow.engine.plan import Plan
from streamflow.runtime import hints, work
from streamflow.runtime.assignment import coordinate
from streamflow.runtime.autoscaler import Decision, Memory, Observation, Policy, decide
from streamflow.runtime.crew import Crew
from streamflow.runtime.processes import is_alive
from streamflow.runtime.progress import backlog_events
from streamflow.runtime.worker import Stop
from streamflow.topics.protocol import Log, Snapshot

logger = logging.getLogger(__name__)

TICK_S = 0.1
COORDINATE_S = 0.5
"""How often it looks at all without a visible cause. A commit is one; of the assignment, an exit of a worker."""
SPACE_BYTES_MIN = 64 << 20
"""What a commit may need."""
SPACE_TOLD_S = 30.0
"""How often it says that there is less."""
BY_HAND = "set by hand"
NOT_ASKED = "not asked yet"
"""Reasons for a number of workers that are not the autoscaler's."""

LOCK_TRIES = 5
LOCK_RETRY_S = 0.05
"""Who only asks whether there is a supervisor holds the lock for an instant."""


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
    _crew: Crew = field(init=False)
    _memory: Memory = field(default_factory=Memory, init=False)
    _coordinate_at_s: float = field(default=0.0, init=False)
    _tell_space_at_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        arguments = [work.EXPLAIN_PANES] if self.plan.settings.explain_panes else []
        self._crew = Crew(self.plan.pipeline, self.target, self.data, self.log_file, arguments)

    def run(self) -> None:
        """ConflictError if the pipeline has a supervisor already; StreamFlowError if its workers keep crashing, or
        one says that another could do no better. What `scale` asked of an earlier supervisor is forgotten."""
        with self._lock():
            self.on_start()
            self._crew.begin()
            self.log.request_workers(self.plan.pipeline, None)
            try:
                while not self.stop.requested and self._ticked():
                    time.sleep(TICK_S)
            finally:
                self._crew.drain(self.log.snapshot(self.plan.pipeline).workers)

    @property
    def log_file(self) -> Path:
        """Where workers write what they have to say."""
        return self.data / "logs" / f"{self.plan.pipeline}.log"

    def _ticked(self) -> bool:
        """On a full disk there is nothing that it could change: its workers wait, and so does it."""
        try:
            self._look_at_space()
            return self._tick()
        except NoSpaceError:
            return True

    def _look_at_space(self) -> None:
        free = shutil.disk_usage(self.data).free
        if free < SPACE_BYTES_MIN and time.monotonic() >= self._tell_space_at_s:
            self._tell_space_at_s = time.monotonic() + SPACE_TOLD_S
            logger.warning(
                "%s MB of space are left for '%s'. Without any, workers wait until you free some", free >> 20, self.data
            )

    def _tick(self) -> bool:
        exited = self._crew.reap()
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
        self._crew.end_lost(snapshot, self.plan.settings.lease_s)
        running = self._crew.running(snapshot)
        self._decide(snapshot, len(running))
        self._crew.adjust(snapshot, running, self.wanted)
        self.on_status(Status(snapshot, len(running), self.wanted, self.decision.reason))
        return True

    def _snapshot(self) -> Snapshot:
        return self.log.snapshot(self.plan.pipeline, counters=False)

    def _decide(self, snapshot: Snapshot, running: int) -> None:
        if snapshot.workers_wanted is not None:
            self.wanted = snapshot.workers_wanted
            self.decision = Decision(self.wanted, BY_HAND)
            return
        if self.policy.workers_max <= self.policy.workers_min:
            if self.decision.reason == BY_HAND:
                self.wanted = self.policy.workers_min
                self.decision = Decision(self.wanted, "as started")
            return
        sources = [stage for stage in self.plan.stages if not stage.upstream]
        names = {stage.name for stage in sources}
        processed = sum(s.offset for t, s in snapshot.tasks.items() if t.stage in names)
        seen = Observation(time.monotonic(), running, backlog_events(snapshot, sources), processed)
        before = self._memory.last
        if before is not None and seen.now_s - before.now_s < 1.0:
            return
        self._memory, self.decision = decide(self._memory, seen, self.policy)
        if self.decision.workers != self.wanted:
            logger.info("workers %s → %s (%s)", self.wanted, self.decision.workers, self.decision.reason)
        self.wanted = self.decision.workers

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
