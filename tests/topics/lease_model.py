"""What a lease machine has to do, said as plainly as can be: a row per message and no sets. All times are multiples of
the machine's tick, so that its rounding does not show."""

from dataclasses import dataclass

from streamflow.topics.subscriptions.decisions import AckId, AckStatus
from streamflow.topics.subscriptions.settings import SubscriptionSettings


@dataclass
class Message:
    offset: int
    key: str
    size: int
    matches: bool
    published_us: int
    scanned: bool = False
    acked: bool = False
    out: bool = False  # delivered since the last seek
    early: bool = False
    condemned: bool = False
    failures: int = 0
    deadline_us: int | None = None  # of its lease
    due_us: int = 0

    @property
    def unacked(self) -> bool:
        return not self.acked and (self.matches or not self.scanned)


class Model:
    def __init__(self, settings: SubscriptionSettings) -> None:
        self.settings = settings
        self.messages: list[Message] = []
        self.start = 0
        self.epoch = 0
        self.resume: dict[str, int] = {}

    def kept(self) -> list[Message]:
        return self.messages[self.start :]

    def unacked(self) -> list[Message]:
        return [message for message in self.kept() if message.unacked]

    def leased(self) -> list[Message]:
        return [message for message in self.unacked() if message.deadline_us is not None]

    def batch(self, key: str) -> list[Message]:
        return [message for message in self.unacked() if message.out and message.key == key]

    def keyed(self, message: Message) -> bool:
        return self.settings.ordered and message.key != ""

    def expire(self, now_us: int) -> None:
        self.fail([message for message in self.leased() if message.deadline_us <= now_us], now_us)

    def pull(self, now_us: int, room: int, bytes_room: int) -> list[tuple[int, int]]:
        """(offset, attempt) of each delivery."""
        self.expire(now_us)
        room = min(room, self.settings.outstanding_messages_max - len(self.leased()))
        if self.settings.outstanding_bytes_max is not None:
            held = sum(message.size for message in self.leased())
            bytes_room = min(bytes_room, self.settings.outstanding_bytes_max - held)
        if bytes_room <= 0:
            return []
        state = {message.key: self.key_state(message.key, now_us) for message in self.kept()}
        taken: list[Message] = []
        for message in self.unacked():
            if not self.ready(message, state, now_us):
                continue
            if len(taken) >= room or (taken and sum(one.size for one in taken) + message.size > bytes_room):
                break
            if not message.out and state[message.key] == "free" and self.keyed(message):
                state[message.key] = "opened"
            taken.append(message)
        for message in taken:
            message.out = True
            message.early = False
            message.deadline_us = now_us + round(self.settings.ack_deadline_s * 1e6)
        return [(message.offset, message.failures + 1) for message in taken]

    def key_state(self, key: str, now_us: int) -> str:
        batch = self.batch(key)
        if not batch:
            return "free"
        if any(message.deadline_us is not None or message.condemned for message in batch):
            return "out"
        return "again" if self.resume.get(key, 0) <= now_us else "out"

    def ready(self, message: Message, state: dict[str, str], now_us: int) -> bool:
        if message.condemned or message.deadline_us is not None:
            return False
        if not message.scanned and self.settings.filter is not None:
            return False
        if self.keyed(message):
            return state[message.key] == "again" if message.out else state[message.key] in ("free", "opened")
        return message.due_us <= now_us

    def of(self, id: AckId) -> list[Message]:
        return [] if id.epoch != self.epoch else [m for m in self.messages[id.start : id.end] if m in self.unacked()]

    def held(self, id: AckId) -> list[Message]:
        held = [m for m in self.of(id) if m.deadline_us is not None and m.failures + 1 == id.attempt]
        return held if not self.settings.exactly_once or len(held) == id.end - id.start else []

    def ack(self, ids: list[AckId]) -> list[AckStatus]:
        found = {}
        order = range(len(ids))
        for index in sorted(order, key=lambda index: ids[index].start) if self.settings.ordered else order:
            found[index] = self.ack_one(ids[index])
        return [found[index] for index in order]

    def ack_one(self, id: AckId) -> AckStatus:
        if not self.settings.exactly_once:
            counts = [self.count_ack(message) for message in self.of(id)]
            return AckStatus.HELD if any(counts) else AckStatus.STALE
        held = self.held(id)
        if not held:
            return AckStatus.STALE
        for message in held:
            if self.keyed(message):
                earlier = [one for one in self.batch(message.key) if one.offset < message.offset]
                if any(one not in held for one in earlier):
                    return AckStatus.OUT_OF_ORDER
        for message in held:
            self.settle(message)
        return AckStatus.HELD

    def count_ack(self, message: Message) -> bool:
        if message.acked:
            return False
        if not self.keyed(message):
            self.settle(message)
            return True
        if message is not self.batch(message.key)[0] and message.deadline_us is None:
            return False
        message.early = True
        message.deadline_us = None
        self.cascade(message.key)
        return True

    def cascade(self, key: str) -> None:
        while self.batch(key) and self.batch(key)[0].early:
            self.settle(self.batch(key)[0])
        if not self.batch(key):
            self.resume.pop(key, None)

    def settle(self, message: Message) -> None:
        message.acked, message.deadline_us, message.condemned = True, None, False
        if not self.batch(message.key):
            self.resume.pop(message.key, None)

    def modify(self, ids: list[AckId], deadline_s: int, now_us: int) -> list[AckStatus]:
        changed: dict[int, Message] = {}
        statuses = []
        for id in ids:
            held = self.held(id)
            if deadline_s > 0 and any(self.behind_failed(message) for message in held):
                held = []
            changed |= {message.offset: message for message in held}
            statuses.append(AckStatus.HELD if held else AckStatus.STALE)
        if deadline_s > 0:
            for message in changed.values():
                message.deadline_us = now_us + deadline_s * 1_000_000
        else:
            self.fail(list(changed.values()), now_us)
        return statuses

    def behind_failed(self, message: Message) -> bool:
        return self.keyed(message) and any(
            one.deadline_us is None and not one.condemned and not one.early
            for one in self.batch(message.key)
            if one.offset < message.offset
        )

    def fail(self, failed: list[Message], now_us: int) -> None:
        policy, retry = self.settings.dead_letter, self.settings.retry
        for message in failed:
            message.failures += 1
            message.deadline_us = None
            message.condemned = policy is not None and message.failures >= policy.attempts_max
            message.due_us = now_us + (retry.backoff_us(message.failures) if retry else 0)
        for message in failed:
            if self.keyed(message) and not message.condemned:
                self.resume[message.key] = max(self.resume.get(message.key, 0), message.due_us)
                if not self.settings.exactly_once:
                    for later in self.batch(message.key):
                        if later.offset > message.offset:
                            later.early, later.deadline_us = False, None

    def forwarded(self, offsets: list[int]) -> None:
        for offset in offsets:
            self.settle(self.messages[offset])
            if self.keyed(self.messages[offset]):
                self.cascade(self.messages[offset].key)

    def trim(self, start: int) -> int:
        lost = sum(message.unacked for message in self.messages[self.start : start])
        self.start = start
        for key in {message.key for message in self.messages if self.keyed(message)}:
            self.cascade(key)
        return lost

    def seek(self, unacked: set[int], rescan: int) -> None:
        """What is at or after `rescan` is to be scanned again."""
        self.epoch += 1
        self.resume = {}
        for message in self.kept():
            message.acked = message.offset not in unacked
            message.scanned = message.scanned and message.offset < rescan
            message.out = message.early = message.condemned = False
            message.failures, message.deadline_us, message.due_us = 0, None, 0
