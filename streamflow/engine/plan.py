"""The plan: which stages a pipeline consists of, what each reads, what it runs, where it writes. Pure; nothing
executes here.

A stage begins at a topic: one of the user's (source), values of Create, shards of files, a shuffle (grouping,
reshuffle, a join by time, what comes by the clock, or a DoFn with state), the input of a DoFn with side inputs, which
stand in it too, or the input of a store sink. From there everything that can be fused is fused: the transforms form a
tree whose leaves write to logs. A tree is built anew for each stage that reaches it, so Flatten costs nothing.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from streamflow.base.errors import PipelineError
from streamflow.base.settings import Settings
from streamflow.model.graph import Graph, Node, PCollection
from streamflow.model.windowing import Windowing
from streamflow.transforms.collections import Create, Flatten, Reshuffle
from streamflow.transforms.columns import FrameTransform
from streamflow.transforms.combine import Aggregate
from streamflow.transforms.elementwise import ParDo
from streamflow.transforms.files import ReadFromFiles
from streamflow.transforms.grouping import Grouping, PerKey
from streamflow.transforms.io import ReadFromTopic, StoreSink, WriteToTopic
from streamflow.transforms.outputs import Tagged
from streamflow.transforms.periodicsequence import Firing
from streamflow.transforms.time_joins import TimeJoin
from streamflow.transforms.userstate import get_dofn_specs
from streamflow.transforms.window import Restated, WindowInto

DEAD_LETTER = "dead-letter"
StageKind = Literal[
    "source", "files", "create", "grouping", "stateful", "join", "reshuffle", "periodic", "sides", "sink"
]


@dataclass(frozen=True)
class Step:
    """One transform at its place in a stage's tree. A leaf has a `topic` to write to. `side`: what it writes is that
    side input of the transform, not its input."""

    node: Node
    windowing: Windowing
    children: tuple["Step", ...] = ()
    topic: str | None = None
    side: int | None = None

    def walk(self) -> Iterator["Step"]:
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class Stage:
    """`node`: the transform at its head, whose input is `topic`. `upstream`: names of the stages that write to it;
    `sideways`: of those that write side inputs to it; `behind`: the stage of files that is to be finished before this
    one begins."""

    name: str
    kind: StageKind
    node: Node
    topic: str
    partitions: int | None
    steps: tuple[Step, ...] = ()
    upstream: tuple[str, ...] = ()
    sideways: tuple[str, ...] = ()
    behind: str | None = None

    @property
    def leaves(self) -> list[tuple[str, Step]]:
        """(topic, leaf that writes to it)."""
        return [(step.topic, step) for root in self.steps for step in root.walk() if step.topic is not None]

    @property
    def outputs(self) -> dict[str, Step]:
        """Topic → a leaf that writes to it."""
        return dict(self.leaves)

    @property
    def panes(self) -> str | None:
        """The log for the history of its panes, where that is kept (`Settings.explain_panes`)."""
        return f"{self.topic}.panes" if self.kind == "grouping" else None

    @property
    def late_to(self) -> str | None:
        """The topic for what its head drops as too late."""
        if isinstance(self.node.transform, TimeJoin):
            return self.node.transform.late_to
        return self.node.inputs[0].windowing.late_to if self.kind in ("grouping", "stateful", "sides") else None

    @property
    def calls_async(self) -> bool:
        """Does it run async functions?"""
        transforms = [step.node.transform for root in self.steps for step in root.walk()]
        return any(isinstance(transform, ParDo) and transform.asynchronous for transform in transforms)


@dataclass(frozen=True)
class Plan:
    """Stages in topological order."""

    pipeline: str
    stages: tuple[Stage, ...]
    settings: Settings = field(default_factory=Settings)

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def dead_letter_topic(self) -> str:
        return f"{self.pipeline}.{DEAD_LETTER}"

    @property
    def fingerprint(self) -> str:
        """Equal for two plans whose state and logs mean the same."""
        parts = [f"{s.name}|{s.kind}|{s.topic}|{s.partitions}|{_meaning(s.node)}" for s in self.stages]
        # The row path keeps pickled accumulators where the column path keeps columns.
        parts += ["rows"] if self.settings.rows_only else []
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]

    def depth(self, stage: str) -> int:
        """How many stages stand before it; later stages run first, so that logs between stages stay short."""
        found = self.stage(stage)
        return 1 + max((self.depth(name) for name in (*found.upstream, *found.sideways)), default=0)


def build_plan(graph: Graph, settings: Settings | None = None) -> Plan:
    """PipelineError if there is nothing to run."""
    settings = settings or Settings()
    if not graph.nodes:
        raise PipelineError(
            f"pipeline '{graph.name}' is empty. Begin with `pipeline | ReadFromTopic(…)` or `| Create(…)`."
        )
    stages = [stage for node in graph.nodes if (stage := _stage(graph, node, settings)) is not None]
    _check_names(graph, stages)
    return Plan(graph.name, tuple(_linked(stage, stages) for stage in stages), settings)


def _linked(stage: Stage, stages: Sequence[Stage]) -> Stage:
    """With the names of the stages that write to it, each once."""
    if stage.kind in ("source", "create"):
        return stage
    leaves = [(other.name, leaf) for other in stages for topic, leaf in other.leaves if topic == stage.topic]
    upstream = dict.fromkeys(name for name, leaf in leaves if leaf.side is None)
    sideways = dict.fromkeys(name for name, leaf in leaves if leaf.side is not None)
    return replace(stage, upstream=tuple(upstream), sideways=tuple(sideways))


def _check_names(graph: Graph, stages: Sequence[Stage]) -> None:
    """Stages name state and logs, so labels that differ only in punctuation or case would share them."""
    taken = {DEAD_LETTER: "the dead letters"}
    for stage in stages:
        if stage.name in taken:
            raise PipelineError(
                f"pipeline '{graph.name}': label '{stage.node.label}' gives the name '{stage.name}', as does "
                f"{taken[stage.name]}. Give it another label."
            )
        taken[stage.name] = f"'{stage.node.label}'"


def topic_of(graph_name: str, node: Node) -> str:
    """The log in front of a node that begins a stage."""
    if isinstance(node.transform, ReadFromTopic):
        return node.transform.topic
    return f"{graph_name}.{node.slug}"


def _stage(graph: Graph, node: Node, settings: Settings) -> Stage | None:
    transform = node.transform
    topic = topic_of(graph.name, node)
    steps = _steps(graph, node.output)
    if isinstance(transform, ReadFromTopic):
        behind = None if transform.behind is None else transform.behind.slug
        return Stage(node.slug, "source", node, topic, None, steps, behind=behind)
    if isinstance(transform, ReadFromFiles):
        return Stage(node.slug, "files", node, topic, settings.partitions, steps)
    if isinstance(transform, Create):
        return Stage(node.slug, "create", node, topic, 1, steps)
    if isinstance(transform, Grouping):
        single = (isinstance(transform, PerKey) and not transform.keyed) or (
            isinstance(transform, Aggregate) and not transform.by
        )
        return Stage(node.slug, "grouping", node, topic, 1 if single else settings.partitions, steps)
    if isinstance(transform, Reshuffle):
        return Stage(node.slug, "reshuffle", node, topic, settings.partitions, steps)
    if isinstance(transform, Firing):
        return Stage(node.slug, "periodic", node, topic, 1, steps)
    if isinstance(transform, TimeJoin):
        return Stage(node.slug, "join", node, topic, settings.partitions, steps)
    if isinstance(transform, ParDo) and transform.stateful:
        return Stage(node.slug, "stateful", node, topic, settings.partitions, steps)
    if isinstance(transform, ParDo) and transform.sides:
        before = node.inputs[0].windowing
        windowing = replace(before, assigned=before.assigned or transform.sides_windowed)
        return Stage(node.slug, "sides", node, topic, settings.partitions, (Step(node, windowing, steps),))
    if isinstance(transform, StoreSink):
        return Stage(node.slug, "sink", node, topic, 1)
    return None


def _steps(graph: Graph, pcoll: PCollection) -> tuple[Step, ...]:
    steps = [step for node in graph.consumers(pcoll) for step in _step(graph, node, pcoll.windowing)]
    for node, side in graph.side_consumers(pcoll):
        steps.append(Step(node, pcoll.windowing, topic=topic_of(graph.name, node), side=side))
    return tuple(steps)


def _step(graph: Graph, node: Node, windowing: Windowing) -> tuple[Step, ...]:
    transform = node.transform
    if isinstance(transform, WindowInto) and (transform.assigns or windowing.may_spread):
        return (Step(node, windowing, _steps(graph, node.output)),)
    if isinstance(transform, (Flatten, Restated, WindowInto)):
        return _steps(graph, node.output)
    begins = isinstance(transform, ParDo) and (transform.stateful or transform.sides)
    if begins or isinstance(transform, (Grouping, TimeJoin, Reshuffle, Firing, StoreSink)):
        return (Step(node, windowing, topic=topic_of(graph.name, node)),)
    if isinstance(transform, WriteToTopic):
        return (Step(node, windowing, topic=transform.topic),)
    if isinstance(transform, (ParDo, FrameTransform, Tagged)):
        return (Step(node, windowing, _steps(graph, node.output)),)
    raise PipelineError(f"{node.label}: the engine can't run {type(transform).__name__}.")


def _meaning(node: Node) -> str:
    """What of a head transform decides how its stored state is read."""
    transform = node.transform
    windowing = node.inputs[0].windowing if node.inputs else None
    if isinstance(transform, Aggregate):
        by = [str(expr) for expr in transform.by]
        # Sessions on columns keep state of another form than those on rows, which were there before.
        form = "|columns" if windowing is not None and windowing.is_plain_sessions else ""
        return f"{transform.keys}|{by}|{transform.aggregates}|{windowing}{form}"
    if isinstance(transform, PerKey):
        inner = getattr(transform.fn, "fn", None)
        name = getattr(inner, "__qualname__", "" if inner is None else type(inner).__qualname__)
        return f"{type(transform.fn).__name__}|{name}|{transform.keyed}|{windowing}"
    if isinstance(transform, TimeJoin):
        return f"{transform.match}|{transform.left}|{transform.right}"
    if isinstance(transform, ParDo):
        states, timers = get_dofn_specs(transform.fn)
        sides = [f"|{side.windowing}" for side in node.sides]
        return f"{type(transform.fn).__name__}|{sorted(map(repr, [*states, *timers]))}|{windowing}{''.join(sides)}"
    if isinstance(transform, StoreSink):
        return repr(sorted((k, str(v)) for k, v in vars(transform).items() if k != "label"))
    if isinstance(transform, ReadFromFiles):
        return transform.meaning
    if isinstance(transform, ReadFromTopic) and transform.behind is not None:
        return f"{transform.behind.slug}|{transform.from_offset}|{transform.from_time_us}"
    return ""
