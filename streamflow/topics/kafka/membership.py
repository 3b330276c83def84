"""A member of a subscription's consumer group: which partitions are its own, and commits that only their holder can do.

It joins like any consumer, but reads nothing: messages come by another way.
"""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, OffsetAndMetadata, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor

from streamflow.topics.kafka.client import KafkaClient
from streamflow.topics.kafka.connection import our_errors

ASSIGNED_S = 5.0
"""How long a call waits for the group to share out its partitions; then there are none for it."""
_NEW_PARTITIONS_MS = 2_000
"""How often the group asks whether its topic has got more partitions."""
_FOR_EVER_MS = (1 << 31) - 1


def group_of(subscription: str) -> str:
    """The group's name, as Kafka's tools show it."""
    return f"streamflow.sub.{subscription}"


class Member(ConsumerRebalanceListener):  # type: ignore[misc]
    """`turn`: rises with each assignment. Made and called in the client's event loop, but for `assigned`, `settled`."""

    def __init__(self, client: KafkaClient, subscription: str, topic: str) -> None:
        self.turn = 0
        self._assigned: frozenset[int] = frozenset()
        self._settled = threading.Event()
        session_ms = client.address.session_timeout_ms
        # The assignor remembers in its class what it had; a process may be in several groups.
        assignor = type("Sticky", (StickyPartitionAssignor,), {})
        self._consumer = AIOKafkaConsumer(
            **{**client.options, "metadata_max_age_ms": _NEW_PARTITIONS_MS},
            group_id=group_of(subscription),
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(1_000, session_ms // 3),
            max_poll_interval_ms=_FOR_EVER_MS,
            partition_assignment_strategy=(assignor,),
            max_partition_fetch_bytes=1,
        )
        self._consumer.subscribe([topic], listener=self)
        self._joining = asyncio.create_task(self._consumer.start())

    @property
    def settled(self) -> bool:
        """Whether the group has shared out its partitions."""
        return self._settled.is_set()

    def assigned(self) -> frozenset[int]:
        """Once the group is settled, or none if that takes long. Called from other threads."""
        if self._settled.wait(ASSIGNED_S):
            return self._assigned
        if self._joining.done() and not self._joining.cancelled():
            with our_errors():
                self._joining.result()
        return frozenset()

    async def commit(self, commits: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        """CommitFailedError or IllegalStateError if one of them is not held any more."""
        await self._consumer.commit(dict(commits))

    async def leave(self) -> None:
        self._settled.clear()
        self._joining.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self._joining
        with suppress(asyncio.CancelledError):
            await self._consumer.stop()

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        self._settled.clear()
        self._assigned = frozenset()

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        self._consumer.pause(*assigned)
        self._assigned = frozenset(place.partition for place in assigned)
        self.turn += 1
        self._settled.set()
