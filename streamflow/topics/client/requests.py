"""What an endpoint is sent for a message, as Google Pub/Sub sends it. Pure."""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

import orjson

from streamflow.topics.subscriptions.push import PushConfig

ACKED = frozenset({102, 200, 201, 202, 204})
"""Statuses that ack a message; any other nacks it."""
_METADATA = "x-goog-pubsub-"


class Pushed(Protocol):
    """What of a message is sent."""

    @property
    def data(self) -> bytes: ...
    @property
    def attributes(self) -> Mapping[str, str]: ...
    @property
    def ordering_key(self) -> str: ...
    @property
    def message_id(self) -> str: ...
    @property
    def publish_time(self) -> datetime: ...
    @property
    def delivery_attempt(self) -> int: ...


def request(config: PushConfig, subscription: str, message: Pushed) -> tuple[dict[str, str], bytes]:
    """(headers, body). Attributes that no header can carry are left out of the headers."""
    if config.wrapped:
        return {"Content-Type": "application/json", **config.headers}, _wrapped(subscription, message)
    headers = {"Content-Type": "application/octet-stream", **config.headers}
    if config.write_metadata:
        metadata = {
            "subscription-name": subscription,
            "message-id": message.message_id,
            "publish-time": _time(message),
            "ordering-key": message.ordering_key,
        }
        fitting = {name: value for name, value in message.attributes.items() if _fits_header(name, value)}
        named = {f"{_METADATA}{name}": value for name, value in metadata.items() if value and _fits_header("x", value)}
        headers = {**fitting, **named, **headers}
    return headers, message.data


def _wrapped(subscription: str, message: Pushed) -> bytes:
    time = _time(message)
    # Google says id and time under both names.
    inner: dict[str, object] = {
        "data": base64.b64encode(message.data).decode(),
        "attributes": dict(message.attributes),
        "messageId": message.message_id,
        "message_id": message.message_id,
        "publishTime": time,
        "publish_time": time,
    }
    if message.ordering_key:
        inner["orderingKey"] = message.ordering_key
    return orjson.dumps({"message": inner, "subscription": subscription, "deliveryAttempt": message.delivery_attempt})


def _time(message: Pushed) -> str:
    return message.publish_time.isoformat().replace("+00:00", "Z")


def _fits_header(name: str, value: str) -> bool:
    named = name.isascii() and all(c.isalnum() or c in "-_." for c in name) and bool(name)
    return named and value.isascii() and value.isprintable()
