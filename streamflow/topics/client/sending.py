"""Batches of single messages into records of a log, under ids. Nothing here waits or retries."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from streamflow.base.errors import ConflictError
from streamflow.model.time import MAX_US
from streamflow.topics import codec
from streamflow.topics.partition import partition_of
from streamflow.topics.protocol import Producer, Record, TopicLog
from streamflow.topics.publisher import target

DUPLICATE = ""
"""The id of a message that was published before under the same sequence: where it is, is not known any more."""


def message_size(data: bytes, attributes: Mapping[str, str] | None, ordering_key: str) -> int:
    """As it counts for all bounds: data, attributes and key."""
    size = len(data) + len(ordering_key)
    if attributes:
        size += sum(map(len, attributes)) + sum(map(len, attributes.values()))
    return size


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to be published; `sequence` counts only for named publishers."""

    data: bytes
    attributes: Mapping[str, str] | None
    ordering_key: str
    time_us: int
    sequence: int = -1
    size_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        size = message_size(self.data, self.attributes, self.ordering_key)
        object.__setattr__(self, "size_bytes", size)


class Sender:
    """Publishes to one topic; not for several threads at once. NotFoundError if there is none, ConflictError if it is
    the internal one of a pipeline."""

    def __init__(self, log: TopicLog, topic: str, name: str | None) -> None:
        self._log = log
        self._topic = topic
        self._name = name
        self._partitions = target(log, topic).partitions
        # Many short-lived publishers must not all begin at partition 0.
        self._turn = crc32((name or secrets.token_hex(8)).encode())

    @property
    def last_sequence(self) -> int:
        """The highest one published under the name; -1 if none."""
        return -1 if self._name is None else self._log.last_sequence(self._topic, self._name)

    def send(self, messages: Sequence[Outgoing]) -> list[str]:
        """The ids, durable: all or none. With a name, messages whose sequence was published before are left out."""
        ids = [DUPLICATE] * len(messages)
        last, producer = self.last_sequence, None
        fresh = range(len(messages))
        if self._name is not None:
            kept = [nth for nth in fresh if messages[nth].sequence > last]
            if not kept:
                return ids
            producer = Producer(self._name, max(messages[nth].sequence for nth in kept))
        else:
            kept = list(fresh)
        info = self._log.topic(self._topic)
        if info.watermark_us >= MAX_US:
            raise ConflictError(
                f"topic '{self._topic}' was ended: its readers would drop new events. Publish to another topic"
            )
        self._partitions = info.config.partitions
        groups = self._groups(messages, kept)
        records = [self._encoded(partition, [messages[nth] for nth in group]) for partition, group in groups]
        offsets = self._log.publish(records, producer)
        for (partition, group), offset in zip(groups, offsets, strict=bool(offsets)):
            for at, nth in enumerate(group):
                ids[nth] = f"{partition}-{offset + at * records[0].stride}"
        return ids

    def _groups(self, messages: Sequence[Outgoing], kept: Sequence[int]) -> list[tuple[int, list[int]]]:
        """(partition, places of messages) of each record to be."""
        self._turn += 1
        open_groups: dict[int, tuple[list[int], int]] = {}
        groups: list[tuple[int, list[int]]] = []
        for nth in kept:
            key = messages[nth].ordering_key
            at = partition_of(key, self._partitions, self._log.key_hash) if key else self._turn % self._partitions
            group, size = open_groups.get(at, ([], 0))
            if not group or size + messages[nth].size_bytes > self._log.record_bytes_max:
                group, size = [], 0
                groups.append((at, group))
            group.append(nth)
            open_groups[at] = (group, size + messages[nth].size_bytes)
        return groups

    def _encoded(self, partition: int, group: Sequence[Outgoing]) -> Record:
        return codec.encode_json(
            self._topic,
            partition,
            [each.data for each in group],
            [each.time_us for each in group],
            [each.ordering_key.encode() or None for each in group],
            [each.attributes for each in group],
        )
