"""The client for scripts and notebooks: each call runs on the async one, in an event loop of a thread. No logic."""

import asyncio
import threading
from collections.abc import Coroutine, Generator, Mapping, Sequence
from concurrent.futures import wait
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from streamflow.base.clock import Clock
from streamflow.topics.client.client import Client, connect
from streamflow.topics.client.message import Message
from streamflow.topics.client.subscribing import Flow, Subscriber
from streamflow.topics.protocol import PARTITIONS_DEFAULT, RETENTION_DEFAULT_S, Backlog, TopicInfo
from streamflow.topics.subscriptions.decisions import AckStatus
from streamflow.topics.subscriptions.settings import SubscriptionSettings
from streamflow.topics.subscriptions.store import SubscriptionInfo

T = TypeVar("T")
_LOOK_S = 0.2
"""How long Ctrl-C may have to wait."""


def connect_sync(url: str | Path, *, clock: Clock | None = None) -> "SyncClient":
    """As `connect`, without `async` and `await`.

    with sf.connect_sync("data") as client:
        client.create_topic("clicks")
        client.create_subscription("billing", "clicks")
        client.publish("clicks", [b"{}"])
        for message in client.pull("billing"):
            client.ack("billing", [message])
    """
    return SyncClient(url, clock)


class SyncClient:
    """Made by `connect_sync`. Threads may share it. `client` is the async one behind it, in the loop of `run`."""

    def __init__(self, url: str | Path, clock: Clock | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="streamflow-sync", daemon=True)
        self._thread.start()
        self._subscribers: dict[str, Subscriber] = {}
        try:
            self.client: Client = self.run(_connected(url, clock))
        except BaseException:
            self._stop()
            raise

    def run(self, call: Coroutine[Any, Any, T]) -> T:
        """The result of a call of the async client, or of anything made by it."""
        future = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            while not future.done():
                # No wait is long: Polars handles SIGINT in a way that lets one go on (its issue 21739).
                wait([future], _LOOK_S)
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def create_topic(
        self, name: str, *, partitions: int = PARTITIONS_DEFAULT, retention_s: float = RETENTION_DEFAULT_S
    ) -> TopicInfo:
        return self.run(self.client.create_topic(name, partitions=partitions, retention_s=retention_s))

    def create_subscription(
        self, name: str, topic: str, settings: SubscriptionSettings | None = None
    ) -> SubscriptionInfo:
        return self.run(self.client.create_subscription(name, topic, settings))

    def publish(
        self,
        topic: str,
        messages: Sequence[bytes],
        *,
        ordering_key: str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Their ids, when they are durable."""

        async def publish_all() -> list[str]:
            async with self.client.publisher(topic) as publisher:
                futures = [await publisher.submit(data, ordering_key, attributes) for data in messages]
                return list(await asyncio.gather(*futures))

        return self.run(publish_all())

    def pull(self, subscription: str, max_messages: int = 100, *, wait_s: float = 0.0) -> list[Message]:
        """As `Subscriber.pull`."""
        return self.run(self._subscriber(subscription).pull(max_messages, wait_s=wait_s))

    def stream(self, subscription: str, *, flow: Flow | None = None) -> Generator[Message, None, None]:
        """As `async for message in subscriber`, for ever; ack them with `ack`. Ending the loop nacks what was not
        handed out."""

        async def opened() -> Subscriber:
            return self.client.subscriber(subscription, flow=flow)

        before = self._subscribers.get(subscription)
        subscriber = self._subscribers[subscription] = self.run(opened())
        try:
            with suppress(StopAsyncIteration):
                while True:
                    yield self.run(subscriber.__anext__())
        finally:
            self.run(subscriber.close())
            del self._subscribers[subscription]
            if before is not None:
                self._subscribers[subscription] = before

    def ack(self, subscription: str, messages: Sequence[Message]) -> list[AckStatus]:
        return self.run(self._subscriber(subscription).ack([message.ack_id for message in messages]))

    def nack(self, subscription: str, messages: Sequence[Message]) -> list[AckStatus]:
        return self.run(self._subscriber(subscription).modify([message.ack_id for message in messages], 0))

    def seek(self, subscription: str, to: datetime | str) -> None:
        self.run(self.client.seek(subscription, to))

    def backlog(self, subscription: str) -> Backlog:
        return self.run(self.client.backlog(subscription))

    def close(self) -> None:
        try:
            self.run(self.client.close())
        finally:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _subscriber(self, subscription: str) -> Subscriber:
        async def opened() -> Subscriber:
            return self.client.subscriber(subscription)

        if subscription not in self._subscribers:
            self._subscribers[subscription] = self.run(opened())
        return self._subscribers[subscription]

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _connected(url: str | Path, clock: Clock | None) -> Client:
    return connect(url, clock=clock)
