"""The rules of topics and subscriptions, one by one, as each backend has to keep them."""

import pytest
from subscribing import START_US, Bench, attempts, texts

from streamflow.base.clock import ManualClock
from streamflow.base.errors import ConflictError, DataError, FilterError, NotFoundError
from streamflow.topics.client.sending import Outgoing, Sender
from streamflow.topics.protocol import Backlog, TopicConfig
from streamflow.topics.publisher import Publisher
from streamflow.topics.subscriptions import AckStatus, DeadLetterPolicy, RetryPolicy, SubscriptionSettings

pytestmark = pytest.mark.contract

HELD, STALE, OUT_OF_ORDER = AckStatus
DAY_S = 24 * 3600


def leases(found):
    return [each.lease for each in found]


def test_ack_deadline_is_10_s_by_default_and_10_to_600(bench: Bench, clock: ManualClock):
    consumer = bench.subscribe()
    bench.publish("a")
    assert texts(consumer.pull(5).found) == ["a"]
    clock.advance(9.9)
    assert consumer.pull(5).found == []
    clock.advance(0.1)
    assert attempts(consumer.pull(5).found) == [2]
    for wrong in (9, 601):
        with pytest.raises(DataError, match="ack_deadline_s"):
            bench.subscribe("wrong", ack_deadline_s=wrong)


def test_modification_extends_a_lease(bench: Bench, clock: ManualClock):
    consumer = bench.subscribe()
    bench.publish("a")
    found = consumer.pull(5).found
    clock.advance(9)
    assert consumer.modify(leases(found), 60) == [HELD]
    clock.advance(59)
    assert consumer.pull(5).found == []
    clock.advance(1)
    assert texts(consumer.pull(5).found) == ["a"]


def test_modification_to_zero_is_a_nack(bench: Bench):
    consumer = bench.subscribe()
    bench.publish("a", "b")
    found = consumer.pull(5).found
    assert consumer.modify(leases(found)[:1], 0) == [HELD]
    again = consumer.pull(5).found
    assert (texts(again), attempts(again)) == (["a"], [2])


def test_delivery_is_at_least_once_and_acked_messages_stay_away(bench: Bench, clock: ManualClock):
    consumer, other = bench.subscribe(partitions=4), bench.other()
    for n in range(8):
        bench.publish(str(n))
    found = consumer.pull(5).found + other.pull(5).found
    assert sorted(texts(found)) == [str(n) for n in range(8)]
    assert other.ack(leases(found)[:6]) == [HELD] * 6
    clock.advance(10)
    assert sorted(texts(consumer.pull(9).found)) == sorted(texts(found)[6:])


def test_late_ack_counts_at_least_once(bench: Bench, clock: ManualClock):
    consumer = bench.subscribe()
    bench.publish("a")
    found = consumer.pull(5).found
    clock.advance(11)
    consumer.pull(5)
    assert consumer.ack(leases(found)) == [HELD]
    clock.advance(20)
    assert consumer.pull(5).found == []


def test_exactly_once_only_the_newest_ack_id_counts(bench: Bench, clock: ManualClock):
    consumer = bench.subscribe(exactly_once=True)
    bench.publish("a")
    first = consumer.pull(5).found
    clock.advance(11)
    second = bench.other().pull(5).found
    assert consumer.ack(leases(first)) == [STALE]
    assert consumer.modify(leases(first), 30) == [STALE]
    assert consumer.ack(leases(second)) == [HELD]
    assert consumer.ack(leases(second)) == [STALE]


def test_messages_of_an_ordering_key_come_in_order(bench: Bench):
    consumer = bench.subscribe(ordered=True, partitions=3)
    for n in range(6):
        bench.publish(f"a{n}", key="a")
        bench.publish(f"b{n}", key="b")
    found = consumer.pull(50).found
    assert [each for each in texts(found) if each[0] == "a"] == [f"a{n}" for n in range(6)]
    assert {each.message.ordering_key for each in found} == {"a", "b"}


