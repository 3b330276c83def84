"""What a group's commit says of a subscription: acks come back as they were, whatever is between the messages."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamflow.topics.kafka.committed import METADATA_CHARACTERS_MAX, acks_in, of_acks, parse
from streamflow.topics.kafka.index import MessageIndex
from streamflow.topics.kafka.messages import _ENVELOPE, KIND_HEADER, SPAN
from streamflow.topics.kafka.running import SparseRunning
from streamflow.topics.protocol import Kind
from streamflow.topics.subscriptions import AckId, LeaseMachine, SubscriptionSettings
from streamflow.topics.subscriptions.bitmaps import Offsets


@dataclass(frozen=True)
class Message:
    offset: int
    timestamp: int
    headers: Sequence[tuple[str, bytes]]
    value: bytes = b"1234"
    key: bytes | None = None


def partition(counts: Sequence[int]) -> MessageIndex:
    """At each of Kafka's offsets so many events; 0: no message is there."""
    held = [
        Message(
            offset, offset, [] if count == 1 else [(KIND_HEADER, _ENVELOPE.pack(Kind.ARROW, count, offset, offset))]
        )
        for offset, count in enumerate(counts)
        if count
    ]

    places = [message.offset for message in held]

    def fetch(first: int, stop: int, max_bytes: int) -> Sequence[Message]:
        return [message for message in held[bisect_left(places, first) :][:100] if message.offset < stop]

    def find(time_ms: int) -> tuple[int, int] | None:
        return next(((each.offset, each.timestamp) for each in held if each.timestamp >= time_ms), None)

    index = MessageIndex("t", 0, fetch, find)
    index.end = len(counts)
    return index


def machine_of(index: MessageIndex, looked_at: int) -> LeaseMachine:
    machine = LeaseMachine(SubscriptionSettings(), index, sparse=True)
    SparseRunning(machine, index, 0).pull(looked_at)
    return machine


counts = st.lists(st.sampled_from([0, 1, 1, 1, 3]), max_size=60) | st.lists(st.sampled_from([0, 1]), max_size=60)


@given(counts, st.integers(0, 90), st.randoms(use_true_random=False))
def test_acks_come_back_as_they_were(counts, looked_at, random):
    index = partition(counts)
    machine = machine_of(index, looked_at)
    events = [number * SPAN + nth for number, count in enumerate(counts) for nth in range(count)]
    acked = {offset for offset in events[:looked_at] if random.random() < 0.5}
    machine.ack([AckId(0, 1, offset, offset + 1) for offset in acked], 0)
    committed = of_acks(machine, index, "id", 3)
    assert parse(committed.metadata(), "id") == committed
    assert parse(committed.metadata(), "other") is None
    again = partition(counts)
    frontier, unacked = acks_in(committed, again)
    ahead = set(again.events(frontier, again.end * SPAN))
    assert set(unacked) | ahead == set(events) - acked


def test_what_does_not_fit_is_forgotten_from_the_far_end():
    index = partition([1] * 50_000)
    machine = machine_of(index, 20_000)
    SparseRunning(machine, index, 0).pull(20_000)
    machine.ack([AckId(0, 1, n * SPAN, n * SPAN + 1) for n in range(1, 40_000) if n % 7], 0)
    committed = of_acks(machine, index, "id", 0)
    assert len(committed.metadata()) <= METADATA_CHARACTERS_MAX
    frontier, unacked = acks_in(committed, index)
    assert 20_000 * SPAN < frontier < machine.ledger.frontier
    assert unacked == machine.ledger.open & Offsets(n * SPAN for n in range(frontier // SPAN))


@given(counts)
def test_backlog_counts_messages_and_not_what_is_between_them(counts):
    index = partition(counts)
    machine = machine_of(index, sum(counts) // 2)
    backlog = SparseRunning(machine, index, 10_000_000).backlog()
    assert (backlog.events, backlog.bytes) == (sum(counts), 4 * sum(map(bool, counts)))
    first = next((offset for offset, count in enumerate(counts) if count), None)
    assert backlog.oldest_age_s == (0 if first is None else pytest.approx(10 - first / 1000))
