"""The async publisher: gathers messages into batches, bounds what is outstanding, tries again."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from streamflow.base.clock import Clock
from streamflow.base.errors import DataError, FlowControlError, PipelineError, StreamFlowError
from streamflow.topics import codec
from streamflow.topics.client.closing import Closing
from streamflow.topics.client.consuming import EPOCH
from streamflow.topics.client.schemas import MessageSchema
from streamflow.topics.client.sending import Outgoing, Sender
from streamflow.topics.client.threads import Threads

BATCH_MESSAGES_MAX = 1_000
BATCH_BYTES_MAX = 10_000_000
"""Pub/Sub's bounds on one request to publish."""


@dataclass(frozen=True, slots=True)
class Batching:
    """A batch is sent when it has so many messages or bytes, or its first message has waited so long, in seconds; and
    what comes while one is sent goes into the next. At most Pub/Sub's bounds: 1,000 messages, 10 MB."""

    messages_max: int = BATCH_MESSAGES_MAX
    bytes_max: int = 1_000_000
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        within = 1 <= self.messages_max <= BATCH_MESSAGES_MAX and 1 <= self.bytes_max <= BATCH_BYTES_MAX
        if not within or self.delay_s < 0:
            raise DataError(f"{self} is out of bounds. Give 1 to 1,000 messages, 1 to 10,000,000 bytes, 0 s or more")


@dataclass(frozen=True, slots=True)
class PublishFlow:
    """Bounds on messages that are not yet durable, and what happens at the bound: `publish` waits ("block"), raises
    FlowControlError ("error"), or goes on ("ignore"). One message is let through whatever its size."""

    messages_max: int = 10_000
    bytes_max: int = 100_000_000
    at_bound: Literal["block", "error", "ignore"] = "block"


@dataclass(frozen=True, slots=True)
class Retries:
    """Of errors that may pass (of the system or the network): waits double from `first_s` to `max_s`, until
    `total_s` have been waited."""

    first_s: float = 0.1
    max_s: float = 10.0
    total_s: float = 60.0

    def waits_s(self) -> list[float]:
        waits, left_s, next_s = [], self.total_s, self.first_s
        while next_s > 0 and left_s >= next_s:
            waits.append(next_s)
            left_s -= next_s
            next_s = min(2 * next_s, self.max_s)
        return waits


