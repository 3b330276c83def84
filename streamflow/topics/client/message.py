"""What a subscriber hands out."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from streamflow.topics.client.consuming import EPOCH, Delivery
from streamflow.topics.client.sending import message_size
from streamflow.topics.subscriptions.decisions import AckStatus

if TYPE_CHECKING:
    from streamflow.topics.client.subscribing import Subscriber


class Message:
    """One delivery of a message. `ack`, `nack` and `modify` return when that is durable, and say whether it held."""

    __slots__ = ("_delivery", "_subscriber", "ack_id", "size_bytes")

    def __init__(self, delivery: Delivery, subscriber: "Subscriber") -> None:
        self._delivery = delivery
        self._subscriber = subscriber
        self.ack_id = str(delivery.lease)
        """Names this delivery, for `Subscriber.ack` and `modify`, also in another process."""
        message = delivery.message
        self.size_bytes = message_size(message.data, message.attributes, message.ordering_key)

    @property
    def data(self) -> bytes:
        return self._delivery.message.data

    @property
    def attributes(self) -> Mapping[str, str]:
        return self._delivery.message.attributes

    @property
    def ordering_key(self) -> str:
        """ "" if it has none."""
        return self._delivery.message.ordering_key

    @property
    def message_id(self) -> str:
        """The same as the publisher was given: `partition-offset`."""
        return f"{self._delivery.message.partition}-{self._delivery.message.offset}"

    @property
    def publish_time(self) -> datetime:
        """When the log took it, UTC."""
        return EPOCH + timedelta(microseconds=self._delivery.message.published_us)

    @property
    def event_time(self) -> datetime:
        """What the publisher said, UTC; when it was published if it said nothing."""
        return EPOCH + timedelta(microseconds=self._delivery.message.time_us)

    @property
    def delivery_attempt(self) -> int:
        """1 + the nacks and expired leases before this delivery."""
        return self._delivery.lease.id.attempt

    async def ack(self) -> AckStatus:
        """It is done and does not come again. Exactly once, only HELD says so; at least once it may come again even
        then, if its lease had ended before."""
        [status] = await self._subscriber.ack([self.ack_id])
        return status

    async def nack(self) -> AckStatus:
        """It can't be done now: it comes again, by the subscription's retry policy."""
        return await self.modify(0)

    async def modify(self, seconds: float) -> AckStatus:
        """Let the lease end so many seconds from now, 0 to 600; a stream extends it by itself."""
        [status] = await self._subscriber.modify([self.ack_id], seconds)
        return status

    def __repr__(self) -> str:
        return f"<Message {self.message_id} {self.data[:40]!r}>"
