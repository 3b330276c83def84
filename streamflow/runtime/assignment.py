"""Assignment: which worker runs which task. Pure, sticky, balanced: only the tasks that must move do.

As long as nothing is known of the tasks, each stage is spread evenly (`balance`), so that the work of every stage uses
all workers; where counts can't be equal, the extra tasks go to the workers with the fewest tasks overall. Once their
loads have been measured, it is these that are spread (`even_out`): a hot partition is not given company.
"""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from streamflow.topics.protocol import Assignment, Snapshot, TaskId, TaskState, WorkerInfo


def balance(tasks: Mapping[TaskId, str | None], workers: Sequence[str]) -> dict[TaskId, str | None]:
    """The new assignee of each task that must move. `tasks`: task → present assignee.

    Per stage, every worker gets floor(tasks/workers) or one more; a worker keeps what it has up to that. Without
    workers, nothing moves.
    """
    if not workers:
        return {}
    load = dict.fromkeys(workers, 0)
    moves: dict[TaskId, str | None] = {}
    stages: dict[str, list[TaskId]] = {}
    for task in sorted(tasks):
        stages.setdefault(task.stage, []).append(task)
    for of_stage in stages.values():
        held: dict[str, list[TaskId]] = {worker: [] for worker in workers}
        for task in of_stage:
            if (owner := tasks[task]) in held:
                held[owner].append(task)
        quota = _quotas({worker: len(kept) for worker, kept in held.items()}, load, len(of_stage))
        homeless = [task for task in of_stage if tasks[task] not in held]
        for worker, kept in held.items():
            homeless += kept[quota[worker] :]
            held[worker] = kept[: quota[worker]]
        for worker in workers:
            while len(held[worker]) < quota[worker]:
                task = homeless.pop()
                held[worker].append(task)
                moves[task] = worker
            load[worker] += len(held[worker])
    return moves


def _quotas(held: Mapping[str, int], load: Mapping[str, int], tasks: int) -> dict[str, int]:
    """How many of a stage's tasks each worker is to have. One more than the floor goes first to who holds more
    anyway, which saves a move, then to who has the least in all."""
    floor, extra = divmod(tasks, len(held))
    order = sorted(held, key=lambda worker: (held[worker] <= floor, load[worker], worker))
    return {worker: floor + (i < extra) for i, worker in enumerate(order)}


UNEVEN = 1.25
"""A worker with so many times the mean load is worth moving tasks away from,"""
BUSY = 0.3
"""unless even it is idle for most of the time (seconds of work per second)."""
GAIN_MIN = 0.1
"""A task moves if that takes so much off the most loaded worker, as a share of the mean load."""
LOAD_MIN = 1e-3
"""What an idle task counts for: it may wake up."""


def even_out(
    tasks: Mapping[TaskId, str | None], workers: Sequence[str], loads: Mapping[TaskId, float]
) -> dict[TaskId, str | None]:
    """The new assignee of each task that must move, by what they cost. `loads`: seconds of work per second of each
    task, as measured; a task that is not in it counts like the mean of its stage.

    Tasks without an able worker go, the heaviest first, to who has least. Others move only if that helps: if a worker
    has nothing at all, or one is busy and far above the mean; then as few as take it down to near the mean.
    """
    if not workers:
        return {}
    weights = _weights(tasks, loads)
    crew = {worker: _Held(worker) for worker in sorted(workers)}
    for task, owner in tasks.items():
        if owner in crew:
            crew[owner].take(task, weights[task])
    before = {task: owner for task, owner in tasks.items() if owner in crew}
    for task in sorted(tasks.keys() - before.keys(), key=lambda task: (-weights[task], task)):
        min(crew.values(), key=_Held.order).take(task, weights[task])
    mean = sum(weights.values()) / len(crew)
    gain_min = max(GAIN_MIN * mean if loads else 0.0, LOAD_MIN / 2)
    if _is_uneven(crew.values(), mean):
        while (move := _best_move(crew.values(), gain_min)) is not None:
            task, giver, taker = move
            taker.take(task, giver.tasks.pop(task))
    after = {task: held.worker for held in crew.values() for task in held.tasks}
    return {task: after[task] for task in sorted(tasks) if after[task] != tasks[task]}


@dataclass(slots=True)
class _Held:
    worker: str
    tasks: dict[TaskId, float] = field(default_factory=dict)

    @property
    def load(self) -> float:
        return math.fsum(self.tasks.values())

    def take(self, task: TaskId, weight: float) -> None:
        self.tasks[task] = weight

    def order(self) -> tuple[float, int, str]:
        return self.load, len(self.tasks), self.worker


def _weights(tasks: Iterable[TaskId], loads: Mapping[TaskId, float]) -> dict[TaskId, float]:
    of_stages: dict[str, list[float]] = {}
    for task, load in loads.items():
        of_stages.setdefault(task.stage, []).append(load)
    means = {stage: fmean(known) for stage, known in of_stages.items()}
    return {task: max(LOAD_MIN, loads.get(task, means.get(task.stage, 0.0))) for task in tasks}


def _is_uneven(crew: Iterable[_Held], mean: float) -> bool:
    # Who has one task alone can't be helped.
    most = max((held.load for held in crew if len(held.tasks) > 1), default=0.0)
    return (most > 0 and any(not held.tasks for held in crew)) or (most > BUSY and most > UNEVEN * mean)


def _best_move(crew: Collection[_Held], gain_min: float) -> tuple[TaskId, _Held, _Held] | None:
    """From the most loaded that has several to the least loaded: the task that brings them closest together, if that
    helps enough; of equal ones one of the stage of which the giver has most beyond the taker. To a worker without any,
    a task always may move."""
    givers = [held for held in crew if len(held.tasks) > 1]
    if not givers:
        return None
    giver, taker = max(givers, key=_Held.order), min(crew, key=_Held.order)
    between = giver.load - taker.load
    more = Counter(task.stage for task in giver.tasks)
    more.subtract(task.stage for task in taker.tasks)
    fitting = [
        (abs(between - 2 * weight), -more[task.stage], task) for task, weight in giver.tasks.items() if weight < between
    ]
    if not fitting:
        return None
    left, _, task = min(fitting)
    return (task, giver, taker) if not taker.tasks or (between - left) / 2 >= gain_min else None


def coordinate(
    now_us: int,
    lease_s: float,
    is_alive: Callable[[WorkerInfo], bool],
    *,
    myself: str | None = None,
    loads: Mapping[TaskId, float] | None = None,
) -> Callable[[Snapshot], Assignment]:
    """What `Log.reassign` is to decide: who is dead, and who takes over. Any process may run it at any time.

    `loads`: what tasks cost, as far as it is known, to go by that; None to spread them by number. A worker is dead when
    its process is gone or its last sign of life is older than the lease; `myself`, the worker that asks, is not, though
    it may just have been woken from a long sleep. Draining workers get nothing.
    """

    def decide(snapshot: Snapshot) -> Assignment:
        silent_before_us = now_us - round(lease_s * 1e6)
        dead = frozenset(
            worker.id
            for worker in snapshot.workers.values()
            if worker.id != myself and (worker.heartbeat_us < silent_before_us or not is_alive(worker))
        )
        able = sorted(w.id for w in snapshot.workers.values() if w.id not in dead and not w.draining)
        tasks = {task: _assignee(state, dead) for task, state in snapshot.tasks.items()}
        return Assignment(dead, balance(tasks, able) if loads is None else even_out(tasks, able, loads))

    return decide


def _assignee(state: TaskState, dead: frozenset[str]) -> str | None:
    return None if state.assigned in dead else state.assigned