def test_ordering_key_has_one_outstanding_batch(bench: Bench):
    consumer, other = bench.subscribe(ordered=True), bench.other()
    bench.publish("1", "2", key="k")
    first = consumer.pull(5).found
    bench.publish("3", key="k")
    bench.publish("x", key="free")
    assert texts(other.pull(5).found) == ["x"]
    consumer.ack(leases(first))
    assert texts(other.pull(5).found) == ["3"]


def test_redelivery_of_one_redelivers_the_later_ones_of_its_key(bench: Bench, clock: ManualClock):
    consumer = bench.subscribe(ordered=True)
    bench.publish("1", "2", "3", key="k")
    found = consumer.pull(5).found
    consumer.ack(leases(found)[2:])
    consumer.ack(leases(found)[:1])
    consumer.modify(leases(found)[1:2], 0)
    clock.advance(11)
    assert texts(consumer.pull(5).found) == ["2", "3"]


def test_ordered_exactly_once_refuses_acks_before_earlier_ones(bench: Bench):
    consumer = bench.subscribe(ordered=True, exactly_once=True)
    bench.publish("1", "2", key="k")
    found = consumer.pull(5).found
    assert consumer.ack(leases(found)[1:]) == [OUT_OF_ORDER]
    assert consumer.ack(leases(found)) == [HELD, HELD]


def test_without_retry_policy_redelivery_is_immediate(bench: Bench):
    consumer = bench.subscribe()
    bench.publish("a")
    for attempt in range(1, 4):
        found = consumer.pull(5).found
        assert attempts(found) == [attempt]
        consumer.modify(leases(found), 0)


def test_retry_policy_backs_off_exponentially(bench: Bench, clock: ManualClock):
    assert RetryPolicy() == RetryPolicy(10, 600)
    consumer = bench.subscribe(retry=RetryPolicy(10, 25))
    bench.publish("a")
    for wait_s in (10, 20, 25, 25):
        consumer.modify(leases(consumer.pull(5).found), 0)
        clock.advance(wait_s - 0.1)
        assert consumer.pull(5).found == []
        clock.advance(0.1)
    assert attempts(consumer.pull(5).found) == [5]


@pytest.mark.parametrize("way", ["nack", "expiry"])
def test_dead_letter_after_five_attempts_has_its_origin_and_attempts(bench: Bench, clock: ManualClock, way: str):
    bench.log.create_topic("dead", TopicConfig(2))
    bench.store.create_subscription("of-dead", "dead")
    consumer = bench.subscribe(dead_letter=DeadLetterPolicy("dead"))
    [id] = bench.publish("a", key="k", colour="red")
    for attempt in range(1, 6):
        found = consumer.pull(5).found
        assert attempts(found) == [attempt]
        if way == "nack":
            consumer.modify(leases(found), 0)
        clock.advance(10)
    assert consumer.pull(5).found == []
    assert consumer.backlog() == Backlog(0, 0, 0.0)
    [letter] = bench.other("of-dead").pull(5).found
    assert (letter.message.data, letter.message.ordering_key) == (b"a", "k")
    origin = "CloudPubSubDeadLetterSource"
    assert letter.message.attributes == {
        "colour": "red",
        f"{origin}Subscription": "s",
        f"{origin}Topic": "t",
        f"{origin}MessageId": id,
        f"{origin}DeliveryCount": "5",
        f"{origin}TopicPublishTime": str(START_US),
    }


def test_dead_letters_wait_for_a_topic_that_was_deleted(bench: Bench):
    bench.log.create_topic("dead", TopicConfig(1))
    consumer = bench.subscribe(dead_letter=DeadLetterPolicy("dead"))
    bench.publish("a")
    bench.log.delete_topic("dead")
    for _ in range(5):
        consumer.modify(leases(consumer.pull(5).found), 0)
    assert consumer.backlog().events == 1
    bench.log.create_topic("dead", TopicConfig(1))
    consumer.pull(5)
    assert consumer.backlog().events == 0
    assert bench.log.end("dead", 0) == 1


def test_filter_delivers_what_matches_and_counts_the_rest_as_acked(bench: Bench):
    consumer = bench.subscribe(filter='attributes.type = "view" AND NOT hasPrefix(attributes.page, "/admin")')
    bench.publish("1", type="view", page="/")
    bench.publish("2", type="click", page="/")
    bench.publish("3", type="view", page="/admin/x")
    bench.publish("4")
    bench.publish("5", type="view")
    assert consumer.backlog().events == 2
    assert texts(consumer.pull(10).found) == ["1", "5"]


