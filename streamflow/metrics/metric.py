"""Apache Beam's module of this name: counters, distributions and gauges of users' functions, and queries for them.

    class Words(sf.DoFn):
        def __init__(self):
            self.empty = Metrics.counter("words", "empty_lines")

        def process(self, line):
            if not line:
                self.empty.inc()

    result.metrics().query(MetricsFilter().with_name("empty_lines"))["counters"][0].committed

What a step counts is part of its commit: after a crash and its repetition each element has counted once. An element
that fails has counted what it did before. Outside of a step (in `setup`, in a test of the function alone) nothing is
counted.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

from streamflow.base.errors import PipelineError
from streamflow.model.time import Timestamp
from streamflow.model.user_metrics import RECORDER, Number

__all__ = [
    "DistributionResult",
    "GaugeResult",
    "MetricKey",
    "MetricName",
    "MetricResult",
    "MetricResults",
    "Metrics",
    "MetricsFilter",
]


class MetricName(NamedTuple):
    namespace: str
    name: str


class MetricKey(NamedTuple):
    """`step`: the label of the transform whose function counted."""

    step: str
    metric: MetricName


@dataclass(frozen=True)
class _Metric:
    metric_name: MetricName

    def _record(self, part: str, value: float) -> None:
        if (recorder := RECORDER.get()) is not None:
            recorder.record(part, *self.metric_name, value)


class _Counter(_Metric):
    def inc(self, n: int = 1) -> None:
        self._record("counter", n)

    def dec(self, n: int = 1) -> None:
        self._record("counter", -n)


class _Distribution(_Metric):
    def update(self, value: float) -> None:
        for part, number in (("sum", value), ("count", 1), ("min", value), ("max", value)):
            self._record(part, number)


class _Gauge(_Metric):
    def set(self, value: float) -> None:
        if (recorder := RECORDER.get()) is not None:
            self._record("gauge", value)
            self._record("gauge_at", recorder.now_us)


class Metrics:
    """Makes metrics. `namespace`: a text or a class."""

    @staticmethod
    def get_namespace(namespace: str | type) -> str:
        if isinstance(namespace, type):
            return f"{namespace.__module__}.{namespace.__name__}"
        if not isinstance(namespace, str):
            raise PipelineError(f"a metric's namespace is a text or a class, not {namespace!r}.")
        return namespace

    @staticmethod
    def counter(namespace: str | type, name: str) -> _Counter:
        """A sum: `inc(n=1)`, `dec(n=1)`."""
        return _Counter(_name(namespace, name))

    @staticmethod
    def distribution(namespace: str | type, name: str) -> _Distribution:
        """Sum, count, least and greatest of what `update(value)` gets."""
        return _Distribution(_name(namespace, name))

    @staticmethod
    def gauge(namespace: str | type, name: str) -> _Gauge:
        """The newest of what `set(value)` gets."""
        return _Gauge(_name(namespace, name))


def _name(namespace: str | type, name: str) -> MetricName:
    metric = MetricName(Metrics.get_namespace(namespace), name)
    if not name or any("\t" in part for part in metric):
        raise PipelineError(f"{name!r} can't be a metric's name. Give a text without tabs.")
    return metric


@dataclass(frozen=True)
class DistributionResult:
    """What a distribution has come to."""

    sum: float
    count: int
    min: float
    max: float

    @property
    def mean(self) -> float:
        return self.sum / self.count


@dataclass(frozen=True)
class GaugeResult:
    """What a gauge was set to last, and when."""

    value: float
    timestamp: Timestamp


@dataclass(frozen=True)
class MetricResult:
    """A metric of one transform. `committed` and `attempted` are the same: only what is committed counts."""

    key: MetricKey
    committed: Any

    @property
    def attempted(self) -> Any:
        return self.committed

    @property
    def result(self) -> Any:
        return self.committed


class MetricsFilter:
    """Which metrics are wanted: those of one of the names, and of one of the namespaces, and of one of the steps, as
    far as they are given. A step is also meant by the label of what it stands in: "Count" for "Count/Format"."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.namespaces: set[str] = set()
        self.steps: set[str] = set()

    def with_name(self, name: str) -> Self:
        return self.with_names([name])

    def with_names(self, names: Iterable[str]) -> Self:
        self.names.update(_texts(names))
        return self

    def with_namespace(self, namespace: str | type) -> Self:
        return self.with_namespaces([namespace])

    def with_namespaces(self, namespaces: Iterable[str | type]) -> Self:
        if isinstance(namespaces, str):
            raise PipelineError(f"a collection of namespaces is wanted, not the text {namespaces!r}.")
        self.namespaces.update(map(Metrics.get_namespace, namespaces))
        return self

    def with_step(self, step: str) -> Self:
        return self.with_steps([step])

    def with_steps(self, steps: Iterable[str]) -> Self:
        self.steps.update(_texts(steps))
        return self

    def matches(self, key: MetricKey) -> bool:
        step = f"/{key.step}/"
        return (
            (not self.names or key.metric.name in self.names)
            and (not self.namespaces or key.metric.namespace in self.namespaces)
            and (not self.steps or any(f"/{each}/" in step for each in self.steps))
        )


def _texts(values: Iterable[str]) -> Iterable[str]:
    if isinstance(values, str):
        raise PipelineError(f"a collection of texts is wanted, not the text {values!r}.")
    return values


class MetricResults:
    """What a run's functions have counted."""

    COUNTERS, DISTRIBUTIONS, GAUGES = "counters", "distributions", "gauges"

    def __init__(self, numbers: Mapping[Number, float]) -> None:
        self._numbers = numbers

    def query(self, filter: MetricsFilter | None = None) -> dict[str, list[MetricResult]]:
        """The results under "counters", "distributions" and "gauges", by step and name."""
        found: dict[str, list[MetricResult]] = {self.COUNTERS: [], self.DISTRIBUTIONS: [], self.GAUGES: []}
        for number, value in sorted(self._numbers.items()):
            key = MetricKey(number.step, MetricName(number.namespace, number.name))
            if filter is not None and not filter.matches(key):
                continue
            if number.part == "counter":
                found[self.COUNTERS].append(MetricResult(key, int(value)))
            elif number.part == "count":
                total, least, most = (self._numbers[number._replace(part=part)] for part in ("sum", "min", "max"))
                result = DistributionResult(_whole(total), int(value), _whole(least), _whole(most))
                found[self.DISTRIBUTIONS].append(MetricResult(key, result))
            elif number.part == "gauge":
                at_us = int(self._numbers[number._replace(part="gauge_at")])
                result_of_gauge = GaugeResult(_whole(value), Timestamp(micros=at_us))
                found[self.GAUGES].append(MetricResult(key, result_of_gauge))
        return found


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value
