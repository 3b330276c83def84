"""The autoscaler's decisions over time: by table, with a simulated pipeline, and within bounds whatever is seen."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.runtime.autoscaler import Decision, Memory, Observation, Policy, decide

POLICY = Policy(workers_min=1, workers_max=4, latency_s=5, calm_s=20, settle_s=3)


@dataclass
class Simulation:
    """A pipeline whose workers each do `capacity` events per second; decisions are followed at once."""

    policy: Policy = POLICY
    capacity: int = 1_000
    workers: int = 1
    memory: Memory = field(default_factory=Memory)
    now_s: float = 0
    backlog: int = 0
    processed: int = 0

    def second(self, arrivals: int) -> Decision:
        self.now_s += 1
        done = min(self.backlog + arrivals, self.capacity * self.workers)
        self.backlog += arrivals - done
        self.processed += done
        seen = Observation(self.now_s, self.workers, self.backlog, self.processed)
        self.memory, decision = decide(self.memory, seen, self.policy)
        self.workers = decision.workers
        return decision

    def run(self, arrivals: int, seconds: int) -> list[int]:
        """Workers after each second."""
        return [self.second(arrivals).workers for _ in range(seconds)]


def test_workers_are_added_at_once_under_backlog_and_let_go_one_by_one_after_calm() -> None:
    simulation = Simulation()
    assert simulation.run(500, 10) == [1] * 10
    busy = simulation.run(3_500, 15)
    assert max(busy[:5]) == 4
    assert busy[-1] == 4
    calm = simulation.run(500, 120)
    drops = [i for i in range(1, len(calm)) if calm[i] < calm[i - 1]]
    assert calm[-1] == 1
    assert calm[:15] == [4] * 15
    assert all(calm[i] == calm[i - 1] - 1 for i in drops)
    assert all(later - earlier >= POLICY.calm_s for earlier, later in pairwise(drops))


def test_more_load_than_all_workers_can_do_never_asks_for_more_than_the_most() -> None:
    assert max(Simulation().run(50_000, 60)) == 4


def test_load_within_capacity_changes_nothing() -> None:
    simulation = Simulation(workers=2)
    simulation.run(1_500, 1)
    simulation.backlog = 500
    assert set(simulation.run(1_500, 60)) == {2}


def seen(now_s: float, workers: int, backlog: int, processed: int) -> Observation:
    return Observation(now_s, workers, backlog, processed)


@dataclass(frozen=True)
class Row:
    observation: Observation
    workers: int
    words: str


BY_HAND = [
    Row(seen(0, 1, 0, 0), 1, "nothing processed under load yet"),
    Row(seen(1, 1, 1_000, 1_000), 1, "nothing processed under load yet"),
    # 1,000/s done while 1,500/s came in: capacity 1,000, wanted (1,850 + 1,500/5) / 1,000, up.
    Row(seen(2, 1, 1_500, 2_000), 3, "up: backlog 1.5 s"),
    Row(seen(3, 3, 1_600, 5_000), 3, "waiting for the last change"),
    Row(seen(4, 3, 1_600, 8_000), 3, "waiting for the last change"),
    Row(seen(5, 3, 0, 9_000), 3, "stay"),
]


def test_decisions_by_hand() -> None:
    memory = Memory()
    for row in BY_HAND:
        memory, decision = decide(memory, row.observation, POLICY)
        assert (decision.workers, decision.reason.startswith(row.words)) == (row.workers, True), decision


def test_capacity_is_learnt_only_from_moments_with_backlog() -> None:
    memory = Memory()
    for second in range(10):
        memory, _ = decide(memory, seen(second, 1, 0, second * 100), POLICY)
    assert memory.capacity == 0
    for second in range(10, 13):
        memory, _ = decide(memory, seen(second, 1, 5_000, second * 100), POLICY)
    assert memory.capacity == 100


def test_fewer_than_the_least_are_replaced_at_once() -> None:
    _, decision = decide(Memory(), seen(0, 1, 0, 0), replace(POLICY, workers_min=3))
    assert (decision.workers, decision.reason) == (3, "at least 3 wanted")


@pytest.mark.parametrize(("backlog", "workers"), [(0, 0), (1, 1), (10**6, 1)])
def test_first_worker_is_started_for_the_first_event_where_none_need_be(backlog: int, workers: int) -> None:
    _, decision = decide(Memory(), seen(0, 0, backlog, 0), replace(POLICY, workers_min=0))
    assert decision.workers == workers


def test_reason_names_backlog_arrivals_and_capacity() -> None:
    simulation = Simulation()
    simulation.run(900, 5)
    reasons = [simulation.second(2_000).reason for _ in range(6)]
    assert any(reason.startswith("up: backlog ") and "events/s arriving" in reason for reason in reasons)


observations = st.lists(
    st.tuples(st.floats(-1, 60), st.integers(0, 12), st.integers(0, 10**7), st.integers(-5, 10**6)), max_size=30
)


@given(
    steps=observations,
    low=st.integers(0, 3),
    span=st.integers(0, 5),
    calm_s=st.floats(0, 30),
)
def test_decision_is_within_the_bounds_whatever_is_seen(
    steps: list[tuple[float, int, int, int]], low: int, span: int, calm_s: float
) -> None:
    policy = Policy(workers_min=low, workers_max=low + span, calm_s=calm_s)
    memory = Memory()
    now_s, processed = 0.0, 0
    for seconds, workers, backlog, done in steps:
        now_s, processed = now_s + seconds, processed + done
        memory, decision = decide(memory, seen(now_s, workers, backlog, processed), policy)
        assert low <= decision.workers <= low + span
        assert decision.reason


@given(steps=observations)
def test_deciding_is_pure(steps: list[tuple[float, int, int, int]]) -> None:
    def decisions() -> list[Decision]:
        memory, made = Memory(), []
        for i, (_, workers, backlog, done) in enumerate(steps):
            memory, decision = decide(memory, seen(i, workers, backlog, done), POLICY)
            made.append(decision)
        return made

    assert decisions() == decisions()
