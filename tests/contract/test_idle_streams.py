"""Streams for which there is nothing: what they leave alone when others publish, and what they must not miss."""

import asyncio
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
from subscribing import Bench, texts

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.base.errors import ConflictError
from streamflow.topics.client import Client
from streamflow.topics.client.consuming import Consumer
from streamflow.topics.embedded.truth import Truth
from streamflow.topics.protocol import TopicConfig
from streamflow.topics.subscriptions import DeadLetterPolicy, RetryPolicy

pytestmark = pytest.mark.contract
DAY_S = 24 * 3600


def test_idle_streams_take_no_write_lock_when_others_publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    taken: list[Truth] = []
    transaction = Truth.transaction

    @contextmanager
    def counted(self, **options):
        taken.append(self)
        with transaction(self, **options) as db:
            yield db

    monkeypatch.setattr(Truth, "transaction", counted)
    looks = []
    look = Consumer.pull
    monkeypatch.setattr(Consumer, "pull", lambda self, *bounds: looks.append(self.name) or look(self, *bounds))

    async def story(idle: Client, busy: Client) -> None:
        await busy.create_topic("quiet", partitions=4)
        await busy.create_topic("loud", partitions=2)
        streams = []
        for n in range(5):
            await busy.create_subscription(f"s{n}", "quiet", sf.SubscriptionSettings(ordered=n > 2))
            streams.append(idle.subscriber(f"s{n}"))
        waiting = [asyncio.create_task(anext(stream)) for stream in streams]
        async with busy.publisher("loud") as loud, busy.publisher("quiet") as quiet:
            while len(set(looks)) < 5:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            before = taken.count(idle._log._truth)
            looks.clear()
            for _ in range(20):
                await loud.publish(b"x")
                await asyncio.sleep(0.01)
            while len(set(looks)) < 5:
                await asyncio.sleep(0.01)
            assert taken.count(idle._log._truth) == before
            await quiet.publish(b"found", ordering_key="k")
            assert {message.data for message in await asyncio.gather(*waiting)} == {b"found"}

    async def whole() -> None:
        async with sf.connect(tmp_path) as busy, sf.connect(tmp_path) as idle:
            await asyncio.wait_for(story(idle, busy), 20)

    asyncio.run(whole())


def test_idle_consumer_sees_what_becomes_deliverable(bench: Bench, clock: ManualClock):
    consumer, other = bench.subscribe(partitions=2, retry=RetryPolicy(20, 20)), bench.other()

    def after(change: Callable[[], object]) -> list[str]:
        assert [consumer.pull(5).found for _ in range(2)] == [[], []]
        change()
        return texts(consumer.pull(5).found)

    assert after(lambda: bench.publish("a")) == ["a"]
    assert after(lambda: clock.advance(10)) == []
    assert after(lambda: clock.advance(20)) == ["a"]
    clock.advance(10)
    assert other.pull(5).found == []
    clock.advance(20)
    found = other.pull(5).found
    assert after(lambda: other.modify([found[0].lease], 0)) == []
    assert after(lambda: clock.advance(20)) == ["a"]
    assert after(lambda: other.seek_time(0)) == ["a"]
    bench.store.detach_subscription("s")
    with pytest.raises(ConflictError, match="detached"):
        consumer.pull(5)


def test_dead_letters_of_an_idle_subscription_go_out_when_their_topic_is_made(bench: Bench):
    bench.log.create_topic("dead", TopicConfig(1))
    consumer = bench.subscribe(dead_letter=DeadLetterPolicy("dead"))
    bench.publish("a")
    bench.log.delete_topic("dead")
    for _ in range(5):
        consumer.modify([each.lease for each in consumer.pull(5).found], 0)
    assert [consumer.pull(5).found for _ in range(3)] == [[], [], []]
    bench.log.create_topic("dead", TopicConfig(1))
    consumer.pull(5)
    assert bench.log.end("dead", 0) == 1


def test_idle_stream_is_activity_that_keeps_its_subscription(bench: Bench, clock: ManualClock):
    consumer = bench.subscribe(expiry_s=DAY_S)
    for _ in range(24 * 12 + 10):
        clock.advance(300)
        assert consumer.pull(5).found == []
    active_us = bench.opened().subscriptions.subscription("s").active_us
    assert clock.now_us() - active_us <= 600_000_000
