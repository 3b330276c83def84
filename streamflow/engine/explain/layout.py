"""Where boxes, frames, edges and their labels stand in a drawing. Pure geometry, in pixels, from the top down.

A layered layout (Sugiyama, Tagawa, Toda 1981): layers by longest path, order within them by barycentres, then
x by the neighbours' mean. A label is a node of its layer and so collides with nothing; an edge that skips layers has
empty nodes in them. A frame is laid out by itself and then is one node of what it stands in, so that frames cannot
overlap; edges that leave or enter it do so through ports on its border.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from itertools import pairwise

from streamflow.engine.explain.diagram import Diagram
from streamflow.engine.explain.geometry import Layout, Point, Rect, Size, Sizes

_Key = tuple[str, object]
"""Of a node: its sort (box, frame, label, in, out, skip) and which."""

GAP_X, GAP_Y, PAD = 26.0, 24.0, 16.0
_SWEEPS = 12
_STRAIGHT = 4.0
"""An edge that would bend by less than this has no bend."""


def lay_out(diagram: Diagram, sizes: Sizes) -> Layout:
    """A place for everything in the diagram, within (0, 0) and the layout's width and height."""
    top = _Level(diagram, sizes, None)
    layout = Layout(top.width, top.height)
    top.place(layout, 0, 0)
    return layout


