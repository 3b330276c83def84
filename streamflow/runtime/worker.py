"""The worker: owns tasks and runs their steps until told to stop. One thread computes, one commits what the steps
before have computed, one says that the worker is alive.

It needs nothing but the log: what it should own stands there, and whoever it is, a later owner fences it by the epoch.
"""

import logging
import math
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from streamflow.base.clock import Clock, SystemClock
from streamflow.base.errors import (
    AssertionFailedError,
    ConflictError,
    DataError,
    FencedError,
    NoSpaceError,
    PipelineError,
    StepCancelledError,
)
from streamflow.engine.calls import Calls
from streamflow.engine.context import DeadLetter
from streamflow.engine.memory import StateMemory
from streamflow.engine.plan import Plan
from streamflow.engine.setting import Setting
from streamflow.engine.task import Task
from streamflow.runtime.assignment import coordinate
from streamflow.runtime.heartbeat import Heartbeat
from streamflow.runtime.processes import give_back_memory, is_alive, started_at
from streamflow.runtime.progress import stage_watermarks
from streamflow.topics.protocol import Log, Snapshot, StepCommit, TaskId, WorkerInfo

logger = logging.getLogger(__name__)

_OVERDRAWN = (
    "%s: the state of DoFns, triggers, side inputs and joins by time takes %s MiB, more than state_bytes_max (%s MiB). "
    "It stays in memory whatever its size. Keep less (a ttl, shorter windows, a smaller interval or tolerance), spread "
    "it over more workers, or raise Settings(state_bytes_max=…)"
)

IDLE_S = 2.0
"""So long after its last step a worker gives memory back: to get it again costs milliseconds."""
COORDINATE_S = 1.0
"""How often a worker looks for dead colleagues; the supervisor, which sees exits at once, looks more often."""
FAILURES_MAX = 5
"""Steps of one task that may fail in a row before the worker gives up and lets the error be seen."""
NO_SPACE_S = 5.0
"""How long a worker waits before it looks whether there is space on the disk again."""
RETRY_S = 0.5
"""Before a failed task is taken up again; doubled with each failure."""


@dataclass(slots=True)
class Stop:
    """A request to drain, set from a signal handler or another thread. `listeners` are set with it."""

    event: threading.Event = field(default_factory=threading.Event)
    listeners: list[threading.Event] = field(default_factory=list)

    def request(self) -> None:
        self.event.set()
        for listener in self.listeners:
            listener.set()

    @property
    def requested(self) -> bool:
        return self.event.is_set()


