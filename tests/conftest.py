"""What holds for every test: how long hypothesis may search, and one Kafka for those that need one."""

import os
import shutil
from collections.abc import Iterator

import pytest
from hypothesis import settings

from loadgen.kafka.broker import Cluster

KAFKA_SETTINGS = {
    "log.message.timestamp.after.max.ms": str(1 << 62),  # tests that publish have a clock of their own
    "group.min.session.timeout.ms": "500",
}

# A first call into Polars or a busy machine is no failure, so examples have no deadline.
settings.register_profile("streamflow", deadline=None, max_examples=40)
settings.load_profile("streamflow")


@pytest.fixture(scope="session")
def kafka_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real Kafka for all tests of a process: the broker at STREAMFLOW_TEST_KAFKA, else one that is started."""
    given = os.environ.get("STREAMFLOW_TEST_KAFKA")
    if given:
        yield given if "://" in given else f"kafka://{given}"
        return
    if "CI" not in os.environ and not (shutil.which("java") and shutil.which("mvn")):
        pytest.skip("Kafka needs Java and Maven, on Debian: apt install openjdk-17-jdk-headless maven")
    with Cluster(tmp_path_factory.mktemp("kafka"), settings=KAFKA_SETTINGS) as cluster:
        yield cluster.url
