"""What the handles of one process share of the subscriptions of one Kafka: a process is one member of each group.

So handles, clients and threads of a process use a subscription together as they do in a folder; other processes get
other partitions.
"""

import threading
import time
from collections.abc import Mapping
from contextlib import suppress

from aiokafka import TopicPartition

from streamflow.base.errors import StreamFlowError
from streamflow.topics.kafka.client import KafkaClient
from streamflow.topics.kafka.connection import Address, LoopThread, real_reason
from streamflow.topics.kafka.holding import Holder
from streamflow.topics.kafka.subscription_notes import SubscriptionNote, SubscriptionNotes

_opened: dict[str, "Shared"] = {}
_opening = threading.Lock()
_IDLE_LOOK_S = 5.0


class Shared:
    """`changed` is told whenever others of this process may find more; `version` counts that."""

    def __init__(self, address: Address) -> None:
        self.users = 0
        self.changed = threading.Condition()
        self.version = 0
        self.loop = LoopThread()
        self._holders: dict[str, Holder] = {}
        self._lock = threading.Lock()
        try:
            self.client, self.notes = self.loop.run(_started(address))
        except BaseException:
            self.loop.close()
            raise
        self._closing = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="kafka-idle", daemon=True)
        self._watcher.start()

    def leave_idle(self, now_s: float) -> None:
        """Leave the groups that nobody in this process uses any more."""
        for holder in list(self._holders.values()):
            holder.leave_idle(now_s)

    def _watch(self) -> None:
        while not self._closing.wait(_IDLE_LOOK_S):
            # What keeps it from leaving is told to those that use it.
            with suppress(StreamFlowError):
                self.leave_idle(time.monotonic())

    def holder(self, name: str, note: SubscriptionNote) -> Holder:
        with self._lock:
            found = self._holders.get(name)
            if found is not None and found.id != note.id:
                self._holders.pop(name).close()
                found = None
            if found is None:
                found = self._holders[name] = Holder(self.loop, self.client, name, note)
            return found

    def joined(self, name: str) -> Holder | None:
        found = self._holders.get(name)
        return found if found is not None and found.joined else None

    def forget(self, name: str) -> None:
        """It is deleted or detached: leave its group."""
        with self._lock:
            found = self._holders.pop(name, None)
        if found is not None:
            found.close()

    def ends(self) -> Mapping[TopicPartition, int]:
        """Of all partitions that are held."""
        places = [place for holder in list(self._holders.values()) for place in holder.places()]
        return self.loop.run(self.client.ends_of(places)) if places else {}

    def touch(self) -> None:
        with self.changed:
            self.version += 1
            self.changed.notify_all()

    def close(self) -> None:
        self._closing.set()
        self._watcher.join()
        for name in list(self._holders):
            self.forget(name)
        self.loop.run(_closed(self.client, self.notes))
        self.loop.close()


def attach(address: Address) -> Shared:
    """One more user of what this process shares of that Kafka; `release` it."""
    with _opening:
        key = repr(address)
        if key not in _opened:
            _opened[key] = Shared(address)
        _opened[key].users += 1
        return _opened[key]


def release(shared: Shared) -> None:
    """The last one closes it: its process leaves all groups."""
    with _opening:
        shared.users -= 1
        if shared.users:
            return
        for key in [key for key, each in _opened.items() if each is shared]:
            del _opened[key]
    shared.close()


async def _started(address: Address) -> tuple[KafkaClient, SubscriptionNotes]:
    client = KafkaClient(address)
    with real_reason():
        await client.start()
    notes = SubscriptionNotes(client)
    try:
        await notes.start()
    except BaseException:
        await notes.close()
        await client.close()
        raise
    return client, notes


async def _closed(client: KafkaClient, notes: SubscriptionNotes) -> None:
    await notes.close()
    await client.close()
