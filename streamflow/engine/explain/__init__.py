"""`explain`: a pipeline as it was written and as it runs, as text or SVG. `diagram` is the model; `written` and `runs`
make it, `words` says what stands in it; `text`, `layout` and `svg` show it. Pure: nothing executes here, and no file is
written.
"""

from typing import Literal

from streamflow.base.errors import PipelineError
from streamflow.engine.explain.runs import as_run
from streamflow.engine.explain.svg import as_svg
from streamflow.engine.explain.text import as_text
from streamflow.engine.explain.written import as_written
from streamflow.engine.plan import Plan
from streamflow.model.graph import Graph

ExplainFormat = Literal["text", "svg"]


def explain(graph: Graph, plan: Plan, format: ExplainFormat = "text") -> str:
    """Both diagrams in the format. PipelineError for another one."""
    heading, diagrams = f"pipeline {graph.name}", (as_written(graph), as_run(plan))
    if format == "text":
        return as_text(heading, diagrams)
    if format == "svg":
        return as_svg(heading, diagrams)
    raise PipelineError(f"explain has no format {format!r}. There are: 'text', 'svg'.")
