import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.pacing import ConstantRate, Pace, Recorded, Slot, Unpaced, slots
from streamflow.base.errors import DataError

SECOND_US = 1_000_000


@pytest.mark.parametrize(
    ("pace", "first", "end", "batch", "linger_s", "expected"),
    [
        pytest.param(Unpaced(), 0, 5, 2, 0.1, [(0, 2, 0.0), (2, 4, 0.0), (4, 5, 0.0)], id="unpaced"),
        pytest.param(ConstantRate(10), 0, 4, 2, 1.0, [(0, 2, 0.1), (2, 4, 0.3)], id="due with its last event"),
        pytest.param(ConstantRate(2), 0, 3, 1000, 0.1, [(0, 1, 0.0), (1, 2, 0.5), (2, 3, 1.0)], id="slow rate"),
        pytest.param(ConstantRate(8), 0, 4, 1000, 0.25, [(0, 3, 0.25), (3, 4, 0.375)], id="linger cuts"),
        pytest.param(ConstantRate(10), 50, 52, 1, 0.1, [(50, 51, 0.0), (51, 52, 0.1)], id="resumed at 50"),
        pytest.param(ConstantRate(10), 3, 3, 1, 0.1, [], id="nothing left"),
        pytest.param(
            Recorded([0, 0, 10 * SECOND_US, 60 * SECOND_US], 10.0),
            0,
            4,
            1000,
            0.5,
            [(0, 2, 0.0), (2, 3, 1.0), (3, 4, 6.0)],
            id="recorded times ten",
        ),
        pytest.param(
            Recorded([0, 7 * SECOND_US, 8 * SECOND_US], 1.0), 1, 3, 9, 0.5, [(1, 2, 0.0), (2, 3, 1.0)], id="resumed"
        ),
    ],
)
def test_batch_k_is_due_at(
    pace: Pace, first: int, end: int, batch: int, linger_s: float, expected: list[tuple[int, int, float]]
) -> None:
    found = list(slots(pace, first, end, batch, linger_s))

    assert [(slot.first, slot.end) for slot in found] == [(a, b) for a, b, _ in expected]
    assert [slot.due_s for slot in found] == pytest.approx([due_s for *_, due_s in expected])


@given(
    gaps_us=st.lists(st.integers(0, 5 * SECOND_US), min_size=1, max_size=60),
    speedup=st.floats(0.1, 1e6),
    batch=st.integers(1, 20),
    data=st.data(),
)
def test_slots_cover_the_range_once_in_order_and_never_come_due_earlier(
    gaps_us: list[int], speedup: float, batch: int, data: st.DataObject
) -> None:
    arrival_us = list(itertools.accumulate(gaps_us))
    first = data.draw(st.integers(0, len(arrival_us)))
    found = list(slots(Recorded(arrival_us, speedup), first, len(arrival_us), batch))

    assert [n for slot in found for n in range(slot.first, slot.end)] == list(range(first, len(arrival_us)))
    assert all(1 <= slot.end - slot.first <= batch for slot in found)
    assert [slot.due_s for slot in found] == sorted(slot.due_s for slot in found)


def test_a_steady_rate_does_not_drift_over_a_billion_events() -> None:
    assert next(slots(ConstantRate(1000), 10**9, 10**9 + 5, 1)) == Slot(10**9, 10**9 + 1, 0.0)
    assert ConstantRate(1000).due_s(10**9) == 10**6


@pytest.mark.parametrize("value", [0, -5, float("nan")])
def test_a_pace_at_or_below_zero_is_refused_with_a_hint(value: float) -> None:
    with pytest.raises(DataError, match=r"--rate must be above 0, not .*as fast as possible"):
        ConstantRate(value)
    with pytest.raises(DataError, match="--speedup must be above 0"):
        Recorded([0], value)
