"""The supervisor: replaces dead workers, changes their number, and lets all drain at the end (`crew.py` has their
processes).

It computes nothing and holds no truth: killed at any line, its workers go on, and the next supervisor adopts them.
One per pipeline and folder, by a file lock.
"""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from streamflow.base.errors import NoSpaceError
from streamflow.engine.plan import Plan
from streamflow.runtime import work
from streamflow.runtime.assignment import coordinate
from streamflow.runtime.autoscaler import Decision, Memory, Observation, Policy, decide
from streamflow.runtime.crew import Crew
from streamflow.runtime.decisions import Entry, append
from streamflow.runtime.loads import Loads
from streamflow.runtime.observing import Observer, heaviest
from streamflow.runtime.processes import is_alive
from streamflow.runtime.supervision import supervising
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
    _observer: Observer = field(init=False)
    _loads: Loads = field(default_factory=Loads, init=False)
    _coordinate_at_s: float = field(default=0.0, init=False)
    _tell_space_at_s: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        arguments = [work.EXPLAIN_PANES] if self.plan.settings.explain_panes else []
        self._crew = Crew(self.plan.pipeline, self.target, self.data, self.log_file, arguments)
        self._observer = Observer(self.plan)

    def run(self) -> None:
        """ConflictError if the pipeline has a supervisor already; StreamFlowError if its workers keep crashing, or
        one says that another could do no better. What `scale` asked of an earlier supervisor is forgotten."""
        with supervising(self.data, self.plan.pipeline):
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
            if self._assign(snapshot):
                snapshot = self._snapshot()
        if snapshot.stopping or (self.until is not None and self.until(snapshot)):
            return False
        self._crew.end_lost(snapshot, self.plan.settings.lease_s)
        running = self._crew.running(snapshot)
        self._decide(snapshot, running)
        self._crew.adjust(snapshot, running, self.wanted)
        self.on_status(Status(snapshot, len(running), self.wanted, self.decision.reason))
        return True

    def _assign(self, snapshot: Snapshot) -> bool:
        """Take tasks from the dead, and spread them by what they cost once they have been assigned at all."""
        now_s = time.monotonic()
        if self._loads.is_due(now_s):
            self._loads.look(self.log.snapshot(self.plan.pipeline), now_s)
        begun = any(state.assigned in snapshot.workers for state in snapshot.tasks.values())
        loads = self._loads.by_task() if begun else None
        assign = coordinate(time.time_ns() // 1000, self.plan.settings.lease_s, is_alive, loads=loads)
        if not assign(snapshot):
            return False
        self.log.reassign(self.plan.pipeline, assign)
        self._loads.forget()
        return True

    def _snapshot(self) -> Snapshot:
        return self.log.snapshot(self.plan.pipeline, counters=False)

    def _decide(self, snapshot: Snapshot, running: list[str]) -> None:
        if self.policy.is_elastic:
            self._observer.notice(snapshot, time.monotonic(), self._crew.started_s())
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
        started_s = self._crew.started_s()
        starting_s = [started_s[w] for w in running if w not in snapshot.workers and w in started_s]
        seen = self._observer.observe(snapshot, time.monotonic(), self.wanted, members, starting_s)
        late = heaviest(snapshot, (stage.name for stage in self.plan.stages if not stage.upstream))
        if seen is None or late is None:
            return seen
        return replace(seen, age_s=self.log.backlog(late.topic, late.task.partition, late.offset).oldest_age_s)
