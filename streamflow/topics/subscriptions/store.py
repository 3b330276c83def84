"""The contract of a backend that has subscriptions, and the data it speaks in. Data classes and protocols only.

A *store* keeps subscriptions, their machines and their snapshots. `with_machines` is the one way to look into or change
a machine: it runs events, each on one partition's machine, in one exclusive section whose effects are kept as a whole.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from streamflow.base.errors import ConflictError, DataError
from streamflow.topics.subscriptions.running import Running, StoredMessage
from streamflow.topics.subscriptions.settings import SubscriptionSettings

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SubscriptionInfo:
    """`topic`: the name it was made with, though that may be deleted by now, which detaches. `active_us`: when it was
    last pulled from, acked on or changed, to within ten minutes."""

    name: str
    topic: str
    settings: SubscriptionSettings
    created_us: int
    active_us: int
    detached: bool = False

    def is_expired(self, now_us: int) -> bool:
        expires_us = self.settings.expires_us(self.active_us)
        return expires_us is not None and now_us >= expires_us


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What was acked on `subscription` when it was made; gone at `expires_us`."""

    name: str
    topic: str
    subscription: str
    created_us: int
    expires_us: int


@dataclass(frozen=True, slots=True)
class Look:
    """At `now_us`. While `state` is the same, a pull that gave nothing gives nothing again, until its `wake_us`."""

    state: Hashable
    now_us: int


class SubscriptionStore(Protocol):
    """Subscriptions of one log. Safe to share between threads; other handles and processes may use the same.

    A subscription that has expired is as good as deleted: NotFoundError wherever it is named."""

    def create_subscription(
        self, name: str, topic: str, settings: SubscriptionSettings | None = None
    ) -> SubscriptionInfo:
        """Gets what is published from now on. An equal one that exists is returned; ConflictError for another of that
        name and for an internal topic; NotFoundError without the topic, or that for dead letters."""

    def subscription(self, name: str) -> SubscriptionInfo: ...

    def subscriptions(self, topic: str | None = None) -> list[SubscriptionInfo]:
        """All, or those of a topic, sorted by name."""

    def alter_subscription(self, name: str, settings: SubscriptionSettings) -> SubscriptionInfo:
        """ConflictError for a change of what is immutable."""

    def delete_subscription(self, name: str) -> None:
        """Its snapshots stay."""

    def detach_subscription(self, name: str) -> None:
        """It delivers nothing any more; there is no way back."""

    def create_snapshot(self, name: str, subscription: str) -> SnapshotInfo:
        """ConflictError if there is one of that name, or it would expire within the hour (`snapshot_expires_us`)."""

    def snapshots(self) -> list[SnapshotInfo]:
        """Those that have not expired, sorted by name."""

    def snapshot_acks(self, name: str) -> tuple[SnapshotInfo, Mapping[int, bytes]]:
        """(what it is, partition → `encode_snapshot`)."""

    def delete_snapshot(self, name: str) -> None: ...

    def topic_schema(self, topic: str) -> str | None:
        """What `set_topic_schema` stored with the topic."""

    def set_topic_schema(self, topic: str, decide: Callable[[str | None], str]) -> None:
        """Store what `decide` makes of what is stored; nothing if it raises."""

    def partitions(self, subscription: str) -> Sequence[int]:
        """Those that this handle may use now: all, but where a group of clients shares them out."""

    def look(self, subscription: str) -> Look | None:
        """Whether a pull is worth while, without the store's lock; None: it can't be told, or it is time for a pull to
        note that the subscription is used."""

    def with_machines(
        self, subscription: str, events: Mapping[int, Callable[[Running], T]], *, durable: bool
    ) -> dict[int, T]:
        """Run each partition's event on its machine, brought up to date with the log; then forward dead letters. If one
        raises, nothing of any is kept. They run under the store's lock: don't wait in one, nor call the store.

        Not `durable`: a power cut may undo it, but no end of a process does."""

    def messages(self, subscription: str, partition: int, offsets: Iterable[int]) -> list[StoredMessage]:
        """Those of them that the log still has, in the order given."""


def check_same(info: SubscriptionInfo, topic: str, settings: SubscriptionSettings | None) -> None:
    """Of one that exists and is to be created again."""
    if info.detached or info.topic != topic or settings not in (None, info.settings):
        raise ConflictError(
            f"subscription '{info.name}' exists already, on topic '{info.topic}'"
            f"{', detached' if info.detached else ' or with other settings'}. Alter or delete it, or use another name"
        )


def check_attachable(name: str, topic: str, internal: bool) -> None:
    if internal:
        raise ConflictError(
            f"topic '{topic}' belongs to a pipeline and is pruned by it, so '{name}' can't subscribe to it. "
            "Subscribe to another"
        )


def check_attached(info: SubscriptionInfo) -> None:
    if info.detached:
        raise ConflictError(
            f"subscription '{info.name}' is detached from topic '{info.topic}'. Make another one to go on"
        )


def check_new_snapshot(name: str, taken: bool) -> None:
    if taken:
        raise ConflictError(f"snapshot '{name}' exists already. Delete it or use another name")


def check_seek(info: SubscriptionInfo, snapshot: SnapshotInfo) -> None:
    if info.topic != snapshot.topic:
        raise DataError(
            f"snapshot '{snapshot.name}' is of topic '{snapshot.topic}', subscription '{info.name}' of '{info.topic}'. "
            "Seek a subscription of the same topic"
        )


def retained_from(settings: SubscriptionSettings, floor: int, retention_start: int) -> int:
    """The first message that the log has to keep: of the messages within the subscription's retention, which begin at
    `retention_start`, the unacked ones, or all if acked ones are retained."""
    return retention_start if settings.retain_acked else max(floor, retention_start)
