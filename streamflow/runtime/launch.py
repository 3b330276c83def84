"""From a pipeline to something that can run: its plan, its topics, the values of Create, the shards of files, its
registration.
Idempotent."""

import heapq
import pickle
from collections.abc import Sequence

from streamflow.base.errors import ConflictError, NotFoundError, PipelineError
from streamflow.base.settings import Settings
from streamflow.engine.plan import Plan, Stage, build_plan
from streamflow.model.batch import OFFSET, Elements, pickled
from streamflow.model.graph import Graph
from streamflow.model.time import EARLIEST_US, EVENT_MAX_US, EVENT_MIN_US, MAX_US, MIN_US
from streamflow.model.window import TimestampedValue
from streamflow.runtime.hints import on_command, on_log, sentence
from streamflow.runtime.outline import keep_outline, keep_panes
from streamflow.stores.files import Division, Shard, list_shards
from streamflow.topics import codec, rules
from streamflow.topics.protocol import Log, Producer, StageInput, TopicConfig
from streamflow.transforms.collections import Create
from streamflow.transforms.files import ReadFromFiles
from streamflow.transforms.io import ReadFromTopic, WriteToTopic

CREATE_RECORD_VALUES_MAX = 10_000
SHARDS = "shards"
"""Who publishes them, for the log."""


def launch(graph: Graph, log: Log, settings: Settings | None = None) -> Plan:
    """Make everything that the pipeline's tasks need. Running it again changes nothing.

    NotFoundError if a source topic does not exist; ConflictError if the pipeline is known with another shape."""
    plan = build_plan(graph, settings)
    for stage in plan.stages:
        if stage.kind == "files" and log.offset_span > 1:
            raise PipelineError(
                f"{stage.node.label}: files can't be read in a pipeline on Kafka. Publish them to a topic first."
            )
        if stage.kind == "source":
            _check_source(log, stage)
        else:
            log.create_topic(stage.topic, TopicConfig(stage.partitions or 1, internal=True))
    for stage in plan.stages:
        for topic, step in stage.outputs.items():
            if isinstance(step.node.transform, WriteToTopic):
                log.create_topic(topic, _existing(log, topic))
        if stage.late_to is not None:
            log.create_topic(stage.late_to, _existing(log, stage.late_to))
    log.create_topic(plan.dead_letter_topic, TopicConfig(partitions=1))
    shards = {stage.topic: _listed(log, stage, plan.settings) for stage in plan.stages if stage.kind == "files"}
    inputs = [StageInput(stage.name, stage.topic) for stage in plan.stages]
    try:
        log.register_pipeline(plan.pipeline, plan.fingerprint, inputs)
    except ConflictError as error:
        raise _changed(plan, log) from error
    for stage in plan.stages:
        if stage.kind == "create":
            _publish_values(log, stage)
        elif stage.kind == "files":
            _publish_shards(log, stage, shards[stage.topic])
    keep_outline(plan, log)
    return plan


def attach(graph: Graph, log: Log, settings: Settings | None = None) -> Plan:
    """The plan of a pipeline that another process has launched already; launches it if none has.

    Unlike `launch`, it does not take back a request to stop. ConflictError if the pipeline is known with another
    shape."""
    plan = build_plan(graph, settings)
    known = log.pipelines().get(plan.pipeline)
    if known is None:
        return launch(graph, log, settings)
    if known != plan.fingerprint:
        raise _changed(plan, log)
    keep_panes(plan, log)
    return plan


def _changed(plan: Plan, log: Log) -> ConflictError:
    forget = on_log(f"reset {plan.pipeline}", log.url, f"log.reset_pipeline('{plan.pipeline}')")
    return ConflictError(
        f"pipeline '{plan.pipeline}' has state of another shape: stages, windows, keys or aggregates differ. "
        f"Give the new one another name, or forget the old one with {forget}."
    )


