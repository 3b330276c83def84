"""The lease machine against a model with a row per message, through random histories: never lost, never out twice under
exactly-once, in order per key, attempts right, backlog exact, and the same when written and read back at any moment."""

import random

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from lease_model import Message, Model

from streamflow.topics.subscriptions.decisions import AckId, AckStatus
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

SETTINGS = st.builds(
    SubscriptionSettings,
    exactly_once=st.booleans(),
    ordered=st.booleans(),
    retry=st.sampled_from([None, RetryPolicy(1, 8)]),
    dead_letter=st.sampled_from([None, DeadLetterPolicy("dead")]),
    filter=st.sampled_from([None, "attributes:yes"]),
    outstanding_messages_max=st.sampled_from([1000, 6]),
    outstanding_bytes_max=st.sampled_from([None, 60]),
)


class LeaseHistory(RuleBasedStateMachine):
    @initialize(settings=SETTINGS)
    def begin(self, settings):
        self.settings = settings
        self.sizes = RecordSizes()
        self.machine = LeaseMachine(settings, self.sizes)
        self.model = Model(settings)
        self.now_us = 1_000_000
        self.ids: list[AckId] = []
        self.snapshots = []
        self.append_all("aab ab")

    def append_all(self, keys):
        for key in keys:
            self.append_record([(key.strip(), True)], 10)

    def pick(self, data) -> list[AckId]:
        """Newer ids and older ones, whole or in parts."""
        chosen = []
        for index in data.draw(st.lists(st.integers(0, len(self.ids) - 1), min_size=1, max_size=6)):
            id = self.ids[-1 - index]
            if id.end - id.start > 1 and data.draw(st.booleans()):
                id = id.one(data.draw(st.integers(id.start, id.end - 1)))
            chosen.append(id)
        return chosen

    @rule(
        events=st.lists(st.tuples(st.sampled_from(["a", "a", "b", ""]), st.booleans()), min_size=1, max_size=4),
        data=st.data(),
    )
    def append(self, events, data):
        self.append_record(events, data.draw(st.integers(len(events), 60)))

    def append_record(self, events, size):
        start = self.sizes.end
        self.sizes.append(len(events), size, self.now_us)
        for offset, (key, matches) in enumerate(events, start):
            matches = matches or self.settings.filter is None
            size = self.sizes.bytes_between(offset, offset + 1)
            self.model.messages.append(Message(offset, key, size, matches, self.now_us))
        self.machine.appended(self.sizes.end)

    @precondition(lambda self: self.settings.filter is not None)
    @rule(share=st.sampled_from([0.5, 1]))
    def scan(self, share):
        start, end = self.machine.unscanned()
        end = start + int((end - start) * share)
        messages = self.model.messages[start:end]
        self.machine.scanned(end, [message.offset for message in messages if message.matches])
        for message in messages:
            message.scanned = True

    @rule(
        ticks=st.sampled_from([0, 0, 1, 20, 100, 400]),
        room=st.integers(1, 8),
        bytes_room=st.sampled_from([25, 1 << 62]),
        read_back=st.booleans(),
    )
    def pull(self, ticks, room, bytes_room, read_back):
        self.now_us += ticks * 100_000
        if read_back:
            self.machine = from_bytes(to_bytes(self.machine), self.settings, self.sizes)
        keys = {offset: self.model.messages[offset].key for offset in self.machine.candidates(1000)}
        before = {message.offset for message in self.model.leased() if message.deadline_us > self.now_us}
        pulled = self.machine.pull(self.now_us, room, bytes_room, keys=keys)
        found = [(offset, id.attempt) for id in pulled.deliveries for offset in range(id.start, id.end)]
        assert found == self.model.pull(self.now_us, room, bytes_room)
        assert not before & {offset for offset, _ in found}
        if self.settings.ordered:
            self.check_order({offset for offset, _ in found})
        if pulled.deliveries:
            assert pulled.wake_us is not None
        self.ids.extend(pulled.deliveries)

    def check_order(self, delivered):
        """Nothing goes out while something earlier of its key is not acked, unless both go out together."""
        for message in self.model.unacked():
            later = [one for one in delivered if one > message.offset and self.model.messages[one].key == message.key]
            assert not message.key or not later or message.offset in delivered

    @precondition(lambda self: self.ids)
    @rule(data=st.data())
    def ack(self, data):
        ids = self.pick(data)
        assert self.machine.ack(ids, self.now_us) == self.model.ack(ids)

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), deadline_s=st.sampled_from([0, 0, 0, 5, 30]))
    def modify(self, data, deadline_s):
        ids = self.pick(data)
        expected = self.model.modify(ids, deadline_s, self.now_us)
        assert self.machine.modify(ids, deadline_s, self.now_us) == expected

    @rule(ticks=st.sampled_from([5, 100]))
    def expire(self, ticks):
        self.now_us += ticks * 100_000
        self.machine.expire(self.now_us)
        self.model.expire(self.now_us)

    @rule()
    def forward(self):
        letters = self.machine.dead_letters()
        assert [(one.offset, one.attempts) for one in letters] == [
            (message.offset, message.failures) for message in self.model.unacked() if message.condemned
        ]
        self.machine.forwarded([letter.offset for letter in letters], self.now_us)
        self.model.forwarded([letter.offset for letter in letters])

    @precondition(lambda self: self.model.kept())
    @rule(data=st.data(), kind=st.sampled_from(["trim", "seek", "snapshot", "restore", "encode"]))
    def interfere(self, data, kind):
        """One rule, so that histories are long in between."""
        if kind == "trim" and len(self.model.kept()) > 8:
            self.trim(data.draw(st.integers(1, 5)))
        elif kind == "seek":
            self.seek(data.draw(st.floats(0, 1)))
        elif kind == "snapshot":
            self.snapshot()
        elif kind == "restore" and self.snapshots:
            self.seek_to_snapshot(data.draw(st.sampled_from(self.snapshots)))
        elif kind == "encode":
            self.acks_for_a_small_place(data.draw(st.sampled_from([32, 33, 40, 4096])))

    def trim(self, count):
        start = self.model.start + count
        self.sizes.trim(start)
        assert self.machine.trimmed(start) == self.model.trim(start)

    def seek(self, share):
        kept = self.model.kept()
        time_us = kept[int(share * (len(kept) - 1))].published_us
        offset = self.sizes.offset_at(time_us)
        self.machine.seek(offset, self.now_us)
        unacked = {message.offset for message in kept if message.published_us >= time_us}
        self.model.seek(unacked, max(offset, self.model.start))

    def snapshot(self):
        unacked = {message.offset for message in self.model.unacked() if message.offset < self.machine.ledger.frontier}
        self.snapshots.append((encode_snapshot(self.machine), self.machine.ledger.frontier, unacked))

    def seek_to_snapshot(self, snapshot):
        encoded, frontier, unacked = snapshot
        self.machine.seek_to(*decode_snapshot(encoded), self.now_us)
        frontier = max(frontier, self.model.start)
        later = range(frontier, len(self.model.messages))
        self.model.seek({offset for offset in unacked if offset >= self.model.start} | set(later), frontier)
        if self.settings.filter is not None:
            for message in self.model.messages[:frontier]:
                message.scanned = True

    def acks_for_a_small_place(self, limit):
        encoded = encode_acks(self.machine, limit)
        frontier, unacked = decode_acks(encoded)
        open_now, ledger = set(self.machine.ledger.open), self.machine.ledger
        assert len(encoded) <= limit
        assert frontier <= ledger.frontier
        assert set(unacked) == {offset for offset in open_now if offset < frontier} or not open_now
        if limit == 4096:
            assert set(range(frontier, ledger.frontier)) <= open_now

    @invariant()
    def backlog_is_exact(self):
        if not hasattr(self, "machine"):
            return
        unacked = self.model.unacked()
        backlog = self.machine.backlog(self.now_us)
        age_us = self.now_us - unacked[0].published_us if unacked else 0
        assert (backlog.events, backlog.bytes) == (len(unacked), sum(message.size for message in unacked))
        assert backlog.oldest_age_s == age_us / 1e6
        assert self.machine.outstanding == len(self.model.leased())

    def teardown(self):
        """Whatever was not acked comes in the end, and then nothing is left."""
        if not hasattr(self, "machine"):
            return
        for _ in range(2 * len(self.model.messages) + 10):
            self.now_us += 700_000_000
            self.scan(1) if self.settings.filter is not None else None
            self.forward()
            keys = {offset: self.model.messages[offset].key for offset in self.machine.candidates(1000)}
            pulled = self.machine.pull(self.now_us, 1000, keys=keys)
            expected = self.model.pull(self.now_us, 1000, 1 << 62)
            assert expected == [(o, id.attempt) for id in pulled.deliveries for o in range(id.start, id.end)]
            singles = [id.one(offset) for id in pulled.deliveries for offset in range(id.start, id.end)]
            assert self.machine.ack(singles, self.now_us) == [AckStatus.HELD] * len(singles)
            self.model.ack(singles)
        assert self.machine.backlog(self.now_us).events == 0
        assert not self.machine.ledger.failures
        assert self.machine.floor == len(self.model.messages)


