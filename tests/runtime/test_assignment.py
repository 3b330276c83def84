"""Assignment: every task has an able worker, stages are spread evenly, and only what must move does."""

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.model.time import MIN_US
from streamflow.runtime.assignment import balance, coordinate
from streamflow.topics.protocol import Snapshot, TaskId, TaskState, WorkerInfo

Tasks = dict[TaskId, str | None]


def tasks_of(**stages: int) -> Tasks:
    return {TaskId("p", stage, partition): None for stage, count in stages.items() for partition in range(count)}


def applied(tasks: Mapping[TaskId, str | None], workers: list[str]) -> Tasks:
    return {**tasks, **balance(tasks, workers)}


def loads(tasks: Mapping[TaskId, str | None], workers: list[str], stage: str | None = None) -> list[int]:
    counts = Counter(owner for task, owner in tasks.items() if stage in (None, task.stage))
    return sorted(counts[worker] for worker in workers)


def test_from_one_worker_to_four_to_two() -> None:
    tasks = applied(tasks_of(a=16), ["w1"])
    assert set(tasks.values()) == {"w1"}

    four = ["w1", "w2", "w3", "w4"]
    moves = balance(tasks, four)
    assert len(moves) == 12
    tasks |= moves
    assert loads(tasks, four) == [4, 4, 4, 4]

    moves = balance(tasks, ["w1", "w3"])
    assert set(moves) == {task for task, owner in tasks.items() if owner in ("w2", "w4")}
    assert loads({**tasks, **moves}, ["w1", "w3"]) == [8, 8]


@pytest.mark.parametrize(
    ("stages", "workers", "expected"),
    [
        ({"a": 4}, 3, [1, 1, 2]),
        ({"a": 1, "b": 1, "c": 1}, 3, [1, 1, 1]),
        ({"a": 2, "b": 2}, 4, [1, 1, 1, 1]),
        ({"a": 16, "b": 1, "c": 1}, 2, [9, 9]),
        ({"a": 2}, 5, [0, 0, 0, 1, 1]),
        ({}, 2, [0, 0]),
    ],
)
def test_tasks_that_do_not_divide_go_to_those_who_have_least(
    stages: dict[str, int], workers: int, expected: list[int]
) -> None:
    names = [f"w{i}" for i in range(workers)]
    assert loads(applied(tasks_of(**stages), names), names) == expected


def test_without_workers_nothing_moves() -> None:
    assert balance(tasks_of(a=3), []) == {}


stages = st.dictionaries(st.sampled_from("abc"), st.integers(1, 9), min_size=1)
owners = st.sampled_from(["w0", "w1", "w2", "w3", "gone", None])


@st.composite
def owned(draw: st.DrawFn) -> Tasks:
    return {task: draw(owners) for task in tasks_of(**draw(stages))}


crews = st.sets(st.sampled_from(["w0", "w1", "w2", "w3", "w4"]), min_size=1).map(sorted)


@given(tasks=owned(), workers=crews)
def test_every_task_gets_an_able_worker_and_each_stage_is_even(tasks: Tasks, workers: list[str]) -> None:
    after = applied(tasks, workers)
    assert set(after.values()) <= set(workers)
    for stage in {task.stage for task in tasks}:
        counts = loads(after, workers, stage)
        assert counts[-1] - counts[0] <= 1


@given(tasks=owned(), workers=crews)
def test_no_more_tasks_move_than_must(tasks: Tasks, workers: list[str]) -> None:
    """Per stage the least possible: a worker keeps what it has up to its share, the greater shares to who has most."""
    moves = balance(tasks, workers)
    for stage in {task.stage for task in tasks}:
        held = sorted(
            (sum(o == w for t, o in tasks.items() if t.stage == stage) for w in workers),
            reverse=True,
        )
        of_stage = sum(task.stage == stage for task in tasks)
        floor, extra = divmod(of_stage, len(workers))
        kept = sum(min(count, floor + (i < extra)) for i, count in enumerate(held))
        assert sum(task.stage == stage for task in moves) == of_stage - kept


