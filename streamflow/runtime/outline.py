"""The outline of a pipeline: what of its plan others must know who have the log and not the user's code. It lies in the
log, in an internal topic that goes when the pipeline is reset; the newest record counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from streamflow.base.errors import NotFoundError
from streamflow.engine.plan import Plan, Stage
from streamflow.model.watermark import BoundedDisorder, WatermarkPolicy
from streamflow.model.window import FixedWindows
from streamflow.model.windowing import AccumulationMode
from streamflow.topics import codec
from streamflow.topics.protocol import Log, TopicConfig
from streamflow.transforms.io import ReadFromTopic

_FOREVER_S = 100 * 366 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class WindowsOutline:
    """How the input of a grouping is windowed. `fixed`: size and offset of fixed windows."""

    text: str
    lateness_us: int
    accumulates: bool
    merging: bool
    is_global: bool
    fixed: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class WatermarkOutline:
    """`disorder_us`: None where it goes by markers."""

    text: str
    releases_idle: bool
    disorder_us: int | None


@dataclass(frozen=True, slots=True)
class StageOutline:
    """`panes`: the log for the history of its panes, if it is a grouping; `watermark`: what it goes by, if it is a
    source of a topic."""

    name: str
    label: str
    kind: str
    topic: str
    upstream: tuple[str, ...]
    windows: WindowsOutline | None = None
    panes: str | None = None
    watermark: WatermarkOutline | None = None


Outline = Mapping[str, StageOutline]
"""By the stage's name, in topological order."""


def outline_of(plan: Plan) -> Outline:
    return {stage.name: _stage(stage) for stage in plan.stages}


def keep_outline(plan: Plan, log: Log) -> None:
    """Publish it if it is another than before; and `keep_panes`."""
    topic = outline_topic(plan.pipeline)
    log.create_topic(topic, TopicConfig(partitions=1, retention_s=_FOREVER_S, internal=True))
    outline = outline_of(plan)
    if read_outline(log, plan.pipeline) != outline:
        log.publish([codec.encode_json(topic, 0, [msgspec.json.encode(list(outline.values()))], [0])])
    keep_panes(plan, log)


def keep_panes(plan: Plan, log: Log) -> None:
    """Create the logs for the history of panes if they are wanted and not there."""
    for stage in plan.stages if plan.settings.explain_panes else ():
        if stage.panes is not None:
            config = TopicConfig(stage.partitions or 1, plan.settings.explain_retention_s, internal=True)
            log.create_topic(stage.panes, config)


def outline_topic(pipeline: str) -> str:
    """No label gives a stage this topic: their names have no dots."""
    return f"{pipeline}.plan.outline"


def read_outline(log: Log, pipeline: str) -> Outline:
    """Empty if the pipeline has none: it was last run by an earlier version."""
    topic = outline_topic(pipeline)
    try:
        records = log.read(topic, 0, 0)
    except NotFoundError:
        return {}
    if not records:
        return {}
    stages = msgspec.json.decode(codec.json_documents(records[-1])[-1], type=list[StageOutline])
    return {stage.name: stage for stage in stages}


def waiting_in(outline: Outline) -> set[str]:
    """The sources that wait also for partitions that have been read to their end."""
    return {stage.name for stage in outline.values() if stage.watermark and not stage.watermark.releases_idle}


def _stage(stage: Stage) -> StageOutline:
    transform = stage.node.transform
    windows = watermark = None
    if stage.kind == "grouping":
        # Here, not above: a worker, which launches nothing, does without what draws plans.
        from streamflow.engine.explain.words import windows as windows_text

        windowing = stage.node.inputs[0].windowing
        fn = windowing.fn
        windows = WindowsOutline(
            windows_text(windowing),
            windowing.allowed_lateness_us,
            windowing.accumulation_mode is AccumulationMode.ACCUMULATING,
            windowing.is_merging,
            windowing.is_global,
            (fn.size_us, fn.offset_us) if isinstance(fn, FixedWindows) else None,
        )
    if isinstance(transform, ReadFromTopic):
        watermark = _watermark(transform.watermark)
    shown = (stage.name, stage.node.label, stage.kind, stage.topic, stage.upstream)
    return StageOutline(*shown, windows, stage.panes, watermark)


def _watermark(policy: WatermarkPolicy) -> WatermarkOutline:
    disorder_us = policy.disorder_us if isinstance(policy, BoundedDisorder) else None
    return WatermarkOutline(str(policy), policy.releases_idle, disorder_us)
