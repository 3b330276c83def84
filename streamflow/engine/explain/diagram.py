"""What there is to show of a pipeline: boxes, edges between them, frames around them. Data only: how it looks is the
renderers' business, what it says that of `written` and `runs`.
"""

from dataclasses import dataclass
from typing import Literal

BoxKind = Literal["source", "transform", "query", "grouping", "sink"]


@dataclass(frozen=True, slots=True)
class Box:
    """One thing that is done. `frame`: the id of the innermost frame around it."""

    id: str
    title: str
    lines: tuple[str, ...] = ()
    kind: BoxKind = "transform"
    frame: str | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """What goes from box to box. `lines`: its schema first. `log`: the log it crosses; None if it stays in memory."""

    start: str
    end: str
    lines: tuple[str, ...]
    log: str | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """A composite, or a stage. Frames nest; those of one parent have no cycle of edges between them."""

    id: str
    title: str
    lines: tuple[str, ...] = ()
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Diagram:
    """Boxes in topological order; edges name their ids, and boxes and frames name those of frames."""

    title: str
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    frames: tuple[Frame, ...] = ()
    notes: tuple[str, ...] = ()
