"""How the tests publish to a log, run pipelines on it and look at what came out. No test of its own lives here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson
import polars as pl

import streamflow as sf
from streamflow.topics import codec
from streamflow.topics.protocol import Kind, Log, Record, TopicConfig, TopicLog

SECOND_US = 1_000_000


def make_topic(log: Log, topic: str = "in", *, partitions: int = 4) -> str:
    log.create_topic(topic, TopicConfig(partitions=partitions))
    return topic


def publish_json(
    log: Log,
    events: Sequence[Mapping[str, Any] | bytes],
    times_us: Sequence[int] | None = None,
    *,
    topic: str = "in",
    partition: int = 0,
) -> None:
    """One record of JSON events; bytes are taken as they are."""
    raws = [event if isinstance(event, bytes) else orjson.dumps(event) for event in events]
    log.publish([codec.encode_json(topic, partition, raws, times_us or [0] * len(raws))])


def publish_frame(
    log: Log, frame: pl.DataFrame, times_us: Sequence[int] | None = None, *, topic: str = "in", partition: int = 0
) -> None:
    """One envelope. `_time` is `times_us`, or 0 for all."""
    times = pl.Series("_time", times_us or [0] * frame.height, dtype=pl.Int64)
    log.publish([codec.encode_frame(topic, partition, frame.with_columns(times))])


def end_topic(log: Log, topic: str = "in") -> None:
    sf.Publisher(log, topic).end()


def records(log: TopicLog, topic: str) -> list[Record]:
    """Everything kept of a topic, partition by partition."""
    return [
        record for partition in range(log.topic(topic).config.partitions) for record in log.read(topic, partition, 0)
    ]


def read_events(log: TopicLog, topic: str = "out") -> list[Any]:
    """What was published: dicts of an envelope's columns, parsed JSON events."""
    events: list[Any] = []
    for record in records(log, topic):
        frame = codec.decode(record)
        if record.kind is Kind.ARROW:
            events += frame.drop(codec.TIME).to_dicts()
        else:
            events += map(orjson.loads, frame[codec.JSON].to_list())
    return events


def read_times_us(log: Log, topic: str = "out") -> list[int]:
    return [time_us for record in records(log, topic) for time_us in codec.decode(record)[codec.TIME].to_list()]


def dead_letters(log: Log, pipeline: str = "pipeline") -> list[dict[str, Any]]:
    """In order of offset."""
    return sorted(read_events(log, f"{pipeline}.dead-letter"), key=lambda letter: letter["offset"])


def collected(build: Callable[[sf.Pipeline], Any], settings: sf.Settings | None = None) -> list[Any]:
    """The elements of the PCollection that `build` returns, run in this process on a log of its own."""
    elements: list[Any] = []
    pipeline = sf.Pipeline(settings=settings)
    build(pipeline) | "Collect" >> sf.Map(elements.append)
    pipeline.run()
    return elements


def ordered(events: Iterable[Any]) -> list[Any]:
    """Any order will do, as long as equal collections give equal lists."""
    return sorted(events, key=repr)


def newest(rows: Iterable[Mapping[str, Any]], key: Sequence[str], panes: Sequence[str]) -> dict[Any, dict[str, Any]]:
    """Of accumulating panes the last one per key: that with the greatest values of `panes`, which only grow."""
    latest: dict[Any, dict[str, Any]] = {}
    for row in rows:
        of_key = tuple(row[name] for name in key)
        if of_key not in latest or [row[p] for p in panes] > [latest[of_key][p] for p in panes]:
            latest[of_key] = dict(row)
    return latest
