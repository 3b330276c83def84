"""One real Kafka for all tests of a process: the broker at STREAMFLOW_TEST_KAFKA, else one that is started here."""

import os
import secrets
import shutil
from collections.abc import Iterator

import pytest

from loadgen.kafka.broker import Cluster
from streamflow.topics.kafka import KafkaLog
from streamflow.topics.protocol import TopicConfig


@pytest.fixture(scope="session")
def kafka_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    given = os.environ.get("STREAMFLOW_TEST_KAFKA")
    if given:
        yield given if "://" in given else f"kafka://{given}"
        return
    if "CI" not in os.environ and not (shutil.which("java") and shutil.which("mvn")):
        pytest.skip("Kafka needs Java and Maven, on Debian: apt install openjdk-17-jdk-headless maven")
    with Cluster(tmp_path_factory.mktemp("kafka")) as cluster:
        yield cluster.url


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
