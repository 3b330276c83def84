"""One run of a plan by simulated workers, in one thread and by one source of chance: who steps next, on how many
events, who dies before or after its commit, who is taken for dead and goes on, which tasks move, when inputs are
published and published again. The same chance gives the same run, told in words.

A worker does what `runtime/worker.py` does, one action at a time: it looks at the truth, owns what is assigned to it,
makes a step of each task that is ready, and commits the steps together.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar, cast

from streamflow.base.clock import ManualClock
from streamflow.base.errors import FencedError, StreamFlowError
from streamflow.engine.memory import StateMemory
from streamflow.engine.plan import Plan
from streamflow.engine.setting import Setting
from streamflow.engine.task import Task
from streamflow.runtime.progress import is_finished, stage_watermarks
from streamflow.testing.crashing import Died, WrappedLog
from streamflow.topics.protocol import Assignment, Log, Snapshot, StepCommit, TaskId, WorkerInfo

IDLE_MAX = 1_000
"""Rounds in a row in which nobody had anything to do, though the run has not come to its end."""
T = TypeVar("T")
TROUBLE = 0.15
"""How likely a trouble is at each action, until there have been as many as were drawn for the run."""


@dataclass(frozen=True)
class Delivery:
    """A piece of an input: `words` say what it is, `publish` makes it durable, and changes nothing the second time."""

    words: str
    publish: Callable[[], object]


@dataclass
class Troubles:
    """What was done to a run, how often."""

    crashes: int = 0
    zombies: int = 0
    moves: int = 0
    resent: int = 0


class _Worker:
    """`dies`: at its next commit, before it is applied (False) or after (True). `dead`: it does nothing more."""

    def __init__(self, name: str, plan: Plan, log: Log, clock: ManualClock) -> None:
        self.name, self.plan = name, plan
        self.dies: bool | None = None
        self.dead = False
        self._wrapped = WrappedLog(log, self._committing)
        memory = StateMemory(plan.settings.state_bytes_max)
        self.setting = Setting(plan, cast(Log, self._wrapped), None, clock, memory)
        self.tasks: dict[TaskId, Task] = {}
        self.todo: list[Task] = []
        self.pending: list[tuple[Task, StepCommit]] = []
        self.snapshot: Snapshot | None = None

    @property
    def log(self) -> Log:
        return self.setting.log

    def own(self, snapshot: Snapshot) -> int:
        """Release what is assigned elsewhere, claim what is free. How many tasks that were."""
        leaving = [task for task in self.tasks if snapshot.tasks[task].assigned != self.name]
        for task in leaving:
            held = self.tasks.pop(task)
            held.close()
            self.log.release(task, held.epoch)
        changed = len(leaving)
        for task, state in snapshot.tasks.items():
            free = state.owner is None or (state.owner == self.name and task not in self.tasks)
            if state.assigned == self.name and free and (claim := self.log.claim(task, self.name)) is not None:
                self.tasks[task] = Task(self.setting, self.plan.stage(task.stage), claim)
                changed += 1
        return changed

    def commit(self) -> int:
        """Of what it had computed; how many steps were refused, whose tasks are dropped."""
        pending, self.pending = self.pending, []
        held = self.log.commit([commit for _, commit in pending])
        refused = [task for (task, _), applied in zip(pending, held, strict=True) if not applied]
        for task in refused:
            self.drop(task)
        if self.setting.memory.exceeded():
            self.setting.memory.settle()
        return len(refused)

    def drop(self, task: Task) -> None:
        self.tasks.pop(task.id, None)
        task.close()

    def _committing(self, number: int, commit: Callable[[], list[bool]]) -> list[bool]:
        if self.dies is None:
            return commit()
        if self.dies:
            commit()
        self._wrapped.dead = True
        raise Died


@dataclass
class Run:
    """One run. `queues`: the inputs, each in its order; `workers_max`: how many there are at most; `troubles_max`: how
    often something happens to it, 0 for a quiet run."""

    plan: Plan
    log: Log
    random: Random
    queues: Sequence[deque[Delivery]]
    workers_max: int = 1
    troubles_max: int = 0
    clock: ManualClock = field(default_factory=ManualClock)
    schedule: list[str] = field(default_factory=list)
    troubles: Troubles = field(default_factory=Troubles)
    workers: list[_Worker] = field(default_factory=list)
    _named: int = 0
    _left: int = 0

    def run(self) -> None:
        """To the end of all inputs. Raises what a step raises; StreamFlowError if it comes to no end."""
        self._left = self.troubles_max
        for _ in range(self.workers_max):
            self._join()
        self._assign()
        idle = 0
        try:
            while idle < IDLE_MAX:
                if self._left and self.random.random() < TROUBLE:
                    self._left -= 1
                    self.random.choice((self._crash, self._crash, self._fence, self._move, self._pass_time))()
                elif (self._is_hasty() and self._deliver()) or self._work() or self._deliver():
                    idle = 0
                elif self._notice_deaths():
                    pass
                elif self._is_done():
                    return
                else:
                    idle += 1
        finally:
            for worker in self.workers:
                worker.setting.calls.close()
        raise StreamFlowError("the run has come to no end, though nobody has anything to do. Report a bug.")

    def _say(self, words: str) -> None:
        self.schedule.append(words)

    @property
    def _alive(self) -> list[_Worker]:
        return [worker for worker in self.workers if not worker.dead]

    def _deliver(self) -> bool:
        """Publish the next piece of an input, perhaps once more."""
        waiting = [queue for queue in self.queues if queue]
        if not waiting:
            return False
        delivery = self.random.choice(waiting).popleft()
        delivery.publish()
        self._say(delivery.words)
        if self.troubles_max and self.random.random() < 0.2:
            delivery.publish()
            self.troubles.resent += 1
            self._say(f"the same once more: {delivery.words}")
        return True

    def _is_hasty(self) -> bool:
        """Whether inputs come before work is done. A quiet run begins with all of them."""
        return not self.troubles_max or self.random.random() < 0.3

    def _work(self) -> bool:
        """One action of one worker that has something to do; False if none has."""
        return any(self._act(worker) for worker in self._shuffled(self._alive))

    def _act(self, worker: _Worker) -> bool:
        try:
            if worker.todo:
                self._step(worker, worker.todo.pop())
                return True
            if worker.pending:
                self._commit(worker)
                return True
            return self._look(worker)
        except Died:
            self._died(worker)
            return True

    def _look(self, worker: _Worker) -> bool:
        """Begin a round. False if there is nothing to do in it."""
        worker.snapshot = self.log.snapshot(self.plan.pipeline, counters=False)
        if worker.name not in worker.snapshot.workers:
            for task in list(worker.tasks.values()):
                worker.drop(task)
            self._enter(worker)
            self._say(f"{worker.name} learns that it was taken for dead, and joins again")
            self._assign()
            return True
        if changed := worker.own(worker.snapshot):
            self._say(f"{worker.name} takes up or gives back {changed} tasks, holds {len(worker.tasks)}")
            return True
        marks = stage_watermarks(self.plan, worker.snapshot)
        tasks = self._shuffled(worker.tasks.values())
        worker.todo = [task for task in tasks if task.ready(worker.snapshot, marks[task.stage.name])]
        return bool(worker.todo)

    def _step(self, worker: _Worker, task: Task) -> None:
        assert worker.snapshot is not None
        before = task.offset
        try:
            commit = task.step(worker.snapshot, stage_watermarks(self.plan, worker.snapshot)[task.stage.name])
        except FencedError:
            worker.drop(task)
            self._say(f"{worker.name} can't go on with {_named(task)}, which is another's by now")
            return
        worker.pending.append((task, commit))
        self._say(f"{worker.name} computes {_named(task)}, events {before} to {task.offset}")

    def _commit(self, worker: _Worker) -> None:
        steps = len(worker.pending)
        refused = worker.commit()
        self._say(f"{worker.name} commits {steps} steps" + (f", {refused} of them in vain" if refused else ""))

    def _crash(self) -> None:
        """At once, with all it has computed, or at its next commit."""
        worker = self.random.choice(self._alive)
        if self.random.random() < 0.4:
            self._died(worker)
        else:
            worker.dies = self.random.random() < 0.5

    def _died(self, worker: _Worker) -> None:
        when = "" if worker.dies is None else f" {'after' if worker.dies else 'before'} its commit is applied"
        worker.dead = True
        self.troubles.crashes += 1
        self._say(f"{worker.name} dies{when}, with {len(worker.pending)} steps not committed")
        if not self._alive:
            self._join()

    def _notice_deaths(self) -> bool:
        dead = [worker for worker in self.workers if worker.dead and self._is_member(worker)]
        for worker in dead:
            self._replace(worker)
        return bool(dead)

    def _replace(self, worker: _Worker) -> None:
        self._say(f"the death of {worker.name} is noticed")
        if len(self._alive) < self.workers_max:
            self._join()
        self._assign(dead=worker)

    def _fence(self) -> None:
        """Somebody is taken for dead, dead or not."""
        members = [worker for worker in self.workers if self._is_member(worker)]
        worker = self.random.choice(members) if members else None
        if worker is None:
            return
        if worker.dead:
            self._replace(worker)
            return
        self.troubles.zombies += 1
        self._say(f"{worker.name} is taken for dead, and does not know")
        if all(other is worker or other.dead for other in members):
            self._join()
        self._assign(dead=worker)

    def _move(self) -> None:
        """Some tasks are to be run by another worker."""
        members = [worker.name for worker in self._alive if self._is_member(worker)]
        tasks = sorted(self.log.snapshot(self.plan.pipeline, counters=False).tasks)
        chosen = [task for task in tasks if self.random.random() < 0.5]
        if not members or not chosen:
            return
        moves = {task: self.random.choice(members) for task in chosen}
        self.log.reassign(self.plan.pipeline, lambda _: Assignment(moves=moves))
        self.troubles.moves += 1
        self._say(f"{len(moves)} tasks are assigned anew")

    def _pass_time(self) -> None:
        seconds = self.random.choice((0.01, 1.0, 30.0))
        self.clock.advance(seconds)
        self._say(f"the clock goes on by {seconds:g} s")

    def _join(self) -> None:
        self._named += 1
        worker = _Worker(f"worker-{self._named}", self.plan, self.log, self.clock)
        self.workers.append(worker)
        self._enter(worker)
        self._say(f"{worker.name} joins")

    def _enter(self, worker: _Worker) -> None:
        self.log.join(WorkerInfo(worker.name, self.plan.pipeline, 0, 0.0, self.clock.now_us()))

    def _is_member(self, worker: _Worker) -> bool:
        return worker.name in self.log.snapshot(self.plan.pipeline, counters=False).workers

    def _assign(self, dead: _Worker | None = None) -> None:
        """What nobody is to run goes to any living member."""

        def decide(snapshot: Snapshot) -> Assignment:
            gone = frozenset() if dead is None else frozenset({dead.name})
            members = [worker.name for worker in self._alive if worker.name in snapshot.workers.keys() - gone]
            homeless = [t for t, state in snapshot.tasks.items() if state.assigned is None or state.assigned in gone]
            # Where all are taken for dead, the first to join again sees to it.
            return Assignment(gone, {task: self.random.choice(members) for task in sorted(homeless) if members})

        self.log.reassign(self.plan.pipeline, decide)

    def _is_done(self) -> bool:
        snapshot = self.log.snapshot(self.plan.pipeline, counters=False)
        return not any(self.queues) and is_finished(self.plan, snapshot)

    def _shuffled(self, items: Iterable[T]) -> list[T]:
        return self.random.sample(listed := list(items), len(listed))


def _named(task: Task) -> str:
    return f"{task.stage.name}/{task.id.partition}"
