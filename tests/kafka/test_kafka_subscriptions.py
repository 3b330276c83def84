"""What only Kafka has: clients of several processes share a subscription's partitions, and take over from each other.

A process is one member of a group; addresses that differ stand for two processes here.
"""

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streamflow.base.clock import ManualClock
from streamflow.base.errors import ConflictError
from streamflow.topics import codec
from streamflow.topics.client.consuming import Consumer, Delivery
from streamflow.topics.kafka import KafkaLog
from streamflow.topics.kafka.membership import group_of
from streamflow.topics.kafka.messages import SPAN
from streamflow.topics.kafka.states import StateWriter
from streamflow.topics.protocol import TopicConfig
from streamflow.topics.subscriptions import AckStatus, DeadLetterPolicy, SubscriptionSettings

pytestmark = [pytest.mark.kafka, pytest.mark.contract]
HELD, STALE, _ = AckStatus
PARTITIONS = 4


class Group:
    """Processes A, B, … on one subscription of a topic with four partitions."""

    def __init__(self, url: str, clock: ManualClock) -> None:
        self._url, self.clock = url, clock
        self.topic, self.name = f"t-{secrets.token_hex(4)}", f"s-{secrets.token_hex(4)}"
        self.logs: dict[str, KafkaLog] = {}

    def log(self, process: str) -> KafkaLog:
        if process not in self.logs:
            self.logs[process] = KafkaLog(f"{self._url}?client_id={process}&session_timeout_ms=1000", clock=self.clock)
        return self.logs[process]

    def subscribe(self, partitions: int = PARTITIONS, **settings: object) -> Consumer:
        self.log("A").create_topic(self.topic, TopicConfig(partitions))
        self.log("A").subscriptions.create_subscription(self.name, self.topic, SubscriptionSettings(**settings))
        return self.consumer("A")

    def consumer(self, process: str) -> Consumer:
        return Consumer(self.log(process).subscriptions, self.name)

    def held(self, process: str) -> set[int]:
        return set(self.log(process).subscriptions.held(self.name, join=True))

    def settle(self, *processes: str) -> None:
        """Until they share all partitions."""

        def shares() -> list[int]:
            return sorted(partition for process in processes for partition in self.held(process))

        eventually(lambda: shares() == list(range(PARTITIONS)) and all(map(self.held, processes)))

    def publish(self, count: int, partition: int | None = None) -> None:
        """ "0", "1", …: in turn to all partitions, or to one, a transaction for each."""
        for n in range(count):
            to = n % PARTITIONS if partition is None else partition
            self.log("A").publish([codec.encode_json(self.topic, to, [b"%d" % n], [0])])

    def leave(self, process: str) -> None:
        self.logs.pop(process).close()


