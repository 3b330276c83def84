"""One streaming pull: messages out within the client's bounds, acks and new deadlines in, until either side ends it.

The client extends the leases, not the server. What was leased and could not be written is given back at once; the
leases of what was written end at their deadlines.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc

from streamflow.base.errors import DataError
from streamflow.pubsub.errors import INVALID, UNORDERED, Refusal, invalid
from streamflow.pubsub.messages import add_received
from streamflow.pubsub.protos import StreamingPullResponse
from streamflow.pubsub.usage import Held, Usage, Usages
from streamflow.topics.client import Message

RESPONSE_MESSAGES_MAX = 1_000
RESPONSE_BYTES_MAX = 10_000_000
"""Of one response, but for a single larger message."""
WAIT_S = 2.0
"""A stream without messages looks at the subscription's settings again after so long, and tells clients that ask for
keepalives that it lives."""
ROOM_LOOK_S = 1.0
"""A stream without room looks for leases that have ended this often."""
UNBOUNDED = 1 << 40


class Stream:
    """`first`: the client's first request. DataError or Refusal if it is none."""

    def __init__(self, usages: Usages, subscription: str, first: Any, context: Any) -> None:
        if not 10 <= first.stream_ack_deadline_seconds <= 600:
            raise DataError(f"stream_ack_deadline_seconds is {first.stream_ack_deadline_seconds}. Give 10 to 600")
        self._usages = usages
        self._subscription = subscription
        self._context = context
        self._deadline_s = float(first.stream_ack_deadline_seconds)
        self._messages_max = first.max_outstanding_messages if first.max_outstanding_messages > 0 else UNBOUNDED
        self._bytes_max = first.max_outstanding_bytes if first.max_outstanding_bytes > 0 else UNBOUNDED
        self._keepalive = first.protocol_version > 0
        self._held = Held()
        self._writing = asyncio.Lock()

    async def run(self, first: Any, stopping: asyncio.Event) -> None:
        """Until the client ends it. Refusal UNAVAILABLE, which makes clients connect again, when the server stops;
        NotFoundError when the subscription is deleted."""
        usage = await self._usages.of(self._subscription)
        reading = asyncio.create_task(self._read(first))
        delivering = asyncio.create_task(self._deliver())
        stopped = asyncio.create_task(stopping.wait())
        tasks = (reading, delivering, stopped)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            # Of a pull that is cancelled the leases are given back, which takes a moment.
            await asyncio.wait(tasks)
            errors = [task.exception() for task in tasks if not task.cancelled()]
            usage.forget(self._held)
        for error in errors:
            if error is not None:
                raise error
        if stopping.is_set():
            raise Refusal(grpc.StatusCode.UNAVAILABLE, "the server stops. Connect again")

    async def _read(self, request: Any) -> None:
        while request is not grpc.aio.EOF:
            await self._take(request)
            request = await self._context.read()
            if request is not grpc.aio.EOF and request.subscription:
                raise invalid("only the first request of a stream names its subscription")

    async def _take(self, request: Any) -> None:
        if request.stream_ack_deadline_seconds:
            self._deadline_s = min(max(float(request.stream_ack_deadline_seconds), 10.0), 600.0)
        if len(request.modify_deadline_ack_ids) != len(request.modify_deadline_seconds):
            raise invalid("modify_deadline_seconds and modify_deadline_ack_ids differ in length")
        if not request.ack_ids and not request.modify_deadline_ack_ids:
            return
        usage = await self._usages.of(self._subscription)
        response = self._response(usage)
        if request.ack_ids:
            confirmation = response.acknowledge_confirmation
            failures = await usage.ack(request.ack_ids)
            confirmation.ack_ids.extend(id for id in request.ack_ids if id not in failures)
            confirmation.invalid_ack_ids.extend(id for id, failure in failures.items() if failure == INVALID)
            confirmation.unordered_ack_ids.extend(id for id, failure in failures.items() if failure == UNORDERED)
        if request.modify_deadline_ack_ids:
            modified = response.modify_ack_deadline_confirmation
            for seconds, ids in _by_deadline(request).items():
                failures = await usage.modify(ids, seconds)
                modified.ack_ids.extend(id for id in ids if id not in failures)
                modified.invalid_ack_ids.extend(failures)
        if usage.info.settings.exactly_once:
            await self._write(response)

    async def _deliver(self) -> None:
        while True:
            usage = await self._usages.of(self._subscription)
            messages = self._messages_max - self._held.messages
            size = self._bytes_max - self._held.bytes
            if messages <= 0 or size <= 0:
                await self._wait_for_room(usage)
                continue
            deadline_s = self._deadline_s
            found = await usage.subscriber.pull(
                min(messages, RESPONSE_MESSAGES_MAX),
                max_bytes=min(size, RESPONSE_BYTES_MAX),
                wait_s=WAIT_S,
                deadline_s=deadline_s,
            )
            if found:
                await self._send(usage, found, deadline_s)
            elif self._keepalive:
                await self._write(self._response(usage))

    async def _send(self, usage: Usage, found: Sequence[Message], deadline_s: float) -> None:
        usage.hold(self._held, found, deadline_s)
        response = self._response(usage)
        attempts = usage.info.settings.dead_letter is not None
        add_received(response, found, attempts=attempts)
        try:
            await self._write(response)
        except BaseException:
            await usage.modify([message.ack_id for message in found], 0)
            raise

    async def _wait_for_room(self, usage: Usage) -> None:
        self._held.room.clear()
        try:
            async with asyncio.timeout(ROOM_LOOK_S):
                await self._held.room.wait()
        except TimeoutError:
            usage.sweep(self._held)

    async def _write(self, response: Any) -> None:
        async with self._writing:
            await self._context.write(response)

    def _response(self, usage: Usage) -> Any:
        settings = usage.info.settings
        return StreamingPullResponse(
            subscription_properties={
                "exactly_once_delivery_enabled": settings.exactly_once,
                "message_ordering_enabled": settings.ordered,
            }
        )


def _by_deadline(request: Any) -> dict[float, list[str]]:
    found: dict[float, list[str]] = {}
    for id, seconds in zip(request.modify_deadline_ack_ids, request.modify_deadline_seconds, strict=True):
        found.setdefault(float(seconds), []).append(id)
    return found