def test_filter_is_immutable_and_its_errors_show_the_place(bench: Bench):
    consumer = bench.subscribe(filter="attributes:type")
    with pytest.raises(ConflictError, match="filter"):
        bench.store.alter_subscription("s", SubscriptionSettings())
    with pytest.raises(FilterError, match=r"\^"):
        bench.subscribe("wrong", filter='attributes.type == "x"')
    assert consumer.info().settings.filter == "attributes:type"


def test_filter_passes_over_more_than_one_look_takes(bench: Bench):
    consumer = bench.subscribe(filter='attributes.n = "last"')
    Sender(bench.log, "t", None).send([Outgoing(b"x", {"n": "other"}, "", 0)] * 25_000)
    bench.publish("y", n="last")
    first = consumer.pull(5)
    assert first.found == []
    assert first.wake_us == START_US
    assert texts(consumer.pull(5).found) == ["y"]


def test_seek_to_a_time_acks_before_and_unacks_after(bench: Bench, clock: ManualClock):
    consumer = bench.subscribe()
    for text in ("a", "b", "c"):
        bench.publish(text)
        clock.advance(60)
    consumer.ack(leases(consumer.pull(5).found))
    consumer.seek_time(START_US + 60_000_000)
    assert texts(bench.other().pull(5).found) == ["b", "c"]
    consumer.seek_time(START_US + 60_000_001)
    assert texts(consumer.pull(5).found) == ["c"]
    consumer.seek_time(clock.now_us())
    assert consumer.backlog().events == 0


def test_seek_voids_the_ids_that_are_out(bench: Bench):
    consumer = bench.subscribe()
    bench.publish("a")
    found = consumer.pull(5).found
    consumer.seek_time(START_US)
    assert consumer.ack(leases(found)) == [STALE]
    assert texts(consumer.pull(5).found) == ["a"]


def test_seek_to_a_snapshot_has_its_acks_and_all_later_messages(bench: Bench):
    consumer = bench.subscribe(partitions=2)
    for text in ("a", "b", "c", "d"):
        bench.publish(text)
    found = consumer.pull(5).found
    by_text = dict(zip(texts(found), leases(found), strict=True))
    consumer.ack([by_text["a"], by_text["c"]])
    bench.store.create_snapshot("snap", "s")
    consumer.ack([by_text["b"], by_text["d"]])
    bench.publish("e")
    consumer.seek_snapshot("snap")
    assert sorted(texts(bench.other().pull(9).found)) == ["b", "d", "e"]


def test_snapshot_serves_other_subscriptions_of_its_topic_only(bench: Bench):
    bench.subscribe()
    bench.publish("a")
    bench.store.create_snapshot("snap", "s")
    later, elsewhere = bench.subscribe("later"), bench.subscribe("elsewhere", topic="u")
    later.seek_snapshot("snap")
    assert texts(later.pull(5).found) == ["a"]
    with pytest.raises(DataError, match="same topic"):
        elsewhere.seek_snapshot("snap")
    with pytest.raises(ConflictError, match="exists already"):
        bench.store.create_snapshot("snap", "s")


def test_snapshot_expires_seven_days_after_its_oldest_unacked_message(bench: Bench, clock: ManualClock):
    bench.subscribe()
    bench.publish("a")
    clock.advance(DAY_S)
    info = bench.store.create_snapshot("snap", "s")
    assert info.expires_us == START_US + 7 * DAY_S * 1_000_000
    clock.advance(6 * DAY_S - 1)
    assert bench.store.snapshots() == [info]
    clock.advance(1)
    assert bench.store.snapshots() == []
    with pytest.raises(NotFoundError):
        bench.store.snapshot_acks("snap")


