"""Short ways to publish and subscribe in tests."""

import asyncio
import time
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from streamflow.base.clock import ManualClock
from streamflow.topics.client.consuming import Consumer, Delivery
from streamflow.topics.client.sending import Outgoing, Sender
from streamflow.topics.protocol import SubscribedLog, TopicConfig, TopicInfo
from streamflow.topics.subscriptions import SubscriptionSettings

START_US = time.time_ns() // 1_000_000_000 * 1_000_000
"""Now: a Kafka forgets messages by its own clock."""


class Bench:
    """Topic "t" of one partition (or more) and subscription "s", in few words."""

    def __init__(self, opened: Callable[[], SubscribedLog], clock: ManualClock) -> None:
        self.opened, self.clock = opened, clock
        self.log = opened()
        self.store = self.log.subscriptions

    def subscribe(self, name: str = "s", *, partitions: int = 1, topic: str = "t", **settings: object) -> Consumer:
        self.log.create_topic(topic, TopicConfig(partitions))
        self.store.create_subscription(name, topic, SubscriptionSettings(**settings))  # type: ignore[arg-type]
        return Consumer(self.store, name)

    def other(self, name: str = "s") -> Consumer:
        """The same subscription through another handle."""
        return Consumer(self.opened().subscriptions, name)

    def pulled(self, consumer: Consumer, count: int) -> list[Delivery]:
        """So many messages: at once, but on Kafka, where a group needs some seconds to see new partitions."""
        found, until_s = list(consumer.pull(count).found), time.monotonic() + 10
        while len(found) < count and self.log.url.startswith("kafka:") and time.monotonic() < until_s:
            time.sleep(0.1)
            found += consumer.pull(count - len(found)).found
        return found

    def prune(self) -> None:
        """Let the log forget what it may: a Kafka does what it would do by itself when the tests' time has come."""
        self.log.prune()
        for info in self.log.topics() if self.log.url.startswith("kafka:") else []:
            asyncio.run(self._forget_expired(info))

    async def _forget_expired(self, info: TopicInfo) -> None:
        servers = self.log.url.removeprefix("kafka://")
        places = [TopicPartition(info.name, partition) for partition in range(info.config.partitions)]
        oldest_ms = self.clock.now_us() // 1000 - round(info.config.retention_s * 1000)
        async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
            found = await consumer.offsets_for_times(dict.fromkeys(places, oldest_ms))
            ends = await consumer.end_offsets(places)
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        kept = {place: RecordsToDelete(each.offset if each else ends[place]) for place, each in found.items()}
        await admin.delete_records(kept)
        await admin.close()

    def publish(self, *texts: str, key: str = "", topic: str = "t", **attributes: str) -> list[str]:
        messages = [Outgoing(text.encode(), attributes, key, self.clock.now_us()) for text in texts]
        return Sender(self.log, topic, None).send(messages)


def texts(found: Sequence[Delivery]) -> list[str]:
    return [each.message.data.decode() for each in found]


def attempts(found: Sequence[Delivery]) -> list[int]:
    return [each.lease.id.attempt for each in found]
