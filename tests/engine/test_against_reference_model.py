"""Random events, windows, triggers, lateness, modes, batches, workers and deaths: each pane is that of the reference
model, and the final ones are whatever the order of events within what is allowed.

Which head the plan gives a grouping is left to the plan. A head of the default trigger may take the late events of a
batch together: where each pane is looked at, it gets them one by one.
"""

import os
import threading
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pipelines import end_topic, make_topic, publish_json, read_events
from reference_shapes import S, Shape, safe_trigger, shapes
from reference_windows import END, meets
from simulated import Cluster

import streamflow as sf
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker

EXAMPLES = int(os.environ.get("STREAMFLOW_EXAMPLES", "0"))
"""How many, in place of what is quick."""


@dataclass(frozen=True)
class Step:
    """What happens until the watermark goes on; `parts`: in how many publications the events come."""

    later_s: int
    events: Sequence[tuple[str, int, int]]
    watermark_s: int
    parts: int


events_ = st.tuples(st.sampled_from("abc"), st.integers(-15, 40), st.integers(0, 9))
scripts = st.lists(
    st.builds(Step, st.integers(0, 5), st.lists(events_, max_size=6), st.integers(0, 12), st.integers(1, 3)), max_size=7
)
EARLY_AND_LATE = ("watermark", ("count", 2), ("count", 1))
ONE_BY_ONE = ("repeat", ("count", 1))
ALL_BY_CLOCK = ("all", ("time", 0), ("time", 1))


