"""The writing side of a topic for users: events or frames in, atomic idempotent publishes out.

Only partitioning, cutting into records and buffering happen here; encoding is `codec.py`, durability the
log's.
"""

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Self, TypeVar
from zlib import crc32

import orjson
import polars as pl

from streamflow.base.clock import Clock, SystemClock
from streamflow.base.errors import ConflictError, DataError, NotFoundError, PipelineError
from streamflow.model.time import MAX_US
from streamflow.topics.codec import KEY, TIME, Attributes, check_event, column, encode_frame, encode_json, encode_mark
from streamflow.topics.partition import Key, key_bytes, partition_column
from streamflow.topics.protocol import Producer, Record, TopicConfig, TopicLog

RECORD_EVENTS_MAX = 50_000
"""A record is read and processed whole: this and the log's `record_bytes_max` bound what one costs in memory. A single
event may be larger."""
ENCODERS_MAX = 4
"""Threads that encode the records of a batch: publishing should not take all of a large machine."""
BUFFER_EVENTS_MAX = 1_000
BUFFER_BYTES_MAX = 1_000_000
"""What `publish` holds back at most, and so what a crash can take with it."""

_PARTITION = "_partition"
T = TypeVar("T")


def target(log: TopicLog, topic: str) -> TopicConfig:
    """Of a topic that is to be published to. NotFoundError if there is none; ConflictError if it is the internal one of
    a pipeline."""
    try:
        config = log.topic(topic).config
    except NotFoundError as error:
        said = f"{error}" if f"{error}".endswith("?") else f"{error}."
        raise NotFoundError(
            f"{said} Or create it first, with `create_topic('{topic}')` or `streamflow topic create {topic}`"
        ) from error
    if config.internal:
        raise ConflictError(f"topic '{topic}' belongs to a pipeline, which alone writes to it. Publish to another")
    return config


