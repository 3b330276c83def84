"""A server process, and Google's clients connected to it as a program would be: by PUBSUB_EMULATOR_HOST."""

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest import mock

from google.cloud import pubsub_v1
from google.pubsub_v1.types import PullRequest

BIN = Path(sys.executable).parent
PROJECT = "project-a"


@dataclass
class Server:
    process: "subprocess.Popen[str]"
    address: str

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        self.process.communicate(timeout=20)
        return self.process.returncode


def started(data: str, *options: str, port: int = 0) -> Server:
    process = subprocess.Popen(
        [BIN / "streamflow", "pubsub-server", "--data", data, "--port", str(port), *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    found = re.fullmatch(r"export PUBSUB_EMULATOR_HOST=(.*)\n", process.stdout.readline())
    assert found is not None, "the server did not start"
    return Server(process, found[1])


class Google:
    """Clients, and shorthands for what many tests need. Each has names of its own."""

    def __init__(self, address: str) -> None:
        with mock.patch.dict(os.environ, {"PUBSUB_EMULATOR_HOST": address}):
            self.publisher = pubsub_v1.PublisherClient(
                publisher_options=pubsub_v1.types.PublisherOptions(enable_message_ordering=True)
            )
            self.subscriber = pubsub_v1.SubscriberClient()
        self.tag = secrets.token_hex(4)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.publisher.stop()
        self.publisher.transport.close()
        self.subscriber.close()

    def topic(self, name: str = "topic", **settings: Any) -> str:
        return self.publisher.create_topic(request={"name": self.topic_name(name), **settings}).name

    def subscription(self, topic: str, name: str = "subscription", **settings: Any) -> str:
        request = {"name": self.subscription_name(name), "topic": topic, **settings}
        return self.subscriber.create_subscription(request=request).name

    def topic_name(self, name: str) -> str:
        return self.publisher.topic_path(PROJECT, f"{name}-{self.tag}")

    def subscription_name(self, name: str) -> str:
        return self.subscriber.subscription_path(PROJECT, f"{name}-{self.tag}")

    def snapshot_name(self, name: str) -> str:
        return self.subscriber.snapshot_path(PROJECT, f"{name}-{self.tag}")

    def publish(self, topic: str, *data: bytes, **attributes: str) -> list[str]:
        futures = [self.publisher.publish(topic, each, **attributes) for each in data]
        wait(futures)
        return [future.result() for future in futures]

    def pull(self, subscription: str, count: int = 1, within_s: float = 10.0) -> list[Any]:
        """So many messages, or as many as there are within that time."""
        found: list[Any] = []
        until = time.monotonic() + within_s
        while len(found) < count and time.monotonic() < until:
            response = self.subscriber.pull(
                subscription=subscription, max_messages=count - len(found), timeout=max(1.0, until - time.monotonic())
            )
            found += response.received_messages
        return found

    def now(self, subscription: str, count: int = 100) -> list[bytes]:
        """What can be had at this moment; acked."""
        # By the transport: the client warns of what it has deprecated.
        request = PullRequest(subscription=subscription, max_messages=count, return_immediately=True)
        messages = self.subscriber.transport.pull(request).received_messages
        self.ack(subscription, messages)
        return [each.message.data for each in messages]

    def ack(self, subscription: str, messages: list[Any]) -> None:
        if messages:
            self.subscriber.acknowledge(subscription=subscription, ack_ids=[each.ack_id for each in messages])

    def nack(self, subscription: str, messages: list[Any]) -> None:
        self.modify(subscription, messages, 0)

    def modify(self, subscription: str, messages: list[Any], seconds: int) -> None:
        self.subscriber.modify_ack_deadline(
            subscription=subscription, ack_ids=[each.ack_id for each in messages], ack_deadline_seconds=seconds
        )

    def stream(self, subscription: str, callback: Callable[[Any], None], **flow: Any) -> "Stream":
        return Stream(
            self.subscriber.subscribe(subscription, callback, flow_control=pubsub_v1.types.FlowControl(**flow))
        )


class Stream:
    """A streaming pull in the background, for as long as the `with`."""

    def __init__(self, future: Any) -> None:
        self.future = future

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.future.cancel()
        with suppress(Exception):
            self.future.result(timeout=10)


def until(true: Callable[[], bool], within_s: float = 90.0) -> None:
    """Wait for what other threads bring about."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
