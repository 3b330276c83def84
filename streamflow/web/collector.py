"""Prometheus metrics of a pipeline, made from one snapshot of the log when they are asked for.

Counters are what tasks have committed, so they are exact, survive any crash, and one scrape shows all workers.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from streamflow.base import metrics as m
from streamflow.base.clock import Clock
from streamflow.engine.plan import Plan
from streamflow.engine.task import SECONDS_BUCKETS
from streamflow.model.time import MAX_US, MIN_US
from streamflow.runtime.progress import stage_tasks
from streamflow.topics.protocol import Backlog, Log, Snapshot, TaskState

_COUNTERS = {
    "events_in": m.EVENTS_IN,
    "events_out": m.EVENTS_OUT,
    "late": m.EVENTS_LATE,
    "dropped": m.EVENTS_DROPPED,
    "dead_lettered": m.EVENTS_DEAD_LETTERED,
    "state_bytes_spilled": m.STATE_SPILLED_BYTES,
    "state_bytes_read": m.STATE_READ_BYTES,
}
_GAUGES = {"state_bytes_keyed": m.STATE_KEYED_BYTES}
_HISTOGRAMS = {"step_seconds": m.STEP_SECONDS, "commit_seconds": m.COMMIT_SECONDS}


class PipelineCollector(Collector):
    """`wanted`: how many workers there should be, as the supervisor sees it."""

    def __init__(self, plan: Plan, log: Log, clock: Clock, wanted: Callable[[], int]) -> None:
        self.plan, self.log, self.clock, self.wanted = plan, log, clock, wanted

    def collect(self) -> Iterator[Family]:
        snapshot = self.log.snapshot(self.plan.pipeline)
        tasks = {stage.name: stage_tasks(snapshot, stage.name) for stage in self.plan.stages}
        yield from self._counters(tasks)
        yield from self._histograms(tasks)
        yield from self._backlogs(tasks)
        yield self._lags(tasks)
        yield from self._workers(snapshot, tasks)

    def _counters(self, tasks: dict[str, list[TaskState]]) -> Iterator[Family]:
        kinds = [(CounterMetricFamily, _COUNTERS), (GaugeMetricFamily, _GAUGES)]
        for kind, name, metric in ((kind, *item) for kind, metrics in kinds for item in metrics.items()):
            family = kind(metric.name, metric.help, labels=metric.labels)
            for stage, states in tasks.items():
                family.add_metric([self.plan.pipeline, stage], _sum(states, name))
            yield family

    def _histograms(self, tasks: dict[str, list[TaskState]]) -> Iterator[Family]:
        for name, metric in _HISTOGRAMS.items():
            family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
            for stage, states in tasks.items():
                total, buckets = 0.0, []
                for bound in (*SECONDS_BUCKETS, float("inf")):
                    total += _sum(states, f"{name}_le:{bound:g}")
                    buckets.append(("+Inf" if bound == float("inf") else f"{bound:g}", total))
                family.add_metric([self.plan.pipeline, stage], buckets, _sum(states, f"{name}_sum"))
            yield family

    def _backlogs(self, tasks: dict[str, list[TaskState]]) -> Iterator[Family]:
        wanted = (m.BACKLOG_EVENTS, m.BACKLOG_BYTES, m.BACKLOG_OLDEST_AGE_SECONDS)
        families = [GaugeMetricFamily(metric.name, metric.help, labels=metric.labels) for metric in wanted]
        for stage in self.plan.stages:
            total = Backlog(0, 0, 0.0)
            for state in tasks[stage.name]:
                total += self.log.backlog(stage.topic, state.task.partition, state.offset)
            for family, value in zip(families, (total.events, total.bytes, total.oldest_age_s), strict=True):
                family.add_metric([self.plan.pipeline, stage.name, stage.topic], value)
        yield from families

    def _lags(self, tasks: dict[str, list[TaskState]]) -> Family:
        """Stages that have not seen an event yet have no lag; ended ones have none left."""
        metric = m.WATERMARK_LAG_SECONDS
        family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
        now_us = self.clock.now_us()
        for stage, states in tasks.items():
            known = [state.watermark_us for state in states if state.watermark_us > MIN_US]
            if known and self.plan.stage(stage).kind != "sink":
                oldest = min(known)
                family.add_metric(
                    [self.plan.pipeline, stage], 0.0 if oldest >= MAX_US else max(0.0, (now_us - oldest) / 1e6)
                )
        return family

    def _workers(self, snapshot: Snapshot, tasks: dict[str, list[TaskState]]) -> Iterator[Family]:
        for metric, value in ((m.WORKERS, len(snapshot.workers)), (m.WORKERS_WANTED, self.wanted())):
            family = GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
            family.add_metric([self.plan.pipeline], value)
            yield family
        family = GaugeMetricFamily(m.TASKS.name, m.TASKS.help, labels=m.TASKS.labels)
        for stage, states in tasks.items():
            counts: dict[str, int] = defaultdict(int)
            for state in states:
                counts["owned" if state.owner else "assigned" if state.assigned else "unassigned"] += 1
            for name, count in counts.items():
                family.add_metric([self.plan.pipeline, stage, name], count)
        yield family


def _sum(states: Iterable[TaskState], counter: str) -> float:
    return sum(state.counters.get(counter, 0) for state in states)
