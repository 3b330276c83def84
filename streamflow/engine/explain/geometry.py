"""What a layout is asked and what it answers, in pixels; y grows downwards."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]
Size = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Rect:
    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: "Rect") -> bool:
        apart_x = self.x + self.width <= other.x or other.x + other.width <= self.x
        return not (apart_x or self.y + self.height <= other.y or other.y + other.height <= self.y)


@dataclass
class Layout:
    """`labels`: of each edge, by its index. `routes`: of each edge its lines, the points of each from its start."""

    width: float = 0
    height: float = 0
    boxes: dict[str, Rect] = field(default_factory=dict)
    frames: dict[str, Rect] = field(default_factory=dict)
    labels: dict[int, Rect] = field(default_factory=dict)
    routes: dict[int, list[list[Point]]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class Sizes:
    """How much room there must be: for each box, for each edge's label, and for the heading of each frame."""

    boxes: Mapping[str, Size]
    labels: Sequence[Size]
    headings: Mapping[str, Size]
