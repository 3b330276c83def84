"""The plan as it runs: a frame for each stage, in it a box for the head and one for each operator, and what crosses
which log.
"""

from dataclasses import dataclass, field

import polars as pl

from streamflow.engine.combine.columns import ColumnCombiner
from streamflow.engine.combine.contract import ACCUMULATOR, EVENTS, KEY
from streamflow.engine.explain.diagram import Box, Diagram, Edge, Frame
from streamflow.engine.explain.words import columns, heads, in_stage, kind_of, schema, split
from streamflow.engine.plan import Plan, Stage, Step
from streamflow.engine.sides import PANE_VALUES, SIDE
from streamflow.model.batch import PANE, PANE_INFO, VALUE
from streamflow.model.graph import Node, PCollection
from streamflow.model.window import TIME, WINDOW_END, WINDOW_START
from streamflow.transforms.collections import Reshuffle
from streamflow.transforms.columns import AsColumns, FrameTransform
from streamflow.transforms.combine import Aggregate
from streamflow.transforms.elementwise import ParDo
from streamflow.transforms.grouping import Grouping
from streamflow.transforms.io import StoreSink, WriteToTopic
from streamflow.transforms.periodicsequence import Firing
from streamflow.transforms.time_joins import FROM_LEFT, TimeJoin


def as_run(plan: Plan) -> Diagram:
    """The plan after fusing, with partial aggregation before the logs of groupings."""
    drawing = _Drawing(plan)
    for stage in plan.stages:
        drawing.stage(stage)
    notes = (f"Events that fail go to topic '{plan.dead_letter_topic}', with their input and error.",)
    return Diagram("As run", tuple(drawing.boxes), tuple(drawing.edges), tuple(drawing.frames), notes)


def query(step: Step, *, rows_only: bool = False) -> tuple[Step, ...]:
    """The steps that run as one query over columns, from this one on; just the step itself if it is on rows, or if
    several follow it. It is what `operators.fused` does with them."""
    if not _on_columns(step, rows_only):
        return (step,)
    chain = [step]
    while len(chain[-1].children) == 1 and _on_columns(child := chain[-1].children[0], rows_only):
        chain.append(child)
    return tuple(chain)


def _on_columns(step: Step, rows_only: bool) -> bool:
    transform = step.node.transform
    if isinstance(transform, Aggregate):
        return not rows_only and step.windowing.has_columns
    return isinstance(transform, StoreSink) or (
        isinstance(transform, FrameTransform) and not isinstance(transform, AsColumns)
    )


@dataclass
class _Drawing:
    plan: Plan
    boxes: list[Box] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    def stage(self, stage: Stage) -> None:
        count = stage.partitions
        tasks = "a task for each partition of the topic" if count is None else f"{count} task{'s' if count > 1 else ''}"
        self.frames.append(Frame(stage.name, f"stage {stage.name} [{stage.kind}]", (f"reads {stage.topic}, {tasks}",)))
        node = stage.node
        windowing = (node.inputs[0] if node.inputs else node.output).windowing
        head = Box(stage.name, node.label, heads(node.transform, windowing), kind_of(node.transform), stage.name)
        self.boxes.append(head)
        for step in stage.steps:
            self.operator(step, stage, head.id, node)

    def operator(self, step: Step, stage: Stage, before: str, giver: Node) -> None:
        """`before`: the box it takes its input from, which is what `giver` gives."""
        rows_only = self.plan.settings.rows_only
        chain = query(step, rows_only=rows_only)
        name = f"{stage.name}/{len(self.boxes)}"
        self.boxes.append(_operator_box(name, chain, stage.name, rows_only))
        self.edges.append(Edge(before, name, schema(giver.output.shape, step.windowing)))
        last = chain[-1]
        if last.topic is not None and not isinstance(last.node.transform, WriteToTopic):
            target = next(stage for stage in self.plan.stages if stage.topic == last.topic and stage.upstream)
            log, lines = _log(target), (crossing(last, rows_only=rows_only),)
            self.edges.append(Edge(name, target.name, lines, log))
        for child in last.children:
            self.operator(child, stage, name, last.node)


def _operator_box(name: str, chain: tuple[Step, ...], frame: str, rows_only: bool) -> Box:
    first, last = chain[0], chain[-1]
    if len(chain) > 1:
        parts = [f"{step.node.label}: {said}" for step in chain for said in _said(step)]
        return Box(name, "one query over columns", tuple(parts), "query", frame)
    kind = "query" if _on_columns(first, rows_only) else kind_of(last.node.transform)
    return Box(
        name, first.node.label, tuple(line for line in _said(first) if not first.node.label.endswith(line)), kind, frame
    )


def _said(step: Step) -> tuple[str, ...]:
    if step.side is not None:
        return (f"hands each pane to all tasks, as side input {step.side}",)
    if step.topic is not None and isinstance(step.node.transform, ParDo) and step.node.transform.sides:
        return ("hands on elements as they are",)
    return in_stage(step.node.transform, step.windowing)


def _log(stage: Stage) -> str:
    """The log in front of a stage, and how it is split."""
    if stage.partitions == 1:
        return f"log {stage.topic}, 1 partition"
    return f"log {stage.topic}, {stage.partitions} partitions {split(stage.node.transform)}"


def crossing(step: Step, *, rows_only: bool = False) -> str:
    """What a step writes to a log: its columns, as far as they are known before anything runs."""
    transform, (pcoll, *_) = step.node.transform, step.node.inputs
    if isinstance(transform, Grouping) and not _on_columns(step, rows_only):
        return columns(dict.fromkeys((KEY, WINDOW_START, WINDOW_END, EVENTS, ACCUMULATOR, TIME)))
    if step.side is not None:
        return columns(dict.fromkeys((TIME, WINDOW_START, WINDOW_END, SIDE, PANE_VALUES)))
    if isinstance(transform, TimeJoin):
        return columns(dict.fromkeys((TIME, FROM_LEFT), pl.Int64()) | transform.left | transform.right)
    if isinstance(transform, ParDo) and transform.stateful:
        return columns(dict.fromkeys((TIME, WINDOW_START, WINDOW_END, KEY, VALUE)))
    if pcoll.shape.columns is None:
        pickled = isinstance(transform, (Reshuffle, Firing, ParDo))
        return f"{columns(None)}, pickled" if pickled else "columns as the values turn out to have them"
    windowed = step.windowing.assigned or (isinstance(transform, ParDo) and transform.sides_windowed)
    own = [TIME, *([WINDOW_START, WINDOW_END] if windowed else [])]
    own += [PANE, PANE_INFO] if _has_panes(pcoll) else []
    frame = pl.LazyFrame(schema={**pcoll.shape.columns, **dict.fromkeys(own, pl.Int64())})
    if isinstance(transform, Aggregate):
        frame = ColumnCombiner(transform, step.windowing).partial_frame(frame)
    elif isinstance(transform, StoreSink):
        frame = transform.prepare(frame)
    return columns(frame.collect_schema())


def _has_panes(pcoll: PCollection) -> bool:
    """Whether its elements say which pane they are of: they come from a grouping, and no log but that of a Reshuffle
    stands in between."""
    node = pcoll.producer
    if isinstance(node.transform, ParDo) and node.transform.stateful:
        return False
    return isinstance(node.transform, Grouping) or any(map(_has_panes, node.inputs))
