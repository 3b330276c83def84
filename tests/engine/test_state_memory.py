"""The memory that the states of a worker share: who lets go, and what is told of what can't."""

from streamflow.engine.memory import StateMemory


class Holding:
    def __init__(self) -> None:
        self.times_let_go = 0

    def let_go(self) -> None:
        self.times_let_go += 1


def let_go(bytes_max: int, *sizes: int) -> list[int]:
    """Which of holders of these sizes let go."""
    shared = StateMemory(bytes_max)
    holders = [Holding() for _ in sizes]
    for holder, size in zip(holders, sizes, strict=True):
        shared.hold(holder, size)
    shared.settle()
    shared.settle()
    return [i for i, holder in enumerate(holders) for _ in range(holder.times_let_go)]


def test_largest_let_go_until_there_is_room_to_merge_the_largest_left() -> None:
    assert let_go(100, 10, 40, 10) == []
    assert let_go(100, 10, 60, 20) == [1]
    assert let_go(100, 60) == [0]
    assert let_go(100, 50) == []
    assert let_go(30, 10, 9, 15, 3) == [0, 2]
    assert let_go(0, 1, 0, 2) == [0, 2]


def test_what_can_not_be_let_go_makes_the_others_let_go_and_is_no_reason_to_wait() -> None:
    shared, others = StateMemory(100), [Holding(), Holding()]
    shared.keep("keyed", 70)
    for other in others:
        shared.hold(other, 12)
    assert shared.exceeded()
    shared.settle()
    assert sum(other.times_let_go for other in others) == 1
    shared.keep("keyed", 1000)
    shared.settle()
    assert all(other.times_let_go for other in others)
    assert not shared.exceeded()


def test_what_is_kept_beyond_the_budget_is_told_each_time_that_it_has_doubled() -> None:
    shared = StateMemory(100)
    told = []
    for size in (100, 101, 150, 202, 203, 300, 1000):
        shared.keep("keyed", size)
        told.append(shared.overdrawn())
    assert told == [0, 101, 0, 0, 203, 0, 1000]


def test_state_is_taken_up_only_into_the_lower_half_of_the_memory() -> None:
    shared = StateMemory(100)
    assert shared.has_room(50)
    shared.hold(Holding(), 20)
    assert shared.has_room(30)
    assert not shared.has_room(31)
    assert not StateMemory(0).has_room(1)
