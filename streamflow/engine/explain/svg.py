"""Diagrams as one SVG, side by side. It stands alone: no script, no font but the viewer's, and in a dark viewer it is
dark.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from itertools import pairwise

from streamflow.engine.explain.diagram import Box, Diagram, Edge, Frame
from streamflow.engine.explain.geometry import Layout, Point, Rect, Size, Sizes
from streamflow.engine.explain.layout import lay_out

_TITLE, _LINE, _HEAD = 13, 11, 18
"""Font sizes: of titles, of what stands below them, of each diagram's heading."""
_TITLE_CHAR, _LINE_CHAR = 9.2, 7.0
"""Width of a character: the most it is on average in the usual fonts, so that texts fit their boxes."""
_TITLE_ROW, _LINE_ROW = 19.0, 15.0
_INSET, _MARGIN, _HEADING_ROW = 12.0, 28.0, 44.0
_BOX_CHARS_MAX, _LABEL_CHARS_MAX = 54, 46
_TIED = "\xa0"
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

_STYLE = """
.paper{fill:#ffffff}.frame{fill:#f4f6f9;stroke:#c9d2de}.box{fill:#ffffff;stroke:#8794a8;stroke-width:1.4}
.source{stroke:#0d8a72}.grouping{stroke:#5b50d6}.sink{stroke:#c2640c}.query{stroke:#2f78c4}
.edge{fill:none;stroke:#8794a8;stroke-width:1.4}.log{stroke:#5b50d6;stroke-width:2.2;stroke-dasharray:6 4}
.tip{fill:#8794a8}text{font-family:ui-sans-serif,system-ui,'DejaVu Sans',sans-serif;fill:#1b2433}
.head{font-size:18px;font-weight:600}.title{font-size:13px;font-weight:600}
.line{font-size:11px;font-family:'DejaVu Sans Mono',Menlo,Consolas,ui-monospace,monospace;fill:#4b586b}
.over{fill:#f4f6f9}.logname{fill:#5b50d6;font-weight:600}
@media (prefers-color-scheme:dark){.paper{fill:#10151d}.frame{fill:#18202b;stroke:#344154}.box{fill:#0f141b}
text{fill:#e6ebf2}.line{fill:#a7b4c5}.over{fill:#18202b}.logname{fill:#a49bff}.grouping,.log{stroke:#8b81f5}}
"""


def as_svg(heading: str, diagrams: Sequence[Diagram]) -> str:
    """An SVG document of the size that the diagrams need."""
    parts: list[str] = []
    x, height = _MARGIN, 0.0
    for diagram in diagrams:
        layout, body = _drawn(diagram)
        notes = [line for note in diagram.notes for line in textwrap.wrap(note, int(layout.width / _LINE_CHAR))]
        title = _text(0, 0, diagram.title, "head")
        body += [_text(0, layout.height + 2 * _LINE_ROW + i * _LINE_ROW, n, "line") for i, n in enumerate(notes)]
        moved = f'<g transform="translate({x:.1f} {_MARGIN + _HEAD:.1f})">'
        parts += [moved, title, f'<g transform="translate(0 {_HEADING_ROW - _HEAD:.1f})">', *body, "</g></g>"]
        x += max(layout.width, len(diagram.title) * _HEAD * 0.7) + 2 * _MARGIN
        height = max(height, layout.height + (len(notes) + 2 if notes else 0) * _LINE_ROW)
    width, height = x - _MARGIN, height + _HEADING_ROW + 2 * _MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
            f'height="{height:.0f}" role="img">',
            f"<title>{_escaped(heading)}</title>",
            f"<style>{_STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
            'markerUnits="userSpaceOnUse" orient="auto"><path class="tip" d="M0 0.5 8 4 0 7.5z"/></marker></defs>',
            f'<rect class="paper" width="{width:.0f}" height="{height:.0f}" rx="10"/>',
            *parts,
            "</svg>",
        ]
    )


def placed(diagram: Diagram) -> Layout:
    """Where everything stands, with room for its text."""
    boxes = {box.id: _size(box.title, _wrapped(box.lines, _BOX_CHARS_MAX)) for box in diagram.boxes}
    labels = [_label_size(_label(edge)) for edge in diagram.edges]
    return lay_out(diagram, Sizes(boxes, labels, {frame.id: _heading_size(frame) for frame in diagram.frames}))


