"""How a claimed task gets its head: the one its stage begins with, with the state that is durable."""

from streamflow.engine.combine import combiner_of
from streamflow.engine.combine.rows import RowCombiner
from streamflow.engine.file_formats import format_of
from streamflow.engine.files import FilesHead, Position
from streamflow.engine.heads import GroupingHead, Head, Late, LogHead, SourceHead, StoreHead
from streamflow.engine.keyed import KeyedState
from streamflow.engine.ledger import Ledger
from streamflow.engine.operators.leaves import Publish
from streamflow.engine.periodic import PeriodicHead
from streamflow.engine.plan import Stage
from streamflow.engine.setting import Setting
from streamflow.engine.sidehead import SidesHead
from streamflow.engine.sinks import ObjectsHead, sink_start
from streamflow.engine.source import SourceDecoder
from streamflow.engine.stateful import StatefulHead
from streamflow.engine.stores import ObjectsSink, open_sink
from streamflow.engine.timejoin import TimeJoinHead
from streamflow.engine.triggered import TriggeredHead
from streamflow.model.windowing import Windowing
from streamflow.topics.protocol import Claim, Log
from streamflow.transforms.elementwise import ParDo
from streamflow.transforms.files import ReadFromFiles
from streamflow.transforms.grouping import Grouping
from streamflow.transforms.io import ReadFromTopic
from streamflow.transforms.periodicsequence import Firing
from streamflow.transforms.time_joins import TimeJoin


def open_head(setting: Setting, stage: Stage, claim: Claim) -> Head:
    transform = stage.node.transform
    if isinstance(transform, ReadFromTopic):
        first_offset = transform.first_offset(claim.state.task.partition)
        decoder, policy = SourceDecoder(transform), transform.watermark
        return SourceHead(decoder, stage.node.label, first_offset, transform.from_time_us, policy)
    if isinstance(transform, Grouping):
        return _of_grouping(transform, setting, stage, claim)
    if isinstance(transform, Firing):
        newest = max((info.sequence for info in claim.segments), default=None)
        stored = None if newest is None else (newest, _read_state(setting.log, claim, newest))
        return PeriodicHead(transform, stored, setting.plan.settings.step_events_max, stage.node.label)
    if isinstance(transform, TimeJoin):
        ledger, late, segments_max = (
            _ledger(setting, claim),
            _late(setting, stage, claim),
            setting.plan.settings.compact_segments,
        )
        return TimeJoinHead(transform, ledger, claim.state.watermark_us, segments_max, setting.memory, late)
    if isinstance(transform, ParDo):
        windowing, late = stage.node.inputs[0].windowing, _late(setting, stage, claim)
        if stage.kind == "sides":
            state = _keyed_state(setting, claim, windowing, claim.state.output_watermark_us)
            return SidesHead(transform, windowing, state, late)
        state = _keyed_state(setting, claim, windowing, claim.state.watermark_us)
        return StatefulHead(transform, state, windowing.gone_at, stage.node.label, late)
    if stage.kind == "sink":
        return _of_sink(setting, stage, claim)
    if isinstance(transform, ReadFromFiles):
        sequence = claim.segments[0].sequence if claim.segments else None
        position = None if sequence is None else Position.from_json(_read_state(setting.log, claim, sequence))
        settings, offset = setting.plan.settings, claim.state.offset
        return FilesHead(format_of(transform), settings, stage.node.label, offset, position, sequence)
    return LogHead()


def _of_grouping(transform: Grouping, setting: Setting, stage: Stage, claim: Claim) -> Head:
    windowing, settings = stage.node.inputs[0].windowing, setting.plan.settings
    combiner = combiner_of(transform, windowing, rows_only=settings.rows_only)
    label, late = stage.node.label, _late(setting, stage, claim)
    if isinstance(combiner, RowCombiner) and not windowing.is_plain:
        watermark_us, by_bundle = claim.state.watermark_us, bool(settings.triggers_by_bundle)
        state = _keyed_state(setting, claim, windowing, watermark_us)
        return TriggeredHead(combiner, windowing, state, watermark_us, label, late, by_bundle=by_bundle)
    ledger, segments_max = _ledger(setting, claim), settings.compact_segments
    return GroupingHead(combiner, windowing, ledger, setting.memory, segments_max, label, late)


def _of_sink(setting: Setting, stage: Stage, claim: Claim) -> Head:
    writer = open_sink(stage, setting.data)
    try:
        start = sink_start(setting.log, claim, writer)
        if isinstance(writer, ObjectsSink):
            return ObjectsHead(writer, start, setting.log, claim, stage.node.label)
        return StoreHead(writer, start, claim.state.epoch, stage.node.label)
    except BaseException:
        writer.close()
        raise


def _late(setting: Setting, stage: Stage, claim: Claim) -> Late | None:
    if stage.late_to is None:
        return None
    partitions = setting.log.topic(stage.late_to).config.partitions
    return Publish(stage.node.label, stage.late_to, claim.state.task.partition % partitions).run


def _keyed_state(setting: Setting, claim: Claim, windowing: Windowing, watermark_us: int) -> KeyedState:
    segments_max = setting.plan.settings.compact_segments
    return KeyedState(_ledger(setting, claim), windowing.gone_at, watermark_us, segments_max, setting.memory)


def _ledger(setting: Setting, claim: Claim) -> Ledger:
    return Ledger(claim.segments, lambda sequence: _read_state(setting.log, claim, sequence))


def _read_state(log: Log, claim: Claim, sequence: int) -> bytes:
    (payload,) = log.read_state(claim.state.task, claim.state.epoch, [sequence])
    return payload
