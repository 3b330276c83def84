"""What Kafka has no place for, in a compacted topic of one partition: the newest value of each name counts.

Names are `watermark/<topic>`, `sequence/<topic>/<producer>`, `internal/<topic>`. A note may be written within a
transaction together with messages, so that both are there or neither.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

Ends = Callable[[Collection[TopicPartition]], Awaitable[Mapping[TopicPartition, int]]]
TOPIC = "__streamflow"
SUBSCRIPTIONS = "__streamflow.subscriptions"
"""Notes on these have a topic of their own."""
BYTES_MAX = 16 << 20
"""Of a note, compressed."""


class Notes:
    """All notes of a topic, as far as they have been read; `refresh` reads on. `ends_of`: asks where topics end."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str, ends_of: Ends) -> None:
        self._consumer, self._ends_of = consumer, ends_of
        self._place = TopicPartition(topic, 0)
        self._values: dict[str, Any] = {}

    async def start(self, admin: AIOKafkaAdminClient, replication: int) -> None:
        """Make the topic if it is not there."""
        await create(admin, self._place.topic, 1, replication)
        await self._consumer.start()
        self._consumer.assign([self._place])

    async def refresh(self) -> Mapping[str, Any]:
        """All that was committed before this call."""
        place = self._place
        end = (await self._ends_of([place]))[place]
        while await self._consumer.position(place) < end:
            for message in (await self._consumer.getmany(place, timeout_ms=200)).get(place, []):
                name = message.key.decode()
                if message.value is None:
                    self._values.pop(name, None)
                else:
                    self._values[name] = orjson.loads(message.value)
        return self._values

    async def close(self) -> None:
        await self._consumer.stop()


async def create(admin: AIOKafkaAdminClient, topic: str, partitions: int, replication: int) -> None:
    """A compacted topic, if it is not there."""
    configs = {"cleanup.policy": "compact", "max.message.bytes": str(BYTES_MAX)}
    answer = await admin.create_topics([NewTopic(topic, partitions, replication, topic_configs=configs)])
    for _, code, *_ in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise for_code(code)(topic)


async def write(producer: AIOKafkaProducer, name: str, value: object | None, topic: str = TOPIC) -> int:
    """In the transaction of the producer; None deletes. The offset after it."""
    encoded = None if value is None else orjson.dumps(value)
    return int((await producer.send_and_wait(topic, encoded, key=name.encode(), partition=0)).offset) + 1