def test_snapshot_keeps_its_messages_in_the_log(bench: Bench, clock: ManualClock):
    consumer = bench.subscribe(partitions=1)
    bench.log.create_topic("short", TopicConfig(1, retention_s=60))
    short = bench.subscribe("short", topic="short")
    bench.publish("a", topic="short")
    bench.store.create_snapshot("snap", "short")
    short.ack(leases(short.pull(5).found))
    clock.advance(3_600)
    bench.log.prune()
    short.seek_snapshot("snap")
    assert texts(short.pull(5).found) == ["a"]
    bench.store.delete_snapshot("snap")
    short.seek_time(clock.now_us())
    bench.log.prune()
    assert bench.log.read("short", 0, 0) == []
    assert consumer.backlog().events == 0


def test_retention_is_seven_days_and_unacked_messages_are_kept_that_long(bench: Bench, clock: ManualClock):
    bench.log.create_topic("short", TopicConfig(1, retention_s=60))
    consumer = bench.subscribe(topic="short")
    bench.publish("a", topic="short")
    clock.advance(7 * DAY_S - 1)
    bench.log.prune()
    assert texts(consumer.pull(5).found) == ["a"]
    clock.advance(11)
    assert consumer.backlog() == Backlog(0, 0, 0.0)
    assert consumer.pull(5).found == []
    bench.log.prune()
    assert bench.log.read("short", 0, 0) == []
    for wrong in (599, 31 * DAY_S + 1):
        with pytest.raises(DataError, match="retention_s"):
            SubscriptionSettings(retention_s=wrong)


def test_acked_messages_leave_the_log_unless_they_are_retained(bench: Bench, clock: ManualClock):
    bench.log.create_topic("short", TopicConfig(1, retention_s=60))
    forgetting = bench.subscribe("forgetting", topic="short")
    bench.publish("a", topic="short")
    forgetting.ack(leases(forgetting.pull(5).found))
    clock.advance(61)
    bench.log.prune()
    assert bench.log.read("short", 0, 0) == []
    retaining = bench.subscribe("retaining", topic="short", retain_acked=True)
    bench.publish("b", topic="short")
    for consumer in (forgetting, retaining):
        consumer.ack(leases(consumer.pull(5).found))
    clock.advance(3_600)
    bench.log.prune()
    retaining.seek_time(START_US)
    assert texts(retaining.pull(5).found) == ["b"]


def test_unused_subscription_expires_after_31_days_unless_never(bench: Bench, clock: ManualClock):
    unused = bench.subscribe("unused")
    bench.subscribe("used")
    bench.subscribe("never", expiry_s=None)
    clock.advance(30 * DAY_S)
    bench.other("used").pull(1)
    clock.advance(DAY_S)
    assert [info.name for info in bench.store.subscriptions()] == ["never", "used"]
    with pytest.raises(NotFoundError, match="unused"):
        unused.pull(1)
    with pytest.raises(DataError, match="expiry_s"):
        SubscriptionSettings(expiry_s=DAY_S - 1)


def test_outstanding_messages_and_bytes_are_bounded(bench: Bench):
    consumer = bench.subscribe(outstanding_messages_max=3)
    bench.publish(*"abcde")
    found = consumer.pull(10).found
    assert texts(found) == ["a", "b", "c"]
    assert bench.other().pull(10).found == []
    consumer.ack(leases(found)[:1])
    assert texts(consumer.pull(10).found) == ["d"]
    tight = bench.subscribe("tight", outstanding_bytes_max=1)
    bench.publish("x")
    bench.publish("y")
    assert texts(tight.pull(10).found) == ["x"]
    assert tight.pull(10).found == []


def test_pull_is_bounded_in_bytes_but_gives_one_message_at_least(bench: Bench):
    consumer = bench.subscribe(partitions=2)
    for _ in range(4):
        bench.publish("x" * 1_000)
    assert len(consumer.pull(10, 1).found) == 1
    assert len(consumer.pull(10, 1 << 30).found) == 3


def test_message_has_at_most_10_mb_and_100_attributes(bench: Bench):
    bench.subscribe()
    sender = Sender(bench.log, "t", None)
    sender.send([Outgoing(b"x" * 10_000_000, {str(n): "v" for n in range(100)}, "", 0)])
    with pytest.raises(DataError, match="10,000,000"):
        sender.send([Outgoing(b"x" * 10_000_001, None, "", 0)])
    with pytest.raises(DataError, match="100"):
        sender.send([Outgoing(b"x", {str(n): "v" for n in range(101)}, "", 0)])


