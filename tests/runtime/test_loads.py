"""What tasks cost, from snapshots with counters."""

import pytest

from streamflow.model.time import MIN_US
from streamflow.runtime.loads import Loads
from streamflow.topics.protocol import Snapshot, TaskId, TaskState

ONE, TWO = TaskId("p", "a", 0), TaskId("p", "a", 1)


def snapshot(**seconds: float) -> Snapshot:
    tasks = {"one": ONE, "two": TWO}
    states = {
        tasks[name]: TaskState(tasks[name], "t", 0, MIN_US, 0, None, None, {"step_seconds_sum": value})
        for name, value in seconds.items()
    }
    return Snapshot(ends={}, topics={}, tasks=states, workers={})


def test_loads_are_seconds_of_work_per_second_and_smoothed() -> None:
    loads = Loads()
    assert loads.is_due(0.0)
    loads.look(snapshot(one=100.0, two=0.0), 0.0)
    assert loads.by_task() == {}, "one look tells nothing"
    assert not loads.is_due(4.9)
    loads.look(snapshot(one=104.0, two=0.0), 5.0)
    assert loads.by_task() == pytest.approx({ONE: 0.8, TWO: 0.0})
    loads.look(snapshot(one=104.0, two=5.0), 10.0)
    assert loads.by_task() == pytest.approx({ONE: 0.4, TWO: 0.5})


def test_a_reset_pipeline_counts_anew_and_what_is_forgotten_is_measured_again() -> None:
    loads = Loads()
    loads.look(snapshot(one=100.0), 0.0)
    loads.look(snapshot(one=1.0), 5.0)
    assert loads.by_task() == {ONE: 0.0}
    loads.forget()
    assert loads.by_task() == {}
    assert loads.is_due(5.0)