@given(tasks=owned(), workers=crews)
def test_what_is_balanced_stays(tasks: Tasks, workers: list[str]) -> None:
    after = applied(tasks, workers)
    assert balance(after, workers) == {}
    assert balance(after, workers[::-1]) == {}


@given(tasks=owned(), workers=crews)
def test_moves_never_name_the_worker_that_has_the_task(tasks: Tasks, workers: list[str]) -> None:
    assert all(tasks[task] != worker for task, worker in balance(tasks, workers).items())


@given(stages=stages, workers=crews, joining=st.just("w9"))
def test_a_worker_that_joins_takes_only_its_share(stages: dict[str, int], workers: list[str], joining: str) -> None:
    before = applied(tasks_of(**stages), workers)
    moves = balance(before, [*workers, joining])
    assert set(moves.values()) <= {joining}
    assert all(len([t for t in moves if t.stage == s]) == n // (len(workers) + 1) for s, n in stages.items())


@given(stages=stages, workers=crews, data=st.data())
def test_of_a_worker_that_leaves_only_its_tasks_move(
    stages: dict[str, int], workers: list[str], data: st.DataObject
) -> None:
    leaving = data.draw(st.sampled_from(workers))
    rest = [worker for worker in workers if worker != leaving]
    before = applied(tasks_of(**stages), workers)
    expected = {task for task, owner in before.items() if owner == leaving} if rest else set()
    assert set(balance(before, rest)) == expected


def snapshot(tasks: Tasks, workers: list[WorkerInfo]) -> Snapshot:
    states = {task: TaskState(task, "t", 0, MIN_US, 0, owner, owner) for task, owner in tasks.items()}
    return Snapshot(ends={}, topics={}, tasks=states, workers={worker.id: worker for worker in workers})


def worker(name: str, *, heartbeat_us: int = 1_000_000, draining: bool = False, pid: int = 1) -> WorkerInfo:
    return WorkerInfo(name, "p", pid, 0.0, heartbeat_us, draining)


NOW_US, LEASE_S = 10_000_000, 9.0


@pytest.mark.parametrize(
    ("heartbeat_us", "alive", "dead"),
    [(1_000_000, True, False), (999_999, True, True), (NOW_US, True, False), (NOW_US, False, True)],
    ids=["silent for just the lease", "silent for longer", "well", "its process is gone"],
)
def test_worker_is_dead_when_its_process_is_gone_or_its_lease_is_over(
    heartbeat_us: int, alive: bool, dead: bool
) -> None:
    tasks: Tasks = {TaskId("p", "a", 0): "x", TaskId("p", "a", 1): "y"}
    seen = snapshot(tasks, [worker("x", heartbeat_us=heartbeat_us, pid=2), worker("y", heartbeat_us=NOW_US)])
    decision = coordinate(NOW_US, LEASE_S, lambda info: alive or info.pid != 2)(seen)
    assert decision.dead == ({"x"} if dead else set())
    assert decision.moves == ({TaskId("p", "a", 0): "y"} if dead else {})


def test_draining_worker_is_alive_but_gets_nothing() -> None:
    seen = snapshot(tasks_of(a=4), [worker("x", draining=True), worker("y")])
    decision = coordinate(NOW_US, LEASE_S, lambda info: True)(seen)
    assert decision.dead == frozenset()
    assert set(decision.moves.values()) == {"y"}


def test_draining_worker_hands_its_tasks_over() -> None:
    seen = snapshot({TaskId("p", "a", 0): "x"}, [worker("x", draining=True), worker("y")])
    assert coordinate(NOW_US, LEASE_S, lambda info: True)(seen).moves == {TaskId("p", "a", 0): "y"}


def test_without_able_workers_the_dead_are_named_and_nothing_moves() -> None:
    seen = snapshot({TaskId("p", "a", 0): "x"}, [worker("x", heartbeat_us=0)])
    decision = coordinate(NOW_US, LEASE_S, lambda info: True)(seen)
    assert decision.dead == {"x"}
    assert decision.moves == {}