LeaseHistory.TestCase.settings = hypothesis_settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLeaseHistory = LeaseHistory.TestCase


class SeededHistory(LeaseHistory):
    """The same events, drawn evenly, so that long chains of failures and redeliveries are reached."""

    def pick(self, data) -> list[AckId]:
        ids = []
        for id in self.draws.choices(self.ids[-12:], k=self.draws.randint(1, 4)):
            whole = self.draws.random() < 0.3
            ids.append(id if whole else id.one(self.draws.randrange(id.start, id.end)))
        return ids

    def step(self):
        draws = self.draws
        kind = draws.choice(["append", "scan", "extend", "expire", "forward", *["pull", "ack"] * 3, "nack", "nack"])
        if kind == "append" and len(self.model.messages) < 40:
            self.append_record([(draws.choice(["a", "a", "b", ""]), draws.random() < 0.7)], draws.randint(1, 30))
        elif kind == "scan" and self.settings.filter is not None:
            self.scan(draws.choice([0.5, 1]))
        elif kind == "pull":
            self.pull(
                draws.choice([0, 1, 20, 100]), draws.randint(1, 6), draws.choice([25, 1 << 62]), draws.random() < 0.5
            )
        elif kind == "ack" and self.ids:
            self.ack(None)
        elif kind in ("nack", "extend") and self.ids:
            self.modify(None, 0 if kind == "nack" else draws.choice([5, 30]))
        elif kind == "expire":
            self.expire(draws.choice([5, 85]))
        elif kind == "forward" and draws.random() < 0.3:
            self.forward()


@pytest.mark.parametrize("seed", range(48))
def test_long_histories_agree_with_the_model(seed):
    history = SeededHistory()
    history.draws = random.Random(seed)
    history.begin(
        SubscriptionSettings(
            exactly_once=seed % 2 == 0,
            ordered=seed % 4 < 2,
            retry=RetryPolicy(1, 8) if seed % 8 < 4 else None,
            dead_letter=DeadLetterPolicy("dead") if seed % 16 < 8 else None,
            filter="attributes:yes" if seed % 3 == 0 else None,
            outstanding_bytes_max=60 if seed % 5 == 0 else None,
        )
    )
    for _ in range(150):
        history.step()
        history.backlog_is_exact()
    history.teardown()
