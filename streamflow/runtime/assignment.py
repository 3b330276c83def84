"""Assignment: which worker runs which task. Pure, sticky, balanced: only the tasks that must move do.

Each stage is spread evenly, so that the work of every stage uses all workers; where counts can't be equal, the extra
tasks go to the workers with the fewest tasks overall.
"""

from collections.abc import Callable, Mapping, Sequence

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


def coordinate(
    now_us: int, lease_s: float, is_alive: Callable[[WorkerInfo], bool], *, myself: str | None = None
) -> Callable[[Snapshot], Assignment]:
    """What `Log.reassign` is to decide: who is dead, and who takes over. Any process may run it at any time.

    A worker is dead when its process is gone or its last sign of life is older than the lease; `myself`, the worker
    that asks, is not, though it may just have been woken from a long sleep. Draining workers get nothing.
    """

    def decide(snapshot: Snapshot) -> Assignment:
        silent_before_us = now_us - round(lease_s * 1e6)
        dead = frozenset(
            worker.id
            for worker in snapshot.workers.values()
            if worker.id != myself and (worker.heartbeat_us < silent_before_us or not is_alive(worker))
        )
        able = sorted(w.id for w in snapshot.workers.values() if w.id not in dead and not w.draining)
        return Assignment(dead, balance({t: _assignee(s, dead) for t, s in snapshot.tasks.items()}, able))

    return decide


def _assignee(state: TaskState, dead: frozenset[str]) -> str | None:
    return None if state.assigned in dead else state.assigned
