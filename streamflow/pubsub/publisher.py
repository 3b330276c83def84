"""The service `google.pubsub.v1.Publisher`: topics, and publishing to them."""

import asyncio
from collections.abc import Mapping
from typing import Any

from google.protobuf.empty_pb2 import Empty

from streamflow.base.errors import NotFoundError
from streamflow.pubsub import protos
from streamflow.pubsub.errors import exists
from streamflow.pubsub.messages import check_publish
from streamflow.pubsub.names import Names, path
from streamflow.pubsub.paging import page_of
from streamflow.pubsub.settings import UNSERVED_OF_TOPICS, check_mask, topic_of, topic_retention_s
from streamflow.pubsub.usage import Usages
from streamflow.topics import rules
from streamflow.topics.client import AsyncPublisher, Client, Retries
from streamflow.topics.protocol import TopicInfo


class Publisher:
    """`partitions`: of the topics that clients create."""

    METHODS: Mapping[str, tuple[Any, str]] = {
        "CreateTopic": (protos.Topic, "create_topic"),
        "UpdateTopic": (protos.UpdateTopicRequest, "update_topic"),
        "Publish": (protos.PublishRequest, "publish"),
        "GetTopic": (protos.GetTopicRequest, "get_topic"),
        "ListTopics": (protos.ListTopicsRequest, "list_topics"),
        "ListTopicSubscriptions": (protos.ListTopicSubscriptionsRequest, "list_topic_subscriptions"),
        "ListTopicSnapshots": (protos.ListTopicSnapshotsRequest, "list_topic_snapshots"),
        "DeleteTopic": (protos.DeleteTopicRequest, "delete_topic"),
        "DetachSubscription": (protos.DetachSubscriptionRequest, "detach_subscription"),
    }

    def __init__(self, client: Client, usages: Usages, names: Names, partitions: int) -> None:
        self._client = client
        self._usages = usages
        self._names = names
        self._partitions = partitions
        self._publishers: dict[str, AsyncPublisher] = {}
        self._creating = asyncio.Lock()

    async def create_topic(self, request: Any, context: Any) -> Any:
        name = self._names.parse(request.name, "topics")
        retention_s = topic_retention_s(request)
        # The client's own way is to return the topic that exists.
        async with self._creating:
            if name.id in {info.name for info in await self._client.topics()}:
                raise exists("topic", name.id)
            info = await self._client.create_topic(name.id, partitions=self._partitions, retention_s=retention_s)
        return topic_of(info, name.project)

    async def update_topic(self, request: Any, context: Any) -> Any:
        name = self._names.parse(request.topic.name, "topics")
        info = await self._topic(name.id)
        check_mask(request.update_mask, protos.Topic, ("message_retention_duration",), UNSERVED_OF_TOPICS)
        wanted = topic_of(info, name.project)
        request.update_mask.MergeMessage(request.topic, wanted, replace_message_field=True)
        retention_s = topic_retention_s(wanted)
        if retention_s != info.config.retention_s:
            info = await self._client.alter_topic(name.id, retention_s=retention_s)
        return topic_of(info, name.project)

    async def publish(self, request: Any, context: Any) -> Any:
        name = self._names.parse(request.topic, "topics")
        check_publish(request)
        publisher = self._publisher(name.id)
        try:
            futures = [
                await publisher.submit(message.data, message.ordering_key, dict(message.attributes.items()))
                for message in request.messages
            ]
            # They are sent in this order. Waiting for each of them would wake this call as often.
            await asyncio.wait(futures[-1:])
            errors = [error for future in futures if (error := future.exception()) is not None]
            if errors:
                raise errors[0]
            return protos.PublishResponse(message_ids=[future.result() for future in futures])
        except NotFoundError:
            self._publishers.pop(name.id, None)
            raise

    async def get_topic(self, request: Any, context: Any) -> Any:
        name = self._names.parse(request.topic, "topics")
        return topic_of(await self._topic(name.id), name.project)

    async def list_topics(self, request: Any, context: Any) -> Any:
        project = self._names.project(request.project)
        topics, token = page_of(await self._client.topics(), request, lambda info: info.name)
        return protos.ListTopicsResponse(topics=[topic_of(info, project) for info in topics], next_page_token=token)

    async def list_topic_subscriptions(self, request: Any, context: Any) -> Any:
        name = self._names.parse(request.topic, "topics")
        await self._topic(name.id)
        attached = [info for info in await self._client.subscriptions(name.id) if not info.detached]
        infos, token = page_of(attached, request, lambda info: info.name)
        found = [path(name.project, "subscriptions", info.name) for info in infos]
        return protos.ListTopicSubscriptionsResponse(subscriptions=found, next_page_token=token)

    async def list_topic_snapshots(self, request: Any, context: Any) -> Any:
        name = self._names.parse(request.topic, "topics")
        await self._topic(name.id)
        of_topic = [info for info in await self._client.snapshots() if info.topic == name.id]
        infos, token = page_of(of_topic, request, lambda info: info.name)
        found = [path(name.project, "snapshots", info.name) for info in infos]
        return protos.ListTopicSnapshotsResponse(snapshots=found, next_page_token=token)

    async def delete_topic(self, request: Any, context: Any) -> Any:
        name = self._names.parse(request.topic, "topics")
        await self._topic(name.id)
        await self._client.delete_topic(name.id)
        publisher = self._publishers.pop(name.id, None)
        if publisher is not None:
            await publisher.close()
        return Empty()

    async def detach_subscription(self, request: Any, context: Any) -> Any:
        name = self._names.parse(request.subscription, "subscriptions")
        await self._client.detach_subscription(name.id)
        self._usages.look_again(name.id)
        return protos.DetachSubscriptionResponse()

    def _publisher(self, topic: str) -> AsyncPublisher:
        publisher = self._publishers.get(topic)
        if publisher is None:
            # The one who calls tries again: two that do so would repeat each other's work.
            publisher = self._publishers[topic] = self._client.publisher(topic, retries=Retries(total_s=0))
        return publisher

    async def _topic(self, name: str) -> TopicInfo:
        """Not one of a pipeline's own, which clients do not see."""
        info = await self._client.topic(name)
        if info.config.internal:
            raise rules.unknown("topic", name, [each.name for each in await self._client.topics()])
        return info
