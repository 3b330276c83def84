"""The service `google.pubsub.v1.Subscriber`: subscriptions, snapshots, pulling and acking."""

import asyncio
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.empty_pb2 import Empty

from streamflow.base.errors import DataError
from streamflow.pubsub import protos
from streamflow.pubsub.errors import AGAIN, exists, ids_refused, not_served
from streamflow.pubsub.messages import add_received
from streamflow.pubsub.names import Name, Names
from streamflow.pubsub.paging import page_of
from streamflow.pubsub.settings import (
    changes_of,
    check_mask,
    settings_of,
    snapshot_name,
    snapshot_of,
    subscription_of,
)
from streamflow.pubsub.streaming import RESPONSE_BYTES_MAX, RESPONSE_MESSAGES_MAX, Stream
from streamflow.pubsub.usage import Usages
from streamflow.topics import rules
from streamflow.topics.client import Client, Message
from streamflow.topics.protocol import TopicInfo
from streamflow.topics.subscriptions.store import SnapshotInfo

PULL_WAIT_S = 20.0
"""A pull without messages is answered with none after so long, or a moment before the client would give up."""
_MOMENT_S = 0.5


class Subscriber:
    """`stopping` is set when the server ends: what waits is answered then."""

    METHODS: Mapping[str, tuple[Any, str]] = {
        "CreateSubscription": (protos.Subscription, "create_subscription"),
        "GetSubscription": (protos.GetSubscriptionRequest, "get_subscription"),
        "UpdateSubscription": (protos.UpdateSubscriptionRequest, "update_subscription"),
        "ListSubscriptions": (protos.ListSubscriptionsRequest, "list_subscriptions"),
        "DeleteSubscription": (protos.DeleteSubscriptionRequest, "delete_subscription"),
        "ModifyAckDeadline": (protos.ModifyAckDeadlineRequest, "modify_ack_deadline"),
        "Acknowledge": (protos.AcknowledgeRequest, "acknowledge"),
        "Pull": (protos.PullRequest, "pull"),
        "ModifyPushConfig": (protos.ModifyPushConfigRequest, "modify_push_config"),
        "GetSnapshot": (protos.GetSnapshotRequest, "get_snapshot"),
        "ListSnapshots": (protos.ListSnapshotsRequest, "list_snapshots"),
        "CreateSnapshot": (protos.CreateSnapshotRequest, "create_snapshot"),
        "UpdateSnapshot": (protos.UpdateSnapshotRequest, "update_snapshot"),
        "DeleteSnapshot": (protos.DeleteSnapshotRequest, "delete_snapshot"),
        "Seek": (protos.SeekRequest, "seek"),
    }

    def __init__(self, client: Client, usages: Usages, names: Names, stopping: asyncio.Event) -> None:
        self._client = client
        self._usages = usages
        self._names = names
        self._stopping = stopping
        self._creating = asyncio.Lock()

    async def create_subscription(self, request: Any, context: Any) -> Any:
        name = self._subscription(request.name)
        topic = self._names.parse(request.topic, "topics")
        settings = settings_of(request, self._names)
        async with self._creating:
            if name.id in {info.name for info in await self._client.subscriptions()}:
                raise exists("subscription", name.id)
            info = await self._client.create_subscription(name.id, topic.id, settings)
        self._usages.look_again(name.id)
        return subscription_of(info, name.project, await self._client.topic(topic.id))

    async def get_subscription(self, request: Any, context: Any) -> Any:
        name = self._subscription(request.subscription)
        info = await self._client.subscription(name.id)
        return subscription_of(info, name.project, (await self._topics()).get(info.topic))

    async def update_subscription(self, request: Any, context: Any) -> Any:
        name = self._subscription(request.subscription.name)
        info = await self._client.subscription(name.id)
        topic = (await self._topics()).get(info.topic)
        current = subscription_of(info, name.project, topic)
        changes = changes_of(current, request.subscription, request.update_mask, self._names)
        if changes:
            info = await self._client.alter_subscription(name.id, **changes)
            self._usages.look_again(name.id)
        return subscription_of(info, name.project, topic)

    async def list_subscriptions(self, request: Any, context: Any) -> Any:
        project = self._names.project(request.project)
        topics = await self._topics()
        infos, token = page_of(await self._client.subscriptions(), request, lambda info: info.name)
        found = [subscription_of(info, project, topics.get(info.topic)) for info in infos]
        return protos.ListSubscriptionsResponse(subscriptions=found, next_page_token=token)

    async def delete_subscription(self, request: Any, context: Any) -> Any:
        name = self._subscription(request.subscription)
        await self._client.delete_subscription(name.id)
        self._usages.look_again(name.id)
        return Empty()

    async def modify_ack_deadline(self, request: Any, context: Any) -> Any:
        usage = await self._usages.of(self._subscription(request.subscription).id)
        failures = await usage.modify(request.ack_ids, float(request.ack_deadline_seconds))
        if failures:
            # Those that held can be sent again as they are.
            raise ids_refused({**dict.fromkeys(request.ack_ids, AGAIN), **failures})
        return Empty()

    async def acknowledge(self, request: Any, context: Any) -> Any:
        usage = await self._usages.of(self._subscription(request.subscription).id)
        failures = await usage.ack(request.ack_ids)
        if failures:
            acked = [id for id in request.ack_ids if id not in failures]
            raise ids_refused({**failures, **usage.to_repeat(acked)})
        return Empty()

    async def pull(self, request: Any, context: Any) -> Any:
        usage = await self._usages.of(self._subscription(request.subscription).id)
        if request.max_messages < 1:
            raise DataError(f"max_messages is {request.max_messages}. Give 1 or more")
        left_s = context.time_remaining()
        wait_s = PULL_WAIT_S if left_s is None else min(PULL_WAIT_S, left_s - _MOMENT_S)
        pulling = asyncio.create_task(
            usage.subscriber.pull(
                min(request.max_messages, RESPONSE_MESSAGES_MAX),
                max_bytes=RESPONSE_BYTES_MAX,
                wait_s=0.0 if request.return_immediately else wait_s,
            )
        )
        messages = await self._unless_stopped(pulling)
        attempts = usage.info.settings.dead_letter is not None
        response = protos.PullResponse()
        add_received(response, messages, attempts=attempts)
        return response

    async def streaming_pull(self, request_iterator: Any, context: Any) -> None:
        first = await context.read()
        name = self._subscription(getattr(first, "subscription", ""))
        await Stream(self._usages, name.id, first, context).run(first, self._stopping)

    async def modify_push_config(self, request: Any, context: Any) -> Any:
        name = self._subscription(request.subscription)
        if request.push_config.ByteSize():
            raise not_served("pushing", "Pull instead")
        await self._client.subscription(name.id)
        return Empty()

    async def get_snapshot(self, request: Any, context: Any) -> Any:
        name = self._names.parse(request.snapshot, "snapshots")
        return snapshot_of(await self._snapshot(name.id), name.project)

    async def list_snapshots(self, request: Any, context: Any) -> Any:
        project = self._names.project(request.project)
        infos, token = page_of(await self._client.snapshots(), request, lambda info: info.name)
        found = [snapshot_of(info, project) for info in infos]
        return protos.ListSnapshotsResponse(snapshots=found, next_page_token=token)

    async def create_snapshot(self, request: Any, context: Any) -> Any:
        subscription = self._subscription(request.subscription)
        name = snapshot_name(request, self._names, subscription, f"{subscription.id[:150]}-{secrets.token_hex(8)}")
        async with self._creating:
            if name.id in {info.name for info in await self._client.snapshots()}:
                raise exists("snapshot", name.id)
            return snapshot_of(await self._client.create_snapshot(name.id, subscription.id), name.project)

    async def update_snapshot(self, request: Any, context: Any) -> Any:
        await self._snapshot(self._names.parse(request.snapshot.name, "snapshots").id)
        check_mask(request.update_mask, protos.Snapshot, ("expire_time", "labels"))
        raise not_served("changing a snapshot", "Make another one")

    async def delete_snapshot(self, request: Any, context: Any) -> Any:
        await self._client.delete_snapshot(self._names.parse(request.snapshot, "snapshots").id)
        return Empty()

    async def seek(self, request: Any, context: Any) -> Any:
        name = self._subscription(request.subscription)
        if request.WhichOneof("target") is None:
            raise DataError("a seek has neither time nor snapshot. Give it one of them")
        usage = await self._usages.of(name.id)
        if request.snapshot:
            await self._client.seek(name.id, self._names.parse(request.snapshot, "snapshots").id)
        else:
            await self._client.seek(name.id, _time_of(request.time))
        usage.forget()
        return protos.SeekResponse()

    async def _unless_stopped(self, pulling: "asyncio.Task[list[Message]]") -> list[Message]:
        """What was pulled; nothing when the server stops first. Also if the client has gone, nothing stays leased that
        nobody gets."""
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait((pulling, stopped), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            pulling.cancel()
            await asyncio.wait((pulling,))
            if not pulling.cancelled() and pulling.exception() is None:
                await asyncio.gather(*(message.nack() for message in pulling.result()))
            raise
        finally:
            stopped.cancel()
        pulling.cancel()
        await asyncio.wait((pulling,))
        return [] if pulling.cancelled() else pulling.result()

    def _subscription(self, text: str) -> Name:
        return self._names.parse(text, "subscriptions")

    async def _topics(self) -> dict[str, TopicInfo]:
        return {info.name: info for info in await self._client.topics()}

    async def _snapshot(self, name: str) -> SnapshotInfo:
        infos = {info.name: info for info in await self._client.snapshots()}
        if name not in infos:
            raise rules.unknown("snapshot", name, infos)
        return infos[name]


def _time_of(timestamp: Any) -> datetime:
    try:
        time: datetime = timestamp.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{timestamp.seconds} s is no time. Give one of the years 1 to 9999") from error
    return time
