"""What Kafka knows of a pipeline: its shape, among the notes, and its topics. Coroutines of the handle's event loop."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition

from streamflow.base.errors import ConflictError
from streamflow.runtime.cluster.holding import Place
from streamflow.topics import rules
from streamflow.topics.kafka.client import KafkaClient
from streamflow.topics.kafka.publishing import Senders
from streamflow.topics.protocol import StageInput, TaskId, TopicConfig

_VISIBLE_S = 0.01


@dataclass(frozen=True, slots=True)
class Registered:
    """`stages`: (stage, topic, partitions) in the pipeline's order, which numbers the tasks. `epoch`: the highest that
    a task had before the pipeline was reset, for stores know it."""

    pipeline: str
    fingerprint: str
    stages: tuple[tuple[str, str, int], ...]
    epoch: int = 0

    @property
    def tasks_topic(self) -> str:
        return f"{self.pipeline}.tasks"

    @property
    def status_topic(self) -> str:
        return f"{self.pipeline}.status"

    @property
    def own_topics(self) -> list[str]:
        """Those that no stage reads. Names of stages have no dots, and none is called like one of them."""
        return [self.tasks_topic, self.status_topic, *(_changelog(self.pipeline, stage) for stage, _, _ in self.stages)]

    @property
    def inputs(self) -> list[StageInput]:
        return [StageInput(stage, topic) for stage, topic, _ in self.stages]

    def tasks(self) -> list[TaskId]:
        """In the order of their numbers."""
        return [task for _, task in self.topics_and_tasks()]

    def topics_and_tasks(self) -> list[tuple[str, TaskId]]:
        """Each task with its input, in the order of their numbers."""
        return [
            (topic, TaskId(self.pipeline, stage, each))
            for stage, topic, partitions in self.stages
            for each in range(partitions)
        ]

    def places(self) -> list[TopicPartition]:
        """All partitions that its tasks read."""
        topics = {topic: partitions for _, topic, partitions in self.stages}
        return [TopicPartition(topic, each) for topic, partitions in topics.items() for each in range(partitions)]

    def place(self, task: TaskId) -> Place:
        topic = next(topic for stage, topic, _ in self.stages if stage == task.stage)
        changelog = TopicPartition(_changelog(self.pipeline, task.stage), task.partition)
        return Place(task, topic, changelog, self.status_topic, self.epoch)

    @property
    def note(self) -> dict[str, Any]:
        stages = [list(stage) for stage in self.stages]
        return {"fingerprint": self.fingerprint, "stages": stages, "epoch": self.epoch}


def note_name(pipeline: str) -> str:
    return f"pipeline/{pipeline}"


def epoch_name(pipeline: str) -> str:
    """Of the note that a pipeline leaves behind when it is reset."""
    return f"epoch/{pipeline}"


def registered(pipeline: str, note: Any) -> Registered | None:
    """Of what `Registered.note` gave; None for none."""
    if note is None:
        return None
    return Registered(pipeline, note["fingerprint"], tuple((s, t, p) for s, t, p in note["stages"]), note["epoch"])


async def register(
    client: KafkaClient, senders: Senders, pipeline: str, fingerprint: str, inputs: Sequence[StageInput]
) -> None:
    """Make its topics and note it down, or check that it is the same. ConflictError if it is not."""
    stages = tuple([(each.stage, each.topic, await client.partitions(each.topic)) for each in inputs])
    wanted = Registered(pipeline, fingerprint, stages, await client.note(epoch_name(pipeline), 0))
    known = registered(pipeline, await client.note(note_name(pipeline), None))
    if known is not None:
        rules.check_fingerprint(pipeline, known.fingerprint, fingerprint)
        await check_partitions(client, known)
    taken = [topic for topic in wanted.own_topics if topic in {topic for _, topic, _ in stages}]
    if taken:
        raise ConflictError(f"pipeline '{pipeline}' keeps itself in topic '{taken[0]}'. Give the step another label")
    internal = TopicConfig(1, internal=True)
    await client.create_topic(wanted.tasks_topic, TopicConfig(len(wanted.tasks()), internal=True))
    await client.create_topic(wanted.status_topic, internal, compacted=True)
    for stage, _, partitions in stages:
        await client.create_topic(_changelog(pipeline, stage), TopicConfig(partitions, internal=True), compacted=True)
    if known is None:
        await noted(client, senders, note_name(pipeline), wanted.note)
    if await client.note(f"stopping/{pipeline}", None):
        await noted(client, senders, f"stopping/{pipeline}", None)


async def noted(client: KafkaClient, senders: Senders, name: str, value: object) -> None:
    """Write it down, and return when it is to be read: what is committed is not at once."""
    await senders.note(name, value)
    while await client.note(name, None) != value:
        await asyncio.sleep(_VISIBLE_S)


async def check_partitions(client: KafkaClient, known: Registered) -> None:
    """ConflictError if a topic has not as many any more as when the pipeline began."""
    for topic, before in {topic: partitions for _, topic, partitions in known.stages}.items():
        if (now := await client.partitions(topic)) != before:
            raise ConflictError(
                f"topic '{topic}' has {now} partitions, but pipeline '{known.pipeline}' began with {before}, and its "
                "state is divided by these. Let it finish on a topic of that many, or reset it to begin anew"
            )


def _changelog(pipeline: str, stage: str) -> str:
    return f"{pipeline}.{stage}.changelog"
