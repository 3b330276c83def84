"""The inputs of a simulated run, cut into deliveries: batches of topics' events and of given values, in another order
and size each time. Only orders that no promise forbids: values of Create in any, events of a topic as far from the
order of their times as the `disorder` of its reader allows.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from random import Random
from typing import Any, TypeVar

import orjson

from streamflow.base.errors import PipelineError
from streamflow.engine.outputs import json_event
from streamflow.engine.plan import Stage
from streamflow.model.batch import Elements
from streamflow.model.time import MAX_US, timestamp_us
from streamflow.model.window import TimestampedValue
from streamflow.runtime.launch import publish_elements, timed
from streamflow.testing.adversary import Delivery
from streamflow.topics.protocol import Log
from streamflow.topics.publisher import Publisher
from streamflow.transforms.collections import Create
from streamflow.transforms.io import Message, ReadFromTopic

BATCHES_MAX = 25
"""Of an input, about: more would only make runs longer."""
PUBLISHER = "simulation"
T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """`time_us`: as its reader will see it."""

    topic: str
    document: bytes
    time_us: int
    key: bytes | None
    attributes: Mapping[str, str] | None


Inputs = Mapping[str, Sequence[Event]]


def parsed(inputs: Mapping[str, Sequence[Any]], sources: Sequence[ReadFromTopic]) -> Inputs:
    """The events of each topic that is read. PipelineError if the two do not fit together."""
    readers = {source.topic: source for source in sources}
    for topic in readers.keys() ^ inputs.keys():
        raise PipelineError(
            f"topic '{topic}' is read, but has no events. Give them as inputs={{'{topic}': […]}}."
            if topic in readers
            else f"inputs has events for topic '{topic}', which the pipeline does not read."
        )
    return {topic: [_event(readers[topic], value) for value in values] for topic, values in inputs.items()}


def _event(reader: ReadFromTopic, value: Any) -> Event:
    time_us, key, attributes = 0, None, None
    if isinstance(value, TimestampedValue):
        time_us, value = value.time_us, value.value
    if isinstance(value, Message):
        value, key, attributes = value.data, value.key, value.attributes
    document = json_event(value)
    if reader.event_time is not None:
        time_us = _field_us(document, reader.event_time)
    return Event(reader.topic, document, time_us, key, attributes)


def _field_us(document: bytes, name: str) -> int:
    """Of an event that has no such time, 0: it will be a bad one wherever it comes."""
    try:
        value = orjson.loads(document)[name]
        return value if isinstance(value, int) else timestamp_us(datetime.fromisoformat(value))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return 0


def late_events(events: Sequence[Event], disorder_us: int) -> int:
    """How many come later than the disorder allows, in the order given."""
    newest, late = None, 0
    for event in events:
        newest = event.time_us if newest is None else max(newest, event.time_us)
        late += event.time_us < newest - disorder_us
    return late


def of_topics(
    inputs: Inputs, disorders_us: Mapping[str, int], log: Log, random: Random, *, quiet: bool
) -> deque[Delivery]:
    """All topics together, in the order of time, so that none is behind another; then they end."""
    ordered = _ordered(inputs, disorders_us, random, quiet=quiet)
    runs = [list(run) for _, run in groupby(ordered, key=lambda event: event.topic)]
    batches = [batch for run in runs for batch in _cut(run, random, quiet=quiet)]
    publishers = {topic: Publisher(log, topic, name=PUBLISHER) for topic in inputs}
    deliveries = deque(_batch(publishers[b[0].topic], b, sequence) for sequence, b in enumerate(batches))
    for topic in inputs:
        deliveries.append(_end(log, topic))
    return deliveries


def _ordered(inputs: Inputs, disorders_us: Mapping[str, int], random: Random, *, quiet: bool) -> Sequence[Event]:
    """Where events are late already as they were given, their topic stays in that order."""
    slack_us = 0 if quiet else min(disorders_us.values(), default=0)
    keyed: list[tuple[float, float, Event]] = []
    for topic, events in inputs.items():
        late, newest_us = late_events(events, disorders_us[topic]), 0
        for position, event in enumerate(events):
            newest_us = max(newest_us, event.time_us) if position else event.time_us
            if quiet or late:
                keyed.append((newest_us, position, event))
            else:
                keyed.append((event.time_us + random.uniform(0, slack_us), random.random(), event))
    return [event for *_, event in sorted(keyed, key=lambda item: item[:2])]


def _batch(publisher: Publisher, events: Sequence[Event], sequence: int) -> Delivery:
    documents, times_us = [event.document for event in events], [event.time_us for event in events]
    keyed = any(event.key is not None for event in events)
    keys = [event.key for event in events] if keyed else None
    attributes = [event.attributes for event in events]
    return Delivery(
        f"{len(events)} events are published to '{publisher.topic}'",
        lambda: publisher.publish_batch(documents, times_us, keys, attributes, sequence=sequence),
    )


def _end(log: Log, topic: str) -> Delivery:
    return Delivery(f"'{topic}' is ended", lambda: log.advance_watermark(topic, MAX_US))


def of_values(stage: Stage, log: Log, random: Random, *, quiet: bool) -> deque[Delivery]:
    """The values of a Create; then it ends."""
    transform = stage.node.transform
    assert isinstance(transform, Create)
    values = list(transform.values)
    if not quiet:
        random.shuffle(values)
    cuts = _cut(values, random, quiet=quiet)
    batches = deque(_given(stage, log, timed(batch), sequence) for sequence, batch in enumerate(cuts))
    batches.append(_end(log, stage.topic))
    return batches


def _given(stage: Stage, log: Log, elements: Elements, sequence: int) -> Delivery:
    words = f"{len(elements)} values of '{stage.node.label}' are given"
    return Delivery(words, lambda: publish_elements(log, stage, elements, sequence))


def _cut(items: Sequence[T], random: Random, *, quiet: bool) -> list[Sequence[T]]:
    """Batches of all sizes, mostly small; a quiet run has one."""
    if quiet or not items:
        return [items] if items else []
    largest = max(2, 2 * len(items) // BATCHES_MAX, random.choice((1, 4, len(items))))
    batches, begin = [], 0
    while begin < len(items):
        size = random.randint(1, largest)
        batches.append(items[begin : begin + size])
        begin += size
    return batches