@pytest.fixture
def group(kafka_url: str) -> Iterator[Group]:
    made = Group(kafka_url, ManualClock(time.time_ns() // 1_000_000_000 * 1_000_000))
    yield made
    for process in list(made.logs):
        made.leave(process)


def eventually(question: Callable[[], bool], timeout_s: float = 20.0) -> None:
    give_up = time.monotonic() + timeout_s
    while not question():
        assert time.monotonic() < give_up
        time.sleep(0.02)


def numbers(found: list[Delivery]) -> list[int]:
    return sorted(int(each.message.data) for each in found)


def leases(found: list[Delivery]) -> list:
    return [each.lease for each in found]


def test_members_share_the_partitions_and_each_acks_its_own(group: Group) -> None:
    one = group.subscribe()
    other = group.consumer("B")
    group.settle("A", "B")
    group.publish(8)
    first, second = one.pull(10).found, other.pull(10).found
    assert numbers(first + second) == list(range(8))
    assert {each.message.partition for each in first} == group.held("A")
    assert other.ack(leases(first)) == [STALE] * len(first)
    assert one.backlog().events == other.backlog().events == 8
    assert one.ack(leases(first)) == [HELD] * len(first)
    assert one.backlog().events == other.backlog().events == len(second)


def test_member_that_leaves_hands_over_what_is_not_acked_and_nothing_else(group: Group) -> None:
    one = group.subscribe(partitions=1)
    group.publish(12, partition=0)
    found = one.pull(12).found
    one.ack(leases(found)[::3] + leases(found)[1::3])
    group.leave("A")
    assert numbers(group.consumer("B").pull(20).found) == [2, 5, 8, 11]


def test_exactly_once_leases_hold_when_partitions_move(group: Group) -> None:
    one = group.subscribe(exactly_once=True)
    group.publish(8)
    found = one.pull(10).found
    group.consumer("B")
    group.settle("A", "B")
    mine = group.held("A")
    kept = [each.lease for each in found if each.message.partition in mine]
    moved = [each.lease for each in found if each.message.partition not in mine]
    other = group.consumer("B")
    assert other.pull(10).found == []
    assert one.ack(kept) == [HELD] * len(kept)
    assert one.ack(moved) == [STALE] * len(moved)
    group.clock.advance(10)
    again = other.pull(10).found
    assert len(again) == len(moved) > 0
    assert {each.lease.id.attempt for each in again} == {2}
    assert other.ack(leases(again)) == [HELD] * len(again)
    assert one.backlog().events == 0


def test_acks_of_one_that_was_taken_for_dead_do_not_count(group: Group) -> None:
    one = group.subscribe(partitions=1, exactly_once=True)
    group.publish(2, partition=0)
    found = one.pull(10).found

    async def take_over() -> None:
        # What the next owner does first.
        shared = group.log("A").subscriptions.shared
        note = (await shared.notes.known(0)).subscription(group.name)
        place = TopicPartition(group.topic, 0)
        await (await StateWriter.opened(shared.client, group.name, note.id, place)).close()

    group.log("A").subscriptions.shared.loop.run(take_over())
    assert one.ack(leases(found)) == [STALE] * 2
    assert one.backlog().events == 2
    assert one.ack(leases(found)) == [HELD] * 2  # it is the owner still, and has looked again


def test_group_refuses_acks_of_an_earlier_generation(group: Group) -> None:
    one = group.subscribe(partitions=1)
    group.publish(1, partition=0)
    found = one.pull(10).found
    member = group.log("A").subscriptions.shared.joined(group.name)._member
    generation, member._consumer._coordinator.generation = member._consumer._coordinator.generation, 0
    assert one.ack(leases(found)) == [STALE]
    member._consumer._coordinator.generation = generation
    assert one.backlog().events == 1


@pytest.mark.parametrize("exactly_once", [False, True])
def test_seek_by_any_process_reaches_the_owner(group: Group, exactly_once: bool) -> None:
    one = group.subscribe(partitions=1, exactly_once=exactly_once)
    group.publish(3, partition=0)
    found = one.pull(10).found
    one.ack(leases(found)[:2])
    other = group.consumer("B")
    other.seek_time(0)
    assert other.backlog().events == 3
    assert one.ack(leases(found)) == [STALE] * 3
    assert numbers(one.pull(10).found) == [0, 1, 2]
    other.seek_time(group.clock.now_us() + 1_000_000)
    group.publish(1, partition=0)
    group.leave("A")
    assert numbers(other.pull(10).found) == [0]


def test_attempts_before_dead_letters_outlive_their_holders(group: Group) -> None:
    dead = f"{group.topic}.dead"
    group.log("A").create_topic(dead, TopicConfig(1))
    group.subscribe(partitions=1, dead_letter=DeadLetterPolicy(dead))
    group.publish(1, partition=0)
    for process in "ABCDE":
        assert numbers(group.consumer(process).pull(5).found) == [0]
        group.leave(process)  # without a word
        group.clock.advance(10)
    assert group.consumer("F").pull(5).found == []
    assert group.log("F").backlog(dead, 0, 0).events == 1
    assert group.consumer("F").backlog().events == 0


def test_delivery_can_become_exactly_once_and_back(group: Group) -> None:
    one = group.subscribe(partitions=1)
    group.publish(3, partition=0)
    one.ack(leases(one.pull(1).found))
    store = group.log("B").subscriptions
    store.alter_subscription(group.name, SubscriptionSettings(exactly_once=True))
    assert numbers(Consumer(group.log("A").subscriptions, group.name).pull(1).found) == [1]
    group.leave("A")
    assert numbers(group.consumer("B").pull(5).found) == [2]
    store.alter_subscription(group.name, SubscriptionSettings())
    group.leave("B")
    assert group.consumer("C").pull(5).found == []
    group.clock.advance(10)
    group.consumer("C").ack(leases(group.consumer("C").pull(1).found))
    group.leave("C")
    assert numbers(group.consumer("D").pull(5).found) == [2]


def test_kafkas_tools_see_the_group_and_its_lag(group: Group) -> None:
    one = group.subscribe(partitions=1)
    group.publish(3, partition=0)
    found = one.pull(10).found
    one.ack(leases(found)[:1])
    log, place = group.log("A"), TopicPartition(group.topic, 0)
    client = log.subscriptions.shared.client

    def committed() -> int:
        return log.subscriptions.shared.loop.run(client.group_offsets(group_of(group.name)))[place].offset

    assert committed() == found[1].message.offset // SPAN
    one.ack(leases(found)[1:])
    assert committed() == log.end(group.topic, 0) // SPAN


def test_messages_of_plain_clients_have_their_own_times(group: Group, kafka_url: str) -> None:
    one = group.subscribe(partitions=1)
    now_ms = group.clock.now_us() // 1_000

    async def publish() -> None:
        async with AIOKafkaProducer(bootstrap_servers=kafka_url.removeprefix("kafka://")) as producer:
            for n in range(3):
                await producer.send(group.topic, b"%d" % n, partition=0, timestamp_ms=now_ms + n * 1_000)

    asyncio.run(publish())
    found = one.pull(10).found
    assert [each.message.published_us // 1_000 - now_ms for each in found] == [0, 1_000, 2_000]
    one.seek_time((now_ms + 1_000) * 1_000)
    assert numbers(one.pull(10).found) == [1, 2]


def test_process_that_uses_a_subscription_no_more_leaves_its_partitions_to_others(group: Group) -> None:
    one = group.subscribe(partitions=1)
    group.publish(1, partition=0)
    found = one.pull(5).found
    shared = group.log("A").subscriptions.shared
    shared.leave_idle(time.monotonic() + 60)
    assert group.held("A") == {0}  # something is leased
    one.ack(leases(found))
    shared.leave_idle(time.monotonic() + 60)
    assert shared.joined(group.name) is None
    assert one.pull(5).found == []
    assert shared.joined(group.name) is not None


def test_subscription_of_the_same_name_begins_anew(group: Group) -> None:
    one = group.subscribe(partitions=1)
    group.publish(2, partition=0)
    one.ack(leases(one.pull(1).found))
    store = group.log("A").subscriptions
    store.delete_subscription(group.name)
    again = group.subscribe(partitions=1)
    assert again.backlog().events == 0
    again.seek_time(0)
    assert numbers(again.pull(5).found) == [0, 1]


def test_partitions_that_are_added_are_subscribed_to_from_their_beginning(group: Group) -> None:
    one = group.subscribe(partitions=1)
    group.log("A").add_partitions(group.topic, 2)
    group.publish(3, partition=1)
    assert one.backlog().events == 3


def test_two_processes_change_settings_one_after_the_other(group: Group) -> None:
    group.subscribe(partitions=1)
    stores = [group.log(process).subscriptions for process in "AB"]
    for turn in range(4):
        stores[turn % 2].alter_subscription(group.name, SubscriptionSettings(ack_deadline_s=20 + turn))
        assert stores[1 - turn % 2].subscription(group.name).settings.ack_deadline_s == 20 + turn
    stores[0].create_snapshot(group.name, group.name)
    with pytest.raises(ConflictError, match="exists already"):
        stores[1].create_snapshot(group.name, group.name)
    stores[1].delete_snapshot(group.name)


def test_topic_keeps_messages_as_long_as_its_subscriptions_and_its_other_settings(group: Group) -> None:
    log, day_s = group.log("A"), 86_400
    log.create_topic(group.topic, TopicConfig(1, retention_s=60))
    client = log.subscriptions.shared.client

    async def configured(name: str, value: str | None = None) -> str:
        configs = {name: "" if value is None else value}
        resource = ConfigResource(ConfigResourceType.TOPIC, group.topic, configs)
        if value is not None:
            await client.admin.alter_configs([resource])
        (answer,) = await client.admin.describe_configs([resource])
        return answer.resources[0][4][0][1]

    run = log.subscriptions.shared.loop.run
    run(configured("max.message.bytes", "77777"))
    group.subscribe(partitions=1, retention_s=8 * day_s)
    assert log.topic(group.topic).config.retention_s == 8 * day_s
    assert run(configured("max.message.bytes")) == "77777"
