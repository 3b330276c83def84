"""The client on each backend: publishing, streaming, leases, flow control, closing."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from subscribing import START_US

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.base.errors import ConflictError, DataError, FlowControlError, NotFoundError, PipelineError
from streamflow.topics.client import AsyncPublisher, Batching, Client, Message, Retries, Subscriber
from streamflow.topics.client.sending import Sender

pytestmark = pytest.mark.contract
HELD, STALE, _ = sf.AckStatus
NOW = datetime.fromtimestamp(START_US / 1e6, UTC)


@pytest.fixture(params=["memory", "folder"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    return f"memory://{secrets.token_hex(4)}" if request.param == "memory" else tmp_path / "log"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START_US)


@pytest.fixture
def with_client(url: str | Path, clock: ManualClock) -> Callable[..., None]:
    """Runs a story with a client, topic "t" of one partition and subscription "s"."""

    def run(story: Callable[[Client], Awaitable[None]], **settings) -> None:
        async def whole() -> None:
            async with sf.connect(url, clock=clock) as client:
                await client.create_topic("t", partitions=1)
                await client.create_subscription("s", "t", sf.SubscriptionSettings(**settings))
                await asyncio.wait_for(story(client), 20)

        asyncio.run(whole())

    return run


async def published(client: Client, *texts: str, **options) -> list[str]:
    async with client.publisher("t") as publisher:
        return await asyncio.gather(*(publisher.publish(text.encode(), **options) for text in texts))


async def taken(subscriber: Subscriber, count: int) -> list[Message]:
    return [await anext(subscriber) for _ in range(count)]


def test_message_has_all_that_was_published(with_client, clock):
    async def story(client: Client) -> None:
        earlier = NOW - timedelta(hours=1)
        ids = await published(client, "a", ordering_key="k", attributes={"x": "y"}, event_time=earlier)
        async with client.subscriber("s") as subscriber:
            [message] = await subscriber.pull()
            assert (message.data, message.ordering_key, message.attributes) == (b"a", "k", {"x": "y"})
            assert (message.publish_time, message.event_time) == (NOW, earlier)
            assert ([message.message_id], message.delivery_attempt) == (ids, 1)
            assert await message.ack() is HELD
            assert await subscriber.pull() == []

    with_client(story)


def test_stream_waits_for_messages_that_come_later(with_client):
    async def story(client: Client) -> None:
        async with client.subscriber("s") as subscriber:
            first = asyncio.create_task(anext(subscriber))
            await asyncio.sleep(0.05)
            assert not first.done()
            await published(client, "a")
            assert (await first).data == b"a"

    with_client(story)


def test_pull_waits_as_long_as_it_is_told(with_client):
    async def story(client: Client) -> None:
        async with client.subscriber("s") as subscriber:
            assert await subscriber.pull(wait_s=0.05) == []
            waiting = asyncio.create_task(subscriber.pull(wait_s=15))
            await asyncio.sleep(0.05)
            await published(client, "a")
            assert len(await waiting) == 1

    with_client(story)


def test_stream_extends_the_leases_of_what_it_handed_out(with_client, clock):
    async def story(client: Client) -> None:
        await published(client, "a", "b")
        async with client.subscriber("s") as subscriber, client.subscriber("s") as other:
            held, done = await taken(subscriber, 2)
            await done.ack()
            for _ in range(5):
                clock.advance(9)
                await subscriber.extend_leases()
            assert await other.pull() == []
            assert await held.ack() is HELD

    with_client(story, exactly_once=True)


def test_lease_is_extended_no_longer_than_the_bound(with_client, clock):
    async def story(client: Client) -> None:
        await published(client, "a")
        flow = sf.Flow(extension_s_max=30)
        async with client.subscriber("s", flow=flow) as subscriber, client.subscriber("s") as other:
            await anext(subscriber)
            for _ in range(5):
                clock.advance(9)
                await subscriber.extend_leases()
            assert [message.delivery_attempt for message in await other.pull()] == [2]

    with_client(story)


def test_stream_holds_no_more_than_its_flow_allows(with_client):
    async def story(client: Client) -> None:
        await published(client, *"abcde")
        async with client.subscriber("s", flow=sf.Flow(messages_max=2)) as subscriber:
            first, _ = await taken(subscriber, 2)
            third = asyncio.create_task(anext(subscriber))
            await asyncio.sleep(0.05)
            assert not third.done()
            await first.ack()
            assert (await third).data == b"c"

    with_client(story)


def test_closing_nacks_what_was_not_handed_out_at_once(with_client):
    async def story(client: Client) -> None:
        await published(client, *"abc")
        async with client.subscriber("s") as subscriber:
            await anext(subscriber)
        async with client.subscriber("s") as other:
            assert [message.data for message in await other.pull()] == [b"b", b"c"]

    with_client(story)


def test_message_whose_lease_ended_before_it_was_handed_out_is_not(with_client, clock):
    async def story(client: Client) -> None:
        await published(client, *"ab")
        async with client.subscriber("s") as subscriber:
            await anext(subscriber)
            clock.advance(10)
            assert [message.delivery_attempt for message in await taken(subscriber, 2)] == [2, 2]

    with_client(story)


def test_cancelled_wait_loses_no_lease(with_client):
    async def story(client: Client) -> None:
        async with client.subscriber("s") as subscriber:
            waiting = asyncio.create_task(anext(subscriber))
            await asyncio.sleep(0.05)
            waiting.cancel()
            await published(client, "a")
            assert (await anext(subscriber)).delivery_attempt == 1

    with_client(story)


def test_cancelled_pull_gives_back_what_it_leased(with_client, monkeypatch):
    async def story(client: Client) -> None:
        await published(client, "a")
        async with client.subscriber("s") as subscriber:
            pulled = asyncio.Event()
            run = client._threads.run

            async def told(call):
                found = await run(call)
                pulled.set()
                await asyncio.sleep(0.05)
                return found

            monkeypatch.setattr(client._threads, "run", told)
            pulling = asyncio.create_task(subscriber.pull())
            await pulled.wait()
            pulling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pulling
            [message] = await subscriber.pull()
            assert message.delivery_attempt == 2

    with_client(story)


def test_wait_that_is_cancelled_in_the_moment_of_a_change_ends(with_client):
    async def story(client: Client) -> None:
        changes = client._changes
        waiting = asyncio.create_task(changes.wait(changes.count, 10))
        await asyncio.sleep(0)
        changes._changed.set()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with_client(story)


@pytest.mark.parametrize("settings", [{}, {"ordered": True}, {"exactly_once": True}])
def test_pull_can_say_how_long_its_leases_last(with_client, clock, settings):
    async def story(client: Client) -> None:
        await published(client, "a", ordering_key="k")
        async with client.subscriber("s") as subscriber:
            await subscriber.pull(deadline_s=60)
            clock.advance(59)
            assert await subscriber.pull() == []
            clock.advance(2)
            assert len(await subscriber.pull()) == 1
            for wrong_s in (0, 9, 601):
                with pytest.raises(DataError, match="Give 10 to 600"):
                    await subscriber.pull(deadline_s=wrong_s)

    with_client(story, **settings)


def test_pruning_frees_what_retention_no_longer_keeps(with_client, clock):
    async def story(client: Client) -> None:
        await client.delete_subscription("s")
        await published(client, "a" * 1_000)
        assert await client.prune() == 0
        clock.advance(8 * 24 * 3600)
        assert await client.prune() > 0

    with_client(story)


def test_nacked_message_comes_again(with_client):
    async def story(client: Client) -> None:
        await published(client, "a")
        async with client.subscriber("s") as subscriber:
            message = await anext(subscriber)
            assert await message.nack() is HELD
            again = await anext(subscriber)
            assert (again.data, again.delivery_attempt) == (b"a", 2)
            assert await message.modify(30) is STALE

    with_client(story)


@pytest.mark.parametrize(
    "wrong", ["", "0.1", "0.0.1.0.9", "0.0.1.-1.0", f"0.0.1.{1 << 62}.{(1 << 62) + 1}", "x.0.1.0.1"]
)
def test_what_is_no_ack_id_or_deadline_is_refused_alone(with_client, wrong):
    async def story(client: Client) -> None:
        await published(client, "a")
        async with client.subscriber("s") as subscriber:
            [message] = await subscriber.pull()
            good = asyncio.create_task(message.ack())
            with pytest.raises(DataError, match="ack id"):
                await subscriber.ack([wrong])
            with pytest.raises(DataError, match="ack deadline"):
                await message.modify(601)
            assert await subscriber.ack(["7.1.1.0.1"]) == [STALE]
            assert await good is HELD

    with_client(story)


def test_seek_and_snapshot_through_the_client(with_client, clock):
    async def story(client: Client) -> None:
        await published(client, "a", "b")
        async with client.subscriber("s") as subscriber:
            first, second = await subscriber.pull()
            await first.ack()
            await client.create_snapshot("snap", "s")
            await second.ack()
            assert (await client.backlog("s")).events == 0
            await subscriber.seek("snap")
            assert [message.data for message in await subscriber.pull()] == [b"b"]
            await subscriber.seek(NOW)
            assert (await subscriber.backlog()).events == 2
            await client.seek("s", NOW + timedelta(seconds=1))
            assert (await subscriber.backlog()).events == 0
            [snapshot] = await client.snapshots()
            await client.delete_snapshot(snapshot.name)
            assert await client.snapshots() == []

    with_client(story)


def test_admin_lists_alters_and_deletes(with_client):
    async def story(client: Client) -> None:
        await client.create_topic("u")
        await client.create_subscription("of-u", "u")
        assert [info.name for info in await client.topics()] == ["t", "u"]
        assert [info.name for info in await client.subscriptions("u")] == ["of-u"]
        altered = await client.alter_subscription("s", ack_deadline_s=60)
        assert altered == await client.subscription("s")
        assert altered.settings.ack_deadline_s == 60
        with pytest.raises(ConflictError, match="ordered"):
            await client.alter_subscription("s", ordered=True)
        assert (await client.alter_topic("u", retention_s=60)).config.retention_s == 60
        assert (await client.add_partitions("u", 20)).config.partitions == 20
        assert (await client.topic("u")).config == sf.TopicConfig(partitions=20, retention_s=60)
        await client.detach_subscription("of-u")
        assert (await client.subscription("of-u")).detached
        await client.delete_subscription("of-u")
        await client.delete_topic("u")
        with pytest.raises(NotFoundError):
            await client.topic("u")

    with_client(story)


def test_batch_is_sent_when_it_is_full_or_old(with_client, monkeypatch):
    sizes = []
    send = Sender.send
    monkeypatch.setattr(Sender, "send", lambda self, messages: sizes.append(len(messages)) or send(self, messages))

    async def story(client: Client) -> None:
        async with client.publisher("t", batching=Batching(messages_max=3, delay_s=60)) as publisher:
            await asyncio.gather(*(publisher.publish(b"x") for _ in range(6)))
            last = await publisher.submit(b"y")
            await publisher.flush()
            assert last.done()
        async with client.publisher("t", batching=Batching(bytes_max=10, delay_s=60)) as publisher:
            await asyncio.gather(*(publisher.publish(b"12345") for _ in range(4)))
        async with client.publisher("t", batching=Batching(delay_s=0.01)) as publisher:
            await publisher.publish(b"z")

    with_client(story)
    assert sizes == [3, 3, 1, 2, 2, 1]


@pytest.mark.parametrize("at_bound", ["block", "error", "ignore"])
def test_publisher_flow_at_its_bound(with_client, at_bound):
    async def story(client: Client) -> None:
        flow = sf.PublishFlow(messages_max=2, at_bound=at_bound)
        async with client.publisher("t", flow=flow, batching=Batching(delay_s=60)) as publisher:
            for _ in range(2):
                await publisher.submit(b"x")
            third = asyncio.create_task(publisher.submit(b"y"))
            await asyncio.sleep(0.02)
            if at_bound == "error":
                with pytest.raises(FlowControlError):
                    await third
            else:
                assert third.done() == (at_bound == "ignore")
                await publisher.flush()
                future = await third
                await publisher.flush()
                assert await future

    with_client(story)


def test_passing_errors_are_retried_and_others_told_at_once(with_client, monkeypatch):
    left = [OSError("once"), OSError("twice")]
    send = Sender.send

    def failing(self, messages):
        if left:
            raise left.pop()
        return send(self, messages)

    monkeypatch.setattr(Sender, "send", failing)

    async def story(client: Client) -> None:
        async with client.publisher("t", retries=Retries(0.001, 0.001, 1)) as publisher:
            assert await publisher.publish(b"x")
            left.append(ConflictError("no"))
            with pytest.raises(ConflictError):
                await publisher.publish(b"y")
        async with client.publisher("t", retries=Retries(0.001, 0.001, 0.0015)) as publisher:
            left.extend([OSError("still")] * 2)
            with pytest.raises(OSError, match="still"):
                await publisher.publish(b"z")
        assert (await client.backlog("s")).events == 1

    with_client(story)


def test_named_publisher_sends_a_sequence_once(with_client):
    async def story(client: Client) -> None:
        for expected in (["0-0", "0-1"], ["", ""]):
            async with client.publisher("t", name="p") as publisher:
                ids = [await publisher.publish(str(n).encode(), sequence=n) for n in range(2)]
                assert ids == expected
        async with client.publisher("t", name="p") as publisher:
            assert publisher.last_sequence == 1
            assert await publisher.publish(b"2") == "0-2"
        async with client.publisher("t") as publisher:
            with pytest.raises(PipelineError, match="named"):
                await publisher.publish(b"x", sequence=1)

    with_client(story)


def test_messages_that_no_topic_takes_are_refused_alone(with_client):
    async def story(client: Client) -> None:
        async with client.publisher("t") as publisher:
            good = publisher.publish(b"good")
            for data, attributes in ((b"x" * 10_000_001, {}), (b"x", {str(n): "" for n in range(101)}), ("text", {})):
                with pytest.raises(DataError):
                    await publisher.publish(data, attributes=attributes)
            assert await good == "0-0"

    with_client(story)


def test_closed_things_say_so(with_client):
    async def story(client: Client) -> None:
        publisher, subscriber = client.publisher("t"), client.subscriber("s")
        assert isinstance(publisher, AsyncPublisher)
        await publisher.close()
        await subscriber.close()
        with pytest.raises(PipelineError, match="closed"):
            await publisher.publish(b"x")
        with pytest.raises(PipelineError, match="closed"):
            await subscriber.pull()
        assert [message async for message in subscriber] == []

    with_client(story)


def test_kafka_has_no_subscriptions_yet():
    with pytest.raises(PipelineError, match="topics_at"):
        sf.connect("kafka://localhost:9092")


def test_synchronous_client_does_the_same(url):
    with sf.connect_sync(url) as client:
        client.create_topic("t", partitions=1)
        client.create_subscription("s", "t")
        ids = client.publish("t", [b"a", b"b", b"c"], ordering_key="k", attributes={"x": "y"})
        first, second = client.pull("s", 2)
        assert [first.message_id, second.message_id] == ids[:2]
        assert client.ack("s", [first]) == [HELD]
        assert client.nack("s", [second]) == [HELD]
        got = []
        for message in client.stream("s"):
            got.append(message.data)
            client.ack("s", [message])
            if len(got) == 2:
                break
        assert sorted(got) == [b"b", b"c"]
        assert client.backlog("s").events == 0
        client.seek("s", datetime.fromtimestamp(0, UTC))
        assert client.backlog("s").events == 3
