"""Assignment: every task has an able worker, stages are spread evenly, and only what must move does."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.model.time import MIN_US
from streamflow.runtime.assignment import BUSY, GAIN_MIN, LOAD_MIN, UNEVEN, balance, coordinate, even_out
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


Loads = dict[TaskId, float]


def task(partition: int) -> TaskId:
    return TaskId("p", "a", partition)


def carried(tasks: Mapping[TaskId, str | None], workers: list[str], loads: Mapping[TaskId, float]) -> dict[str, float]:
    return {w: sum(max(LOAD_MIN, loads[t]) for t, owner in tasks.items() if owner == w) for w in workers}


@pytest.mark.parametrize(
    ("held", "loads", "expected"),
    [
        # The hot partition alone is what the other fifteen together are not.
        ({"w1": range(16), "w2": ()}, {0: 0.6, **dict.fromkeys(range(1, 16), 0.02)}, {0: "w2"}),
        ({"w1": (0, 1), "w2": (2, 3)}, {0: 0.4, 1: 0.3, 2: 0.1, 3: 0.1}, {1: "w2"}),
        # A task that would only turn the two round stays; so does all where nobody is busy, or nearly even.
        ({"w1": (0,), "w2": (1,)}, {0: 0.9, 1: 0.1}, {}),
        ({"w1": (0, 1), "w2": (2,)}, {0: 0.12, 1: 0.12, 2: 0.01}, {}),
        ({"w1": (0, 1), "w2": (2, 3)}, {0: 0.4, 1: 0.2, 2: 0.3, 3: 0.1}, {}),
        # Whoever has nothing gets its share, however little there is to do.
        ({"w1": (0, 1, 2, 3), "w2": ()}, dict.fromkeys(range(4), 0.0), {0: "w2", 1: "w2"}),
        # The tasks of the dead go, the heaviest first, to who has least; the others stay.
        ({"w1": (0,), "w2": (1,), "gone": (2, 3)}, {0: 0.5, 1: 0.1, 2: 0.1, 3: 0.3}, {2: "w2", 3: "w2"}),
        # What was not measured counts like its stage.
        ({"w1": (0, 1), "w2": ()}, {0: 0.5}, {0: "w2"}),
    ],
    ids=["hot", "uneven", "one each", "idle", "even enough", "newcomer", "dead", "unknown"],
)
def test_loads_are_spread_by_the_moves_that_matter(
    held: dict[str, Iterable[int]], loads: dict[int, float], expected: dict[int, str]
) -> None:
    tasks: Tasks = {task(partition): owner for owner, partitions in held.items() for partition in partitions}
    moves = even_out(tasks, ["w1", "w2"], {task(partition): load for partition, load in loads.items()})
    assert moves == {task(partition): worker for partition, worker in expected.items()}


def test_a_skewed_topic_needs_fewer_workers_than_by_counts() -> None:
    tasks = tasks_of(a=64)
    loads = {
        task: 6.0 / (1 + rank) ** 1.1 / 4 for rank, task in enumerate(sorted(tasks, key=lambda t: t.partition * 7 % 64))
    }

    def workers_needed(assign: Callable[[list[str]], Mapping[TaskId, str | None]]) -> int:
        most = max(loads.values())
        for count in range(1, 65):
            names = [f"w{i:02}" for i in range(count)]
            if max(carried(assign(names), names, loads).values()) <= 1.05 * most:
                return count
        raise AssertionError

    by_load = workers_needed(lambda names: {**tasks, **even_out(tasks, names, loads)})
    by_count = workers_needed(lambda names: {**tasks, **balance(tasks, names)})
    assert by_load <= 6
    assert by_count >= 2 * by_load


@st.composite
def loaded(draw: st.DrawFn) -> tuple[Tasks, Loads]:
    tasks = draw(owned())
    return tasks, {task: draw(st.sampled_from([0.0, 0.01, 0.1, 0.3, 0.9])) for task in tasks}


@given(loaded=loaded(), workers=crews)
def test_by_load_every_task_has_an_able_worker_and_another_look_changes_nothing(
    loaded: tuple[Tasks, Loads], workers: list[str]
) -> None:
    tasks, loads = loaded
    moves = even_out(tasks, workers, loads)
    after = {**tasks, **moves}
    assert set(after.values()) <= set(workers)
    assert all(tasks[task] != worker for task, worker in moves.items())
    assert even_out(after, workers, loads) == {}
    assert even_out(tasks, workers[::-1], loads) == moves


@given(loaded=loaded(), workers=crews)
def test_by_load_no_move_is_left_that_would_help_a_busy_worker(loaded: tuple[Tasks, Loads], workers: list[str]) -> None:
    tasks, loads = loaded
    after = {**tasks, **even_out(tasks, workers, loads)}
    load = carried(after, workers, loads)
    most, least = max(load.values()), min(load.values())
    mean = sum(load.values()) / len(workers)
    if most > BUSY and most > UNEVEN * mean:
        full = [worker for worker in workers if load[worker] == pytest.approx(most)]
        for moved in (loads[task] for task, owner in after.items() if owner in full):
            assert max(most - moved, least + moved) >= most - GAIN_MIN * mean - 1e-9


@given(loaded=loaded(), workers=crews)
def test_by_load_what_is_even_moves_only_off_the_dead(loaded: tuple[Tasks, Loads], workers: list[str]) -> None:
    tasks, loads = loaded
    after = {**tasks, **even_out(tasks, workers, loads)}
    if len(workers) > 1 and all(owner in after.values() for owner in workers):
        lost = {t: (None if owner == workers[0] else owner) for t, owner in after.items()}
        heaviest = max(carried(after, workers, loads).values())
        if heaviest <= BUSY / len(workers):
            assert set(even_out(lost, workers[1:], loads)) == {t for t, owner in lost.items() if owner is None}


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
