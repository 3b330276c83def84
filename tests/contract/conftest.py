"""Every backend behind one fixture; the clock is the tests'."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from subscribing import START_US, Bench

from streamflow.base.clock import ManualClock
from streamflow.topics import topics_at
from streamflow.topics.protocol import SubscribedLog


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_US)


@pytest.fixture(params=["memory", "folder", pytest.param("kafka", marks=pytest.mark.kafka)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | Path]:
    """Of an empty log of each kind."""
    if request.param != "kafka":
        yield f"memory://{secrets.token_hex(4)}" if request.param == "memory" else tmp_path / "log"
        return
    yield request.getfixturevalue("emptied_kafka_url")


@pytest.fixture
def emptied_kafka_url(kafka_url: str) -> Iterator[str]:
    """What a test leaves there is deleted behind it."""
    yield kafka_url
    log = topics_at(kafka_url)
    for subscription in log.subscriptions.subscriptions():
        log.subscriptions.delete_subscription(subscription.name)
    for topic in log.topics():
        log.delete_topic(topic.name)
    log.close()


@pytest.fixture
def opened(url: str | Path, clock: ManualClock) -> Iterator[Callable[[], SubscribedLog]]:
    """Opens one more handle on the same log."""
    handles: list[SubscribedLog] = []

    def open_one() -> SubscribedLog:
        handles.append(topics_at(url, clock=clock))
        return handles[-1]

    yield open_one
    for log in handles:
        log.close()


@pytest.fixture
def bench(opened: Callable[[], SubscribedLog], clock: ManualClock) -> Bench:
    return Bench(opened, clock)
