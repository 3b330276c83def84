"""What all calls on one subscription share: one subscriber, so that acks of many calls share a transaction, and what
each stream has out, which an ack through any call ends."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from streamflow.base.clock import Clock
from streamflow.base.errors import DataError, NotFoundError
from streamflow.pubsub.errors import AGAIN, FAILURES, INVALID
from streamflow.topics.client import Client, Message, Subscriber
from streamflow.topics.client.consuming import LeaseId
from streamflow.topics.subscriptions.decisions import AckStatus
from streamflow.topics.subscriptions.store import SubscriptionInfo

LOOK_S = 2.0
"""Settings that others change are seen after so long."""
CONFIRMED_MAX = 10_000
"""Acks that are remembered because their answer said "again": enough for many requests that failed in part."""


@dataclass(eq=False, slots=True)
class Held:
    """What one stream has out: bounds its flow. `room` is set when there may be more room than before."""

    messages: int = 0
    bytes: int = 0
    room: asyncio.Event = field(default_factory=asyncio.Event)


class Usage:
    """One subscription in use. The subscriber of it knows `info`'s settings."""

    def __init__(self, info: SubscriptionInfo, subscriber: Subscriber, clock: Clock) -> None:
        self.info = info
        self.subscriber = subscriber
        self._clock = clock
        self._out: dict[str, tuple[Held, int, int]] = {}
        self._confirmed: OrderedDict[str, None] = OrderedDict()

    def renew(self, info: SubscriptionInfo, subscriber: Subscriber) -> None:
        self.info, self.subscriber = info, subscriber

    def hold(self, held: Held, messages: Sequence[Message], deadline_s: float) -> None:
        """These go out on that stream."""
        end_us = self._clock.now_us() + round(deadline_s * 1e6)
        for message in messages:
            self._out[message.ack_id] = (held, message.size_bytes, end_us)
            held.messages += 1
            held.bytes += message.size_bytes

    def sweep(self, held: Held) -> None:
        """Leases that have ended give their room back."""
        now_us = self._clock.now_us()
        self._release([id for id, (of, _, end_us) in self._out.items() if of is held and end_us <= now_us])

    def forget(self, held: Held | None = None) -> None:
        """The stream has ended; None: a seek has ended all leases."""
        self._release([id for id, (of, _, _) in self._out.items() if held in (None, of)])

    async def ack(self, ack_ids: Sequence[str]) -> Mapping[str, str]:
        """Those that failed → how. Only with exactly-once delivery: without it nobody is told. DataError for what is no
        ack id, then."""
        again = {id for id in ack_ids if id in self._confirmed} if self._confirmed else ()
        for id in again:
            del self._confirmed[id]
        try:
            return await self._failures([id for id in ack_ids if id not in again], None)
        finally:
            self._release(ack_ids)

    async def modify(self, ack_ids: Sequence[str], deadline_s: float) -> Mapping[str, str]:
        """As `ack`; 0 s is a nack."""
        failures = await self._failures(ack_ids, deadline_s)
        if deadline_s == 0:
            self._release(ack_ids)
            return failures
        end_us = self._clock.now_us() + round(deadline_s * 1e6)
        for id in ack_ids:
            if id in self._out and id not in failures:
                held, size, _ = self._out[id]
                self._out[id] = (held, size, end_us)
        return failures

    def to_repeat(self, acked: Sequence[str]) -> Mapping[str, str]:
        """Clients take all ids of a request that failed for failed, but for those that it says to send again. So these,
        which are acked, are to be sent again, and hold then."""
        self._confirmed.update(dict.fromkeys(acked))
        while len(self._confirmed) > CONFIRMED_MAX:
            self._confirmed.popitem(last=False)
        return dict.fromkeys(acked, AGAIN)

    async def _failures(self, ack_ids: Sequence[str], deadline_s: float | None) -> Mapping[str, str]:
        exactly_once = self.info.settings.exactly_once
        # Once each: the second of the same would not hold any more.
        valid = [id for id in dict.fromkeys(ack_ids) if _is_ack_id(id)] if exactly_once else ack_ids
        if not valid:
            statuses: Sequence[AckStatus] = []
        elif deadline_s is None:
            statuses = await self.subscriber.ack(valid)
        else:
            statuses = await self.subscriber.modify(valid, deadline_s)
        if not exactly_once:
            return {}
        failures = {id: FAILURES[status] for id, status in zip(valid, statuses, strict=True) if status in FAILURES}
        return failures | {id: INVALID for id in ack_ids if not _is_ack_id(id)}

    def _release(self, ack_ids: Sequence[str]) -> None:
        for id in ack_ids:
            held, size, _ = self._out.pop(id, (None, 0, 0))
            if held is not None:
                held.messages -= 1
                held.bytes -= size
                held.room.set()


class Usages:
    """Of all subscriptions."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._usages: dict[str, tuple[Usage, float]] = {}

    async def of(self, subscription: str) -> Usage:
        """With settings that are at most `LOOK_S` old. NotFoundError if there is no such subscription any more."""
        now_s = asyncio.get_running_loop().time()
        usage, looked_s = self._usages.get(subscription, (None, 0.0))
        if usage is not None and now_s - looked_s < LOOK_S:
            return usage
        try:
            info = await self._client.subscription(subscription)
        except NotFoundError:
            self._usages.pop(subscription, None)
            raise
        # Another call may have made it meanwhile.
        usage, _ = self._usages.get(subscription, (None, 0.0))
        if usage is None:
            usage = Usage(info, self._client.subscriber(subscription), self._clock)
        elif (usage.info.settings, usage.info.created_us) != (info.settings, info.created_us):
            usage.renew(info, self._client.subscriber(subscription))
        self._usages[subscription] = (usage, now_s)
        return usage

    def look_again(self, subscription: str) -> None:
        """It was changed, deleted or made: look before it is used again."""
        if subscription in self._usages:
            self._usages[subscription] = (self._usages[subscription][0], float("-inf"))


def _is_ack_id(text: str) -> bool:
    try:
        LeaseId.parse(text)
    except DataError:
        return False
    return True
