"""The async subscriber: a stream of messages whose leases it extends, and single pulls; acks share transactions."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from streamflow.base.clock import Clock
from streamflow.base.errors import DataError, PipelineError
from streamflow.topics.client.closing import Closing
from streamflow.topics.client.consuming import Consumer, Deliveries, LeaseId
from streamflow.topics.client.message import Message
from streamflow.topics.client.threads import Changes, Threads
from streamflow.topics.protocol import Backlog
from streamflow.topics.subscriptions.decisions import AckStatus
from streamflow.topics.subscriptions.settings import check_ack_deadline, check_lease

PULL_MESSAGES_MAX = 1_000
"""Of one pull of a stream: what is granted and not yet handed out comes back late if the process is killed."""
_LOOK_S = 1.0
"""A stream looks again this often even if nobody tells it of a change: another process may be killed before it does."""
_EXTEND_PART = 0.4
"""Of the ack deadline: leases are extended this often, so that one extension may fail."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Bounds on what a stream has handed out, or has at hand, and that is not acked or nacked; and for how many seconds
    the lease of a message is extended at most."""

    messages_max: int = 1_000
    bytes_max: int = 100_000_000
    extension_s_max: float = 3_600.0

    def __post_init__(self) -> None:
        if self.messages_max < 1 or self.bytes_max < 1 or self.extension_s_max < 0:
            raise DataError(f"{self} lets no message through. Give 1 message and 1 byte or more, and 0 s or more")


class Subscriber(Closing):
    """One user of a subscription; make it with `Client.subscriber`, and leave it with `async with` or `await close()`.

    `async for message in subscriber` is the streaming pull, for one task at a time: it waits for messages and extends
    the leases of those that it handed out, until they are acked or nacked. `pull` leases a few messages and leaves
    their deadlines to the caller. When it is closed, also by Ctrl-C, messages that were not handed out are nacked at
    once; the leases of the others end at their deadlines."""

    def __init__(
        self, consumer: Consumer, threads: Threads, changes: Changes, clock: Clock, flow: Flow | None = None
    ) -> None:
        self._consumer = consumer
        self._threads = threads
        self._changes = changes
        self._clock = clock
        self._flow = flow or Flow()
        self._ready: deque[Message] = deque()
        self._outstanding: dict[str, tuple[Message, int]] = {}
        self._lease_end_us: dict[str, int] = {}
        self._bytes = 0
        self._room = asyncio.Event()
        self._pulling: asyncio.Task[Deliveries] | None = None
        self._extending: asyncio.Task[None] | None = None
        self._requests: list[tuple[list[LeaseId], float | None, asyncio.Future[list[AckStatus]]]] = []
        self._settling: asyncio.Task[None] | None = None
        self.closed = False

    @property
    def subscription(self) -> str:
        return self._consumer.name

    async def pull(
        self,
        max_messages: int = 100,
        *,
        max_bytes: int = 10_000_000,
        wait_s: float = 0.0,
        deadline_s: float | None = None,
    ) -> list[Message]:
        """Up to so many messages, or fewer, as soon as there are any, or none after `wait_s`. One message is given
        whatever its size. `deadline_s`: how long they are leased, 10 to 600 s; None: for the ack deadline. A pull that
        is cancelled gives back what it leased."""
        if deadline_s is not None:
            check_lease(deadline_s)
        loop = asyncio.get_running_loop()
        until_s = loop.time() + wait_s
        while True:
            self._check_open()
            seen = self._changes.count
            pulled = await self._pulled(max_messages, max_bytes, deadline_s)
            left_s = until_s - loop.time()
            if pulled.found or (left_s <= 0 and not self._is_due(pulled)):
                return [Message(each, self) for each in pulled.found]
            await self._changes.wait(seen, min(left_s, self._pause_s(pulled)))

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while not self.closed:
            if self._ready:
                message = self._ready.popleft()
                if self._is_held(message):
                    return message
                self._forget(message.ack_id)
                continue
            if not self._has_room():
                self._room.clear()
                await self._room.wait()
                continue
            seen = self._changes.count
            if self._pulling is None:
                self._pulling = asyncio.create_task(self._pull_ahead())
            pulled = await asyncio.shield(self._pulling)
            if not pulled.found and not self.closed:
                await self._changes.wait(seen, self._pause_s(pulled))
        raise StopAsyncIteration

    async def ack(self, ack_ids: Sequence[str]) -> list[AckStatus]:
        """As `Message.ack`, of many."""
        return await self._settle(ack_ids, None)

    async def modify(self, ack_ids: Sequence[str], seconds: float) -> list[AckStatus]:
        """As `Message.modify`, of many; 0 nacks."""
        return await self._settle(ack_ids, seconds)

    async def backlog(self) -> Backlog:
        """Messages that are not acked, handed out or not: count, bytes, age in seconds of the oldest; exact."""
        return await self._threads.run(self._consumer.backlog)

    async def seek(self, to: datetime | str) -> None:
        """To a time (without a zone: UTC): what was published before is acked, the rest unacked. Or to the snapshot of
        that name. All leases end."""
        await self._threads.run(lambda: self._consumer.seek(to))
        for message in self._ready:
            self._forget(message.ack_id)
        self._ready.clear()

    async def extend_leases(self) -> None:
        """Extend all leases of the stream by the ack deadline; a stream does it by itself in time."""
        now_us = self._clock.now_us()
        longest_us = self._flow.extension_s_max * 1e6
        for ack_id in [id for id, (_, since_us) in self._outstanding.items() if now_us - since_us >= longest_us]:
            self._forget(ack_id)
        ids = list(self._outstanding)
        statuses = await self._settle(ids, self._consumer.settings.ack_deadline_s) if ids else []
        for ack_id, status in zip(ids, statuses, strict=True):
            if status is AckStatus.STALE:
                self._forget(ack_id)
            elif ack_id in self._outstanding:
                self._lease_end_us[ack_id] = now_us + self._lease_us

    async def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._room.set()
        if self._extending is not None:
            self._extending.cancel()
            await asyncio.wait([self._extending])
        if self._pulling is not None:
            await asyncio.wait([self._pulling])
        undelivered = [message.ack_id for message in self._ready]
        self._ready.clear()
        if undelivered:
            await self._settle(undelivered, 0)
        while self._settling is not None:
            await asyncio.wait([self._settling])

    async def _pulled(self, max_messages: int, max_bytes: int, deadline_s: float | None) -> Deliveries:
        call = self._threads.run(lambda: self._consumer.pull(max_messages, max_bytes, deadline_s))
        pulling = asyncio.ensure_future(call)
        try:
            return await asyncio.shield(pulling)
        except asyncio.CancelledError:
            await asyncio.wait([pulling])
            if pulling.exception() is None and pulling.result().found:
                await self._settle([str(each.lease) for each in pulling.result().found], 0)
            raise

    async def _pull_ahead(self) -> Deliveries:
        """A task of its own: what was granted is not lost if who waits for it is cancelled."""
        try:
            room = min(self._flow.messages_max - len(self._outstanding), PULL_MESSAGES_MAX)
            bytes_room = self._flow.bytes_max - self._bytes
            began_us = self._clock.now_us()
            pulled = await self._threads.run(lambda: self._consumer.pull(room, bytes_room))
            for each in pulled.found:
                message = Message(each, self)
                self._ready.append(message)
                self._outstanding[message.ack_id] = (message, began_us)
                self._lease_end_us[message.ack_id] = began_us + self._lease_us
                self._bytes += message.size_bytes
            if pulled.found and self._extending is None and not self.closed:
                self._extending = asyncio.create_task(self._extend())
            return pulled
        finally:
            self._pulling = None

    async def _extend(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                await asyncio.sleep(self._consumer.settings.ack_deadline_s * _EXTEND_PART)
                # What keeps it from being extended keeps the stream from pulling, too, which tells it.
                with suppress(Exception):
                    await self.extend_leases()

    async def _settle(self, ack_ids: Sequence[str], deadline_s: float | None) -> list[AckStatus]:
        """Ack (None) or modify, together with what others ask for meanwhile."""
        # One that asks for the impossible must not fail those that share its transaction.
        leases = [LeaseId.parse(text) for text in ack_ids]
        if deadline_s is not None:
            check_ack_deadline(deadline_s)
        future: asyncio.Future[list[AckStatus]] = asyncio.get_running_loop().create_future()
        self._requests.append((leases, deadline_s, future))
        if self._settling is None:
            self._settling = asyncio.create_task(self._settle_all())
        try:
            statuses = await asyncio.shield(future)
        finally:
            if not deadline_s:
                for ack_id in ack_ids:
                    self._forget(ack_id)
        return statuses

    async def _settle_all(self) -> None:
        try:
            while self._requests:
                await asyncio.sleep(0)
                requests, self._requests = self._requests, []
                acks = [lease for leases, deadline_s, _ in requests if deadline_s is None for lease in leases]
                changes = [
                    (lease, deadline_s)
                    for leases, deadline_s, _ in requests
                    if deadline_s is not None
                    for lease in leases
                ]
                await self._settle_once(requests, acks, changes)
        finally:
            self._settling = None

    async def _settle_once(
        self,
        requests: list[tuple[list[LeaseId], float | None, "asyncio.Future[list[AckStatus]]"]],
        acks: list[LeaseId],
        changes: list[tuple[LeaseId, float]],
    ) -> None:
        try:
            acked, changed = map(iter, await self._threads.run(lambda: self._consumer.settle(acks, changes)))
        except Exception as error:
            for _, _, future in requests:
                future.set_exception(error)
            return
        for leases, deadline_s, future in requests:
            future.set_result([next(acked if deadline_s is None else changed) for _ in leases])

    def _forget(self, ack_id: str) -> None:
        message, _ = self._outstanding.pop(ack_id, (None, 0))
        self._lease_end_us.pop(ack_id, None)
        if message is not None:
            self._bytes -= message.size_bytes
            self._room.set()

    @property
    def _lease_us(self) -> int:
        return round(self._consumer.settings.ack_deadline_s * 1e6)

    def _is_held(self, message: Message) -> bool:
        """Not if its lease has ended before it could be handed out (the process was stopped, or its thread busy):
        somebody else has it by now."""
        return self._clock.now_us() < self._lease_end_us.get(message.ack_id, 0)

    def _has_room(self) -> bool:
        return len(self._outstanding) < self._flow.messages_max and self._bytes < self._flow.bytes_max

    def _is_due(self, pulled: Deliveries) -> bool:
        return pulled.wake_us is not None and pulled.wake_us <= self._clock.now_us()

    def _pause_s(self, pulled: Deliveries) -> float:
        if pulled.wake_us is None:
            return _LOOK_S
        return min(max(0.0, (pulled.wake_us - self._clock.now_us()) / 1e6), _LOOK_S)

    def _check_open(self) -> None:
        if self.closed:
            raise PipelineError(f"the subscriber of '{self.subscription}' was closed. Make another one")
