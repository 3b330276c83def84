"""Streaming pulls: Google's own subscriber with its callbacks, and the stream's requests one by one."""

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.pubsub_v1.subscriber.exceptions import AcknowledgeError, AcknowledgeStatus
from google.protobuf.field_mask_pb2 import FieldMask
from google.pubsub_v1.types import StreamingPullRequest
from google_clients import Google, until


class Raw:
    """A stream whose requests the test makes itself."""

    def __init__(self, google: Google, subscription: str, **first: Any) -> None:
        self._requests: queue.Queue[StreamingPullRequest | None] = queue.Queue()
        self.send(subscription=subscription, **{"stream_ack_deadline_seconds": 600, **first})
        self._responses = google.subscriber.streaming_pull(requests=self._each(), timeout=20)

    def send(self, **fields: Any) -> None:
        self._requests.put(StreamingPullRequest(**fields))

    def next(self) -> Any:
        return next(self._responses)

    def end(self) -> None:
        """No more requests."""
        self._requests.put(None)

    def _each(self) -> Iterator[StreamingPullRequest]:
        while (request := self._requests.get()) is not None:
            yield request


def test_callbacks_get_all_messages_once_and_acks_hold(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    seen: list[bytes] = []

    def callback(message: Any) -> None:
        seen.append(message.data)
        message.ack()

    with google.stream(subscription, callback, max_messages=20):
        data = [b"%d" % n for n in range(300)]
        google.publish(topic, *data)
        until(lambda: len(seen) >= 300)
    assert sorted(seen) == sorted(data)
    assert google.now(subscription) == []


def test_callbacks_of_one_key_run_in_order(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic, enable_message_ordering=True)
    seen: dict[str, list[int]] = {}

    def callback(message: Any) -> None:
        seen.setdefault(message.ordering_key, []).append(int(message.data))
        message.ack()

    with google.stream(subscription, callback):
        for n in range(100):
            google.publisher.publish(topic, b"%d" % n, ordering_key=f"key{n % 3}")
        until(lambda: sum(map(len, seen.values())) >= 100)
    assert seen == {f"key{k}": list(range(k, 100, 3)) for k in range(3)}


def test_a_callback_that_nacks_sees_the_message_again(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    tries: list[bytes] = []
    acked = threading.Event()

    def callback(message: Any) -> None:
        tries.append(message.data)
        if len(tries) < 3:
            message.nack()
        else:
            message.ack_with_response().result()
            acked.set()

    with google.stream(subscription, callback):
        google.publish(topic, b"x")
        assert acked.wait(10)
    assert tries == [b"x"] * 3


def test_an_exactly_once_subscriber_knows_which_acks_held(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic, enable_exactly_once_delivery=True)
    results: dict[bytes, list[Any]] = {}

    def callback(message: Any) -> None:
        told = results.setdefault(message.data, [])
        if not told:
            told.append(message.nack_with_response().result())
            with pytest.raises(AcknowledgeError) as refused:
                message.ack_with_response().result()
            told.append(refused.value.error_code)
        else:
            told.append(message.ack_with_response().result())

    with google.stream(subscription, callback):
        google.publish(topic, b"1", b"2", b"3")
        until(lambda: [len(told) for told in results.values()] == [3, 3, 3])
    expected = [AcknowledgeStatus.SUCCESS, AcknowledgeStatus.INVALID_ACK_ID, AcknowledgeStatus.SUCCESS]
    assert list(results.values()) == [expected] * 3
    assert google.now(subscription) == []


def test_a_stream_has_no_more_out_than_it_asked_for_until_some_are_acked(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    google.publish(topic, *[b"%d" % n for n in range(10)])
    stream = Raw(google, subscription, max_outstanding_messages=4)
    first: list[Any] = []
    while len(first) < 4:
        first += stream.next().received_messages
    assert len(first) == 4
    google.ack(subscription, first[:1])
    [more] = stream.next().received_messages
    stream.send(ack_ids=[first[1].ack_id], modify_deadline_ack_ids=[first[2].ack_id], modify_deadline_seconds=[0])
    rest = [*stream.next().received_messages]
    while len(rest) < 2:
        rest += stream.next().received_messages
    assert len({each.message.message_id for each in [*first, more, *rest]}) in (6, 7)
    stream.end()


def test_a_streams_own_deadline_decides_when_its_leases_end(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    google.publish(topic, b"x")
    stream = Raw(google, subscription)
    [received] = stream.next().received_messages
    stream.send(modify_deadline_ack_ids=[received.ack_id], modify_deadline_seconds=[1])
    again = stream.next().received_messages[0]
    assert again.message.message_id == received.message.message_id
    assert again.ack_id != received.ack_id
    stream.end()


def test_exactly_once_a_stream_confirms_acks_and_deadlines(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic, enable_exactly_once_delivery=True, enable_message_ordering=True)
    google.publisher.publish(topic, b"x", ordering_key="a").result()
    stream = Raw(google, subscription)
    response = stream.next()
    assert response.subscription_properties.exactly_once_delivery_enabled
    assert response.subscription_properties.message_ordering_enabled
    id = response.received_messages[0].ack_id
    stream.send(modify_deadline_ack_ids=[id, "nonsense"], modify_deadline_seconds=[60, 60])
    modified = stream.next().modify_ack_deadline_confirmation
    assert (list(modified.ack_ids), list(modified.invalid_ack_ids)) == ([id], ["nonsense"])
    stream.send(ack_ids=[id])
    assert list(stream.next().acknowledge_confirmation.ack_ids) == [id]
    stream.send(ack_ids=[id])
    acked = stream.next().acknowledge_confirmation
    assert (list(acked.ack_ids), list(acked.invalid_ack_ids)) == ([], [id])
    stream.end()
    with pytest.raises(StopIteration):
        stream.next()


@pytest.mark.parametrize(
    ("first", "later", "error", "told"),
    [
        ({"stream_ack_deadline_seconds": 9}, {}, exceptions.InvalidArgument, "Give 10 to 600"),
        ({"subscription": ""}, {}, exceptions.InvalidArgument, "Write it as"),
        ({"subscription": "projects/p/subscriptions/none"}, {}, exceptions.NotFound, "'none' does not exist"),
        ({}, {"subscription": "projects/p/subscriptions/s"}, exceptions.InvalidArgument, "only the first"),
        ({}, {"ack_ids": ["nonsense"]}, exceptions.InvalidArgument, "no ack id"),
        ({}, {"modify_deadline_ack_ids": ["0.0.1.0.1"]}, exceptions.InvalidArgument, "differ in length"),
    ],
)
def test_a_stream_that_asks_for_the_impossible_ends(
    google: Google, first: dict[str, Any], later: dict[str, Any], error: type[Exception], told: str
):
    subscription = google.subscription(google.topic())
    stream = Raw(google, **{"subscription": subscription, **first})
    stream.send(**later)
    with pytest.raises(error, match=told):
        stream.next()
    stream.end()


def test_a_stream_sees_that_its_subscription_changed_and_that_it_went(google: Google):
    topic = google.topic()
    subscription = google.subscription(topic)
    stream = Raw(google, subscription)
    google.publish(topic, b"x")
    assert not stream.next().subscription_properties.exactly_once_delivery_enabled
    google.subscriber.update_subscription(
        request={
            "subscription": {"name": subscription, "enable_exactly_once_delivery": True},
            "update_mask": FieldMask(paths=["enable_exactly_once_delivery"]),
        }
    )
    until(lambda: google.publish(topic, b"y") and stream.next().subscription_properties.exactly_once_delivery_enabled)
    google.subscriber.delete_subscription(subscription=subscription)
    with pytest.raises(exceptions.NotFound):
        stream.next()
    stream.end()