@settings(max_examples=EXAMPLES or 150)
@given(
    shape=shapes,
    script=scripts,
    workers=st.sampled_from([1, 3]),
    partitions=st.sampled_from([1, 3]),
    state_bytes_max=st.sampled_from([0, 1 << 28]),
    seed=st.integers(0, 1 << 16),
)
@example(
    Shape(("sessions", 5), EARLY_AND_LATE, 10, True, min, path="group"),
    [Step(1, [("a", 0, 1), ("a", 3, 2)], 9, 2)] * 3,
    *(1, 1, 0, 0),
)
@example(
    Shape(("fixed", 10, 0), ALL_BY_CLOCK, 0, False, path="group"),
    [Step(0, [("a", 0, 0)], 0, 1), Step(1, [], 0, 1)],
    *(1, 1, 0, 0),
)
@example(
    Shape(("fixed", 10, 0), ("watermark", ("count", 1), None), 0, False, on_time=False, closing=True, path="group"),
    [Step(0, [("a", 0, 1)], 30, 1)],
    *(1, 1, 0, 0),
)
@example(
    Shape(("touching", 4), ("or", ONE_BY_ONE, ONE_BY_ONE), 0, False, path="group"),
    [Step(0, [("a", 0, 1), ("a", 20, 2), ("a", 0, 3)], 0, 1)],
    *(1, 1, 0, 0),
)
def test_each_pane_is_that_of_the_reference_model(
    shape: Shape, script: Sequence[Step], workers: int, partitions: int, state_bytes_max: int, seed: int
) -> None:
    log = sf.open_log("memory://")
    make_topic(log, partitions=2)
    p = shape.pipeline(1000, partitions=partitions, state_bytes_max=state_bytes_max)
    model, cluster = shape.model(), Cluster(p, log, workers, seed, trouble=0.1 * (seed % 3))
    expected: list[list[Any]] = []
    now_s, watermark_s = 0, shape.base_s - 10
    for step in script:
        now_s, watermark_s = now_s + step.later_s, watermark_s + step.watermark_s
        cluster.clock.advance(step.later_s)
        events = [(key, shape.base_s + at, value) for key, at, value in step.events]
        expected += model.play(now_s, events, watermark_s)
        size = 1 if shape.one_by_one else max(1, -(-len(events) // step.parts))
        for begin in range(0, len(events), size):
            publish(log, events[begin : begin + size])
            if begin + size < len(events):
                cluster.settle()
        log.advance_watermark("in", watermark_s * S)
        cluster.settle()
        assert ordered(read_events(log)) == ordered(expected)
    end_topic(log)
    cluster.settle()
    expected += model.play(now_s, [], END)
    assert ordered(read_events(log)) == ordered(expected)
    assert cluster.total("dropped") == model.dropped
    assert cluster.total("dead_lettered") == 0
    cluster.finish()


def publish(log: Any, events: Sequence[tuple[str, int, int]]) -> None:
    """Those of one key to one partition, which keeps their order."""
    for partition in (0, 1):
        here = [event for event in events if (event[0] == "b") == partition]
        if here:
            payloads = [{"k": key, "v": value} for key, _, value in here]
            publish_json(log, payloads, [at * S for _, at, _ in here], partition=partition)


def ordered(panes: Sequence[Any]) -> list[list[Any]]:
    return sorted((list(pane) for pane in panes), key=repr)


@dataclass(frozen=True)
class Arrival:
    """An event, and how many seconds of event time others may be ahead of it when it comes."""

    key: str
    at: int
    value: int
    behind_s: float


DISORDER_S = 10
LATENESS_S = 7


def orders(allowed_s: float) -> st.SearchStrategy[list[Arrival]]:
    arrivals = st.builds(
        Arrival, st.sampled_from("abc"), st.integers(-20, 60), st.integers(0, 9), st.floats(0, allowed_s)
    )
    return st.lists(arrivals, min_size=1, max_size=25)


def final(window: Any, accumulating: bool, panes: Sequence[Sequence[Any]]) -> list[Any]:
    """What is in each window in the end: of all panes of those that have become one what is new, or the newest."""
    groups: dict[str, list[list[Any]]] = defaultdict(list)
    for key, start, end, *_ in panes:
        near = [each for each in groups[key] if (start, end) == tuple(each) or meets(window, *each, start, end)]
        groups[key] = [each for each in groups[key] if each not in near]
        groups[key].append([min([start, *(e[0] for e in near)]), max([end, *(e[1] for e in near)])])
    found = []
    for key, bounds in groups.items():
        for start, end in bounds:
            inside = [p for p in panes if p[0] == key and start <= p[1] and p[2] <= end]
            if window[0] not in ("sessions", "touching"):
                inside = [p for p in inside if (p[1], p[2]) == (start, end)]
            newest = max((p for p in inside if (p[1], p[2]) == (start, end)), key=lambda p: p[4])
            values = newest[-1] if accumulating else sorted(value for p in inside for value in p[-1])
            found.append([key, start, end, values])
    return sorted(found)


@settings(max_examples=EXAMPLES or 150)
@given(
    shape=shapes,
    trigger=safe_trigger,
    arrivals=orders(DISORDER_S + LATENESS_S),
    lateness_s=st.sampled_from([LATENESS_S, 100]),
    batch=st.sampled_from([1, 2, 7, 100]),
    step_events_max=st.sampled_from([1, 3, 1000]),
    workers=st.sampled_from([1, 3]),
    partitions=st.sampled_from([1, 3]),
    seed=st.integers(0, 1 << 16),
)
def test_final_panes_depend_on_no_order_batch_worker_or_death(
    shape: Shape,
    trigger: Any,
    arrivals: Sequence[Arrival],
    lateness_s: int,
    batch: int,
    step_events_max: int,
    workers: int,
    partitions: int,
    seed: int,
) -> None:
    """Events come in any order in which none is later than disorder and lateness together allow."""
    shape = replace(shape, trigger=trigger, lateness_s=lateness_s)
    log = sf.open_log("memory://")
    make_topic(log, partitions=2)
    p = shape.pipeline(DISORDER_S, partitions=partitions, step_events_max=step_events_max)
    cluster = Cluster(p, log, workers, seed, trouble=0.1 * (seed % 3))
    ordered_ = sorted(arrivals, key=lambda each: each.at + each.behind_s)
    for begin in range(0, len(ordered_), batch):
        cluster.clock.advance(seed % 2)
        for each in ordered_[begin : begin + batch]:
            event = {"k": each.key, "v": each.value}
            publish_json(log, [event], [(shape.base_s + each.at) * S], partition=each.value % 2)
        cluster.settle()
    end_topic(log)
    cluster.settle()
    model = shape.model()
    panes = model.play(0, [(each.key, shape.base_s + each.at, each.value) for each in arrivals], -END)
    expected = final(shape.window, shape.accumulating, panes + model.play(0, [], END))
    assert final(shape.window, shape.accumulating, read_events(log)) == expected
    assert (cluster.total("dropped"), cluster.total("dead_lettered")) == (0, 0)
    cluster.finish()


@settings(max_examples=EXAMPLES // 20 or 8)
@given(
    shape=shapes,
    trigger=safe_trigger,
    arrivals=orders(DISORDER_S),
    batch=st.sampled_from([1, 7]),
    workers=st.sampled_from([1, 3]),
    drains=st.sets(st.integers(0, 4)),
)
def test_workers_in_threads_give_the_same_final_panes(
    shape: Shape, trigger: Any, arrivals: Sequence[Arrival], batch: int, workers: int, drains: set[int]
) -> None:
    log = sf.open_log("memory://")
    make_topic(log, partitions=2)
    shape = replace(shape, trigger=trigger)
    p = shape.pipeline(1000, partitions=2, step_events_max=3)
    for i, begin in enumerate(range(0, len(arrivals), batch)):
        publish(log, [(each.key, shape.base_s + each.at, each.value) for each in arrivals[begin : begin + batch]])
        if i in drains:
            p.run(on=log, until="drained")
    end_topic(log)
    plan = launch(p, log, p.settings)
    running = [Worker(plan, log, None, until=lambda snapshot: is_finished(plan, snapshot)) for _ in range(workers)]
    threads = [threading.Thread(target=worker.run) for worker in running]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model = shape.model()
    panes = model.play(0, [(each.key, shape.base_s + each.at, each.value) for each in arrivals], -END)
    expected = final(shape.window, shape.accumulating, panes + model.play(0, [], END))
    assert final(shape.window, shape.accumulating, read_events(log)) == expected