def _check_source(log: Log, stage: Stage) -> None:
    assert isinstance(stage.node.transform, ReadFromTopic)
    try:
        log.topic(stage.topic)
    except NotFoundError as error:
        known = [info.name for info in log.topics() if not info.config.internal]
        create = on_log(f"topic create {stage.topic}", log.url, f"log.create_topic('{stage.topic}')")
        hint = f"Create it with {create}{'' if on_command(log.url) else ' on the log that you then `run(on=log)`'}."
        raise NotFoundError(f"{sentence(rules.unknown('topic', stage.topic, known))} {hint}") from error
    for partition in range(log.topic(stage.topic).config.partitions):
        first, end = stage.node.transform.first_offset(partition), log.end(stage.topic, partition)
        if first > end:
            raise PipelineError(
                f"{stage.node.label}: from_offset is {first} for partition {partition} of topic '{stage.topic}', which "
                f"has {end} events. Give an offset that is there, or the next one."
            )


def _existing(log: Log, topic: str) -> TopicConfig | None:
    try:
        return log.topic(topic).config
    except NotFoundError:
        return None


def _publish_values(log: Log, stage: Stage) -> None:
    """Create's values go to a log like everything else, once: the sequences make a repetition harmless."""
    transform = stage.node.transform
    assert isinstance(transform, Create)
    if transform.given_later:
        return
    values = transform.values
    for sequence, begin in enumerate(range(0, len(values), CREATE_RECORD_VALUES_MAX)):
        publish_elements(log, stage, timed(values[begin : begin + CREATE_RECORD_VALUES_MAX]), sequence)
    log.advance_watermark(stage.topic, MAX_US)


def publish_elements(log: Log, stage: Stage, elements: Elements, sequence: int) -> None:
    """One record of a `create` stage's values; none if that sequence is there already."""
    try:
        frame = pickled(elements).drop(OFFSET)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise PipelineError(
            f"{stage.node.label}: a value can't be stored: {sentence(error)} Give plain values."
        ) from error
    log.publish([codec.encode_frame(stage.topic, 0, frame)], Producer("create", sequence))


def _listed(log: Log, stage: Stage, settings: Settings) -> list[Shard]:
    """The shards of the stage's files; none if they are in the log already. NotFoundError if no file matches."""
    transform = stage.node.transform
    assert isinstance(transform, ReadFromFiles)
    if log.last_sequence(stage.topic, SHARDS) >= 0 or log.topic(stage.topic).watermark_us >= MAX_US:
        return []
    division: Division = "rows" if transform.format == "parquet" else "lines" if transform.splittable else "whole"
    return list_shards(transform.pattern, division, transform.compression, settings.shard_bytes)


def _publish_shards(log: Log, stage: Stage, shards: Sequence[Shard]) -> None:
    """All at once, so that files are listed at one moment, or else anew: each to the partition that has least to do."""
    loads = [(0, partition) for partition in range(stage.partitions or 1)]
    records = []
    for shard in shards:
        load, partition = heapq.heappop(loads)
        heapq.heappush(loads, (load + shard.weight, partition))
        records.append(codec.encode_json(stage.topic, partition, [shard.to_json()], [MIN_US]))
    if records:
        log.publish(records, Producer(SHARDS, 0))
    log.advance_watermark(stage.topic, MAX_US)


def timed(values: Sequence[object]) -> Elements:
    """Values as Create takes them: without a time of their own they are at the beginning of time."""
    elements = Elements()
    for value in values:
        if isinstance(value, TimestampedValue):
            if not EVENT_MIN_US <= value.time_us <= EVENT_MAX_US and value.time_us != EARLIEST_US:
                raise PipelineError(f"timestamp of {value!r} is beyond the years 1 to 9999. Is its unit seconds?")
            elements.append(value.value, value.time_us, -1, None)
        else:
            elements.append(value, EARLIEST_US, -1, None)
    return elements
