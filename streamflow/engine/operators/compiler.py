"""The compiler: from steps of the plan to the operators that run them, as one task does."""

from collections.abc import Callable, Sequence

from streamflow.engine.calls import Calls
from streamflow.engine.combine import combiner_of
from streamflow.engine.combine.columns import ColumnCombiner
from streamflow.engine.combine.contract import KEY
from streamflow.engine.combine.pre_aggregation import PreAggregation
from streamflow.engine.combine.rows import RowCombiner
from streamflow.engine.history import Origin
from streamflow.engine.operators.contract import Operator
from streamflow.engine.operators.frames import FrameOperator, SchemaOperator, fused
from streamflow.engine.operators.leaves import Publish, Shuffle, Spread
from streamflow.engine.operators.rows import (
    FilterOperator,
    KeyedRows,
    PartialOperator,
    RowOperator,
    TaggedOperator,
    WindowOperator,
)
from streamflow.engine.plan import Step
from streamflow.engine.sides import Beside, Broadcast, Views
from streamflow.transforms.collections import Reshuffle
from streamflow.transforms.columns import AsColumns, FrameTransform
from streamflow.transforms.elementwise import ParDo, RowFilter
from streamflow.transforms.grouping import Grouping
from streamflow.transforms.io import StoreSink
from streamflow.transforms.outputs import Tagged
from streamflow.transforms.periodicsequence import Firing
from streamflow.transforms.time_joins import TimeJoin
from streamflow.transforms.views import View
from streamflow.transforms.window import WindowInto

PartitionsOf = Callable[[str], int]


def compile_steps(
    steps: Sequence[Step],
    partitions_of: PartitionsOf,
    *,
    partition: int,
    rows_only: bool,
    learnt: dict[str, PreAggregation],
    calls: Calls,
    views: Views | None = None,
    origin: Origin | None = None,
) -> list[Operator]:
    """Operators for the tree below a stage's head, as one task (of `partition`) runs them. `learnt`: what the tasks of
    a worker have found out, by label; `calls`: their event loop; `views`: the side inputs of the transform at the
    root; `origin`: where the events were read, if groupings are to know."""
    compiler = _Compiler(partitions_of, partition, rows_only, learnt, calls, views, origin)
    return [compiler.compile(step) for step in steps]


class _Compiler:
    def __init__(
        self,
        partitions_of: PartitionsOf,
        partition: int,
        rows_only: bool,
        learnt: dict[str, PreAggregation],
        calls: Calls,
        views: Views | None,
        origin: Origin | None,
    ) -> None:
        self.partitions_of, self.partition, self.rows_only, self.learnt = partitions_of, partition, rows_only, learnt
        self.calls, self.views, self.origin = calls, views, origin

    def compile(self, step: Step) -> Operator:
        if step.topic is not None:
            return self.leaf(step, step.topic)
        children = [self.compile(child) for child in step.children]
        transform = step.node.transform
        if isinstance(transform, AsColumns):
            return SchemaOperator(step.node.label, transform.schema, children)
        if isinstance(transform, FrameTransform):
            return fused(FrameOperator([(step.node.label, transform.apply_frame)], children))
        if isinstance(transform, Tagged):
            return TaggedOperator(step.node.label, transform.tag, children)
        if isinstance(transform, WindowInto):
            return WindowOperator(step.node.label, transform, step.windowing, children)
        assert isinstance(transform, ParDo)
        operator = FilterOperator if isinstance(transform, RowFilter) and transform.tags is None else RowOperator
        views = self.views if transform.sides else None
        return operator(step.node.label, transform, step.windowing, children, self.calls, views)

    def leaf(self, step: Step, topic: str) -> Operator:
        transform, label = step.node.transform, step.node.label
        if step.side is not None:
            lists = isinstance(step.node.sides[step.side].producer.transform, View)
            return Broadcast(label, topic, self.partitions_of(topic), step.side, lists=lists)
        if isinstance(transform, Grouping):
            known = self.learnt.setdefault(label, PreAggregation())
            combiner = combiner_of(
                transform, step.windowing, rows_only=self.rows_only, pre_aggregation=known, origin=self.origin
            )
            pre_aggregation = combiner.pre_aggregation if isinstance(combiner, ColumnCombiner) else None
            shuffle = Shuffle(topic, combiner.keys, self.partitions_of(topic), pre_aggregation)
            if isinstance(combiner, ColumnCombiner):
                return FrameOperator([(label, combiner.partial_frame)], [shuffle], combiner.explained)
            if not step.windowing.is_plain:
                assert isinstance(combiner, RowCombiner)
                return PartialOperator(label, combiner.singles, combiner.close, [shuffle])
            return PartialOperator(label, combiner.partial, combiner.close, [shuffle])
        if isinstance(transform, TimeJoin):
            return Shuffle(topic, transform.keys, self.partitions_of(topic))
        if isinstance(transform, ParDo) and transform.sides:
            partition = self.partition % self.partitions_of(topic)
            return Beside(label, topic, partition, step.windowing, windowed=transform.sides_windowed)
        if isinstance(transform, ParDo):
            return KeyedRows(label, step.windowing, [Shuffle(topic, [KEY], self.partitions_of(topic))])
        if isinstance(transform, StoreSink):
            return FrameOperator([(label, transform.prepare)], [Spread(label, topic, 1, 0)])
        if isinstance(transform, (Reshuffle, Firing)):
            return Spread(label, topic, self.partitions_of(topic), self.partition)
        return Publish(label, topic, self.partition % self.partitions_of(topic))