def test_backlog_counts_undelivered_bytes_and_age_exactly(bench: Bench, clock: ManualClock):
    consumer = bench.subscribe(partitions=2)
    for _ in range(2):
        bench.publish("a", "b", "c")
        clock.advance(5)
    whole = consumer.backlog()
    assert (whole.events, whole.oldest_age_s) == (6, 10)
    assert whole.bytes == sum(bench.log.backlog("t", partition, 0).bytes for partition in (0, 1))
    found = consumer.pull(10).found
    assert consumer.backlog() == whole
    first = [each.lease for each in found if each.message.published_us == START_US]
    consumer.ack(first)
    rest = consumer.backlog()
    assert (rest.events, rest.oldest_age_s) == (3, 5)
    assert rest.bytes == bench.log.backlog("t", found[-1].lease.partition, 0).bytes or rest.bytes < whole.bytes
    consumer.ack(leases(found))
    assert bench.other().backlog() == Backlog(0, 0, 0.0)


def test_subscription_gets_what_is_published_after_it_was_made(bench: Bench):
    bench.subscribe("early")
    bench.publish("a")
    late = bench.subscribe("late")
    bench.publish("b")
    assert texts(bench.other("early").pull(5).found) == ["a", "b"]
    assert texts(late.pull(5).found) == ["b"]


def test_batches_of_rows_are_messages_of_json(bench: Bench):
    import polars as pl

    consumer = bench.subscribe()
    Publisher(bench.log, "t").publish_frame(pl.DataFrame({"a": [1, 2], "b": ["x\ny", None]}))
    assert texts(consumer.pull(5).found) == ['{"a":1,"b":"x\\ny"}', '{"a":2,"b":null}']


def test_detached_subscription_delivers_nothing_and_a_deleted_topic_detaches(bench: Bench):
    kept = bench.subscribe("kept")
    gone = bench.subscribe("gone", topic="u")
    bench.store.detach_subscription("kept")
    bench.log.delete_topic("u")
    bench.log.create_topic("u", TopicConfig(1))
    for consumer in (kept, gone):
        assert consumer.info().detached
        with pytest.raises(ConflictError, match="detached"):
            consumer.pull(5)
    with pytest.raises(ConflictError, match="exists already"):
        bench.store.create_subscription("gone", "u")


def test_altered_settings_hold_from_then_on_in_all_handles(bench: Bench, clock: ManualClock):
    bench.log.create_topic("dead", TopicConfig(1))
    consumer, other = bench.subscribe(), bench.other()
    bench.publish("a")
    other.modify(leases(other.pull(5).found), 0)
    bench.store.alter_subscription("s", SubscriptionSettings(ack_deadline_s=600))
    assert attempts(other.pull(5).found) == [2]
    clock.advance(599)
    assert consumer.pull(5).found == []
    clock.advance(1)
    assert attempts(consumer.pull(5).found) == [3]


def test_names_and_topics_are_checked(bench: Bench):
    bench.log.create_topic("internal", TopicConfig(1, internal=True))
    with pytest.raises(NotFoundError):
        bench.store.create_subscription("s", "none")
    with pytest.raises(ConflictError, match="pipeline"):
        bench.store.create_subscription("s", "internal")
    bench.subscribe()
    with pytest.raises(NotFoundError):
        bench.store.create_subscription("d", "t", SubscriptionSettings(dead_letter=DeadLetterPolicy("none")))
    with pytest.raises(DataError, match="name"):
        bench.store.create_subscription("a b", "t")
    assert bench.store.create_subscription("s", "t") == bench.store.subscription("s")
    bench.store.delete_subscription("s")
    with pytest.raises(NotFoundError):
        bench.store.subscription("s")