class _Level:
    """What stands directly in one frame, or in none."""

    def __init__(self, diagram: Diagram, sizes: Sizes, frame: str | None) -> None:
        self.diagram, self.frame = diagram, frame
        self.size: dict[_Key, Size] = {("box", b.id): sizes.boxes[b.id] for b in diagram.boxes if b.frame == frame}
        self.inner = {f.id: _Level(diagram, sizes, f.id) for f in diagram.frames if f.parent == frame}
        self.size |= {("frame", id): (level.width, level.height) for id, level in self.inner.items()}
        self.holds: dict[str, _Key] = {id: ("box", id) for id in sizes.boxes if ("box", id) in self.size}
        self.holds |= {box: ("frame", id) for id, level in self.inner.items() for box in level.holds}
        self.chains: dict[tuple[int, int], list[_Key]] = {}
        """Of each edge and its half (before and behind its label): the nodes it goes through."""
        self._connect(sizes)
        layer = self._layers()
        self._skip(layer)
        self.rows: list[list[_Key]] = [[] for _ in range(max(layer.values(), default=0) + 1)]
        for key, number in layer.items():
            self.rows[number].append(key)
        self._order()
        heading = sizes.headings[frame] if frame is not None else (0.0, 0.0)
        self._spread(heading[0])
        self._stack(heading[1])

    def _connect(self, sizes: Sizes) -> None:
        for i, edge in enumerate(self.diagram.edges):
            start, end = self.holds.get(edge.start), self.holds.get(edge.end)
            if start == end:
                continue
            if start is None or end is None:
                port: _Key = ("out", i) if end is None else ("in", i)
                self.size[port] = (2.0, 0.0)
                # The label stands where both ends are seen, so the half in here lies before or behind it.
                self.chains[i, 0 if end is None else 1] = [start, port] if start is not None else [port, end or port]
            else:
                label: _Key = ("label", i)
                self.size[label] = sizes.labels[i]
                self.chains[i, 0], self.chains[i, 1] = [start, label], [label, end]

    def _layers(self) -> dict[_Key, int]:
        before: dict[_Key, list[_Key]] = {key: [] for key in self.size}
        after: dict[_Key, list[_Key]] = {key: [] for key in self.size}
        for start, end in self.chains.values():
            before[end].append(start)
            after[start].append(end)
        layer: dict[_Key, int] = {}
        for key in TopologicalSorter(before).static_order():
            layer[key] = max((layer[each] + 1 for each in before[key]), default=0)
        last = max(layer.values(), default=0)
        for key in sorted(self.size, key=lambda key: -layer[key]):
            if key[0] == "out":
                layer[key] = last
            elif key[0] != "in" and not before[key] and after[key]:  # a source stands near what it feeds
                layer[key] = min(layer[each] for each in after[key]) - 1
        return layer

    def _skip(self, layer: dict[_Key, int]) -> None:
        for half, (start, end) in self.chains.items():
            empty: list[_Key] = [("skip", (*half, row)) for row in range(layer[start] + 1, layer[end])]
            layer.update({key: layer[start] + 1 + i for i, key in enumerate(empty)})
            self.size.update(dict.fromkeys(empty, (6.0, 0.0)))
            self.chains[half] = [start, *empty, end]
        self.near: tuple[dict[_Key, list[_Key]], ...] = (defaultdict(list), defaultdict(list))
        for chain in self.chains.values():
            for start, end in pairwise(chain):
                self.near[0][end].append(start)
                self.near[1][start].append(end)

    def _order(self) -> None:
        for sweep in range(_SWEEPS):
            way = sweep % 2
            rows = self.rows[1:] if way == 0 else self.rows[-2::-1]
            place = {key: (i + 0.5) / len(row) for row in self.rows for i, key in enumerate(row)}
            for row in rows:
                means = {k: sum(place[n] for n in near) / len(near) for k in row if (near := self.near[way][k])}
                row.sort(key=lambda key: means.get(key, place[key]))
                place.update({key: (i + 0.5) / len(row) for i, key in enumerate(row)})

    def _spread(self, width_min: float) -> None:
        """Each node's centre comes to the mean of its neighbours', as far as those beside it let it."""
        centre = dict.fromkeys(self.size, 0.0)
        for sweep in range(_SWEEPS):
            for row in self.rows if sweep % 2 == 0 else reversed(self.rows):
                ways = self.near if sweep >= 2 else self.near[:1]
                near = {key: [centre[n] for way in ways for n in way[key]] for key in row}
                wish = {key: sum(n) / len(n) if n else centre[key] for key, n in near.items()}
                centre.update(self._apart(row, wish))
        self.left = {key: centre[key] - self.size[key][0] / 2 for key in self.size}
        first = min(self.left.values(), default=0.0)
        right = max((self.left[key] + size[0] for key, size in self.size.items()), default=0.0)
        pad = 0.0 if self.frame is None else PAD
        self.width = max(right - first, width_min) + 2 * pad
        shift = (self.width - (right - first)) / 2 - first
        self.left = {key: x + shift for key, x in self.left.items()}

    def _apart(self, row: Sequence[_Key], wish: Mapping[_Key, float]) -> dict[_Key, float]:
        """Pushed apart from the left, from the right, and the mean of both, which is apart too."""
        steps = [(self.size[a][0] + self.size[b][0]) / 2 + GAP_X for a, b in pairwise(row)]
        from_left, from_right = [wish[key] for key in row], [wish[key] for key in row]
        for i, step in enumerate(steps):
            from_left[i + 1] = max(from_left[i + 1], from_left[i] + step)
        for i in range(len(steps) - 1, -1, -1):
            from_right[i] = min(from_right[i], from_right[i + 1] - steps[i])
        return {key: (a + b) / 2 for key, a, b in zip(row, from_left, from_right, strict=True)}

    def _stack(self, heading: float) -> None:
        self.band: dict[_Key, tuple[float, float]] = {}
        y = heading
        for i, row in enumerate(self.rows):
            height = max(self.size[key][1] for key in row) if row else 0.0
            self.band.update(dict.fromkeys(row, (y, y + height)))
            y += height + (GAP_Y if i + 1 < len(self.rows) else 0)
        self.height = y + (PAD if self.frame is not None and all(k[0] != "out" for k in self.rows[-1]) else 0)
        # An edge comes in at the border, behind the heading.
        self.band.update({key: (0.0, bottom) for key, (_, bottom) in self.band.items() if key[0] == "in"})

    def place(self, layout: Layout, x: float, y: float) -> None:
        """Put everything into the layout, with this level's corner at (x, y)."""
        rects: dict[_Key, Rect] = {}
        for key, (width, height) in self.size.items():
            top, bottom = self.band[key]
            down = 0 if key[0] in ("box", "frame") else (bottom - top - height) / 2
            rects[key] = Rect(x + self.left[key], y + top + down, width, height)
        for (kind, id), rect in rects.items():
            if kind == "box":
                layout.boxes[str(id)] = rect
            elif kind == "frame":
                layout.frames[str(id)] = rect
                self.inner[str(id)].place(layout, rect.x, rect.y)
            elif kind == "label":
                layout.labels[int(str(id))] = rect
        for (edge, half), chain in self.chains.items():
            layout.routes[edge].append(self._route(edge, half, chain, rects, y))

    def _route(self, edge: int, half: int, chain: Sequence[_Key], rects: Mapping[_Key, Rect], y: float) -> list[Point]:
        points: list[Point] = []
        for key in chain:
            rect, (top, bottom) = rects[key], self.band[key]
            at = self._x(edge, key, rect, ends=key == chain[-1])
            if key != chain[0]:
                points += [(at, y + top), (at, y + top if key[0] == "skip" else rect.y)]
            if key != chain[-1]:
                points += [(at, y + top if key[0] == "in" else rect.y + rect.height), (at, y + bottom)]
        places = [x for x, _ in points]
        if max(places) - min(places) < _STRAIGHT and {chain[0][0], chain[-1][0]} <= {"box", "label"}:
            points = [(sum(places) / len(places), y) for _, y in points]
        return list(dict.fromkeys(points))

    def _x(self, edge: int, key: _Key, rect: Rect, *, ends: bool) -> float:
        """Where the edge meets the node: at a frame's port, at its own place on a box, else in the middle."""
        if key[0] == "frame":
            inner = self.inner[str(key[1])]
            port: _Key = ("in" if ends else "out", edge)
            return rect.x + inner.left[port] + 1
        if key[0] != "box":
            return rect.x + rect.width / 2
        near = sorted(self.near[0 if ends else 1][key], key=lambda n: self.left[n] + self.size[n][0] / 2)
        mine = next(c for (i, _), c in self.chains.items() if i == edge and (c[-1] if ends else c[0]) == key)
        other = mine[-2] if ends else mine[1]
        return rect.x + rect.width * (near.index(other) + 1) / (len(near) + 1)
