"""The lease machine, rule by rule of Pub/Sub's table; `test_lease_model.py` has the histories that no one thinks of."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.base.errors import ConflictError, CorruptionError, DataError
from streamflow.topics.protocol import Backlog
from streamflow.topics.subscriptions.bitmaps import Failures, Offsets, Timetable, runs, span
from streamflow.topics.subscriptions.decisions import AckId, AckStatus, DeadLetter
from streamflow.topics.subscriptions.encoding import (
    decode_acks,
    decode_snapshot,
    encode_acks,
    encode_snapshot,
    from_bytes,
    to_bytes,
)
from streamflow.topics.subscriptions.lease import LeaseMachine
from streamflow.topics.subscriptions.settings import DeadLetterPolicy, RetryPolicy, SubscriptionSettings
from streamflow.topics.subscriptions.sizes import RecordSizes

HELD, STALE, OUT_OF_ORDER = AckStatus
S = 1_000_000


def machine_of(count: int, **options) -> LeaseMachine:
    """Messages of 10 bytes, one published each second."""
    sizes = RecordSizes()
    for second in range(count):
        sizes.append(1, 10, second * S)
    machine = LeaseMachine(SubscriptionSettings(**options), sizes)
    machine.appended(count)
    return machine


def deliver(machine: LeaseMachine, now_s: float, count: int, keys: str = "") -> list[AckId]:
    named = {offset: keys[offset].strip() for offset in machine.candidates(100)}
    return list(machine.pull(round(now_s * S), count, keys=named).deliveries)


def offsets(ids: list[AckId]) -> list[int]:
    return [offset for id in ids for offset in range(id.start, id.end)]


def test_lease_ends_at_the_ack_deadline_and_not_before():
    machine = machine_of(3)
    deliver(machine, 0, 3)
    assert machine.pull(0, 3).wake_us == 10 * S
    assert deliver(machine, 9.9, 3) == []
    assert deliver(machine, 10, 3) == [AckId(0, 2, 0, 3)]


def test_modify_moves_the_deadline_and_zero_is_a_nack():
    machine = machine_of(3)
    [id] = deliver(machine, 0, 3)
    assert machine.modify([id.one(0)], 60, 5 * S) == [HELD]
    assert machine.modify([id.one(1)], 0, 5 * S) == [HELD]
    assert deliver(machine, 5, 3) == [AckId(0, 2, 1, 2)]
    assert offsets(deliver(machine, 14, 3)) == [2]
    assert offsets(deliver(machine, 64, 3)) == [1, 2]
    assert offsets(deliver(machine, 65, 3)) == [0]


def test_late_ack_counts_at_least_once_and_not_exactly_once():
    for exactly_once, status, left in ((False, HELD, 0), (True, STALE, 1)):
        machine = machine_of(1, exactly_once=exactly_once)
        [old] = deliver(machine, 0, 1)
        [new] = deliver(machine, 10, 1)
        assert machine.ack([old], 11 * S) == [status]
        assert machine.backlog(11 * S).events == left
        assert machine.ack([new], 11 * S) == [HELD if exactly_once else STALE]


def test_nack_of_an_older_delivery_does_not_touch_the_newer_one():
    machine = machine_of(1)
    [old] = deliver(machine, 0, 1)
    deliver(machine, 10, 1)
    assert machine.modify([old], 0, 11 * S) == [STALE]
    assert deliver(machine, 11, 1) == []


def test_exactly_once_a_range_holds_as_a_whole_or_not_at_all():
    machine = machine_of(3, exactly_once=True)
    [id] = deliver(machine, 0, 3)
    machine.modify([id.one(1)], 0, 0)
    assert machine.ack([id], 0) == [STALE]
    assert machine.ack([id.one(0), id.one(1), id.one(2), id.one(2)], 0) == [HELD, STALE, HELD, STALE]


def test_messages_of_a_key_come_in_order_one_batch_at_a_time():
    machine = machine_of(6, ordered=True)
    keys = "aab ab"
    assert offsets(deliver(machine, 0, 2, keys)) == [0, 1]
    second = deliver(machine, 1, 9, keys)
    assert offsets(second) == [2, 3, 5]
    assert deliver(machine, 2, 9, keys) == []
    machine.ack([AckId(0, 1, 0, 2)], 2 * S)
    assert offsets(deliver(machine, 3, 9, keys)) == [4]


def test_redelivery_of_one_redelivers_the_later_ones_of_its_key_even_if_acked():
    machine = machine_of(4, ordered=True)
    [id] = deliver(machine, 0, 4, "aaab")
    assert machine.ack([id.one(0), id.one(2)], 0) == [HELD, HELD]
    assert machine.backlog(0).events == 3
    machine.modify([id.one(1)], 0, 0)
    assert [(one.start, one.end, one.attempt) for one in deliver(machine, 0, 9)] == [(1, 2, 2), (2, 3, 1)]


def test_early_ack_is_kept_in_the_stored_state():
    machine = machine_of(3, ordered=True)
    [id] = deliver(machine, 0, 3, "aaa")
    machine.ack([id.one(1)], 0)
    machine = from_bytes(to_bytes(machine), machine.settings, machine.ledger.sizes)
    machine.ack([id.one(0)], 0)
    assert machine.backlog(0).events == 1


def test_lease_that_was_taken_away_does_not_end_the_next_one():
    machine = machine_of(2, ordered=True)
    [id] = deliver(machine, 0, 2, "aa")
    machine.modify([id.one(0)], 0, 5 * S)
    assert offsets(deliver(machine, 5, 2)) == [0, 1]
    machine.expire(10 * S)
    assert machine.outstanding == 2


def test_exactly_once_acks_of_a_key_go_in_order_and_its_redelivery_waits_for_open_leases():
    machine = machine_of(3, ordered=True, exactly_once=True)
    [id] = deliver(machine, 0, 3, "aaa")
    assert machine.ack([id.one(1)], 0) == [OUT_OF_ORDER]
    assert machine.ack([id.one(1), id.one(0)], 0) == [HELD, HELD]
    machine = machine_of(3, ordered=True, exactly_once=True)
    [id] = deliver(machine, 0, 3, "aaa")
    machine.modify([id.one(0)], 0, 0)
    assert machine.modify([id.one(1)], 60, 0) == [STALE]
    assert deliver(machine, 9, 3) == []
    assert offsets(deliver(machine, 10, 3)) == [0, 1, 2]


def test_backoff_delays_redelivery_and_grows():
    machine = machine_of(1, retry=RetryPolicy(10, 15))
    [id] = deliver(machine, 0, 1)
    machine.modify([id], 0, 0)
    assert machine.pull(0, 1).wake_us == 10 * S
    assert deliver(machine, 9.9, 1) == []
    [id] = deliver(machine, 10, 1)
    machine.modify([id], 0, 10 * S)
    assert deliver(machine, 24.9, 1) == []
    assert deliver(machine, 25, 1) == [AckId(0, 3, 0, 1)]


def test_dead_letter_after_so_many_nacks_and_expiries():
    machine = machine_of(2, dead_letter=DeadLetterPolicy("dead", 5))
    for attempt in range(1, 6):
        [id] = deliver(machine, 20 * attempt, 1)
        assert id.attempt == attempt
        assert machine.dead_letters() == []
        if attempt % 2:
            machine.modify([id], 0, 20 * attempt * S)
    assert machine.dead_letters() == [DeadLetter(0, 5)]
    assert offsets(deliver(machine, 200, 9)) == [1]
    assert machine.backlog(0).events == 2
    machine.forwarded([0], 0)
    assert machine.dead_letters() == []
    assert machine.floor == 1


def test_without_the_dead_letter_policy_what_was_condemned_is_delivered_again():
    machine = machine_of(1, dead_letter=DeadLetterPolicy("dead", 5))
    for _ in range(5):
        machine.modify(deliver(machine, 0, 1), 0, 0)
    machine.alter(SubscriptionSettings())
    assert deliver(machine, 0, 1) == [AckId(0, 6, 0, 1)]


def test_what_does_not_match_the_filter_is_no_backlog_and_acked():
    machine = machine_of(6, filter="attributes:yes")
    assert machine.pull(0, 9).deliveries == ()
    assert machine.unscanned() == (0, 6)
    machine.scanned(6, [1, 4])
    assert machine.backlog(6 * S) == Backlog(2, 20, 5.0)
    machine.ack(deliver(machine, 0, 9), 0)
    assert machine.floor == 6
    with pytest.raises(DataError, match="unscanned"):
        machine.scanned(7, [])


def test_seek_acks_what_is_before_and_unacks_what_is_after_and_voids_older_ids():
    machine = machine_of(6)
    [id] = deliver(machine, 0, 6)
    machine.ack([id.one(5)], 0)
    machine.seek(machine.ledger.sizes.offset_at(3 * S), 0)
    assert machine.ack([id.one(4)], 0) == [STALE]
    assert deliver(machine, 0, 9) == [AckId(1, 1, 3, 6)]


def test_snapshot_brings_back_its_acks_and_what_came_later():
    machine = machine_of(4)
    [id] = deliver(machine, 0, 4)
    machine.ack([id.one(1), id.one(3)], 0)
    snapshot = encode_snapshot(machine)
    machine.ack([id], 0)
    machine.ledger.sizes.append(1, 10, 4 * S)
    machine.appended(5)
    machine.seek_to(*decode_snapshot(snapshot), 0)
    assert offsets(deliver(machine, 0, 9)) == [0, 2, 4]


def test_retention_drops_what_is_too_old_and_counts_it():
    machine = machine_of(6)
    [id] = deliver(machine, 0, 4)
    machine.ack([id.one(0)], 0)
    assert machine.trimmed(5) == 4
    assert machine.backlog(6 * S) == Backlog(1, 10, 1.0)
    assert offsets(deliver(machine, 100, 9)) == [5]


def test_bounds_on_outstanding_messages_and_bytes_hold_and_one_message_always_passes():
    machine = machine_of(6, outstanding_messages_max=2)
    ids = deliver(machine, 0, 9)
    assert (offsets(ids), deliver(machine, 0, 9)) == ([0, 1], [])
    machine.ack([ids[0].one(1)], 0)
    assert offsets(deliver(machine, 0, 9)) == [2]
    machine = machine_of(6, outstanding_bytes_max=25)
    assert offsets(deliver(machine, 0, 9)) == [0, 1]
    assert offsets(list(machine.pull(0, 9, 5).deliveries)) == [2]
    assert deliver(machine, 0, 9) == []


def test_detached_subscription_has_no_backlog_and_refuses_everything():
    machine = machine_of(3)
    ids = deliver(machine, 0, 1)
    machine.detach()
    assert machine.backlog(0).events == 0
    for event in (lambda: machine.pull(0, 1), lambda: machine.ack(ids, 0), lambda: machine.seek(0, 0)):
        with pytest.raises(ConflictError, match="detached"):
            event()


def test_acks_in_a_small_place_forget_only_what_is_furthest_ahead():
    machine = machine_of(4000)
    deliver(machine, 0, 4000)
    machine.ack([AckId(0, 1, offset, offset + 1) for offset in [*range(100), *range(101, 4000, 2)]], 0)
    for limit in (32, 100, 300, 4096):
        encoded = encode_acks(machine, limit)
        assert len(encoded) <= limit
        frontier, unacked = decode_acks(encoded)
        assert frontier > 100 + 8 * (limit - 15) or limit == 4096
        assert unacked == machine.ledger.open & span(0, frontier)
    assert frontier == 4000


def test_damaged_or_foreign_bytes_are_refused():
    machine = machine_of(9)
    deliver(machine, 0, 3)
    for read, data in (
        (lambda data: from_bytes(data, machine.settings, machine.ledger.sizes), to_bytes(machine)),
        (decode_snapshot, encode_snapshot(machine)),
        (decode_acks, encode_acks(machine, 100)),
    ):
        for place in range(1, len(data)):
            with pytest.raises(CorruptionError):
                read(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            with pytest.raises(CorruptionError):
                read(data[:place])
        with pytest.raises(CorruptionError):
            read(b"")
        with pytest.raises(ConflictError, match="version 9"):
            read(b"\x09" + data[1:])


def test_state_stays_small_however_many_messages_are_out():
    machine = machine_of(0)
    machine.ledger.sizes.append(1_000_000, 1_000_000, 0)
    machine.appended(1_000_000)
    for start in range(0, 1_000_000, 1000):
        machine.pull(start, 1000)
    assert machine.outstanding == 1_000_000
    assert len(to_bytes(machine)) < 2_000


def test_moments_are_rounded_up_to_the_tick():
    table = Timetable()
    table.slot(1).add(7)
    assert table.soonest_us == Timetable.TICK_US
    assert not table.pop_due(Timetable.TICK_US - 1)
    assert list(table.pop_due(Timetable.TICK_US)) == [7]


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 40)), st.lists(st.sets(st.integers(0, 40)), max_size=4))
def test_sets_answer_as_python_sets_do(held, failures):
    ranges = list(runs(Offsets(held)))
    assert {offset for start, end in ranges for offset in range(start, end)} == held
    assert all(end < start for (_, end), (start, _) in pairwise(ranges))
    counted = Failures()
    for failed in failures:
        counted.add(Offsets(failed))
    expected = {offset: sum(offset in failed for failed in failures) for offset in range(41)}
    assert {offset: counted.count(offset) for offset in range(41)} == expected
    assert {o: count for count, these in counted.split(Offsets(held)) for o in these} == {o: expected[o] for o in held}
    assert set(counted.having(1, Offsets(held))) == {offset for offset in held if expected[offset] == 1}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 99), st.integers(0, 9)), min_size=1, max_size=20), st.data()
)
def test_sizes_lose_no_byte_however_they_are_asked(records, data):
    sizes = RecordSizes()
    for record in records:
        sizes.append(*record)
    assert sum(sizes.bytes_between(offset, offset + 1) for offset in range(sizes.end)) == sum(r[1] for r in records)
    time_us = data.draw(st.integers(0, 10))
    younger = [offset for offset in range(sizes.end) if sizes.published_us(offset) >= time_us]
    assert sizes.offset_at(time_us) == min(younger, default=sizes.end)
    start = data.draw(st.integers(0, sizes.end - 1))
    before = [sizes.bytes_between(start, end) for end in range(start, sizes.end + 1)], sizes.published_us(start)
    sizes.trim(start)
    assert before == (
        [sizes.bytes_between(start, end) for end in range(start, sizes.end + 1)],
        sizes.published_us(start),
    )
