"""Topics, subscriptions and snapshots, as Google's clients make, look at, change and delete them."""

from datetime import timedelta
from typing import Any

import pytest
from google.api_core import exceptions
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google_clients import PROJECT, Google


def test_topics_are_made_listed_in_pages_and_deleted(google: Google):
    names = [google.topic(f"t{n}") for n in range(5)]
    listed = [topic.name for topic in google.publisher.list_topics(project=f"projects/{PROJECT}")]
    assert set(names) <= set(listed)
    paged = google.publisher.list_topics(request={"project": f"projects/{PROJECT}", "page_size": 2})
    pages = [[topic.name for topic in page.topics] for page in paged.pages]
    assert {len(page) for page in pages[:-1]} == {2}
    assert [name for page in pages for name in page] == listed
    google.publisher.delete_topic(topic=names[0])
    with pytest.raises(exceptions.NotFound, match="does not exist"):
        google.publisher.get_topic(topic=names[0])
    with pytest.raises(exceptions.NotFound):
        google.publisher.delete_topic(topic=names[0])


def test_a_topics_retention_can_change_and_nothing_else(google: Google):
    name = google.topic(message_retention_duration=Duration(seconds=3_600))
    topic = google.publisher.get_topic(topic=name)
    assert topic.message_retention_duration == timedelta(hours=1)
    changed = {"name": name, "message_retention_duration": Duration(seconds=7_200)}
    mask = FieldMask(paths=["message_retention_duration"])
    after = google.publisher.update_topic(request={"topic": changed, "update_mask": mask})
    assert after == google.publisher.get_topic(topic=name) != topic
    assert after.message_retention_duration == timedelta(hours=2)
    changed["labels"] = {"a": "b"}
    with pytest.raises(exceptions.MethodNotImplemented, match="'labels' of a Topic"):
        google.publisher.update_topic(request={"topic": changed, "update_mask": FieldMask(paths=["labels"])})
    with pytest.raises(exceptions.InvalidArgument, match="can't be changed"):
        google.publisher.update_topic(request={"topic": changed, "update_mask": FieldMask(paths=["name"])})


