"""Messages of the wire ↔ ours. Publishing is bounded as Google's is; other bounds are the topic's."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from streamflow.base.errors import DataError
from streamflow.topics.client import Message
from streamflow.topics.client.consuming import EPOCH
from streamflow.topics.client.publishing import BATCH_BYTES_MAX, BATCH_MESSAGES_MAX
from streamflow.topics.codec import ATTRIBUTES_MAX

KEY_BYTES_MAX = 1_024
ATTRIBUTE_NAME_BYTES_MAX = 256
ATTRIBUTE_BYTES_MAX = 1_024


def check_publish(request: Any) -> None:
    """DataError for what Google would refuse of a whole request: nothing of it is published then."""
    count = len(request.messages)
    if not 1 <= count <= BATCH_MESSAGES_MAX:
        raise DataError(f"a request publishes {count:,} messages. Give 1 to {BATCH_MESSAGES_MAX:,}")
    size = request.ByteSize()
    if size > BATCH_BYTES_MAX:
        raise DataError(f"a request to publish has {size:,} bytes. Give at most {BATCH_BYTES_MAX:,}")
    for message in request.messages:
        if not message.data and not message.attributes:
            raise DataError("a message has neither data nor attributes. Give it one of them")
        if message.attributes:
            _check_attributes(message.attributes)
        if len(message.ordering_key.encode()) > KEY_BYTES_MAX:
            raise DataError(
                f"ordering key '{message.ordering_key[:40]}…' is too long. Use at most {KEY_BYTES_MAX} bytes"
            )


def add_received(response: Any, messages: Sequence[Message], *, attempts: bool) -> None:
    """Put them into a response. `attempts`: whether the subscription has a dead letter policy, without which Google
    does not say how often a message was tried."""
    # Written in place: a message that is put into another is copied, with its data.
    add = response.received_messages.add
    times: dict[datetime, Timestamp] = {}
    for each in messages:
        received = add(ack_id=each.ack_id)
        if attempts:
            received.delivery_attempt = each.delivery_attempt
        message = received.message
        message.data = each.data
        message.message_id = each.message_id
        if each.ordering_key:
            message.ordering_key = each.ordering_key
        attributes = message.attributes
        for name, value in each.attributes.items():
            attributes[name] = value
        time = each.publish_time
        if time not in times:
            times[time] = _timestamp(time)
        message.publish_time.CopyFrom(times[time])


def _timestamp(time: datetime) -> Timestamp:
    seconds, us = divmod((time - EPOCH) // timedelta(microseconds=1), 1_000_000)
    return Timestamp(seconds=seconds, nanos=us * 1_000)


def _check_attributes(attributes: Mapping[str, str]) -> None:
    if len(attributes) > ATTRIBUTES_MAX:
        raise DataError(f"a message has {len(attributes)} attributes. Give at most {ATTRIBUTES_MAX}")
    for name, value in attributes.items():
        if not name or len(name.encode()) > ATTRIBUTE_NAME_BYTES_MAX or name.startswith("goog"):
            raise DataError(
                f"attribute name '{name[:40]}' is not allowed. Use 1 to {ATTRIBUTE_NAME_BYTES_MAX} bytes that do not "
                "begin with 'goog'"
            )
        if len(value.encode()) > ATTRIBUTE_BYTES_MAX:
            raise DataError(f"attribute '{name[:40]}' is too long. Use at most {ATTRIBUTE_BYTES_MAX} bytes")
