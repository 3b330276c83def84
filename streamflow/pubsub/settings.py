"""Topics, subscriptions and snapshots of the wire ↔ ours. What StreamFlow has no place for is refused."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from streamflow.base.errors import DataError
from streamflow.pubsub.errors import invalid, not_served
from streamflow.pubsub.names import DELETED_TOPIC, Name, Names, path
from streamflow.pubsub.protos import Snapshot, Subscription, Topic
from streamflow.topics.protocol import RETENTION_DEFAULT_S, TopicInfo
from streamflow.topics.subscriptions.settings import (
    ACK_DEADLINE_MIN_S,
    DAY_S,
    DeadLetterPolicy,
    RetryPolicy,
    SubscriptionSettings,
)
from streamflow.topics.subscriptions.store import SnapshotInfo, SubscriptionInfo

RETENTION_MIN_S, RETENTION_MAX_S = 600, 31 * DAY_S
"""Pub/Sub's bounds on a topic's retention."""
DURATION_MAX_S = 10_000 * 365 * DAY_S
"""About what a Duration can say; topics that keep all for ever say so."""

SETTING_OF: Mapping[str, str] = {
    "ack_deadline_seconds": "ack_deadline_s",
    "enable_exactly_once_delivery": "exactly_once",
    "retry_policy": "retry",
    "dead_letter_policy": "dead_letter",
    "message_retention_duration": "retention_s",
    "retain_acked_messages": "retain_acked",
    "expiration_policy": "expiry_s",
}
"""What can be updated → the field of `SubscriptionSettings`."""
UNSERVED_OF_TOPICS = (
    "labels",
    "message_storage_policy",
    "kms_key_name",
    "schema_settings",
    "ingestion_data_source_settings",
    "message_transforms",
    "tags",
)
_UNSERVED_OF_SUBSCRIPTIONS = (
    "push_config",
    "bigquery_config",
    "cloud_storage_config",
    "bigtable_config",
    "labels",
    "message_transforms",
    "tags",
)


def topic_retention_s(topic: Any) -> float:
    """Of a topic to be made or changed: 7 days if nothing is said. DataError out of Pub/Sub's bounds, Refusal for
    settings that are not served."""
    _check_served(topic, UNSERVED_OF_TOPICS)
    if not topic.HasField("message_retention_duration"):
        return RETENTION_DEFAULT_S
    seconds = _seconds(topic.message_retention_duration)
    if not RETENTION_MIN_S <= seconds <= RETENTION_MAX_S:
        raise DataError(
            f"message_retention_duration is {seconds:g} s, out of bounds. Give {RETENTION_MIN_S} to {RETENTION_MAX_S}"
        )
    return seconds


def topic_of(info: TopicInfo, project: str) -> Any:
    return Topic(
        name=path(project, "topics", info.name),
        message_retention_duration=_duration(info.config.retention_s),
        state=Topic.State.Value("ACTIVE"),
    )


def settings_of(subscription: Any, names: Names) -> SubscriptionSettings:
    """DataError and FilterError for what Pub/Sub refuses, Refusal for settings that are not served."""
    _check_served(subscription, _UNSERVED_OF_SUBSCRIPTIONS)
    settings = SubscriptionSettings(
        ack_deadline_s=subscription.ack_deadline_seconds or ACK_DEADLINE_MIN_S,
        exactly_once=subscription.enable_exactly_once_delivery,
        ordered=subscription.enable_message_ordering,
        retry=_retry(subscription),
        dead_letter=_dead_letter(subscription, names),
        filter=subscription.filter or None,
        retain_acked=subscription.retain_acked_messages,
    )
    if subscription.HasField("message_retention_duration"):
        settings = replace(settings, retention_s=_seconds(subscription.message_retention_duration))
    if subscription.HasField("expiration_policy"):
        policy = subscription.expiration_policy
        settings = replace(settings, expiry_s=_seconds(policy.ttl) if policy.HasField("ttl") else None)
    return settings


def subscription_of(info: SubscriptionInfo, project: str, topic: TopicInfo | None) -> Any:
    """`topic`: None if it was deleted."""
    settings = info.settings
    found = Subscription(
        name=path(project, "subscriptions", info.name),
        topic=path(project, "topics", info.topic if topic is not None else DELETED_TOPIC),
        ack_deadline_seconds=round(settings.ack_deadline_s),
        retain_acked_messages=settings.retain_acked,
        message_retention_duration=_duration(settings.retention_s),
        enable_message_ordering=settings.ordered,
        enable_exactly_once_delivery=settings.exactly_once,
        filter=settings.filter or "",
        detached=info.detached and topic is not None,
        state=Subscription.State.Value("ACTIVE"),
    )
    if topic is not None:
        found.topic_message_retention_duration.CopyFrom(_duration(topic.config.retention_s))
    if settings.push is not None:
        found.push_config.push_endpoint = settings.push.endpoint
    found.expiration_policy.SetInParent()
    if settings.expiry_s is not None:
        found.expiration_policy.ttl.CopyFrom(_duration(settings.expiry_s))
    if settings.retry is not None:
        found.retry_policy.minimum_backoff.CopyFrom(_duration(settings.retry.backoff_min_s))
        found.retry_policy.maximum_backoff.CopyFrom(_duration(settings.retry.backoff_max_s))
    if settings.dead_letter is not None:
        found.dead_letter_policy.dead_letter_topic = path(project, "topics", settings.dead_letter.topic)
        found.dead_letter_policy.max_delivery_attempts = settings.dead_letter.attempts_max
    return found


def changes_of(current: Any, wanted: Any, mask: FieldMask, names: Names) -> dict[str, object]:
    """Fields of `SubscriptionSettings` that an update sets; `current` is what `subscription_of` gave. Refusal for a
    mask that names what does not exist, is immutable or is not served."""
    roots = check_mask(mask, Subscription, SETTING_OF, _UNSERVED_OF_SUBSCRIPTIONS)
    merged = Subscription()
    merged.CopyFrom(current)
    if "push_config" not in roots:
        merged.ClearField("push_config")
    mask.MergeMessage(wanted, merged, replace_message_field=True, replace_repeated_field=True)
    settings = settings_of(merged, names)
    return {SETTING_OF[root]: getattr(settings, SETTING_OF[root]) for root in roots if root in SETTING_OF}


def check_mask(mask: FieldMask, kind: Any, mutable: Iterable[str], unserved: Sequence[str] = ()) -> Sequence[str]:
    """The fields that the mask's paths begin with."""
    if not mask.paths:
        raise invalid(f"update_mask is empty. Name what to change: {', '.join(mutable)}")
    if not mask.IsValidForDescriptor(kind.DESCRIPTOR):
        raise invalid(f"update_mask {', '.join(mask.paths)} names what a {kind.DESCRIPTOR.name} does not have")
    roots = [path.partition(".")[0] for path in mask.paths]
    for root in roots:
        if root not in (*mutable, *unserved):
            raise invalid(f"'{root}' of a {kind.DESCRIPTOR.name} can't be changed. Make another one")
    return roots


