"""The drawing of `explain` can be read: it is XML, has each label and schema, and nothing in it collides."""

from collections.abc import Iterator
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest
from explain_making import columnar, composed, rows, stateful
from hypothesis import given, settings
from hypothesis import strategies as st

import streamflow as sf
from streamflow.engine.explain.diagram import Box, Diagram, Edge, Frame
from streamflow.engine.explain.geometry import Layout, Rect
from streamflow.engine.explain.runs import as_run
from streamflow.engine.explain.svg import placed
from streamflow.engine.explain.written import as_written
from streamflow.engine.plan import build_plan
from streamflow.examples import ads, flights
from streamflow.examples.nexmark import q3, q4, q5, q8


def drawn(pipeline: sf.Pipeline) -> list[Diagram]:
    return [as_written(pipeline), as_run(build_plan(pipeline, pipeline.settings))]


DRAWN = [*(each.pipeline for each in (ads, flights, q3, q4, q5, q8)), columnar(), rows(), composed(), stateful()]


@pytest.mark.parametrize("pipeline", DRAWN, ids=lambda pipeline: pipeline.name)
def test_drawing_is_xml_with_each_label_and_schema(pipeline: sf.Pipeline) -> None:
    texts = [text.text or "" for text in ElementTree.fromstring(pipeline.explain("svg")).iter() if text.text]
    whole = "".join("".join(texts).split())
    for diagram in drawn(pipeline):
        told = [line for each in (*diagram.boxes, *diagram.frames) for line in (each.title, *each.lines)]
        told += [line for edge in diagram.edges for line in (edge.log or "", *edge.lines)]
        assert [line for line in told if "".join(line.split()) not in whole] == []


def test_labels_that_are_markup_or_no_xml_are_escaped() -> None:
    p = sf.Pipeline()
    p | "<a> & \x00 ]]>" >> sf.Create([1]) | "b" >> sf.Map(str)
    root = ElementTree.fromstring(p.explain("svg"))
    assert "<a> & \N{REPLACEMENT CHARACTER} ]]>" in [text.text for text in root.iter()]


def assert_readable(diagram: Diagram) -> None:
    layout = placed(diagram)
    content = [*layout.boxes.values(), *layout.labels.values()]
    assert len(content) == len(diagram.boxes) + len(diagram.edges)
    assert not [pair for pair in combinations(content, 2) if pair[0].overlaps(pair[1])]
    assert not [hit for stretch in stretches(layout) for hit in content if stretch.overlaps(hit)]
    paper = Rect(0, 0, layout.width, layout.height)
    assert all(within(rect, paper) for rect in [*content, *layout.frames.values()])
    for frame in diagram.frames:
        around = set(ancestors(diagram, frame.parent))
        rect = layout.frames[frame.id]
        assert all(within(rect, layout.frames[id]) for id in around)
        for box in diagram.boxes:
            inside = frame.id in ancestors(diagram, box.frame)
            assert within(layout.boxes[box.id], rect) if inside else not rect.overlaps(layout.boxes[box.id])
        for other in diagram.frames:
            nested = frame.id in ancestors(diagram, other.id) or other.id in around
            assert nested or not rect.overlaps(layout.frames[other.id])


def stretches(layout: Layout) -> Iterator[Rect]:
    """What each stretch of an edge may touch: its curves stay between their ends."""
    for lines in layout.routes.values():
        for (x, y), (to_x, to_y) in (stretch for points in lines for stretch in pairwise(points)):
            yield Rect(min(x, to_x), min(y, to_y), abs(x - to_x), abs(y - to_y))


def within(inner: Rect, outer: Rect) -> bool:
    left, top = inner.x >= outer.x - 0.01, inner.y >= outer.y - 0.01
    right = inner.x + inner.width <= outer.x + outer.width + 0.01
    return left and top and right and inner.y + inner.height <= outer.y + outer.height + 0.01


def ancestors(diagram: Diagram, frame: str | None) -> list[str]:
    parents = {each.id: each.parent for each in diagram.frames}
    found: list[str] = []
    while frame is not None:
        found.append(frame)
        frame = parents[frame]
    return found


@pytest.mark.parametrize("pipeline", DRAWN, ids=lambda pipeline: pipeline.name)
def test_nothing_in_a_drawing_collides(pipeline: sf.Pipeline) -> None:
    for diagram in drawn(pipeline):
        assert_readable(diagram)


@st.composite
def diagrams(draw: st.DrawFn) -> Diagram:
    """Any boxes and forward edges, in frames that hold runs of boxes and nest."""
    count = draw(st.integers(1, 9))
    cuts = draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    frames = [Frame(f"f{i}", f"frame {i}", parent=None) for i in range(3)]
    frames += [Frame(f"g{i}", "inner", ("with a line",), parent=f"f{i}") for i in range(3)]
    outer = sorted(cuts)
    places = [draw(st.sampled_from([None, f"f{at}", f"g{at}"])) for at in outer]
    places = sorted(places, key=lambda place: (int(place[1]), place[0]) if place else (-1, ""))
    boxes = [
        Box(f"b{i}", "b" * draw(st.integers(1, 30)), ("line",) * draw(st.integers(0, 3)), frame=p)
        for i, p in enumerate(places)
    ]
    pairs = [(a, b) for a, b in combinations(range(count), 2)]
    chosen = draw(st.lists(st.sampled_from(pairs), max_size=12)) if pairs else []
    return Diagram("any", tuple(boxes), tuple(Edge(f"b{a}", f"b{b}", ("k String",)) for a, b in chosen), tuple(frames))


@settings(max_examples=60, deadline=None)
@given(diagrams())
def test_nothing_in_any_drawing_collides(diagram: Diagram) -> None:
    assert_readable(diagram)
