"""Dead letters as they lie in a topic, those of pipelines and those of subscriptions, each with the event that it is
about. Only reads; `replay.py` publishes.

A pipeline's letter holds what its transform was given, which other transforms may have made, and says where in the
source the event stands. So the event itself is looked up there, and found as long as the source topic keeps it. A
subscription's letter is the event, with its origin among the attributes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import polars as pl

from streamflow.topics import codec
from streamflow.topics.protocol import Kind, Record, TopicInfo, TopicLog
from streamflow.topics.reading import DEAD_LETTER

READ_BYTES = 4_000_000


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Of one event: where it stands in which topic."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Original:
    """An event as it was published: `data` is a document, or one row of an envelope."""

    published_us: int
    time_us: int
    data: bytes | pl.DataFrame
    key: bytes | None
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Letter:
    """`failed_in`: a transform or a subscription. `input`: what it could not take, parsed if that can be. `original`:
    the event, if the letter holds it itself; else see `Originals`."""

    place: Place
    published_us: int
    failed_in: str
    error: str
    origin: Place
    input: Any
    traceback: str = ""
    original: Original | None = None


def letters(log: TopicLog, topic: str) -> Iterator[Letter]:
    """All that are kept and were there when it was called, in the order of partition and offset. What is no dead letter
    is passed over."""
    ends = [log.end(topic, partition) for partition in range(log.topic(topic).config.partitions)]
    for partition, end in enumerate(ends):
        offset = 0
        while records := log.read(topic, partition, offset, end=end, max_bytes=READ_BYTES):
            for record in records:
                yield from _of_record(record)
            offset = records[-1].end


def _of_record(record: Record) -> Iterator[Letter]:
    if record.kind is not Kind.JSON:
        return
    for nth, row in enumerate(codec.decode(record).iter_rows(named=True)):
        place = Place(record.topic, record.partition, record.offset + nth * record.stride)
        attributes: dict[str, str] = orjson.loads(row.get(codec.ATTRIBUTES) or b"{}")
        if f"{DEAD_LETTER}Subscription" in attributes:
            letter = _of_subscription(place, record.published_us, row, attributes)
        else:
            letter = _of_pipeline(place, record.published_us, row[codec.JSON])
        if letter is not None:
            yield letter


def _of_pipeline(place: Place, published_us: int, document: bytes) -> Letter | None:
    value = parsed(document)
    if not isinstance(value, dict) or not {"error", "transform", "topic", "partition", "offset"} <= value.keys():
        return None
    origin = Place(str(value["topic"]), int(value["partition"]), int(value["offset"]))
    return Letter(
        place,
        published_us,
        str(value["transform"]),
        str(value["error"]),
        origin,
        value.get("input"),
        str(value.get("traceback", "")),
    )


def _of_subscription(
    place: Place, published_us: int, row: Mapping[str, Any], attributes: Mapping[str, str]
) -> Letter | None:
    told = {name.removeprefix(DEAD_LETTER): text for name, text in attributes.items() if name.startswith(DEAD_LETTER)}
    try:
        partition, offset = map(int, told["MessageId"].split("-"))
        origin = Place(told["Topic"], partition, offset)
        first_us = int(told["TopicPublishTime"])
    except (KeyError, ValueError):
        return None
    own = {name: text for name, text in attributes.items() if not name.startswith(DEAD_LETTER)}
    original = Original(first_us, row[codec.TIME], row[codec.JSON], row.get(codec.KEY), own)
    error = f"{told.get('DeliveryCount', '?')} deliveries were not acked"
    return Letter(place, published_us, told["Subscription"], error, origin, parsed(row[codec.JSON]), original=original)


class Originals:
    """Looks events up where they were published. The last record of each partition is kept decoded, since letters
    mostly follow the order of their events."""

    def __init__(self, log: TopicLog) -> None:
        self._log = log
        self._topics: dict[str, TopicInfo] = {info.name: info for info in log.topics()}
        self._records: dict[tuple[str, int], tuple[Record, pl.DataFrame]] = {}

    def of(self, letter: Letter) -> Original | None:
        """None if its source does not keep it any more, or is internal: then it was no event of a topic. Neither is one
        that was published after the letter: that topic was deleted and made anew."""
        if letter.original is not None:
            return letter.original
        info = self._topics.get(letter.origin.topic)
        if info is None or not self.takes(info.name) or not 0 <= letter.origin.partition < info.config.partitions:
            return None
        found = self._record(letter.origin)
        if found is None or found[0].published_us > letter.published_us:
            return None
        record, frame = found
        nth = (letter.origin.offset - record.offset) // record.stride
        row = frame.row(nth, named=True)
        if record.kind is not Kind.JSON:
            return Original(record.published_us, row[codec.TIME], frame[nth : nth + 1], None, {})
        attributes = orjson.loads(row.get(codec.ATTRIBUTES) or b"{}")
        return Original(record.published_us, row[codec.TIME], row[codec.JSON], row.get(codec.KEY), attributes)

    def takes(self, topic: str) -> bool:
        """Whether there is such a topic, and it is not internal."""
        info = self._topics.get(topic)
        return info is not None and not info.config.internal

    def _record(self, place: Place) -> tuple[Record, pl.DataFrame] | None:
        part = (place.topic, place.partition)
        known = self._records.get(part)
        if known is not None and known[0].offset <= place.offset < known[0].end:
            return known
        for record in self._log.read(*part, place.offset, end=place.offset + 1, max_events=1):
            if record.offset <= place.offset < record.end and record.kind is not Kind.MARK:
                self._records[part] = (record, codec.decode(record))
                return self._records[part]
        return None


def parsed(document: bytes) -> Any:
    """Of JSON; the text if it is none."""
    try:
        return orjson.loads(document)
    except orjson.JSONDecodeError:
        return document.decode("utf-8", errors="backslashreplace")