def test_named_sender_publishes_a_sequence_once(bench: Bench):
    consumer = bench.subscribe()
    for _ in range(2):
        sender = Sender(bench.log, "t", "p")
        ids = sender.send([Outgoing(b"a", None, "", 0, 0), Outgoing(b"b", None, "", 0, 1)])
    assert ids == ["", ""]
    assert Sender(bench.log, "t", "p").last_sequence == 1
    [id] = Sender(bench.log, "t", "p").send([Outgoing(b"b", None, "", 0, 1), Outgoing(b"c", None, "", 0, 2)])[1:]
    found = consumer.pull(5).found
    assert texts(found) == ["a", "b", "c"]
    assert id == f"{found[2].message.partition}-{found[2].message.offset}"


def test_event_that_fails_leaves_machines_as_they_were(bench: Bench):
    consumer = bench.subscribe()
    bench.publish("a")

    def fail(running):
        running.pull(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        bench.store.with_machines("s", {0: fail}, durable=True)
    if "memory" not in bench.log.url:
        assert texts(consumer.pull(5).found) == ["a"]


def test_if_one_event_raises_nothing_of_any_is_kept(bench: Bench):
    bench.log.create_topic("dead", TopicConfig(1))
    consumer = bench.subscribe(partitions=2, exactly_once=True, dead_letter=DeadLetterPolicy("dead"))
    for n in range(8):
        bench.publish(str(n))
    for _ in range(4):
        consumer.modify(leases(consumer.pull(8).found), 0)
    found = consumer.pull(8).found
    by_partition = {each: [one.lease.id for one in found if one.lease.partition == each] for each in (0, 1)}

    def ack_and_pull(running):
        assert set(running.ack(by_partition[0][:2])) == {HELD}
        running.modify(by_partition[0][2:], 0)
        running.pull(5)

    def nack_and_fail(running):
        running.modify(by_partition[1], 0)
        raise ZeroDivisionError

    for events in ({0: ack_and_pull, 1: nack_and_fail}, {1: nack_and_fail, 0: ack_and_pull}):
        with pytest.raises(ZeroDivisionError):
            bench.store.with_machines("s", events, durable=True)
        assert (consumer.backlog().events, bench.log.end("dead", 0)) == (8, 0)
    assert consumer.ack(leases(found)) == [HELD] * 8
    assert consumer.backlog().events == 0


def test_added_partitions_are_read_from_their_beginning(bench: Bench, clock: ManualClock):
    consumer, other = bench.subscribe(partitions=1, exactly_once=True), bench.other()
    bench.publish("before")
    bench.store.create_snapshot("then", "s")
    assert consumer.ack(leases(consumer.pull(5).found)) == [HELD]
    bench.opened().add_partitions("t", 3)
    sender = Sender(bench.log, "t", None)
    sent = {f"{n}-0" for n in (1, 2)} | {"0-1"}
    ids = {sender.send([Outgoing(str(n).encode(), {}, "", clock.now_us())])[0] for n in range(3)}
    assert ids == sent
    assert consumer.backlog().events == 3
    found = other.pull(9).found
    assert sorted(texts(found)) == ["0", "1", "2"]
    clock.advance(700)
    bench.log.prune()
    consumer.seek("then")
    assert sorted(texts(consumer.pull(9).found)) == ["0", "1", "2", "before"]
    consumer.seek_time(clock.now_us())
    assert consumer.backlog().events == 0
    bench.log.subscriptions.create_snapshot("later", "s")
    consumer.seek("later")


def test_publishers_that_are_open_use_added_partitions(bench: Bench):
    bench.log.create_topic("t", TopicConfig(1))
    sender, publisher = Sender(bench.log, "t", None), Publisher(bench.log, "t", clock=bench.clock)
    bench.opened().add_partitions("t", 8)
    keys = [f"k{n}" for n in range(40)]
    sender.send([Outgoing(b"1", None, key, bench.clock.now_us()) for key in keys])
    sent = [bench.log.end("t", partition) for partition in range(8)]
    assert sum(sent) == 40
    assert min(sent) > 0
    publisher.publish_batch([b"1"])
    before = [bench.log.end("t", partition) for partition in range(8)]
    publisher.publish_batch([b"1"] * 40, keys=keys)
    assert [bench.log.end("t", partition) for partition in range(8)] == [
        x + y for x, y in zip(before, sent, strict=True)
    ]
