"""What Kafka has no place for, in a compacted topic of one partition: the newest value of each name counts.

Names are `watermark/<topic>`, `sequence/<topic>/<producer>`, `internal/<topic>`. A note may be written within a
transaction together with messages, so that both are there or neither.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from streamflow.topics.kafka.connection import patiently

TOPIC = "__streamflow"


class Notes:
    """All notes of a topic, as far as they have been read; `refresh` reads on. `asker`: another consumer, started by
    others, which knows where the topic ends."""

    def __init__(self, consumer: AIOKafkaConsumer, asker: AIOKafkaConsumer, topic: str = TOPIC) -> None:
        self._consumer, self._asker = consumer, asker
        self._place = TopicPartition(topic, 0)
        self._values: dict[str, Any] = {}

    async def start(self, admin: AIOKafkaAdminClient, replication: int) -> None:
        """Make the topic if it is not there."""
        configs = {"cleanup.policy": "compact"}
        answer = await admin.create_topics([NewTopic(self._place.topic, 1, replication, topic_configs=configs)])
        for _, code, *_ in answer.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):
                raise for_code(code)(self._place.topic)
        await self._consumer.start()
        self._consumer.assign([self._place])

    async def refresh(self) -> Mapping[str, Any]:
        """All that was committed before this call."""
        end = (await patiently(lambda: self._asker.end_offsets([self._place])))[self._place]
        while await self._consumer.position(self._place) < end:
            for message in (await self._consumer.getmany(self._place, timeout_ms=200)).get(self._place, []):
                name = message.key.decode()
                if message.value is None:
                    self._values.pop(name, None)
                else:
                    self._values[name] = orjson.loads(message.value)
        return self._values

    async def close(self) -> None:
        await self._consumer.stop()


async def write(producer: AIOKafkaProducer, name: str, value: object | None, topic: str = TOPIC) -> None:
    """In the transaction of the producer; None deletes."""
    encoded = None if value is None else orjson.dumps(value)
    await producer.send_and_wait(topic, encoded, key=name.encode(), partition=0)
