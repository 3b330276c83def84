"""The async client of one log: admin, publishers, subscribers. It owns their threads, and closes them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import orjson

from streamflow.base.clock import Clock, SystemClock
from streamflow.base.errors import PipelineError
from streamflow.topics import open_log
from streamflow.topics.client.closing import Closing
from streamflow.topics.client.consuming import Consumer
from streamflow.topics.client.publishing import AsyncPublisher, Batching, PublishFlow, Retries
from streamflow.topics.client.pushing import Pusher, Token
from streamflow.topics.client.schemas import MessageSchema
from streamflow.topics.client.sending import Sender
from streamflow.topics.client.subscribing import Flow, Subscriber
from streamflow.topics.client.threads import Changes, Threads
from streamflow.topics.protocol import PARTITIONS_DEFAULT, RETENTION_DEFAULT_S, Backlog, TopicConfig, TopicInfo
from streamflow.topics.subscriptions.push import PushConfig
from streamflow.topics.subscriptions.settings import SubscriptionSettings
from streamflow.topics.subscriptions.store import SnapshotInfo, SubscriptionInfo

T = TypeVar("T")
PUSH_REQUESTS_MAX = 100
Made = TypeVar("Made", AsyncPublisher, Subscriber)


def connect(url: str | Path, *, clock: Clock | None = None) -> "Client":
    """A client of the topics and subscriptions at `url`: a folder, `file:PATH`, or `memory://NAME` (see `open_log`).

        async with sf.connect("data") as client:
            await client.create_topic("clicks", partitions=4)
            await client.create_subscription("billing", "clicks")
            async with client.publisher("clicks") as publisher:
                await publisher.publish(b"{}", ordering_key="ann", attributes={"type": "view"})
            async with client.subscriber("billing") as subscriber:
                async for message in subscriber:
                    await message.ack()

    PipelineError for Kafka, on which there are no subscriptions yet; else as `open_log`. `clock` decides times of
    publication, deadlines and retention.
    """
    if isinstance(url, str) and url.startswith("kafka:"):
        raise PipelineError(
            "there are no subscriptions on Kafka yet. Its topics can be used with `streamflow.topics.topics_at`"
        )
    return Client(url, clock)


class Client(Closing):
    """Made by `connect`; use it with `async with`, in one event loop. What it made is closed with it."""

    def __init__(self, url: str | Path, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._log = open_log(url, clock=clock)
        self._store = self._log.subscriptions
        self._threads = Threads()
        self._changes = Changes(self._log, self._threads)
        self._made: list[AsyncPublisher | Subscriber] = []

    async def close(self) -> None:
        """Close publishers (which sends what they have) and subscribers (which nacks what they did not hand out)."""
        for each in self._made:
            await each.close()
        await self._changes.close()
        self._threads.close()
        self._log.close()

    async def create_topic(
        self, name: str, *, partitions: int = PARTITIONS_DEFAULT, retention_s: float = RETENTION_DEFAULT_S
    ) -> TopicInfo:
        """Or return the one that exists. ConflictError if that has another number of partitions (`add_partitions`)."""
        return await self._run(lambda: self._log.create_topic(name, TopicConfig(partitions, retention_s)))

    async def topic(self, name: str) -> TopicInfo:
        """NotFoundError, with the closest names, if there is none."""
        return await self._run(lambda: self._log.topic(name))

    async def topics(self) -> list[TopicInfo]:
        """Sorted by name, without those that belong to pipelines."""
        return [info for info in await self._run(self._log.topics) if not info.config.internal]

    async def alter_topic(self, name: str, *, retention_s: float) -> TopicInfo:
        """Keep its messages for so many seconds from now on. ConflictError if it belongs to a pipeline."""
        return await self._run(lambda: self._log.alter_topic(name, retention_s))

    async def add_partitions(self, name: str, partitions: int) -> TopicInfo:
        """Let it have so many in all; its subscriptions read the new ones, too. ConflictError if a pipeline or an
        ordered subscription reads it, since its keys move, or if it has more already."""
        return await self._run(lambda: self._log.add_partitions(name, partitions))

    async def delete_topic(self, name: str) -> None:
        """Its subscriptions are detached. ConflictError if a pipeline reads it."""
        await self._run(lambda: self._log.delete_topic(name))

    async def topic_schema(self, name: str) -> dict[str, Any] | None:
        """Field → its JSON types and whether it is required; None if no publisher gave a schema."""
        stored = await self._run(lambda: self._store.topic_schema(name))
        return None if stored is None else dict(orjson.loads(stored))

    async def create_subscription(
        self, name: str, topic: str, settings: SubscriptionSettings | None = None
    ) -> SubscriptionInfo:
        """It gets what is published from now on. One with the same topic and settings is returned as it is;
        ConflictError for another one of that name."""
        return await self._run(lambda: self._store.create_subscription(name, topic, settings))

    async def subscription(self, name: str) -> SubscriptionInfo:
        """NotFoundError, with the closest names, if there is none, or it has expired."""
        return await self._run(lambda: self._store.subscription(name))

    async def subscriptions(self, topic: str | None = None) -> list[SubscriptionInfo]:
        """All, or those of a topic, sorted by name."""
        return await self._run(lambda: self._store.subscriptions(topic))

    async def alter_subscription(self, name: str, **changes: object) -> SubscriptionInfo:
        """Change fields of its `SubscriptionSettings`, from now on. ConflictError for `filter` and `ordered`."""

        def alter() -> SubscriptionInfo:
            settings = self._store.subscription(name).settings
            return self._store.alter_subscription(name, replace(settings, **changes))  # type: ignore[arg-type]

        return await self._run(alter)

    async def delete_subscription(self, name: str) -> None:
        await self._run(lambda: self._store.delete_subscription(name))

    async def detach_subscription(self, name: str) -> None:
        """It delivers nothing any more and keeps nothing in the log; there is no way back."""
        await self._run(lambda: self._store.detach_subscription(name))

    async def backlog(self, subscription: str) -> Backlog:
        """Messages that are not acked: count, bytes, age in seconds of the oldest; exact."""
        return await self._run(lambda: Consumer(self._store, subscription).backlog())

    async def backlogs(self, subscription: str) -> Mapping[int, Backlog]:
        """The same by partition."""
        return await self._run(lambda: Consumer(self._store, subscription).backlogs())

    async def lost_by_seek(self, subscription: str, to: datetime | str) -> int:
        """How many unacked messages a `seek` would ack, if it came now; exact."""
        return await self._run(lambda: Consumer(self._store, subscription).lost_by_seek(to))

    async def seek(self, subscription: str, to: datetime | str) -> None:
        """As `Subscriber.seek`."""
        await self._run(lambda: Consumer(self._store, subscription).seek(to))

    async def create_snapshot(self, name: str, subscription: str) -> SnapshotInfo:
        """Remember what is acked, to seek to it. It lives up to 7 days: until its oldest unacked message is as old."""
        return await self._run(lambda: self._store.create_snapshot(name, subscription))

    async def snapshots(self) -> list[SnapshotInfo]:
        return await self._run(self._store.snapshots)

    async def delete_snapshot(self, name: str) -> None:
        await self._run(lambda: self._store.delete_snapshot(name))

    async def prune(self) -> int:
        """Delete what retention no longer keeps; bytes freed. The workers of pipelines do it too."""
        return await self._run(self._log.prune)

    def publisher(
        self,
        topic: str,
        *,
        name: str | None = None,
        batching: Batching | None = None,
        flow: PublishFlow | None = None,
        retries: Retries | None = None,
        schema: Any = None,
    ) -> AsyncPublisher:
        """NotFoundError if there is no such topic; ConflictError if it belongs to a pipeline. `name`: for sequences
        (see `AsyncPublisher`).

        With a `schema` (a msgspec Struct, a dataclass, a pydantic model, a Polars or Arrow schema) each message must be
        JSON that fits it, or DataError. It is stored with the topic, where it may follow an earlier one if it only adds
        optional fields, makes fields optional or widens types; else ConflictError."""
        checked = None if schema is None else MessageSchema(schema)
        if checked is not None:
            follows = checked.follow
            self._store.set_topic_schema(topic, lambda stored: follows(topic, stored))
        publisher = AsyncPublisher(
            Sender(self._log, topic, name),
            self._threads,
            self._clock,
            topic=topic,
            named=name is not None,
            batching=batching or Batching(),
            flow=flow or PublishFlow(),
            retries=retries or Retries(),
            schema=checked,
        )
        return self._owned(publisher)

    def subscriber(self, subscription: str, *, flow: Flow | None = None) -> Subscriber:
        """NotFoundError if there is no such subscription."""
        consumer = Consumer(self._store, subscription)
        return self._owned(Subscriber(consumer, self._threads, self._changes, self._clock, flow))

    async def push(
        self,
        subscription: str,
        config: PushConfig | None = None,
        *,
        token: Token | None = None,
        timeout_s: float | None = None,
        requests_max: int = PUSH_REQUESTS_MAX,
    ) -> None:
        """Send the messages of a subscription to its `push` endpoint (or that of `config`) until this is cancelled. It
        then lets what is out come to its end. Several processes may push one subscription.

        Statuses 200, 201, 202 and 204 ack; all others, errors, and no answer within `timeout_s` (the ack deadline)
        nack, and the retry policy says when a message comes again; without one the pusher rests 0.1 to 60 s while all
        fails. There are few requests at once at first, up to `requests_max` while the endpoint takes them. `token`: for
        an `oidc` endpoint; left out, it is what STREAMFLOW_PUSH_TOKEN holds.

        PipelineError without an endpoint or a token; NotFoundError without aiohttp, or the subscription."""
        settings = (await self.subscription(subscription)).settings
        to = config or settings.push
        if to is None:
            raise PipelineError(
                f"subscription '{subscription}' has no endpoint to push to. Give it one with "
                "`alter_subscription(name, push=PushConfig(…))`"
            )
        subscriber = self.subscriber(subscription, flow=Flow(messages_max=2 * requests_max))
        deadline_s = settings.ack_deadline_s
        await Pusher(
            subscriber,
            settings,
            to,
            timeout_s=deadline_s if timeout_s is None else min(timeout_s, deadline_s),
            requests_max=requests_max,
            token=token,
        ).run()

    def _owned(self, made: Made) -> Made:
        self._made = [each for each in self._made if not each.closed]
        self._made.append(made)
        return made

    async def _run(self, call: Callable[[], T]) -> T:
        return await self._threads.run(call)
