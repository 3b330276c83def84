"""Messages of the wire ↔ ours. Publishing is bounded as Google's is; other bounds are the topic's."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from streamflow.base.errors import DataError
from streamflow.pubsub.protos import PubsubMessage, ReceivedMessage
from streamflow.topics.client import Message
from streamflow.topics.client.consuming import EPOCH
from streamflow.topics.client.publishing import BATCH_BYTES_MAX, BATCH_MESSAGES_MAX
from streamflow.topics.codec import ATTRIBUTES_MAX

KEY_BYTES_MAX = 1_024
ATTRIBUTE_NAME_BYTES_MAX = 256
ATTRIBUTE_BYTES_MAX = 1_024
_US = timedelta(microseconds=1)


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


def received(messages: Sequence[Message], *, attempts: bool) -> list[Any]:
    """`ReceivedMessage`s. `attempts`: whether the subscription has a dead letter policy, without which Google does not
    say how often a message was tried."""
    found = []
    for each in messages:
        seconds, us = divmod((each.publish_time - EPOCH) // _US, 1_000_000)
        message = PubsubMessage(
            data=each.data,
            attributes=each.attributes or None,
            message_id=each.message_id,
            ordering_key=each.ordering_key,
            publish_time={"seconds": seconds, "nanos": us * 1_000},
        )
        found.append(
            ReceivedMessage(
                ack_id=each.ack_id, message=message, delivery_attempt=each.delivery_attempt if attempts else 0
            )
        )
    return found


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
