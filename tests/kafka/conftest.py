"""Handles on the Kafka of all tests (see tests/conftest.py)."""

import secrets
from collections.abc import Iterator

import pytest

from streamflow.topics.kafka import KafkaLog
from streamflow.topics.protocol import TopicConfig


@pytest.fixture
def log(kafka_url: str) -> Iterator[KafkaLog]:
    handle = KafkaLog(kafka_url)
    yield handle
    handle.close()


@pytest.fixture
def topic(log: KafkaLog) -> str:
    """Of 3 partitions."""

    name = f"t-{secrets.token_hex(4)}"
    log.create_topic(name, TopicConfig(partitions=3))
    return name
