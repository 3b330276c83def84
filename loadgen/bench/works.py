"""The works that can be measured: one registry, a line of help each.

To add one that measures StreamFlow alone: a module in `alone/` and an entry here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadgen.bench.result import OURS
from streamflow.base.errors import DataError

PEERS = ("flink", "spark", "bytewax", "bytewax-rows", "pathway")
"""Systems that run in environments of their own."""


@dataclass(frozen=True)
class Work:
    """What is measured, and how big it is unless told otherwise.

    `module`: of a work with runners of its own (see `alone/__init__.py`); None: all systems answer it. `systems`: whom
    such a work measures beside each other. `inputs`: it needs the input files. `options`: command-line options that it
    takes, with their defaults. `varied` is measured at each of `points`, in one round. `rated`: events per second say
    something about it.
    """

    help: str
    module: str | None = None
    events: int = 5_000_000
    repeat: int = 1
    inputs: bool = False
    options: Mapping[str, float] = field(default_factory=dict)
    varied: str | None = None
    points: Sequence[int] = ()
    rated: bool = True
    systems: Sequence[str] = (OURS,)

    def parameters(self, given: Mapping[str, float], points: Sequence[int]) -> list[dict[str, float]]:
        """Of each run of a round. `given` over the defaults, as far as the work takes them; `points` over its own."""
        fixed = {name: given.get(name, default) for name, default in self.options.items()}
        if self.varied is None:
            return [fixed]
        return [{**fixed, self.varied: point} for point in points or self.points]


def _compared(help: str) -> Work:
    return Work(help, repeat=3, inputs=True)


def _growth(help: str, varied: str, points: Sequence[int], **options: float) -> Work:
    return Work(help, "loadgen.bench.alone.growth", 1_000_000, options=options, varied=varied, points=points)


def _acks(help: str) -> Work:
    return Work(help, "loadgen.bench.alone.acks", 500_000, varied="lease", points=(1, 10, 100, 1_000))


def _kafka(help: str) -> Work:
    return Work(help, "loadgen.bench.alone.kafka", 500_000, repeat=3, systems=(OURS, "aiokafka", "confluent"))


_PUBLISH, _CONSUME, _SCALE = (f"loadgen.bench.alone.{name}" for name in ("publish", "consume", "scale"))
_LATENCY, _RECOVERY, _IDLE = (f"loadgen.bench.alone.{name}" for name in ("latency", "recovery", "idle"))
_MESSAGES = "loadgen.bench.alone.messages"
_SESSIONS = "loadgen.bench.alone.sessions"
_LOAD = {"rate": 50_000.0, "duration_s": 20.0}
_STATE = {"keys": 1_000_000.0}

WORKS: Mapping[str, Work] = {
    "W1-json": _compared("views per campaign and 10 s window, from JSON events"),
    "W1-envelope": _compared("the same from batch envelopes (the others: Parquet)"),
    "W2-json": _compared("count and sum per user (a million) and 10 s window, from JSON events"),
    "W2-envelope": _compared("the same from batch envelopes (the others: Parquet)"),
    "publish-json": Work("one process, JSON events into a durable topic, fsync per batch", _PUBLISH, 2_000_000),
    "publish-envelope": Work("the same with batch envelopes", _PUBLISH, 2_000_000),
    "consume-json": Work("one process reads and decodes a topic of JSON events", _CONSUME, inputs=True),
    "consume-envelope": Work("the same from batch envelopes", _CONSUME, inputs=True),
    "kafka-publish-json": _kafka("single messages onto Kafka, and how plain clients do it"),
    "kafka-publish-envelope": _kafka("batch envelopes onto Kafka, beside single messages of plain clients"),
    "kafka-consume-json": _kafka("single messages from Kafka, and how plain clients read them"),
    "kafka-consume-envelope": _kafka("batch envelopes from Kafka, beside single messages to plain clients"),
    "acks-in-order": _acks("acks of a subscription, one id a call, leases of so many messages"),
    "acks-random": _acks("the same in any order, with 10,000 messages out"),
    "acks-embedded": Work(
        "acks in a folder, so many ids a call, each durable", _MESSAGES, 200_000, varied="ids", points=(100, 1_000)
    ),
    "client-batches": Work("the async client publishes and acks, 1,000 messages at once", _MESSAGES, 200_000),
    "client-singles": Work("the same, each message awaited before the next", _MESSAGES, 2_000),
    "latency-table": Work("from intended publication to readable in a table, at --rate", _LATENCY, options=_LOAD),
    "latency-rows": Work("the same into wide rows", _LATENCY, options=_LOAD),
    "recovery": Work("a killed worker with --keys of open window state", _RECOVERY, options=_STATE, rated=False),
    "scale-json": Work("W1 with 1 and 2 workers", _SCALE, repeat=3, inputs=True, varied="workers", points=(1, 2)),
    "scale-envelope": Work("the same from envelopes", _SCALE, repeat=3, inputs=True, varied="workers", points=(1, 2)),
    "idle": Work("memory and CPU of a worker with nothing to do", _IDLE, options={"duration_s": 20.0}, rated=False),
    "sessions": Work("events per user and session, with --keys users", _SESSIONS, 5_000_000, repeat=3, options=_STATE),
    "sessions-memory": Work(
        "memory before sessions of --keys users and after ten generations", _SESSIONS, options=_STATE, rated=False
    ),
    "growth-keys": _growth("W2 with so many users", "keys", (1_000, 10_000, 100_000, 1_000_000)),
    "growth-windows": _growth("so many windows open at once, 10 users", "windows", (1, 10, 100, 1_000, 10_000)),
    "growth-partitions": _growth("a topic of so many partitions", "partitions", (1, 10, 100, 1_000)),
    "growth-state": Work(
        "10 million keys in one window, with so many MB for a worker's state: what exceeds it spills",
        "loadgen.bench.alone.growth",
        22_000_000,
        options={"keys": 12_000_000.0},
        varied="state_mb",
        points=(100_000, 256),
    ),
    "growth-topics": _growth("beside so many idle topics", "topics", (1, 10, 100, 1_000)),
    "growth-pipelines": _growth("beside so many idle pipelines", "pipelines", (1, 10, 100, 1_000)),
}


def work_named(name: str) -> Work:
    """DataError, with all names, if there is none."""
    if name not in WORKS:
        raise DataError(f"there is no work '{name}'. Give some of {', '.join(WORKS)}")
    return WORKS[name]


def compared() -> list[str]:
    """Names of the works that all systems answer."""
    return [name for name, work in WORKS.items() if work.module is None]