def test_what_exists_already_is_not_made_again(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    with pytest.raises(exceptions.AlreadyExists):
        google.topic()
    with pytest.raises(exceptions.AlreadyExists):
        google.subscription(topic)
    google.subscriber.create_snapshot(name=google.snapshot_name("s"), subscription=subscription)
    with pytest.raises(exceptions.AlreadyExists):
        google.subscriber.create_snapshot(name=google.snapshot_name("s"), subscription=subscription)


SETTINGS: dict[str, Any] = {
    "ack_deadline_seconds": 42,
    "enable_message_ordering": True,
    "enable_exactly_once_delivery": True,
    "retain_acked_messages": True,
    "message_retention_duration": Duration(seconds=7_200),
    "expiration_policy": {"ttl": Duration(seconds=200_000)},
    "filter": 'attributes.kind = "paid"',
    "retry_policy": {"minimum_backoff": Duration(seconds=2), "maximum_backoff": Duration(seconds=30)},
}


def test_a_subscription_says_what_it_was_made_with(google: Google):
    topic, letters = google.topic(), google.topic("letters")
    policy = {"dead_letter_topic": letters, "max_delivery_attempts": 7}
    name = google.subscription(topic, **SETTINGS, dead_letter_policy=policy)
    found = google.subscriber.get_subscription(subscription=name)
    wanted = type(found)(name=name, topic=topic, **SETTINGS, dead_letter_policy=policy)
    wanted.state, wanted.topic_message_retention_duration = 1, Duration(seconds=7 * 86_400)
    assert found == wanted
    assert list(google.publisher.list_topic_subscriptions(topic=topic)) == [name]
    listed = google.subscriber.list_subscriptions(project=f"projects/{PROJECT}")
    assert found in list(listed)


def test_a_subscription_without_settings_has_pubsubs_defaults(google: Google):
    found = google.subscriber.get_subscription(subscription=google.subscription(google.topic()))
    assert found.ack_deadline_seconds == 10
    assert found.message_retention_duration == timedelta(days=7)
    assert found.expiration_policy.ttl == timedelta(days=31)
    assert not found.retry_policy
    assert not found.dead_letter_policy
    never = google.subscription(found.topic, "never", expiration_policy={})
    assert not google.subscriber.get_subscription(subscription=never).expiration_policy.ttl


def test_an_update_changes_what_its_mask_names_and_nothing_else(google: Google):
    name = google.subscription(google.topic(), ack_deadline_seconds=20, retry_policy=SETTINGS["retry_policy"])
    before = google.subscriber.get_subscription(subscription=name)
    after = google.subscriber.update_subscription(
        request={
            "subscription": {
                "name": name,
                "ack_deadline_seconds": 99,
                "retain_acked_messages": True,
                "retry_policy": {"minimum_backoff": Duration(seconds=5)},
            },
            "update_mask": FieldMask(paths=["ack_deadline_seconds", "retry_policy.minimum_backoff"]),
        }
    )
    before.ack_deadline_seconds, before.retry_policy.minimum_backoff = 99, timedelta(seconds=5)
    assert after == before == google.subscriber.get_subscription(subscription=name)
    cleared = google.subscriber.update_subscription(
        request={"subscription": {"name": name}, "update_mask": FieldMask(paths=["retry_policy", "expiration_policy"])}
    )
    assert not cleared.retry_policy
    assert cleared.expiration_policy.ttl == timedelta(days=31)


@pytest.mark.parametrize(
    ("changes", "paths", "error", "told"),
    [
        ({"filter": 'hasPrefix(attributes.a, "b")'}, ["filter"], exceptions.InvalidArgument, "can't be changed"),
        ({"enable_message_ordering": True}, ["enable_message_ordering"], exceptions.InvalidArgument, "can't be"),
        ({"topic": "projects/p/topics/other"}, ["topic"], exceptions.InvalidArgument, "can't be changed"),
        ({}, ["colour"], exceptions.InvalidArgument, "does not have"),
        ({}, [], exceptions.InvalidArgument, "update_mask is empty"),
        ({"ack_deadline_seconds": 5}, ["ack_deadline_seconds"], exceptions.InvalidArgument, "Give 10 to 600"),
        ({"labels": {"a": "b"}}, ["labels"], exceptions.MethodNotImplemented, "'labels'"),
        (
            {"push_config": {"push_endpoint": "http://localhost"}},
            ["push_config"],
            exceptions.MethodNotImplemented,
            "'push_config'",
        ),
    ],
)
def test_an_update_of_what_can_not_change_is_refused(
    google: Google, changes: dict[str, Any], paths: list[str], error: type[Exception], told: str
):
    name = google.subscription(google.topic())
    with pytest.raises(error, match=told):
        google.subscriber.update_subscription(
            request={"subscription": {"name": name, **changes}, "update_mask": FieldMask(paths=paths)}
        )


@pytest.mark.parametrize(
    ("settings", "error", "told"),
    [
        ({"filter": "attributes.kind ="}, exceptions.InvalidArgument, "filter"),
        ({"labels": {"a": "b"}}, exceptions.MethodNotImplemented, "'labels' of a Subscription is not served"),
        ({"push_config": {"push_endpoint": "http://x"}}, exceptions.MethodNotImplemented, "'push_config'"),
        ({"bigquery_config": {"table": "a.b.c"}}, exceptions.MethodNotImplemented, "'bigquery_config'"),
        ({"topic": "projects/project-a/topics/none"}, exceptions.NotFound, "topic 'none' does not exist"),
        ({"topic": "clicks"}, exceptions.InvalidArgument, "Write it as projects/PROJECT/topics/NAME"),
        ({"dead_letter_policy": {"dead_letter_topic": "projects/p/topics/none"}}, exceptions.NotFound, "'none'"),
        ({"name": "projects/project-a/subscriptions/a b"}, exceptions.InvalidArgument, "name 'a b' is not allowed"),
    ],
)
def test_a_subscription_that_can_not_be_is_refused(
    google: Google, settings: dict[str, Any], error: type[Exception], told: str
):
    topic = google.topic()
    with pytest.raises(error, match=told):
        google.subscriber.create_subscription(
            request={"name": google.subscription_name("s"), "topic": topic, **settings}
        )
    assert list(google.publisher.list_topic_subscriptions(topic=topic)) == []


def test_detached_and_orphaned_subscriptions_say_so(google: Google):
    topic = google.topic()
    detached, orphaned = google.subscription(topic, "detached"), google.subscription(topic, "orphaned")
    google.publisher.detach_subscription(request={"subscription": detached})
    assert google.subscriber.get_subscription(subscription=detached).detached
    with pytest.raises(exceptions.FailedPrecondition, match="detached"):
        google.subscriber.pull(subscription=detached, max_messages=1)
    assert list(google.publisher.list_topic_subscriptions(topic=topic)) == [orphaned]
    google.publisher.delete_topic(topic=topic)
    found = google.subscriber.get_subscription(subscription=orphaned)
    assert (found.topic, found.detached) == ("_deleted-topic_", False)


def test_snapshots_are_made_listed_and_deleted(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    name = google.snapshot_name("s")
    made = google.subscriber.create_snapshot(name=name, subscription=subscription)
    assert (made.name, made.topic) == (name, topic)
    assert google.subscriber.get_snapshot(request={"snapshot": name}) == made
    assert made in list(google.subscriber.list_snapshots(project=f"projects/{PROJECT}"))
    assert list(google.publisher.list_topic_snapshots(request={"topic": topic})) == [name]
    change = {"snapshot": {"name": name, "labels": {"a": "b"}}, "update_mask": FieldMask(paths=["labels"])}
    with pytest.raises(exceptions.MethodNotImplemented, match="changing a snapshot"):
        google.subscriber.update_snapshot(request=change)
    google.subscriber.delete_snapshot(snapshot=name)
    with pytest.raises(exceptions.NotFound):
        google.subscriber.get_snapshot(request={"snapshot": name})


def test_deleted_subscriptions_are_gone(google: Google):
    subscription = google.subscription(google.topic())
    google.subscriber.delete_subscription(subscription=subscription)
    for call in (google.subscriber.get_subscription, google.subscriber.delete_subscription):
        with pytest.raises(exceptions.NotFound):
            call(subscription=subscription)
    with pytest.raises(exceptions.NotFound):
        google.subscriber.pull(subscription=subscription, max_messages=1)


def test_a_page_token_that_the_server_did_not_give_is_refused(google: Google):
    request = {"project": f"projects/{PROJECT}", "page_token": "é"}
    with pytest.raises(exceptions.InvalidArgument, match="no page token"):
        google.publisher.list_topics(request=request)


def test_schemas_are_refused_with_a_hint(google: Google):
    with pytest.raises(exceptions.MethodNotImplemented, match="schemas and IAM are not"):
        google.publisher.test_iam_permissions(request={"resource": google.topic(), "permissions": ["a"]})