def snapshot_of(info: SnapshotInfo, project: str) -> Any:
    seconds, us = divmod(info.expires_us, 1_000_000)
    return Snapshot(
        name=path(project, "snapshots", info.name),
        topic=path(project, "topics", info.topic),
        expire_time=Timestamp(seconds=seconds, nanos=us * 1_000),
    )


def snapshot_name(request: Any, names: Names, subscription: Name, otherwise: str) -> Name:
    """Of a snapshot to be made; `otherwise`, in the subscription's project, if the request names none."""
    if request.labels or request.tags:
        raise not_served("'labels' and 'tags' of a Snapshot", "Leave them out")
    return names.parse(request.name or path(subscription.project, "snapshots", otherwise), "snapshots")


def _retry(subscription: Any) -> RetryPolicy | None:
    if not subscription.HasField("retry_policy"):
        return None
    policy = subscription.retry_policy
    low = _seconds(policy.minimum_backoff) if policy.HasField("minimum_backoff") else RetryPolicy().backoff_min_s
    high = _seconds(policy.maximum_backoff) if policy.HasField("maximum_backoff") else RetryPolicy().backoff_max_s
    return RetryPolicy(low, high)


def _dead_letter(subscription: Any, names: Names) -> DeadLetterPolicy | None:
    policy = subscription.dead_letter_policy
    if not subscription.HasField("dead_letter_policy") or not policy.dead_letter_topic:
        return None
    topic = names.parse(policy.dead_letter_topic, "topics").id
    return DeadLetterPolicy(topic, policy.max_delivery_attempts or DeadLetterPolicy(topic).attempts_max)


def _check_served(message: Any, unserved: Sequence[str]) -> None:
    """Refusal if one of these fields says anything."""
    for field, value in message.ListFields():
        # A push config without an endpoint asks for pulling.
        if field.name in unserved and (field.message_type is None or field.is_repeated or value.ByteSize()):
            raise not_served(f"'{field.name}' of a {message.DESCRIPTOR.name}", "Leave it out")


def _seconds(duration: Any) -> float:
    return float(duration.seconds + duration.nanos / 1e9)


def _duration(seconds: float) -> Duration:
    whole, us = divmod(round(min(seconds, DURATION_MAX_S) * 1e6), 1_000_000)
    return Duration(seconds=whole, nanos=us * 1_000)
