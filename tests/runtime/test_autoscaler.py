"""The autoscaler: what it decides in each situation, on a simulated plant, and laws that hold whatever is seen."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runtime.plant import Plant

from streamflow.runtime.autoscaler import Decision, Memory, Observation, Policy, WorkerSeen, decide
from streamflow.runtime.fluid import Level, flow, hottest, useful_counts

POLICY = Policy(workers_min=1, workers_max=16, latency_s=5)


def settled(load: float, workers: int, policy: Policy = POLICY, **plant: float) -> Plant:
    """Half a minute of a load that so many workers stand."""
    found = Plant(policy, wanted=workers, **plant)  # type: ignore[arg-type]
    assert found.run(30, load) == []
    return found


def test_a_tenfold_load_gets_all_its_workers_in_one_step_and_is_late_only_while_they_start() -> None:
    plant = settled(80, 1)
    changes = plant.run(60, 800)
    assert len(changes) <= 2, changes
    assert plant.now_s - 60 + 3 >= next(at_s for at_s, wanted, _ in plant.history if wanted > 1)
    assert plant.over_s(since_s=45) == 0
    assert plant.wanted >= 8


def test_a_short_spike_that_the_objective_forgives_changes_nothing() -> None:
    plant = settled(150, 2)
    assert plant.run(1, 400) + plant.run(60, 150) == []
    assert plant.over_s() == 0


def test_a_surplus_is_let_go_once_it_has_cost_what_the_change_costs_and_not_before() -> None:
    plant = Plant(POLICY, wanted=4)
    assert plant.run(5, 150) == [], "nobody leaves at once"
    assert [decision.workers for decision in plant.run(60, 150)] == [2]


def test_a_small_surplus_is_kept_longer_than_a_large_one() -> None:
    def until_shrunk(workers: int) -> float:
        plant = Plant(POLICY, wanted=workers)
        plant.run(300, 130)
        return next((at_s for at_s, wanted, _ in plant.history if wanted < workers), math.inf)

    assert until_shrunk(16) < until_shrunk(8) < until_shrunk(3)


def test_after_a_regretted_shrinking_the_next_one_takes_longer() -> None:
    plant = Plant(replace(POLICY, workers_max=8), wanted=8)
    moments = []
    for _ in range(3):
        plant.run(40, 700)
        began_s, high = plant.now_s, plant.wanted
        while plant.wanted >= high and plant.now_s < began_s + 300:
            plant.second(150)
        moments.append(plant.now_s - began_s)
    assert moments[0] < moments[1] <= moments[2], moments


def test_a_partition_that_is_too_hot_for_a_worker_is_named_and_gets_no_more_workers() -> None:
    plant = Plant(POLICY, wanted=4, weights=[30.0] + [1.0] * 15)
    plant.run(30, 60)
    plant.run(60, 300)
    assert len(plant.run(200, 300)) <= 1
    assert plant.wanted < 16
    assert plant.decision.reason.startswith("stay, though it may be late: one partition has more than a worker can do")


def test_a_slow_sink_is_told_from_too_few_workers() -> None:
    """Whatever is added, all together do 200 events/s."""
    plant = Plant(POLICY, wanted=1, rate=200, contention=1.0)
    plant.run(20, 150)
    plant.run(300, 300)
    before = plant.wanted
    plant.run(120, 300)
    assert plant.wanted == before <= 2
    assert (
        "more workers don't help, each makes the others slower (sink write is the bottleneck)" in plant.decision.reason
    )


def test_all_go_when_nothing_is_left_to_do_and_the_first_event_brings_them_back() -> None:
    plant = settled(80, 1, replace(POLICY, workers_min=0))
    plant.run(60, 0)
    assert plant.wanted == 0
    assert plant.second(500).workers >= 1
    plant.run(40, 500)
    assert plant.wanted >= 5
    assert plant.over_s(since_s=plant.now_s - 20) == 0


def test_nobody_leaves_while_work_is_left_that_is_no_backlog() -> None:
    seen = Observation(1, 1, 0, (), (), (0.0,), (0.0,), (-1,), 0, 0, 2, 1, idle=False)
    assert decide(Memory(), seen, replace(POLICY, workers_min=0))[1].workers == 1
    assert decide(Memory(), replace(seen, idle=True), replace(POLICY, workers_min=0))[1].workers == 0


@pytest.mark.parametrize(("low", "high", "wanted", "expected"), [(3, 5, 1, 3), (1, 2, 4, 2), (2, 2, 2, 2)])
def test_bounds_are_obeyed_at_once(low: int, high: int, wanted: int, expected: int) -> None:
    plant = Plant(Policy(low, high), wanted=wanted)
    assert plant.second(10).workers == expected


def test_a_ramp_and_a_wave_are_followed_in_few_changes_at_little_more_than_they_need() -> None:
    def wave(at_s: float) -> float:
        return 600 + 400 * math.sin(at_s / 60)

    for load in (lambda at_s: 100 + at_s, wave):
        plant = Plant(POLICY, wanted=4)
        changes = plant.run(900, load)
        assert plant.over_s(since_s=30) <= 9, "one second in a hundred"
        assert len(changes) <= 24
        assert plant.worker_s <= 1.6 * sum(load(at_s) / plant.rate for at_s in range(900))


def test_every_decision_says_what_it_saw_and_what_the_others_would_have_cost() -> None:
    plant = settled(80, 1)
    (decision, *_) = plant.run(10, 800)
    assert decision.reason.startswith("up: with 1 the oldest event would be too old for")
    assert "events/s arriving" in decision.reason
    prices = {choice.workers: choice.price for choice in decision.choices}
    assert min(prices, key=prices.__getitem__) == decision.workers
    assert list(prices) == [1, 2, 3, 4, 6, 8, 16] or list(prices) == [1, 2, 3, 4, 5, 6, 8, 16]


def test_a_level_is_left_for_good_by_two_samples_and_not_by_one() -> None:
    level = Level()
    for sample in (100, 101, 99, 100, 300, 100):
        level = level.seen(sample, 0.2)
    assert level.value == pytest.approx(100, abs=1)
    for sample in (300, 310):
        level = level.seen(sample, 0.2)
    assert level.value == 310


@pytest.mark.parametrize(
    ("partitions", "least", "most", "counts"),
    [
        (16, 1, 16, [1, 2, 3, 4, 6, 8, 16]),
        (16, 0, 5, [0, 1, 2, 3, 4]),
        (16, 5, 7, [5, 6]),
        (1, 1, 9, [1]),
        (4, 6, 8, [6]),
    ],
)
def test_only_numbers_that_change_the_fullest_worker_are_considered(
    partitions: int, least: int, most: int, counts: list[int]
) -> None:
    assert useful_counts(partitions, least, most) == counts


@pytest.mark.parametrize(
    ("queue", "out", "end", "over_s"),
    [(0, 10, 0, 0), (0, 0, 100, 5), (100, 20, 0, 5), (100, 10, 100, 10), (80, 11, 70, 10), (0, 5, 50, 0)],
)
def test_a_queue_changes_linearly_and_its_time_above_the_limit_is_exact(
    queue: float, out: float, end: float, over_s: float
) -> None:
    """Ten seconds, ten events/s, limit 50."""
    assert flow(queue, 10, 10, out, 50) == (end, over_s)


def test_the_hottest_worker_has_the_heaviest_partition_and_an_average_of_the_rest() -> None:
    assert hottest([6, 1, 1, 1, 1], 2) == 7
    assert hottest([2, 2, 2, 2], 2) == 4
    assert hottest([], 3) == 0


spans = st.lists(
    st.tuples(
        st.floats(0, 60), st.integers(0, 12), st.floats(0, 1e7), st.floats(0, 1e9), st.floats(0, 1e6), st.booleans()
    ),
    max_size=20,
)


def observed(now_s: float, span: tuple[float, int, float, float, float, bool], wanted: int) -> Observation:
    seconds, workers, arrivals, backlog, done, idle = span
    seen = tuple(WorkerSeen(f"w{i}", done, min(seconds, done / 100), now_s) for i in range(workers))
    owners = tuple(p % workers if workers else -1 for p in range(8))
    each = (arrivals / 8,) * 8
    return Observation(now_s, seconds, wanted, seen, (), each, (backlog / 8,) * 8, owners, 0.0, 0.0, 2, 1, idle=idle)


@settings(max_examples=60)
@given(steps=spans, low=st.integers(0, 3), more=st.integers(0, 8), latency_s=st.floats(0.01, 1000))
def test_decisions_are_within_the_bounds_and_explained_whatever_is_seen(
    steps: list[tuple[float, int, float, float, float, bool]], low: int, more: int, latency_s: float
) -> None:
    policy = Policy(low, max(1, low + more), latency_s)
    memory, now_s, wanted = Memory(), 0.0, low
    for span in steps:
        now_s += span[0]
        seen = observed(now_s, span, wanted)
        memory, decision = decide(memory, seen, policy)
        assert decide(memory, seen, policy) == decide(memory, seen, policy)
        assert policy.workers_min <= decision.workers <= policy.workers_max
        assert decision.reason
        wanted = decision.workers


@settings(max_examples=40)
@given(load=st.floats(1, 1500), backlogs=st.lists(st.floats(0, 1e6), min_size=2, max_size=5))
def test_a_larger_backlog_never_gets_fewer_workers(load: float, backlogs: list[float]) -> None:
    plant = Plant(POLICY, wanted=4)
    plant.run(20, min(load, 300))
    wanted = []
    for backlog in sorted(backlogs):
        seen = observed(plant.now_s + 1, (1.0, 4, load, backlog, 100.0, False), 4)
        wanted.append(decide(plant.memory, seen, POLICY)[1].workers)
    assert all(fewer <= more for fewer, more in pairwise(wanted)), wanted


@settings(max_examples=15)
@given(load=st.floats(10, 1400))
def test_at_rest_it_comes_to_rest(load: float) -> None:
    plant = Plant(POLICY, wanted=4)
    plant.run(240, load)
    assert plant.run(120, load) == []
    assert plant.over_s(since_s=240) == 0


def test_deciding_is_pure() -> None:
    def decisions() -> list[Decision]:
        return Plant(POLICY).run(200, lambda at_s: 900 if 50 < at_s < 120 else 90)

    assert decisions() == decisions()
