"""What all workers know of a pipeline: how far its tasks are, where its inputs end, what is promised and asked for.
Read again and again by a coroutine of the handle's event loop; shown as of a moment at which it fits together.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from streamflow.model.time import MIN_US
from streamflow.runtime.cluster.records import TaskRecord, task_record
from streamflow.topics.kafka.client import KafkaClient
from streamflow.topics.protocol import StageInput, TaskId

logger = logging.getLogger(__name__)

LOOK_S = 0.1
"""How often, if nothing of our own has been committed: then it looks at once."""
_AGAIN_S = 1.0
"""While Kafka is away."""

Input = tuple[str, int]
Places = Mapping[Input, int]


@dataclass(frozen=True, slots=True)
class Told:
    """What was said up to one moment. `marks`: topic → what its publishers promise."""

    records: Mapping[TaskId, TaskRecord] = field(default_factory=dict)
    marks: Mapping[str, int] = field(default_factory=dict)
    fingerprint: str | None = None
    stopping: bool = False
    workers_wanted: int | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """`told` holds for who has read up to `ends`: what is committed, in Kafka's offsets."""

    told: Told = field(default_factory=Told)
    ends: Places = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pairing:
    """Pure: what was told waits until all that was written before it can be read. `waits_for`: told, and where the
    inputs ended with everything after that."""

    seen: Seen = field(default_factory=Seen)
    waits_for: tuple[Told, Places] | None = None

    @property
    def wants_more(self) -> bool:
        return self.waits_for is None

    def after(self, told: Told, written: Places) -> "Pairing":
        """`written`: ends with what is not committed yet, asked for after `told` was there."""
        return replace(self, waits_for=(told, written))

    def reached(self, committed: Places) -> "Pairing":
        """`committed`: ends up to which all can be read, newer than those before. Never goes back: a broker that has
        just become the leader may know less for a moment."""
        ends = {place: max(end, self.seen.ends.get(place, 0)) for place, end in committed.items()}
        if self.waits_for is not None and all(ends[place] >= end for place, end in self.waits_for[1].items()):
            return Pairing(Seen(self.waits_for[0], ends))
        return Pairing(Seen(self.seen.told, ends), self.waits_for)


class View:
    """`seen` may be read by any thread; `changed` is told each time it is another."""

    def __init__(self, client: KafkaClient, pipeline: str, status: str, inputs: Sequence[StageInput]) -> None:
        self._client, self._pipeline, self._inputs = client, pipeline, inputs
        reading = {**client.options, "isolation_level": "read_committed", "enable_auto_commit": False}
        self._committed = AIOKafkaConsumer(**reading)
        self._written = AIOKafkaConsumer(**client.options, enable_auto_commit=False)
        self._status = client.make_notes(status)
        self._places: list[TopicPartition] = []
        self._pairing = Pairing()
        self._look = asyncio.Event()
        self._refreshing = asyncio.Lock()
        self._looking: asyncio.Task[None] | None = None
        self.changed = threading.Condition()
        self.version = 0

    @property
    def seen(self) -> Seen:
        return self._pairing.seen

    async def start(self, places: Sequence[TopicPartition]) -> None:
        """It has looked once when this returns."""
        self._places = list(places)
        await self._committed.start()
        await self._written.start()
        await self._status.start(self._client.admin, self._client.replication)
        await self.renew()
        self._looking = asyncio.create_task(self._keep_looking())

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        for closing in (self._status.close(), self._committed.stop(), self._written.stop()):
            with suppress(asyncio.CancelledError):
                await closing

    async def last(self, place: TopicPartition) -> int:
        """Kafka's offset after the last message, committed or not."""
        return int((await self._written.end_offsets([place]))[place])

    def look(self) -> None:
        """Look now: something was committed here."""
        self._look.set()

    def bump(self) -> None:
        """Wake those that wait for a change."""
        with self.changed:
            self.version += 1
            self.changed.notify_all()

    async def renew(self) -> None:
        """`seen` is as of this call, or later."""
        async with self._refreshing:
            while not self._pairing.wants_more:
                await self._refresh()
            await self._refresh()
            while not self._pairing.wants_more:
                await self._refresh()

    async def _keep_looking(self) -> None:
        away = False
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._look.wait(), LOOK_S if self._pairing.wants_more else LOOK_S / 10)
            self._look.clear()
            try:
                async with self._refreshing:
                    await self._refresh()
                away = False
            except (KafkaError, OSError) as error:
                if not away:
                    logger.warning("pipeline %s: Kafka does not answer, asking on: %s", self._pipeline, error)
                away = True
                await asyncio.sleep(_AGAIN_S)

    async def _refresh(self) -> None:
        before = self.seen
        if self._pairing.wants_more:
            told = await self._told()
            written = await self._written.end_offsets(self._places)
            self._pairing = self._pairing.after(told, _plain(written))
        self._pairing = self._pairing.reached(_plain(await self._committed.end_offsets(self._places)))
        if self.seen != before:
            self.bump()

    async def _told(self) -> Told:
        promised = await self._client.all_notes()
        records = {}
        for name, value in (await self._status.refresh()).items():
            stage, _, partition = name.rpartition("/")
            records[TaskId(self._pipeline, stage, int(partition))] = task_record(value)
        told = dict(promised.get(f"pipeline/{self._pipeline}") or {})
        return Told(
            records,
            {each.topic: promised.get(f"watermark/{each.topic}", MIN_US) for each in self._inputs},
            told.get("fingerprint"),
            bool(promised.get(f"stopping/{self._pipeline}")),
            promised.get(f"workers/{self._pipeline}"),
        )


def _plain(ends: Mapping[Any, int]) -> dict[Input, int]:
    return {(place.topic, place.partition): end for place, end in ends.items()}
