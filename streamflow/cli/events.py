"""How events and messages are printed, and how the events of a topic are found that are to be printed."""

import heapq
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import orjson

from streamflow.cli.output import iso_time, print_json, say
from streamflow.runtime.events import Event, events_of
from streamflow.topics.protocol import TopicLog

if TYPE_CHECKING:
    from streamflow.topics.client.message import Message

POLL_S = 0.2
READ_BYTES = 1_000_000
Wanted = Callable[[Mapping[str, str]], bool]


def newest(log: TopicLog, name: str, partition: int, n: int, wanted: Wanted) -> list[Event]:
    """The last `n` of a partition that are wanted."""
    end, back = log.end(name, partition), n
    while True:
        start = max(0, end - back * log.offset_span)
        found = [
            event
            for record in log.read(name, partition, start, end=end)
            for event in events_of(record, start)
            if wanted(event.attributes)
        ]
        if len(found) >= n or not start:
            return found[-n:]
        back *= 2  # Kafka's marks of transactions take offsets too


def events_from(log: TopicLog, name: str, offsets: Mapping[int, int], *, follow: bool) -> Iterator[Event]:
    """Those at or after the partitions' offsets, by event time within each bite; to `follow` then what comes,
    for ever."""
    at = dict(offsets)
    ends = {partition: log.end(name, partition) for partition in at}
    while True:
        bites = [_bite(log, name, partition, at, None if follow else ends[partition]) for partition in at]
        yield from heapq.merge(*bites, key=lambda event: (event.time_us, event.partition, event.offset))
        if not any(bites):
            if not follow:
                return
            time.sleep(POLL_S)


def _bite(log: TopicLog, name: str, partition: int, at: dict[int, int], end: int | None) -> list[Event]:
    start = at[partition]
    records = log.read(name, partition, start, end=end, max_bytes=READ_BYTES)
    if records:
        at[partition] = records[-1].end
    return sorted((event for record in records for event in events_of(record, start)), key=lambda event: event.time_us)


def place(event: Event, span: int) -> str:
    """Partition and offset as the log's own tools show them; behind a dot which event of a message it is, if not the
    first."""
    message, nth = divmod(event.offset, span)
    return f"{event.partition}/{message}.{nth}" if nth else f"{event.partition}/{message}"


def say_event(event: Event, span: int) -> None:
    say(f"{iso_time(event.time_us)}  {place(event, span)}  {text(event.value)}{_marks(event.attributes)}")


def event_document(event: Event, span: int) -> dict[str, object]:
    return {
        "partition": event.partition,
        "offset": event.offset // span,
        **({"index": event.offset % span} if span > 1 else {}),
        "time": iso_time(event.time_us),
        **({} if event.key is None else {"key": event.key.decode(errors="backslashreplace")}),
        **({"attributes": event.attributes} if event.attributes else {}),
        "event": event.value,
    }


def print_message(message: "Message", value: object, *, as_json: bool) -> None:
    """One delivery of a subscription; `value`: its data, parsed if that can be."""
    if as_json:
        print_json(
            {
                "message_id": message.message_id,
                "ack_id": message.ack_id,
                "attempt": message.delivery_attempt,
                "published": _utc(message.publish_time),
                "time": _utc(message.event_time),
                "key": message.ordering_key or None,
                "attributes": message.attributes,
                "data": value,
            }
        )
        return
    key = f"  key {message.ordering_key}" if message.ordering_key else ""
    again = f"  attempt {message.delivery_attempt}" if message.delivery_attempt > 1 else ""
    at = _utc(message.event_time)
    say(f"{at}  {message.message_id}  {text(value)}{_marks(message.attributes)}{key}{again}  ack id {message.ack_id}")


def text(value: object) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()


def _marks(attributes: Mapping[str, str]) -> str:
    return f"  {{{', '.join(f'{name}={attributes[name]}' for name in sorted(attributes))}}}" if attributes else ""


def _utc(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
