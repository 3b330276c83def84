"""A pipeline's tasks on simulated workers: stepped one at a time in an order drawn from a seed, moved, killed before or
after any commit, and taken for dead while they go on. No clock, no thread, no test of its own."""

import random

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.base.errors import FencedError
from streamflow.engine.memory import StateMemory
from streamflow.engine.setting import Setting
from streamflow.engine.task import Task
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished, stage_watermarks
from streamflow.topics.protocol import Assignment, Log, Snapshot, TaskId, WorkerInfo

TROUBLE = ("killed before the commit", "killed after the commit", "taken for dead", "moved")


class Cluster:
    """`trouble`: how likely one of the above is at each step."""

    def __init__(self, p: sf.Pipeline, log: Log, workers: int, seed: int, trouble: float) -> None:
        self.log, self.clock, self.trouble = log, ManualClock(), trouble
        self.plan = launch(p, log, p.settings)
        self.draws = random.Random(seed)
        self.tasks: dict[TaskId, tuple[str, Task]] = {}
        self.zombies: list[Task] = []
        self.settings: dict[str, Setting] = {}
        self.joined = 0
        for _ in range(workers):
            self._join()

    def settle(self) -> None:
        """Until there is nothing to do."""
        while True:
            self._own()
            snapshot = self._snapshot()
            marks = stage_watermarks(self.plan, snapshot)
            ready = [each for each in self.tasks if self.tasks[each][1].ready(snapshot, marks[each.stage])]
            if not ready:
                return
            chosen = self.draws.choice(ready)
            self._step(*self.tasks[chosen], snapshot, marks[chosen.stage])
            self._wake_zombies()

    def total(self, name: str) -> int:
        return int(sum(state.counters.get(name, 0) for state in self._snapshot().tasks.values()))

    def finish(self) -> None:
        """Nothing is left to be done, and no state: neither in the log nor in what is made of it."""
        snapshot = self._snapshot()
        assert is_finished(self.plan, snapshot)
        for task in snapshot.tasks:
            worker, held = self.tasks.pop(task)
            assert self.log.release(task, held.epoch)
            claim = self.log.claim(task, worker)
            assert claim is not None
            assert list(claim.segments) == []

    def _snapshot(self) -> Snapshot:
        return self.log.snapshot(self.plan.pipeline)

    def _join(self) -> None:
        self.joined += 1
        worker = f"worker-{self.joined}"
        memory = StateMemory(self.plan.settings.state_bytes_max)
        self.settings[worker] = Setting(self.plan, self.log, None, self.clock, memory)
        self.log.join(WorkerInfo(worker, self.plan.pipeline, 1, 0.0, 0))

    def _own(self) -> None:
        """Each task that is nobody's goes to somebody."""
        for task in self._snapshot().tasks:
            if task not in self.tasks:
                worker = self.draws.choice(list(self.settings))
                self.log.reassign(task.pipeline, lambda _, to=worker, what=task: Assignment(moves={what: to}))
                claim = self.log.claim(task, worker)
                assert claim is not None
                self.tasks[task] = worker, Task(self.settings[worker], self.plan.stage(task.stage), claim)

    def _step(self, worker: str, task: Task, snapshot: Snapshot, mark: int) -> None:
        fate = self.draws.choice(TROUBLE) if self.draws.random() < self.trouble else ""
        commit = task.step(snapshot, mark)
        if fate == "killed before the commit":
            self._lose(worker)
            return
        if fate == "taken for dead":
            # A task whose commit is refused is thrown away; the others of its worker learn it from their own.
            self.zombies += [other for other in self._lose(worker) if other is not task]
            assert self.log.commit([commit]) == [False]
            return
        assert self.log.commit([commit]) == [True]
        self.settings[worker].memory.settle()
        if fate == "killed after the commit":
            self._lose(worker)
        elif fate == "moved":
            del self.tasks[task.id]
            task.close()
            assert self.log.release(task.id, task.epoch)

    def _lose(self, worker: str) -> list[Task]:
        """The worker is dead for all others, and somebody else comes; the tasks it had."""
        lost = [task for task, (owner, _) in self.tasks.items() if owner == worker]
        self.log.reassign(self.plan.pipeline, lambda _: Assignment(dead=frozenset([worker])))
        del self.settings[worker]
        self._join()
        return [self.tasks.pop(task)[1] for task in lost]

    def _wake_zombies(self) -> None:
        """Those of a worker that was taken for dead go on for a step: they may see whatever there is by now, and change
        nothing."""
        awake, self.zombies = self.zombies, []
        for task in awake:
            snapshot = self._snapshot()
            try:
                commit = task.step(snapshot, stage_watermarks(self.plan, snapshot)[task.stage.name])
            except FencedError:
                continue
            assert self.log.commit([commit]) == [False]
