"""The two ways to combine: on columns by expressions, on rows by a CombineFn. They keep one `contract`, so that shuffle
and state know only frames. What is kept of groups, and when they fire, is no business of theirs.
"""

from streamflow.engine.combine.columns import ColumnCombiner
from streamflow.engine.combine.contract import Combiner
from streamflow.engine.combine.pre_aggregation import PreAggregation
from streamflow.engine.combine.rows import RowAggregate, RowCombiner
from streamflow.engine.history import Origin
from streamflow.model.windowing import Windowing
from streamflow.transforms.combine import Aggregate
from streamflow.transforms.grouping import Grouping, PerKey


def combiner_of(
    transform: Grouping,
    windowing: Windowing,
    *,
    rows_only: bool,
    pre_aggregation: PreAggregation | None = None,
    origin: Origin | None = None,
) -> Combiner:
    """`pre_aggregation`: what is known of grouping before the shuffle, where it is shared with other tasks; `origin`:
    where the events were read, if partials are to carry it."""
    if isinstance(transform, Aggregate):
        if rows_only or not windowing.has_columns:
            return RowAggregate(transform, windowing, origin)
        return ColumnCombiner(transform, windowing, pre_aggregation, origin)
    assert isinstance(transform, PerKey)
    return RowCombiner(transform, windowing, origin)
