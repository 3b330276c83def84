"""The pipeline as written: a box for each transform, an edge for each PCollection, a frame for each composite."""

from streamflow.engine.explain.diagram import Box, Diagram, Edge, Frame
from streamflow.engine.explain.words import asked, kind_of, schema
from streamflow.model.graph import Graph, Node


def as_written(graph: Graph) -> Diagram:
    """The graph before anything is optimised."""
    frames: dict[str, Frame] = {}
    for node in graph.nodes:
        for depth, name in enumerate(node.scope, 1):
            path = "/".join(node.scope[:depth])
            frames.setdefault(path, Frame(path, name, parent="/".join(node.scope[: depth - 1]) or None))
    boxes = [_box(node) for node in graph.nodes]
    edges = [
        Edge(pcoll.producer.label, node.label, schema(pcoll.shape, pcoll.windowing))
        for node in graph.nodes
        for pcoll in node.inputs
    ]
    return Diagram("As written", tuple(boxes), tuple(edges), tuple(frames.values()))


def _box(node: Node) -> Box:
    scope = "/".join(node.scope)
    title = node.label.removeprefix(f"{scope}/") if scope else node.label
    # A label that was made of the transform says it already.
    lines = tuple(line for line in asked(node.transform) if line != title)
    return Box(node.label, title, lines, kind_of(node.transform), scope or None)
