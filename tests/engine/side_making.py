"""Pipelines with side inputs over two topics, and what they must give. No test of its own lives here."""

from collections.abc import Iterable, Sequence
from typing import Any

from pipelines import make_topic, publish_json

import streamflow as sf
from streamflow.topics.protocol import Log

SCHEMA = {"v": int, "at": int}
MAIN, SIDE = "in", "side"
WINDOW_S = 10


def read(p: sf.Pipeline, topic: str, windowing: Any, *, disorder: float = 0, **options: Any) -> Any:
    """The values of the topic, in windows (None: in the global one)."""
    rows = p | f"Read {topic}" >> sf.ReadFromTopic(topic, schema=SCHEMA, event_time="at", disorder=disorder, **options)
    values = rows | f"Values of {topic}" >> sf.Map(lambda row: row["v"])
    return values if windowing is None else values | f"Windows of {topic}" >> windowing


def publish(log: Log, topic: str, events: Iterable[tuple[int, float]], partition: int = 0) -> None:
    """(value, event time in seconds)."""
    publish_json(log, [{"v": v, "at": round(s * 1e6)} for v, s in events], topic=topic, partition=partition)


def make_topics(log: Log, partitions: int = 1) -> None:
    make_topic(log, MAIN, partitions=partitions)
    make_topic(log, SIDE, partitions=partitions)


def window_of(seconds: float, size_s: int = WINDOW_S) -> float:
    return seconds // size_s * size_s


def in_window(events: Sequence[tuple[int, float]], start: float, size_s: int = WINDOW_S) -> list[int]:
    return sorted(v for v, seconds in events if start <= seconds < start + size_s)