def _drawn(diagram: Diagram) -> tuple[Layout, list[str]]:
    layout = placed(diagram)
    depth = {frame.id: frame for frame in diagram.frames}
    frames = [_rect(layout.frames[id], "frame", 12) for id in depth]
    edges = [part for i, edge in enumerate(diagram.edges) for part in _edge(edge, layout.routes[i], layout)]
    headings = [part for frame in diagram.frames for part in _heading(frame, layout.frames[frame.id])]
    boxes = [part for box in diagram.boxes for part in _box(box, layout.boxes[box.id])]
    labels = [part for i, edge in enumerate(diagram.edges) for part in _edge_label(edge, layout.labels[i])]
    return layout, [*frames, *edges, *headings, *boxes, *labels]


def _wrapped(lines: Sequence[str], chars_max: int) -> list[str]:
    return [
        part
        for line in lines
        for part in textwrap.wrap(line, chars_max, subsequent_indent="  ", break_on_hyphens=False)
    ]


def _label(edge: Edge) -> list[str]:
    """Its lines, broken at commas, so that a column's name stays with its type."""
    tied = [
        line.replace(" ", _TIED).replace(f",{_TIED}", ", ").replace(f"{_TIED}+", " +")
        for line in ([edge.log] if edge.log else []) + list(edge.lines)
    ]
    return [part.replace(_TIED, " ") for part in _wrapped(tied, _LABEL_CHARS_MAX)]


def _size(title: str, lines: Sequence[str]) -> Size:
    width = max(len(title) * _TITLE_CHAR, *(len(line) * _LINE_CHAR for line in lines), 80.0)
    return width + 2 * _INSET, _TITLE_ROW + len(lines) * _LINE_ROW + _INSET


def _label_size(lines: Sequence[str]) -> Size:
    return max(len(line) for line in lines) * _LINE_CHAR + 8, len(lines) * _LINE_ROW + 4


def _heading_size(frame: Frame) -> Size:
    width, height = _size(frame.title, frame.lines)
    return width, height + _INSET


def _edge(edge: Edge, lines: Sequence[Sequence[Point]], layout: Layout) -> list[str]:
    box = layout.boxes[edge.end]
    paths: list[str] = []
    for points in lines:
        tip = ' marker-end="url(#tip)"' if abs(points[-1][1] - box.y) < 0.01 else ""
        kind = "edge log" if edge.log else "edge"
        paths.append(f'<path class="{kind}" d="{_path(points)}"{tip}/>')
    return paths


def _path(points: Sequence[Point]) -> str:
    (x, y), *_ = points
    drawn = [f"M{x:.1f} {y:.1f}"]
    for (x, y), (to_x, to_y) in pairwise(points):
        middle = (y + to_y) / 2
        straight = abs(x - to_x) < 0.05
        curve = f"C{x:.1f} {middle:.1f} {to_x:.1f} {middle:.1f} {to_x:.1f} {to_y:.1f}"
        drawn.append(f"L{to_x:.1f} {to_y:.1f}" if straight else curve)
    return "".join(drawn)


def _heading(frame: Frame, rect: Rect) -> list[str]:
    width, height = _heading_size(frame)
    left = rect.x + _INSET
    # An edge that comes in goes behind the text.
    behind = _rect(Rect(left, rect.y + 5, width - 2 * _INSET, height - 2 * _INSET), "over", 0)
    lines = enumerate(frame.lines, 1)
    return [
        behind,
        _text(left, rect.y + 20, frame.title, "title"),
        *(_text(left, rect.y + 20 + i * _LINE_ROW, text, "line") for i, text in lines),
    ]


def _box(box: Box, rect: Rect) -> list[str]:
    parts = [_rect(rect, f"box {box.kind}", 8), _text(rect.x + _INSET, rect.y + 19, box.title, "title")]
    for i, text in enumerate(_wrapped(box.lines, _BOX_CHARS_MAX), 1):
        parts.append(_text(rect.x + _INSET, rect.y + 20 + i * _LINE_ROW, text, "line"))
    return parts


def _edge_label(edge: Edge, rect: Rect) -> list[str]:
    named = len(_label(edge)) - len(_label(replace(edge, log=None)))
    return [
        _text(rect.x + 4, rect.y + (i + 1) * _LINE_ROW - 2, text, "line logname" if i < named else "line")
        for i, text in enumerate(_label(edge))
    ]


def _rect(rect: Rect, kind: str, radius: int) -> str:
    size = f'width="{rect.width:.1f}" height="{rect.height:.1f}"'
    return f'<rect class="{kind}" x="{rect.x:.1f}" y="{rect.y:.1f}" {size} rx="{radius}"/>'


def _text(x: float, y: float, text: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" xml:space="preserve">{_escaped(text)}</text>'


def _escaped(text: str) -> str:
    return escape(_NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text), quote=False)
