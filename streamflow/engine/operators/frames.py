"""Operators on columns: a query over the batch; a chain of them is one query."""

from collections.abc import Callable, Sequence

import polars as pl

from streamflow.engine.bisection import QUERY_ERRORS, FrameFunction, fitted, isolated
from streamflow.engine.context import StepContext
from streamflow.engine.operators.contract import Inner, Operator
from streamflow.model.batch import VALUE, Batch, Elements, tell, to_elements, to_frame
from streamflow.model.row import Row
from streamflow.model.schema import Schema

Explained = Callable[[pl.LazyFrame, Exception], Exception]


class FrameOperator(Inner):
    """One query over the batch, made of one or several transforms: (label, function). `explained`: makes of an error of
    the last one, and of what that was given, one that says more."""

    def __init__(
        self,
        parts: Sequence[tuple[str, FrameFunction]],
        children: Sequence[Operator],
        explained: Explained | None = None,
    ) -> None:
        super().__init__(parts[0][0], children)
        self.parts, self.explained = list(parts), explained

    def apply(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        for _, function in self.parts:
            frame = function(frame)
        return frame

    def run(self, batch: Batch, context: StepContext) -> None:
        if isinstance(batch, pl.DataFrame) and VALUE in batch.columns:
            batch = to_elements(batch)
        frame = to_frame(batch, context.on_bad(self.label))
        if frame.height:
            good = isolated(frame, self.apply, lambda bad, error: self._tell(bad, error, context))
            named = isinstance(batch, Elements) and hasattr(batch.values[0], "_asdict")
            self.hand_on(_as_rows(good) if named else good, context)

    def _tell(self, bad: pl.DataFrame, error: Exception, context: StepContext) -> None:
        """Rows that fail as one, with the label of the transform at which they do."""
        lazy = bad.head(1).lazy()
        for label, function in self.parts[:-1]:
            lazy = function(lazy)
            try:
                lazy.collect()
            except QUERY_ERRORS:
                tell(bad, context.on_bad(label), error)
                return
        tell(bad, context.on_bad(self.parts[-1][0]), self.explained(lazy, error) if self.explained else error)


def fused(operator: "FrameOperator") -> "FrameOperator":
    """A frame operator whose only child is one too becomes a single query."""
    if len(operator.children) == 1 and isinstance(child := operator.children[0], FrameOperator):
        return FrameOperator([*operator.parts, *child.parts], child.children, child.explained)
    return operator


def _as_rows(frame: pl.DataFrame) -> Elements:
    """Rows and named tuples become Rows again, for functions that read their fields."""
    elements = to_elements(frame)
    elements.values = [Row(**fields) for fields in elements.values]
    return elements


class SchemaOperator(Inner):
    """Elements as the columns of a schema."""

    def __init__(self, label: str, schema: Schema, children: Sequence[Operator]) -> None:
        super().__init__(label, children)
        self.schema = schema

    def run(self, batch: Batch, context: StepContext) -> None:
        on_bad = context.on_bad(self.label)
        frame = to_frame(batch, on_bad)
        if frame.height:
            self.hand_on(fitted(frame, self.schema, on_bad), context)
