"""Publishing and unary pulls: what Google's quick starts do, and what its service refuses."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import pubsub_v1
from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1 import PublisherClient as PlainPublisher
from google_clients import Google


def test_a_message_comes_as_it_was_published(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic, enable_message_ordering=True)
    before = datetime.now(UTC)
    data = bytes(range(256)) + b"\n{"
    id = google.publisher.publish(topic, data, ordering_key="ann", kind="päid", empty="").result()
    [received] = google.pull(subscription)
    message = received.message
    assert (message.data, message.message_id, message.ordering_key) == (data, id, "ann")
    assert dict(message.attributes) == {"kind": "päid", "empty": ""}
    assert before - timedelta(seconds=1) < message.publish_time < datetime.now(UTC) + timedelta(seconds=1)
    assert received.delivery_attempt == 0, "only a dead letter policy makes attempts known"
    google.ack(subscription, [received])
    assert google.now(subscription) == []


def test_ids_are_unique_and_nothing_is_lost_under_the_publishers_flow_control(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    flow = pubsub_v1.types.PublishFlowControl(
        message_limit=50, byte_limit=10_000, limit_exceeded_behavior=pubsub_v1.types.LimitExceededBehavior.BLOCK
    )
    options = pubsub_v1.types.PublisherOptions(flow_control=flow)
    publisher = pubsub_v1.PublisherClient(publisher_options=options, transport=google.publisher.transport)
    futures = [publisher.publish(topic, b"%d" % n) for n in range(1_000)]
    assert len({future.result() for future in futures}) == 1_000
    found = google.pull(subscription, 1_000)
    assert sorted(int(each.message.data) for each in found) == list(range(1_000))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [{}],
        [{"data": b"x", "ordering_key": "k" * 1_025}],
        [{"data": b"x", "attributes": {"k" * 257: "v"}}],
        [{"data": b"x", "attributes": {"k": "v" * 1_025}}],
        [{"data": b"x", "attributes": {"googly": "v"}}],
        [{"data": b"x", "attributes": {str(n): "v" for n in range(101)}}],
        [{"data": b"x"}] * 1_001,
        [{"data": b"x" * 10_000_001}],
    ],
)
def test_beyond_pubsubs_limits_nothing_is_published(google: Google, messages: list[dict[str, Any]]):
    topic = google.topic()
    subscription = google.subscription(topic)
    fine = [{"data": b"fine"}] if messages else []
    with pytest.raises(exceptions.InvalidArgument):
        PlainPublisher.publish(google.publisher, request={"topic": topic, "messages": [*fine, *messages]})
    assert google.now(subscription) == []


def test_publishing_to_no_topic_is_not_found(google: Google):
    topic = google.topic()
    google.publish(topic, b"x")
    google.publisher.delete_topic(topic=topic)
    with pytest.raises(exceptions.NotFound):
        google.publisher.publish(topic, b"x").result()
    google.topic()
    assert google.publish(topic, b"x")


def test_a_pull_waits_for_messages_and_returns_immediately_if_told_to(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    assert google.now(subscription) == []
    pulled: list[Any] = []
    puller = threading.Thread(target=lambda: pulled.extend(google.pull(subscription)))
    puller.start()
    google.publish(topic, b"x")
    puller.join()
    assert [each.message.data for each in pulled] == [b"x"]
    began = time.monotonic()
    assert not google.subscriber.pull(subscription=subscription, max_messages=1, timeout=1).received_messages
    assert time.monotonic() - began < 1
    with pytest.raises(exceptions.InvalidArgument, match="max_messages"):
        google.subscriber.pull(subscription=subscription, max_messages=-1)


def test_a_pull_whose_client_gives_up_takes_no_messages_with_it(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic, ack_deadline_seconds=600)
    request = pubsub_v1.types.PullRequest(subscription=subscription, max_messages=10)
    calls = [google.subscriber.transport.pull.future(request) for _ in range(20)]
    google.subscriber.get_subscription(subscription=subscription)
    for call in calls:
        call.cancel()
    google.subscriber.get_subscription(subscription=subscription)
    google.publish(topic, *[b"x"] * 20)
    assert len(google.pull(subscription, 20, within_s=5)) == 20


def test_nacked_messages_come_again_and_expired_ones_too(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    google.publish(topic, b"x")
    google.nack(subscription, google.pull(subscription))
    again = google.pull(subscription)
    google.modify(subscription, again, 1)
    assert google.now(subscription) == []
    google.ack(subscription, google.pull(subscription, within_s=5))
    assert google.now(subscription) == []


def test_an_extended_lease_holds(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    google.publish(topic, b"x")
    pulled = google.pull(subscription)
    google.modify(subscription, pulled, 1)
    google.modify(subscription, pulled, 600)
    assert google.pull(subscription, within_s=1.5) == []


def test_a_retry_policy_makes_what_was_nacked_wait(google: Google):
    topic = google.topic()
    policy = {"minimum_backoff": Duration(nanos=700_000_000), "maximum_backoff": Duration(seconds=600)}
    subscription = google.subscription(topic, retry_policy=policy)
    google.publish(topic, b"x")
    google.nack(subscription, google.pull(subscription))
    assert google.now(subscription) == []
    assert len(google.pull(subscription, within_s=5)) == 1


def test_messages_of_one_key_come_in_order_one_batch_at_a_time(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic, enable_message_ordering=True)
    for n in range(10):
        google.publisher.publish(topic, b"%d" % n, ordering_key=f"key{n % 2}")
    google.publisher.publish(topic, b"last", ordering_key="key0").result()
    seen: dict[str, list[bytes]] = {}
    while sum(map(len, seen.values())) < 11:
        batch = google.pull(subscription, 1)
        seen.setdefault(batch[0].message.ordering_key, []).append(batch[0].message.data)
        google.ack(subscription, batch)
    assert seen == {"key0": [b"0", b"2", b"4", b"6", b"8", b"last"], "key1": [b"1", b"3", b"5", b"7", b"9"]}


def test_what_fails_too_often_goes_to_the_dead_letter_topic(google: Google):
    topic, letters = google.topic(), google.topic("letters")
    collected = google.subscription(letters, "collected")
    policy = {"dead_letter_topic": letters, "max_delivery_attempts": 5}
    subscription = google.subscription(topic, dead_letter_policy=policy)
    google.publish(topic, b"bad", kind="x")
    attempts = []
    for _ in range(5):
        pulled = google.pull(subscription)
        attempts += [each.delivery_attempt for each in pulled]
        google.nack(subscription, pulled)
    assert attempts == [1, 2, 3, 4, 5]
    assert google.now(subscription) == []
    [letter] = google.pull(collected)
    assert letter.message.data == b"bad"
    assert letter.message.attributes["kind"] == "x"


def test_a_filter_lets_only_its_messages_through(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic, filter='attributes.kind = "paid"')
    google.publish(topic, b"open", kind="open")
    google.publish(topic, b"paid", kind="paid")
    assert [each.message.data for each in google.pull(subscription)] == [b"paid"]
    assert google.now(subscription) == []


def test_seeks_go_to_times_and_snapshots(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic, retain_acked_messages=True)
    google.publish(topic, b"1")
    assert len(google.pull(subscription)) == 1
    snapshot = google.snapshot_name("s")
    google.subscriber.create_snapshot(name=snapshot, subscription=subscription)
    between = datetime.now(UTC)
    google.publish(topic, b"2")
    google.subscriber.seek(request={"subscription": subscription, "time": datetime.now(UTC)})
    assert google.now(subscription) == []
    google.subscriber.seek(request={"subscription": subscription, "time": between})
    google.subscriber.seek(request={"subscription": subscription, "time": datetime(9000, 1, 1, tzinfo=UTC)})
    assert google.now(subscription) == []
    google.subscriber.seek(request={"subscription": subscription, "time": between})
    assert [each.message.data for each in google.pull(subscription)] == [b"2"]
    google.subscriber.seek(request={"subscription": subscription, "snapshot": snapshot})
    assert sorted(each.message.data for each in google.pull(subscription, 2)) == [b"1", b"2"]
    with pytest.raises(exceptions.NotFound):
        google.subscriber.seek(request={"subscription": subscription, "snapshot": google.snapshot_name("none")})


def test_acks_without_exactly_once_tell_nobody_what_was_stale(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    google.publish(topic, b"x")
    pulled = google.pull(subscription)
    google.ack(subscription, pulled)
    google.ack(subscription, pulled)
    with pytest.raises(exceptions.InvalidArgument, match="no ack id"):
        google.subscriber.acknowledge(subscription=subscription, ack_ids=["nonsense"])


def test_exactly_once_says_of_each_ack_id_what_became_of_it(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic, enable_exactly_once_delivery=True)
    google.publish(topic, b"1", b"2")
    first, second = (each.ack_id for each in google.pull(subscription, 2))
    google.subscriber.acknowledge(subscription=subscription, ack_ids=[first])
    with pytest.raises(exceptions.InvalidArgument) as refused:
        google.subscriber.acknowledge(subscription=subscription, ack_ids=[first, second, "nonsense"])
    assert refused.value.reason == "EXACTLY_ONCE_ACKID_FAILURE"
    assert refused.value.metadata == {
        first: "PERMANENT_FAILURE_INVALID_ACK_ID",
        second: "TRANSIENT_FAILURE_OTHER",
        "nonsense": "PERMANENT_FAILURE_INVALID_ACK_ID",
    }
    google.subscriber.acknowledge(subscription=subscription, ack_ids=[second, second])
    with pytest.raises(exceptions.InvalidArgument) as refused:
        google.subscriber.modify_ack_deadline(subscription=subscription, ack_ids=[second], ack_deadline_seconds=60)
    assert refused.value.metadata == {second: "PERMANENT_FAILURE_INVALID_ACK_ID"}
