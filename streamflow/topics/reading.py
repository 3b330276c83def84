"""Single messages out of a topic's records: decoded a record at a time, kept for the next that asks. No leases here."""

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

import orjson
import polars as pl

from streamflow.topics import codec
from streamflow.topics.partition import KeyHash
from streamflow.topics.protocol import Kind, Record, TopicLog
from streamflow.topics.subscriptions.decisions import DeadLetter
from streamflow.topics.subscriptions.running import StoredMessage

CACHE_BYTES_MAX = 32_000_000
"""Decoded records that one subscription keeps at hand."""
READ_BYTES = 1_000_000
DEAD_LETTER = "CloudPubSubDeadLetterSource"
"""Begins the attributes that tell where a dead letter comes from; Google's names, so that its clients know them."""
ORIGIN_ATTRIBUTES = 6
_NONE: Mapping[str, str] = {}


class MessageReader:
    """Messages of one topic by partition and offset. Threads may share it."""

    def __init__(self, log: TopicLog, topic: str) -> None:
        self._log = log
        self._topic = topic
        self._lock = threading.Lock()
        self._records: OrderedDict[tuple[int, int], Decoded] = OrderedDict()
        self._starts: dict[int, list[int]] = {}
        self._bytes = 0

    def at(self, partition: int, offsets: Iterable[int]) -> list[StoredMessage]:
        """Those of them that are kept, in the order given; cheapest if that rises."""
        found = []
        with self._lock:
            record: Decoded | None = None
            for offset in offsets:
                if record is None or not record.first <= offset < record.end:
                    record = self._holding(partition, offset)
                if record is not None:
                    found.append(record.message(partition, offset))
        return found

    def _holding(self, partition: int, offset: int) -> "Decoded | None":
        return self._known(partition, offset) or self._load(partition, offset)

    def _known(self, partition: int, offset: int) -> "Decoded | None":
        starts = self._starts.get(partition, [])
        at = bisect_right(starts, offset) - 1
        if at < 0:
            return None
        known = self._records[partition, starts[at]]
        if offset >= known.end:
            return None
        self._records.move_to_end((partition, starts[at]))
        return known

    def _load(self, partition: int, offset: int) -> "Decoded | None":
        for record in self._log.read(self._topic, partition, offset, max_bytes=READ_BYTES):
            if (partition, record.offset) not in self._records:
                self._keep(partition, Decoded(record))
        found = self._known(partition, offset)
        while self._bytes > CACHE_BYTES_MAX and len(self._records) > 1:
            (of, start), gone = self._records.popitem(last=False)
            self._starts[of].remove(start)
            self._bytes -= gone.size
        return found

    def _keep(self, partition: int, decoded: "Decoded") -> None:
        starts = self._starts.setdefault(partition, [])
        starts.insert(bisect_right(starts, decoded.first), decoded.first)
        self._records[partition, decoded.first] = decoded
        self._bytes += decoded.size


@dataclass(init=False, slots=True)
class Decoded:
    """A record as columns, which hold no view of mapped files."""

    first: int
    end: int
    size: int
    published_us: int
    data: Sequence[bytes]
    times_us: Sequence[int]
    keys: Sequence[bytes | None] | None
    attributes: Sequence[bytes | None] | None

    def __init__(self, record: Record) -> None:
        self.first, self.end, self.published_us = record.offset, record.end, record.published_us
        self.size = len(record.payload)
        around = codec.json_surroundings(record) if record.kind is Kind.JSON else codec.decode(record)
        self.times_us = around.get_column(codec.TIME).to_list()
        self.keys = self.attributes = None
        if record.kind is Kind.JSON:
            self.data = codec.json_documents(record)
            if codec.KEY in around.columns:
                self.keys = around.get_column(codec.KEY).to_list()
            if codec.ATTRIBUTES in around.columns:
                self.attributes = around.get_column(codec.ATTRIBUTES).to_list()
        else:
            self.data = _rows(around.drop(codec.TIME))

    def message(self, partition: int, offset: int) -> StoredMessage:
        index = offset - self.first
        key = self.keys[index] if self.keys is not None else None
        attributes = self.attributes[index] if self.attributes is not None else None
        return StoredMessage(
            partition,
            offset,
            self.data[index],
            orjson.loads(attributes) if attributes else _NONE,
            key.decode(errors="replace") if key else "",
            self.published_us,
            self.times_us[index],
        )


def dead_letter_records(
    subscription: str,
    source: str,
    letters: Sequence[DeadLetter],
    messages: Sequence[StoredMessage],
    to: str,
    size: int,
    key_hash: KeyHash = crc32,
) -> list[Record]:
    """Records for the dead letter topic `to`, which has `size` partitions: the messages as they were, with the
    subscription, topic, id, time and attempts that they come from among their attributes."""
    attempts = {letter.offset: letter.attempts for letter in letters}
    groups: dict[int, list[StoredMessage]] = {}
    for message in messages:
        at = key_hash(message.ordering_key.encode()) if message.ordering_key else message.partition
        groups.setdefault(at % size, []).append(message)
    return [
        codec.encode_json(
            to,
            partition,
            [each.data for each in group],
            [each.time_us for each in group],
            [each.ordering_key.encode() or None for each in group],
            [
                {
                    **each.attributes,
                    f"{DEAD_LETTER}Subscription": subscription,
                    f"{DEAD_LETTER}Topic": source,
                    f"{DEAD_LETTER}MessageId": f"{each.partition}-{each.offset}",
                    f"{DEAD_LETTER}DeliveryCount": str(attempts[each.offset]),
                    f"{DEAD_LETTER}TopicPublishTime": str(each.published_us),
                }
                for each in group
            ],
            attributes_max=codec.ATTRIBUTES_MAX + ORIGIN_ATTRIBUTES,
        )
        for partition, group in groups.items()
    ]


def _rows(frame: pl.DataFrame) -> list[bytes]:
    return frame.write_ndjson().encode().splitlines()
