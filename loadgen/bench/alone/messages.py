"""Subscriptions of a folder, in the process's CPU seconds: what the store does, and the async client on top of it.

`acks-embedded`: leases of 1,000 messages are acked `ids` ids a call through `Consumer`, each call durable, exactly once
and an id for each message. Only the acks are timed; `acks_per_s_with_pulls` counts pulling and decoding, too.

`client-batches` and `client-singles`: the client publishes all events, then a stream gets and acks them: 1,000 at once,
or each awaited before the next. `publish_per_s` and `consume_per_s` count all threads of the process.
"""

import asyncio
import time
from typing import Any

from loadgen.bench.job import Job, Runner
from streamflow.topics import open_log
from streamflow.topics.client import Client, Message, connect
from streamflow.topics.client.consuming import Consumer
from streamflow.topics.client.sending import Outgoing, Sender
from streamflow.topics.protocol import TopicConfig
from streamflow.topics.subscriptions import AckStatus, SubscriptionSettings

BATCH = 1_000
DATA = b'{"user": "u1", "page": "/index.html", "kind": "view", "value": 17, "note": "one hundred bytes, or so"}'
EXACTLY_ONCE = SubscriptionSettings(exactly_once=True)


def prepare(job: Job) -> None:
    """Nothing: topic and subscription are made by the run."""


def _acked(job: Job) -> dict[str, Any]:
    log = open_log(job.data)
    log.create_topic("t", TopicConfig(1))
    log.subscriptions.create_subscription("s", "t", EXACTLY_ONCE)
    sender, consumer = Sender(log, "t", None), Consumer(log.subscriptions, "s")
    messages = [Outgoing(DATA, None, "", 0)] * job.events
    for at in range(0, job.events, BATCH):
        sender.send(messages[at : at + BATCH])
    ids_per_call = int(job.parameters["ids"])
    wall = acks = pulls = 0.0
    held = 0
    while True:
        began_s = time.process_time()
        leases = [each.lease for each in consumer.pull(BATCH).found]
        pulls += time.process_time() - began_s
        if not leases:
            break
        calls = [leases[at : at + ids_per_call] for at in range(0, len(leases), ids_per_call)]
        began_s, cpu_began_s = time.perf_counter(), time.process_time()
        for call in calls:
            held += consumer.ack(call).count(AckStatus.HELD)
        acks += time.process_time() - cpu_began_s
        wall += time.perf_counter() - began_s
    log.close()
    return {
        "seconds_inner": acks,
        "cpu_seconds": acks,
        "seconds_wall": wall,
        "acks_per_s_with_pulls": job.events / (acks + pulls),
        "held": held,
    }


def _through_client(job: Job) -> dict[str, Any]:
    return asyncio.run(_client(job, BATCH if job.work == "client-batches" else 1))


async def _client(job: Job, batch: int) -> dict[str, Any]:
    async with connect(job.data) as client:
        await client.create_topic("t", partitions=1)
        await client.create_subscription("s", "t")
        began_s = time.process_time()
        async with client.publisher("t") as publisher:
            for at in range(0, job.events, batch):
                count = min(batch, job.events - at)
                await asyncio.gather(*[await publisher.submit(DATA) for _ in range(count)])
        published_s = time.process_time()
        held = await _consume(client, job.events, batch)
        ended_s = time.process_time()
    return {
        "seconds_inner": ended_s - began_s,
        "cpu_seconds": ended_s - began_s,
        "publish_per_s": job.events / (published_s - began_s),
        "consume_per_s": job.events / (ended_s - published_s),
        "held": held,
    }


async def _consume(client: Client, events: int, batch: int) -> int:
    held = 0
    async with client.subscriber("s") as subscriber:
        for _ in range(0, events, batch):
            left = min(batch, events - held)
            messages: list[Message] = [await anext(subscriber) for _ in range(left)]
            held += (await subscriber.ack([message.ack_id for message in messages])).count(AckStatus.HELD)
    return held


def verified(job: Job, told: dict[str, Any]) -> bool:
    """Each message was acked once, by an id that held, and nothing is left."""
    log = open_log(job.data)
    left = Consumer(log.subscriptions, "s").backlog().events
    log.close()
    return bool(told["held"] == job.events and left == 0)


RUNNERS: dict[str, dict[str, Runner]] = {
    "streamflow": {"acks-embedded": _acked, "client-batches": _through_client, "client-singles": _through_client}
}
