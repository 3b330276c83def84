"""Diagrams as text: frame by frame, under each box what goes out of it and where to."""

from collections.abc import Sequence

from streamflow.engine.explain.diagram import Box, Diagram, Edge


def as_text(heading: str, diagrams: Sequence[Diagram]) -> str:
    """The diagrams one below the other, without a line feed at the end."""
    return "\n".join([heading, *(line for diagram in diagrams for line in ["", *_lines(diagram)])])


def _lines(diagram: Diagram) -> list[str]:
    lines = [diagram.title]
    frames = {frame.id: frame for frame in diagram.frames}
    titles = {box.id: box.title for box in diagram.boxes}
    above: list[str] = []
    for box in diagram.boxes:
        around: list[str] = []
        at = box.frame
        while at is not None:
            around.insert(0, at)
            at = frames[at].parent
        for depth, id in enumerate(around):
            if above[: depth + 1] != around[: depth + 1]:
                frame = frames[id]
                lines.append(
                    "  " * (depth + 1) + ": ".join([frame.title, *([", ".join(frame.lines)] if frame.lines else [])])
                )
        above = around
        lines += _box(box, [edge for edge in diagram.edges if edge.start == box.id], titles, "  " * (len(around) + 1))
    return [*lines, *(f"  {note}" for note in diagram.notes)]


def _box(box: Box, out: Sequence[Edge], titles: dict[str, str], indent: str) -> list[str]:
    lines = [f"{indent}{box.title}", *(f"{indent}    {line}" for line in box.lines)]
    for edge in out:
        where = f"{titles[edge.end]} through {edge.log}" if edge.log else titles[edge.end]
        lines += [f"{indent}  → {where}", *(f"{indent}      {line}" for line in edge.lines)]
    return lines