class Worker:
    """Runs the tasks that the log assigns to it. `until`: asked whenever there is nothing to do; return when it holds
    of a snapshot without counters (else run until stopped). `failures_max`: after so many failed steps of one task in a
    row, raise what they raise."""

    def __init__(
        self,
        plan: Plan,
        log: Log,
        data: Path | None,
        *,
        worker_id: str | None = None,
        stop: Stop | None = None,
        until: Callable[[Snapshot], bool] | None = None,
        clock: Clock | None = None,
        calls: Calls | None = None,
        failures_max: int = FAILURES_MAX,
    ) -> None:
        self.plan, self.log, self.until, self.failures_max = plan, log, until, failures_max
        self.id = worker_id or f"worker-{secrets.token_hex(3)}"
        self.stop = stop or Stop()
        self.clock = clock or SystemClock()
        self._calls = calls or Calls()
        memory = StateMemory(plan.settings.state_bytes_max)
        self._setting = Setting(plan, log, data, self.clock, memory, calls=self._calls)
        self._depths = {stage.name: plan.depth(stage.name) for stage in plan.stages}
        self._tasks: dict[TaskId, Task] = {}
        self._failures: dict[TaskId, int] = {}
        self._retry_at_s: dict[TaskId, float] = {}
        self.stepping: tuple[TaskId, float] | None = None
        """The task whose step is being computed, and since when (of the clock's monotonic seconds)."""
        self._fenced = False
        self._idle_from_s = self.clock.monotonic_s() + IDLE_S
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._committing: tuple[list[Task], Future[tuple[list[bool], float]]] | None = None
        self._next_coordination_s = 0.0
        self._next_prune_s = self.clock.monotonic_s() + plan.settings.prune_s

    @property
    def failed(self) -> DeadLetter | None:
        """The first event that was bad for a task of this worker."""
        return next(iter(self._setting.failed), None)

    def run(self) -> None:
        """Until stopped or finished. Tasks are released with everything committed; raises what a task keeps raising.

        Who was taken for dead (suspended for longer than the lease, say) drops all it holds and joins again.
        ConflictError if the pipeline is another one by then."""
        with self._committer:
            while self._serve():
                if self.log.pipelines().get(self.plan.pipeline) != self.plan.fingerprint:
                    raise ConflictError(
                        f"pipeline '{self.plan.pipeline}' was reset or replaced while this worker ran it. Start it "
                        "again"
                    )

    def _serve(self) -> bool:
        """One membership. True if it was lost before there was nothing left to do."""
        self._fenced = False
        now_us = self.clock.now_us()
        self.log.join(WorkerInfo(self.id, self.plan.pipeline, os.getpid(), started_at(os.getpid()), now_us))
        logger.info("%s: joined pipeline %s", self.id, self.plan.pipeline)
        try:
            with self._heartbeat():
                while not self.stop.requested and not self._fenced:
                    try:
                        if not self._round():
                            return False
                    except NoSpaceError as error:
                        self._wait_for_space(error)
                return not self.stop.requested
        finally:
            try:
                self._release(list(self._tasks))
            finally:
                self._tasks.clear()
                self._calls.close()
                # Without space it can't say so, and its colleagues see that its process is gone.
                with suppress(NoSpaceError):
                    self.log.leave(self.id)
                logger.info("%s: left pipeline %s", self.id, self.plan.pipeline)

    def _heartbeat(self) -> Heartbeat:
        every_s, interrupt = self.plan.settings.heartbeat_s, self._calls.interrupt
        return Heartbeat(self.id, self.log, self.clock, self.stop, every_s, on_stop=interrupt, on_lost=self._lost)

    def _lost(self) -> None:
        logger.warning("%s: no longer a member of pipeline %s", self.id, self.plan.pipeline)
        self._fenced = True
        self._calls.interrupt()

    def _wait_for_space(self, error: NoSpaceError) -> None:
        """On a full disk nothing can be committed. All it holds is void, and taken up again once there is space."""
        logger.error("%s: %s", self.id, error)
        with suppress(NoSpaceError):
            self._settle()
        for task in list(self._tasks.values()):
            self._drop(task)
        self.stop.event.wait(NO_SPACE_S)

    def _round(self) -> bool:
        """One look at the truth, one step of each task that has something to do. False when there is nothing left to
        run for."""
        # What is committed from here on ends the wait below; what was before, the snapshot shows.
        self.log.wait_changed(0)
        self._prune()
        snapshot = self._snapshot()
        if self.id not in snapshot.workers:
            self._fenced = True
            return True
        if snapshot.stopping:
            return False
        if self._coordinate(snapshot) or self._own(snapshot):
            return True
        now_s = self.clock.monotonic_s()
        if self._step_all(snapshot) or self._settle():
            self._idle_from_s = now_s + IDLE_S
            return True
        if self.until is not None and self.until(snapshot):
            return False
        if now_s >= self._idle_from_s:
            self._idle_from_s = math.inf
            give_back_memory()
        self.log.wait_changed(self._pause_s(snapshot))
        return True

    def _snapshot(self) -> Snapshot:
        return self.log.snapshot(self.plan.pipeline, counters=False)

    def _pause_s(self, snapshot: Snapshot) -> float:
        """Seconds until a resting sink is ready, something is due by the clock, or a failed task may be taken up again;
        at most `poll_s`."""
        now_s = self.clock.monotonic_s()
        waiting = [task for task in self._tasks.values() if task.waiting(snapshot) and not task.held_back(snapshot)]
        moments = [task.rested_s for task in waiting]
        moments += [at_s for at_s in self._retry_at_s.values() if at_s > now_s]
        due_in_s = min((task.due_in_s() for task in self._tasks.values()), default=math.inf)
        return max(0.0, min(self.plan.settings.poll_s, min(moments, default=math.inf) - now_s, due_in_s))

    def _own(self, snapshot: Snapshot) -> bool:
        """Release what is assigned elsewhere, claim what is ours and free. True if that changed anything."""
        states = snapshot.tasks
        leaving = [task for task in self._tasks if task not in states or states[task].assigned != self.id]
        self._release(leaving)
        now_s = self.clock.monotonic_s()
        claimed = 0
        for task, state in states.items():
            dropped = state.owner == self.id and task not in self._tasks
            if state.assigned != self.id:
                if dropped:
                    self.log.release(task, state.epoch)
            elif (dropped or state.owner is None) and self._retry_at_s.get(task, 0) <= now_s:
                claimed += self._claim(task)
        if leaving or claimed:
            logger.info("%s: took %s tasks, gave up %s, holds %s", self.id, claimed, len(leaving), len(self._tasks))
        return bool(leaving or claimed)

    def _claim(self, task: TaskId) -> bool:
        claim = self.log.claim(task, self.id)
        if claim is None:
            return False
        try:
            self._tasks[task] = Task(self._setting, self.plan.stage(task.stage), claim)
        except (PipelineError, DataError, ConflictError):
            # It says what is wrong with the pipeline or its names, and would say so again.
            self.log.release(task, claim.state.epoch)
            raise
        except Exception as error:
            self._failed(task, claim.state.epoch, error)
        return True

    def _release(self, tasks: list[TaskId]) -> None:
        if tasks:
            self._settle()
        for task in tasks:
            if (held := self._tasks.pop(task, None)) is not None:
                held.close()
                self.log.release(task, held.epoch)

    def _step_all(self, snapshot: Snapshot) -> bool:
        """A step of each ready task, committed together. False if none was ready.

        The last stages come first, so that logs between stages stay short; within a stage, who has waited longest. Ends
        early once much is to be committed: then it is time to look again who owns what."""
        watermarks = stage_watermarks(self.plan, snapshot)
        order = sorted(self._tasks.values(), key=lambda task: (-self._depths[task.stage.name], task.stepped_s))
        busy = any(task.waiting(snapshot) for task in order if not task.stage.upstream)
        pending: list[tuple[Task, StepCommit]] = []
        events = size = 0
        settings = self.plan.settings
        until_s = self.clock.monotonic_s() + settings.commit_interval_s
        stepped = False
        for task in order:
            mark = watermarks[task.stage.name]
            full = events >= settings.commit_events_max or size >= settings.commit_bytes_max
            if self.stop.requested or full or (pending and self.clock.monotonic_s() >= until_s):
                break
            if not task.ready(snapshot, mark, busy=busy):
                continue
            stepped = True
            before = task.offset
            if task.needs_commits and self._is_committing(task):
                self._settle()
                if self._tasks.get(task.id) is not task:
                    continue
            self.stepping = task.id, self.clock.monotonic_s()
            try:
                commit = task.step(snapshot, mark)
            except Exception as error:
                self._settle()
                self._drop(task)
                self._failed(task.id, task.epoch, error)
                continue
            finally:
                self.stepping = None
            pending.append((task, commit))
            events += task.offset - before
            size += commit.size_bytes()
        if stepped:
            self._commit(pending)
        return stepped

    def _commit(self, pending: Sequence[tuple[Task, StepCommit]]) -> None:
        """Hand over to the committing thread, while this one computes the next steps: at most one commit is under way,
        and in the order of the steps. A task whose commit turns out void is dropped with all it has computed since."""
        self._settle()
        held = [(task, commit) for task, commit in pending if self._tasks.get(task.id) is task]
        if held:
            future = self._committer.submit(self._timed_commit, [commit for _, commit in held])
            self._committing = [task for task, _ in held], future
        if self._setting.memory.exceeded():
            self._settle()
            self._setting.memory.settle()
        if kept := self._setting.memory.overdrawn():
            logger.warning(_OVERDRAWN, self.id, kept >> 20, self._setting.memory.bytes_max >> 20)

    def _timed_commit(self, commits: Sequence[StepCommit]) -> tuple[list[bool], float]:
        began_s = self.clock.monotonic_s()
        return self.log.commit(commits), self.clock.monotonic_s() - began_s

    def _is_committing(self, task: Task) -> bool:
        return self._committing is not None and task in self._committing[0]

    def _settle(self) -> bool:
        """Wait for the commit under way. False if there is none; raises what it raised."""
        if self._committing is None:
            return False
        (tasks, future), self._committing = self._committing, None
        results, seconds = future.result()
        for task, held in zip(tasks, results, strict=True):
            if held:
                self._failures.pop(task.id, None)
                task.count_commit(seconds)
            else:
                logger.warning("%s: task %s was taken over; its last step is void", self.id, task.id)
                self._drop(task)
        return True

    def _drop(self, task: Task) -> None:
        if self._tasks.get(task.id) is task:
            del self._tasks[task.id]
            task.close()

    def _failed(self, task: TaskId, epoch: int, error: Exception) -> None:
        """Nothing of a failed step exists. Give the task back and try again later; give up after several failures in
        a row."""
        if isinstance(error, FencedError):
            logger.warning("%s: task %s was fenced by its store: %s", self.id, task, error)
            self.log.release(task, epoch)
            return
        self.log.release(task, epoch)
        if isinstance(error, StepCancelledError):
            logger.info("%s: step of %s was given up: %s", self.id, task, error)
            return
        if isinstance(error, AssertionFailedError | NoSpaceError):
            raise error
        failures = self._failures.get(task, 0) + 1
        self._failures[task] = failures
        if failures >= self.failures_max:
            raise error
        pause_s = RETRY_S * 2 ** (failures - 1)
        logger.warning(
            "%s: step of %s failed (%s of %s), again in %.1f s",
            self.id,
            task,
            failures,
            self.failures_max,
            pause_s,
            exc_info=error,
        )
        self._retry_at_s[task] = self.clock.monotonic_s() + pause_s

    def _coordinate(self, snapshot: Snapshot) -> bool:
        """Look for dead colleagues and tasks that should move. True if that changed anything."""
        now_s = self.clock.monotonic_s()
        if now_s < self._next_coordination_s:
            return False
        self._next_coordination_s = now_s + COORDINATE_S
        decide = coordinate(self.clock.now_us(), self.plan.settings.lease_s, is_alive, myself=self.id)
        return bool(decide(snapshot)) and bool(self.log.reassign(self.plan.pipeline, decide))

    def _prune(self) -> None:
        now_s = self.clock.monotonic_s()
        if now_s >= self._next_prune_s:
            self._next_prune_s = now_s + self.plan.settings.prune_s
            try:
                self.log.prune()
            except OSError:
                logger.warning("%s: space could not be given back, trying again later", self.id, exc_info=True)
