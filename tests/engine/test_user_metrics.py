"""Metrics of users' functions: part of the step's commit, so that a crash changes no number."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import streamflow as sf
from streamflow.metrics import Metrics, MetricsFilter
from streamflow.model.user_metrics import Number, numbers


class Watching(sf.DoFn):
    def __init__(self) -> None:
        self.seen = Metrics.counter("watch", "seen")
        self.size = Metrics.distribution(Watching, "size")
        self.last = Metrics.gauge("watch", "last")

    def process(self, element: int) -> Iterator[int]:
        self.seen.inc()
        self.size.update(element)
        self.last.set(7)
        yield element


def run(build: Any) -> Any:
    pipeline = sf.Pipeline()
    build(pipeline)
    return pipeline.run().metrics()


def test_what_functions_count_can_be_asked_for_by_name_namespace_and_step() -> None:
    metrics = run(lambda p: p | sf.Create([0, 5, 2]) | "A" >> sf.ParDo(Watching()) | "B" >> sf.ParDo(Watching()))
    for step in ("A", "B"):
        found = metrics.query(MetricsFilter().with_step(step))
        (seen,), (size,), (last,) = found["counters"], found["distributions"], found["gauges"]
        assert (seen.committed, seen.attempted, seen.key.step, seen.key.metric) == (3, 3, step, ("watch", "seen"))
        assert (size.result.sum, size.result.count, size.result.min, size.result.max) == (7, 3, 0, 5)
        assert size.result.mean == 7 / 3
        assert size.key.metric.namespace.endswith(".Watching")
        assert last.result.value == 7
    assert len(metrics.query()["counters"]) == 2
    assert metrics.query(MetricsFilter().with_name("seen").with_namespace("other"))["counters"] == []


class Counting(sf.CombineFn):
    seen = Metrics.counter("fn", "added")

    def create_accumulator(self) -> int:
        return 0

    def add_input(self, accumulator: int, element: int) -> int:
        self.seen.inc()
        return accumulator + element

    def merge_accumulators(self, accumulators: Any) -> int:
        return sum(accumulators)

    def extract_output(self, accumulator: int) -> int:
        return accumulator


def counting(element: int) -> int:
    Metrics.counter("fn", "mapped").inc(element)
    return 1 // element


async def waiting(element: int) -> int:
    await asyncio.sleep(0)
    Metrics.counter("fn", "awaited").inc()
    return element


@pytest.mark.parametrize(
    ("transform", "name", "count"),
    [
        (sf.CombineGlobally(Counting()), "added", 3),
        (sf.Map(counting), "mapped", 3),  # what fails has counted what it did before
        (sf.Map(waiting), "awaited", 3),
    ],
)
def test_all_kinds_of_functions_count(transform: sf.PTransform, name: str, count: int) -> None:
    metrics = run(lambda p: p | sf.Create([0, 1, 2]) | "Step" >> transform)
    (result,) = metrics.query(MetricsFilter().with_name(name))["counters"]
    assert (result.committed, result.key.step) == (count, "Step")


def test_a_later_run_goes_on_counting_where_the_committed_state_is(tmp_path: Any) -> None:
    log = sf.open_log(tmp_path / "log")
    log.create_topic("in", sf.TopicConfig(partitions=2))

    def run_on(events: list[int]) -> Any:
        publisher = sf.Publisher(log, "in")
        for event in events:
            publisher.publish({"v": event})
        publisher.close()
        p = sf.Pipeline("counted", on=log)
        p | sf.ReadFromTopic("in") | sf.Map(lambda event: event["v"]) | sf.ParDo(Watching())
        return p.run(until="drained").metrics().query()

    run_on([4, 9])
    found = run_on([1])
    assert found["counters"][0].committed == 3
    assert (found["distributions"][0].result.min, found["distributions"][0].result.max) == (1, 9)
    log.close()


def test_of_the_tasks_gauges_the_one_set_last_counts() -> None:
    value, at = Number("gauge", "S", "n", "g"), Number("gauge_at", "S", "n", "g")
    assert numbers([{value.key: 5, at.key: 20}, {value.key: 9, at.key: 10}])[value] == 5


def test_outside_of_a_step_nothing_is_counted_and_a_name_is_checked() -> None:
    assert list(Watching().process(3)) == [3]
    with pytest.raises(sf.PipelineError, match="without tabs"):
        Metrics.counter("a", "b\tc")
    with pytest.raises(sf.PipelineError, match="namespace"):
        Metrics.counter(3, "b")  # type: ignore[arg-type]