class AsyncPublisher(Closing):
    """Publishes to one topic; make it with `Client.publisher`. Messages go out in the order of the calls. Leave it with
    `async with`, or `await close()`: it sends what is left.

    With a `name`, each message has a sequence: given, or the next one. A sequence that was published before, perhaps
    by an earlier process with that name, is not published again, so that a crashed publisher can send anew what it
    does not know to have arrived. Retries publish nothing twice under a name, and without one only if the error hid
    a success. Give one name to one publisher at a time."""

    def __init__(
        self,
        sender: Sender,
        threads: Threads,
        clock: Clock,
        *,
        topic: str,
        named: bool,
        batching: Batching,
        flow: PublishFlow,
        retries: Retries,
        schema: MessageSchema | None,
    ) -> None:
        self.topic = topic
        self.last_sequence = sender.last_sequence
        self._sender = sender
        self._threads = threads
        self._clock = clock
        self._named = named
        self._batching = batching
        self._flow = flow
        self._retries = retries
        self._schema = schema
        self._queue: list[tuple[Outgoing, asyncio.Future[str]]] = []
        self._queue_bytes = 0
        self._messages = self._bytes = 0
        self._full = asyncio.Event()
        self._room = asyncio.Condition()
        self._hurry = False
        self._sending: asyncio.Task[None] | None = None
        self.closed = False

    async def publish(
        self,
        data: bytes,
        *,
        ordering_key: str = "",
        attributes: Mapping[str, str] | None = None,
        event_time: datetime | None = None,
        sequence: int | None = None,
    ) -> str:
        """The message's id, once it is durable; "" if its `sequence` had been published before. Many at once (as with
        `asyncio.gather`) share a batch. `event_time` without a zone is UTC; left out, it is now.

        DataError for what no topic takes; FlowControlError at the bounds, if the publisher was told so; ConflictError
        if the topic was ended."""
        return await (await self.submit(data, ordering_key, attributes, event_time, sequence))

    async def submit(
        self,
        data: bytes,
        ordering_key: str = "",
        attributes: Mapping[str, str] | None = None,
        event_time: datetime | None = None,
        sequence: int | None = None,
    ) -> "asyncio.Future[str]":
        """As `publish`, but returns as soon as there is room, with a future for the id."""
        message = self._checked(data, ordering_key, attributes, event_time)
        if self._flow.at_bound == "block" and not self._has_room(message):
            async with self._room:
                await self._room.wait_for(lambda: self.closed or self._has_room(message))
        elif self._flow.at_bound == "error" and not self._has_room(message):
            raise FlowControlError(
                f"{self._messages} messages of {self._bytes:,} bytes for topic '{self.topic}' are not durable yet, "
                "which is the publisher's bound. Publish slower, or let it block"
            )
        if self.closed:
            raise PipelineError(f"the publisher for topic '{self.topic}' was closed. Make another one")
        return self._enqueue(self._numbered(message, sequence))

    async def flush(self) -> None:
        """Return when all that was submitted is durable, or has failed."""
        self._hurry = True
        self._full.set()
        while self._sending is not None:
            await asyncio.wait([self._sending])
            await asyncio.sleep(0)
        self._hurry = False

    async def close(self) -> None:
        self.closed = True
        async with self._room:
            self._room.notify_all()
        await self.flush()

    def _checked(
        self, data: bytes, key: str, attributes: Mapping[str, str] | None, event_time: datetime | None
    ) -> Outgoing:
        if not isinstance(data, bytes):
            raise DataError(f"a message for topic '{self.topic}' is {type(data).__name__}, not bytes. Encode it first")
        if event_time is None:
            time_us = self._clock.now_us()
        else:
            zoned = event_time if event_time.tzinfo else event_time.replace(tzinfo=UTC)
            time_us = (zoned - EPOCH) // timedelta(microseconds=1)
        codec.check_event(self.topic, data, time_us, key.encode(), attributes)
        if self._schema is not None:
            self._schema.check(data)
        return Outgoing(data, dict(attributes) if attributes else None, key, time_us)

    def _numbered(self, message: Outgoing, sequence: int | None) -> Outgoing:
        if not self._named:
            if sequence is not None:
                raise PipelineError(
                    f"publishing to topic '{self.topic}' with sequence {sequence} needs a named publisher. "
                    "Make it with `publisher(topic, name=…)`"
                )
            return message
        self.last_sequence = self.last_sequence + 1 if sequence is None else max(self.last_sequence, sequence)
        number = self.last_sequence if sequence is None else sequence
        return Outgoing(message.data, message.attributes, message.ordering_key, message.time_us, number)

    def _has_room(self, message: Outgoing) -> bool:
        within = self._messages < self._flow.messages_max
        return not self._messages or (within and self._bytes + message.size_bytes <= self._flow.bytes_max)

    def _enqueue(self, message: Outgoing) -> "asyncio.Future[str]":
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._queue.append((message, future))
        self._queue_bytes += message.size_bytes
        self._messages += 1
        self._bytes += message.size_bytes
        if len(self._queue) >= self._batching.messages_max or self._queue_bytes >= self._batching.bytes_max:
            self._full.set()
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return future

    async def _send_all(self) -> None:
        try:
            while self._queue:
                if self._batching.delay_s and not self._hurry:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._full.wait(), self._batching.delay_s)
                else:
                    # Let those that are about to publish join.
                    await asyncio.sleep(0)
                batch = self._take()
                await self._send(batch)
                async with self._room:
                    self._messages -= len(batch)
                    self._bytes -= sum(message.size_bytes for message, _ in batch)
                    self._room.notify_all()
        finally:
            self._sending = None

    def _take(self) -> list[tuple[Outgoing, "asyncio.Future[str]"]]:
        count, size = 0, 0
        for message, _ in self._queue[: self._batching.messages_max]:
            size += message.size_bytes
            if count and size > self._batching.bytes_max:
                break
            count += 1
        batch, self._queue = self._queue[:count], self._queue[count:]
        self._queue_bytes -= sum(message.size_bytes for message, _ in batch)
        if len(self._queue) < self._batching.messages_max and self._queue_bytes < self._batching.bytes_max:
            self._full.clear()
        return batch

    async def _send(self, batch: list[tuple[Outgoing, "asyncio.Future[str]"]]) -> None:
        messages = [message for message, _ in batch]
        for wait_s in [*self._retries.waits_s(), None]:
            try:
                ids = await self._threads.run(lambda: self._sender.send(messages))
            except Exception as error:
                if wait_s is None or isinstance(error, StreamFlowError):
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    return
                await asyncio.sleep(wait_s)
                continue
            for (_, future), id in zip(batch, ids, strict=True):
                if not future.done():
                    future.set_result(id)
            return