class Publisher:
    """Publishes to one topic. Events with equal keys go to one partition, in order; keyless batches rotate.

    With a `name`, a publish that carries a `sequence` is idempotent: publishing (name, sequence) again, also
    from another process after a crash, writes nothing. Give one name to one publisher at a time and let its
    sequences rise. Safe to share between threads.
    """

    def __init__(self, log: TopicLog, topic: str, *, name: str | None = None, clock: Clock | None = None) -> None:
        """NotFoundError if there is no such topic, ConflictError if it is the internal one of a pipeline."""
        self.topic = topic
        self._log = log
        self._clock = clock or SystemClock()
        self._name = name
        self._partitions = target(log, topic).partitions
        # Many short-lived publishers must not all begin at partition 0.
        self._turn = crc32((name or secrets.token_hex(8)).encode())
        self._lock = threading.RLock()
        self._buffer = _Buffer()

    @property
    def last_sequence(self) -> int:
        """The highest sequence published under this name; -1 if none. Go on with the one after it."""
        return -1 if self._name is None else self._log.last_sequence(self.topic, self._name)

    def publish_batch(
        self,
        events: Sequence[bytes],
        times_us: Sequence[int] | None = None,
        keys: Sequence[Key | None] | None = None,
        attributes: Sequence[Attributes | None] | None = None,
        *,
        sequence: int | None = None,
    ) -> int:
        """Publish JSON documents, unparsed, as one atomic and durable batch over all partitions.

        Sequences have one entry per event; `times_us` is now for all if left out. Without keys the batch
        stays together in one partition (if it fits one record), another one each time. Returns the events
        written: 0 if this `sequence` was published before. An empty batch writes nothing and does not use up
        its sequence.

        DataError: lengths that differ, or what `codec.encode_json` refuses. ConflictError: the topic was ended.
        """
        producer = self._producer(sequence)
        times = [self._clock.now_us()] * len(events) if times_us is None else times_us
        for what, values in (("times_us", times), ("keys", keys), ("attributes", attributes)):
            if values is not None and len(values) != len(events):
                raise DataError(
                    f"a batch for topic '{self.topic}' has {len(events)} events but {len(values)} {what}. "
                    "Give one per event"
                )
        stored_keys = None if keys is None else [_stored_key(key) for key in keys]
        batch = _Documents(events, times, stored_keys, attributes)
        pieces = self._json_pieces(batch, self._next_turn(sequence))
        return self._write([piece.encoded(self.topic, partition) for partition, piece in pieces], producer)

    def publish_frame(
        self,
        frame: pl.DataFrame,
        *,
        event_time: str | None = None,
        key: str | None = None,
        sequence: int | None = None,
    ) -> int:
        """Publish a frame's rows as one atomic and durable batch of Arrow envelopes.

        `event_time` names a Date, Datetime (naive = UTC) or Int64 µs column; without it a `_time` column
        counts, else now. `key` names the column that decides the partition. Returns as `publish_batch` does.

        DataError: a missing column, an event time with nulls or of another type, a reserved name ("_…").
        """
        producer = self._producer(sequence)
        timed = self._with_time(frame, event_time)
        keys = None if key is None else self._column(frame, key)
        pieces = self._pieces(timed, keys, self._next_turn(sequence))
        return self._write(_each(lambda piece: encode_frame(self.topic, *piece), list(pieces)), producer)

    def publish(
        self,
        event: Mapping[str, Any] | bytes | str,
        *,
        key: Key | None = None,
        event_time_us: int | None = None,
        attributes: Attributes | None = None,
    ) -> None:
        """Buffer one event: a mapping is encoded as JSON, text and bytes have to be JSON already. (Messages of any
        bytes are published by the client, `sf.connect`.)

        It is durable after the next `flush`, which also happens by itself at 1,000 events or 1 MB. DataError
        if the event can't be encoded, or is not JSON.
        """
        document = self._document(event)
        time_us = self._clock.now_us() if event_time_us is None else event_time_us
        stored_key = _stored_key(key)
        check_event(self.topic, document, time_us, stored_key, attributes)
        with self._lock:
            self._buffer.add(document, time_us, stored_key, attributes)
            if self._buffer.full:
                self.flush()

    def flush(self) -> None:
        """Make all buffered events durable. If it fails, they stay buffered."""
        with self._lock:
            buffer = self._buffer
            if buffer.events:
                self.publish_batch(buffer.events, buffer.times_us, buffer.keys, buffer.attributes)
                self._buffer = _Buffer()

    def mark(self, watermark_us: int, *, partition: int | None = None) -> None:
        """Put a marker behind what is published so far, in one partition or (atomically) in each: no event before
        `watermark_us` follows there, from anyone. Flushes first. What it means is up to the readers: those with
        `watermark=PublishedMarkers()` go by it, all others pass over it. A later marker with an earlier time changes
        nothing.

        DataError: no such partition, or no time. ConflictError: the topic was ended."""
        self.flush()
        self._partitions = self._log.topic(self.topic).config.partitions
        if partition is not None and not 0 <= partition < self._partitions:
            raise DataError(f"topic '{self.topic}' has no partition {partition}, only 0 to {self._partitions - 1}")
        partitions = range(self._partitions) if partition is None else (partition,)
        self._write([encode_mark(self.topic, each, watermark_us) for each in partitions], None)

    def advance_watermark(self, watermark_us: int) -> None:
        """Promise that no event before `watermark_us` follows from anyone; flushes first."""
        self.flush()
        self._log.advance_watermark(self.topic, watermark_us)

    def end(self) -> None:
        """Promise that no event follows at all: windows close and bounded runs return."""
        self.advance_watermark(MAX_US)

    def close(self) -> None:
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _producer(self, sequence: int | None) -> Producer | None:
        if sequence is None:
            return None
        if self._name is None:
            raise PipelineError(
                f"publishing to topic '{self.topic}' with sequence {sequence} needs a named publisher. "
                "Create it as Publisher(log, topic, name=...)"
            )
        if sequence < 0:
            raise DataError(f"sequence {sequence} of publisher '{self._name}' is negative. Begin with 0")
        return Producer(self._name, sequence)

    def _next_turn(self, sequence: int | None) -> int:
        if sequence is not None:
            return sequence
        with self._lock:
            self._turn += 1
            return self._turn

    def _pieces(self, frame: pl.DataFrame, keys: pl.Series | None, turn: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """(partition, rows) of each record to be, in the order of the rows within each partition."""
        if not frame.height:
            return
        if keys is None:
            for nth, piece in enumerate(_cut(frame, self._log.record_bytes_max)):
                yield (turn + nth) % self._partitions, piece
            return
        targets = self._targets(keys, turn).alias(_PARTITION)
        groups = frame.with_columns(targets).partition_by(
            _PARTITION, maintain_order=True, include_key=False, as_dict=True
        )
        for (partition,), group in groups.items():
            for piece in _cut(group, self._log.record_bytes_max):
                yield partition, piece

    def _json_pieces(self, batch: "_Documents", turn: int) -> Iterator[tuple[int, "_Documents"]]:
        """As `_pieces`, of JSON documents."""
        if not batch.events:
            return
        if batch.keys is None:
            for nth, piece in enumerate(batch.cut(self._log.record_bytes_max)):
                yield (turn + nth) % self._partitions, piece
            return
        keys = column(self.topic, KEY, batch.keys, pl.Binary())
        groups: dict[int, list[int]] = {}
        for index, partition in enumerate(self._targets(keys, turn).to_list()):
            groups.setdefault(partition, []).append(index)
        for partition, indexes in groups.items():
            for piece in batch.at(indexes).cut(self._log.record_bytes_max):
                yield partition, piece

    def _targets(self, keys: pl.Series, turn: int) -> pl.Series:
        return partition_column(keys, self._partitions, spread=turn, key_hash=self._log.key_hash)

    def _with_time(self, frame: pl.DataFrame, event_time: str | None) -> pl.DataFrame:
        reserved = [name for name in frame.columns if name.startswith("_") and name != TIME]
        if reserved:
            raise DataError(
                f"column '{reserved[0]}' of a frame for topic '{self.topic}' has a reserved name. "
                f"Rename it to '{reserved[0].lstrip('_') or 'column'}'"
            )
        if event_time is None:
            if TIME in frame.columns:
                return frame
            return frame.with_columns(pl.lit(self._clock.now_us(), dtype=pl.Int64).alias(TIME))
        column = self._column(frame, event_time)
        if column.dtype in (pl.Datetime, pl.Date):
            column = column.cast(pl.Datetime("us")).to_physical()
        if column.dtype != pl.Int64:
            raise DataError(
                f"event time '{event_time}' of a frame for topic '{self.topic}' has type {column.dtype}. "
                "Give a Datetime column or Int64 microseconds since 1970"
            )
        return frame.with_columns(column.alias(TIME))

    def _column(self, frame: pl.DataFrame, name: str) -> pl.Series:
        if name not in frame.columns:
            raise DataError(
                f"column '{name}' is not in the frame for topic '{self.topic}'. It has "
                + ", ".join(f"'{column}'" for column in frame.columns)
            )
        return frame.get_column(name)

    def _document(self, event: Mapping[str, Any] | bytes | str) -> bytes:
        if isinstance(event, bytes | str):
            try:
                orjson.loads(event)
            except ValueError as error:
                raise DataError(
                    f"an event for topic '{self.topic}' is not JSON, which its readers expect: {event[:60]!r} "
                    f"({error}). Publish a mapping, as {{'text': …}}; or any bytes with the client, `sf.connect`"
                ) from error
            return event if isinstance(event, bytes) else event.encode()
        try:
            return orjson.dumps(event if isinstance(event, dict) else dict(event))
        except TypeError as error:
            raise DataError(
                f"an event for topic '{self.topic}' can't be written as JSON: {error}. "
                "Use text, numbers, booleans, None, lists, mappings, dates"
            ) from error

    def _write(self, records: Sequence[Record], producer: Producer | None) -> int:
        if not records or (producer is not None and producer.sequence <= self.last_sequence):
            return 0
        info = self._log.topic(self.topic)
        # Of added ones the next batch makes use: asking before each would cost as much again.
        self._partitions = info.config.partitions
        if info.watermark_us >= MAX_US:
            raise ConflictError(
                f"topic '{self.topic}' was ended: its readers have closed every window and would drop new events. "
                "Publish to another topic"
            )
        offsets = self._log.publish(records, producer)
        return sum(record.count for record in records) if offsets else 0


@dataclass(frozen=True, slots=True)
class _Documents:
    """JSON events, index by index with what goes with each."""

    events: Sequence[bytes]
    times_us: Sequence[int]
    keys: Sequence[bytes | None] | None
    attributes: Sequence[Attributes | None] | None

    def at(self, indexes: Sequence[int] | slice) -> "_Documents":
        def chosen(values: Sequence[T]) -> Sequence[T]:
            return values[indexes] if isinstance(indexes, slice) else [values[i] for i in indexes]

        return _Documents(
            chosen(self.events),
            chosen(self.times_us),
            None if self.keys is None else chosen(self.keys),
            None if self.attributes is None else chosen(self.attributes),
        )

    def cut(self, bytes_max: int) -> Iterator["_Documents"]:
        """Consecutive pieces within both record bounds (a single event may be larger)."""
        count = len(self.events)
        if count == 1 or (count <= RECORD_EVENTS_MAX and sum(map(len, self.events)) <= bytes_max):
            yield self
            return
        yield from self.at(slice(None, count // 2)).cut(bytes_max)
        yield from self.at(slice(count // 2, None)).cut(bytes_max)

    def encoded(self, topic: str, partition: int) -> Record:
        return encode_json(topic, partition, self.events, self.times_us, self.keys, self.attributes)


class _Buffer:
    """Events between two flushes, as the columns that `publish_batch` takes."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.times_us: list[int] = []
        self.keys: list[bytes | None] = []
        self.attributes: list[Attributes | None] = []
        self.bytes = 0

    def add(self, event: bytes, time_us: int, key: bytes | None, attributes: Attributes | None) -> None:
        self.events.append(event)
        self.times_us.append(time_us)
        self.keys.append(key)
        self.attributes.append(attributes)
        self.bytes += len(event)

    @property
    def full(self) -> bool:
        return len(self.events) >= BUFFER_EVENTS_MAX or self.bytes >= BUFFER_BYTES_MAX


def _each(encode: Callable[[T], Record], pieces: Sequence[T]) -> list[Record]:
    """All pieces encoded, at the same time where there are several."""
    if len(pieces) < 2:
        return [encode(piece) for piece in pieces]
    return list(_encoders().map(encode, pieces))


@cache
def _encoders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(ENCODERS_MAX, os.cpu_count() or 1), thread_name_prefix="encode")


def _stored_key(key: Key | None) -> bytes | None:
    return None if key is None else key_bytes(key)


def _cut(frame: pl.DataFrame, bytes_max: int) -> Iterator[pl.DataFrame]:
    """Consecutive slices within both record bounds (a single row may be larger)."""
    fits = frame.height <= RECORD_EVENTS_MAX and frame.estimated_size() <= bytes_max
    if fits or frame.height == 1:
        yield frame
        return
    middle = frame.height // 2
    yield from _cut(frame[:middle], bytes_max)
    yield from _cut(frame[middle:], bytes_max)
