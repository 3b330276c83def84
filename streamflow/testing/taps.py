"""What comes out of a simulated run: a copy of the pipeline in which each output is written down with its window and
pane instead of being written to a store, and what of it counts in the end.

What counts: of outputs behind a grouping that gives several accumulating panes, the rows of the newest pane per key and
window; of tables with a key, the newest row per key; of row stores, the newest cells; of all else, every row.
"""

import base64
import pickle
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import orjson
import polars as pl

from streamflow.base.errors import PipelineError
from streamflow.model.graph import Graph, Node, PCollection
from streamflow.model.time import MIN_US
from streamflow.model.window import TIME
from streamflow.model.windowing import AccumulationMode
from streamflow.runtime.pipeline import Pipeline, newest_dead_letters
from streamflow.topics import codec
from streamflow.topics.protocol import Log, TopicConfig
from streamflow.transforms.combine import Aggregate
from streamflow.transforms.elementwise import DoFn, Map
from streamflow.transforms.grouping import Grouping, PerKey
from streamflow.transforms.io import StoreSink, WriteToRows, WriteToTable, WriteToTopic

KeyLike = Sequence[str] | Callable[[Any], Any]
DEAD_LETTERS = "dead letters"


class Row(NamedTuple):
    """`window`: its bounds in µs; None where no window was assigned. `pane`: the index."""

    value: Any
    time_us: int
    window: tuple[int, int] | None
    pane: int


@dataclass(frozen=True)
class Tap:
    """An output. `key`: what identifies a row, if newer ones replace older ones; `by_pane`: those of older panes of the
    same window, instead of those that came earlier."""

    name: str
    topic: str
    pcoll: PCollection
    key: Callable[[Row], Any] | None = None
    by_pane: bool = False

    def final(self, rows: Sequence[Row]) -> dict[Any, list[Any]]:
        """By what identifies them, or at least their window, the values that count."""
        groups: dict[Any, list[Row]] = defaultdict(list)
        for row in rows:
            groups[row.window if self.key is None else plain(self.key(row))].append(row)
        if self.key is None:
            return {key: [row.value for row in group] for key, group in groups.items()}
        if not self.by_pane:
            return {key: [group[-1].value] for key, group in groups.items()}
        return {key: newest for key, group in groups.items() for key, newest in _newest(key, group)}


def _newest(key: Any, rows: Sequence[Row]) -> list[tuple[Any, list[Any]]]:
    """Per window the rows of its newest pane; a window within another one of the key has become part of it."""
    panes: dict[tuple[int, int] | None, int] = {}
    for row in rows:
        panes[row.window] = max(row.pane, panes.get(row.window, 0))
    windows = [window for window in panes if not any(_within(window, other) for other in panes)]
    return [
        ((key, window), [row.value for row in rows if row.window == window and row.pane == panes[window]])
        for window in windows
    ]


def _within(window: tuple[int, int] | None, other: tuple[int, int] | None) -> bool:
    if window is None or other is None or window == other:
        return False
    return other[0] <= window[0] and window[1] <= other[1]


def plain(value: Any) -> Any:
    """The value as something that can be hashed; equal ones give equal ones."""
    if isinstance(value, Mapping):
        return frozenset((key, plain(each)) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return tuple(map(plain, value))
    if isinstance(value, (set, frozenset)):
        return frozenset(map(plain, value))
    try:
        hash(value)
    except TypeError:
        return repr(value)
    return value


def taps_of(pipeline: Pipeline, outputs: Iterable[PCollection] | None, keys: Mapping[str, KeyLike]) -> list[Tap]:
    """Of the outputs named, else of all sinks. PipelineError if there are none, or if it is not known what of them
    counts."""
    ends: list[tuple[str, PCollection, Node | None]]
    if outputs is None:
        ends = [(node.label, node.inputs[0], node) for node in pipeline.nodes if node.transform.terminal]
    else:
        ends = [(pcoll.producer.label, pcoll, None) for pcoll in outputs]
    if not ends:
        raise PipelineError("the pipeline writes nothing that could be compared. Name PCollections: outputs=[pcoll].")
    names = {name for name, *_ in ends}
    if wrong := [name for name in keys if name not in names]:
        raise PipelineError(f"keys names '{wrong[0]}', which is no output. There are: {', '.join(sorted(names))}.")
    return [_tap(pipeline, i, name, pcoll, node, keys.get(name)) for i, (name, pcoll, node) in enumerate(ends)]


def _tap(pipeline: Pipeline, number: int, name: str, pcoll: PCollection, node: Node | None, key: KeyLike | None) -> Tap:
    tap = Tap(name, f"{pipeline.name}.tap-{number}", pcoll)
    transform = None if node is None else node.transform
    if isinstance(transform, WriteToRows):
        return replace(tap, key=lambda row: _cell(transform, row))
    if isinstance(transform, WriteToTable) and transform.key and key is None:
        columns = transform.key
        return replace(tap, key=lambda row: [row.value.get(column) for column in columns])
    windowing = pcoll.windowing
    if not windowing.grouped or windowing.ends_once:
        return tap if key is None else replace(tap, key=_key_of(key))
    if windowing.accumulation_mode is AccumulationMode.ACCUMULATING:
        return replace(tap, key=_key_of(_grouping_key(name, pcoll) if key is None else key), by_pane=True)
    if windowing.trigger.fires_early:
        raise PipelineError(
            f"'{name}' gives panes that hold only what is new, and which there are depends on the pace. Use "
            "AccumulationMode.ACCUMULATING, or compare others with outputs=[…]."
        )
    return tap


def _cell(transform: WriteToRows, row: Row) -> Any:
    """The row key and the time of its cells."""
    start_us = MIN_US if row.window is None else row.window[0]
    frame = pl.DataFrame([row.value]).with_columns(pl.lit(row.time_us).alias(TIME)).lazy()
    return transform.prepare(frame).collect()["_row_key"][0], start_us if start_us > MIN_US else row.time_us


def _key_of(key: KeyLike) -> Callable[[Row], Any]:
    if callable(key):
        return lambda row: key(row.value)
    names = [key] if isinstance(key, str) else list(key)
    return lambda row: [row.value[name] for name in names]


def _grouping_key(name: str, pcoll: PCollection) -> KeyLike:
    """What the last grouping before it goes by, if its results still show it."""
    found = {_shown_key(grouping, pcoll) for grouping in _groupings(pcoll)}
    key = found.pop() if len(found) == 1 else None
    if key is None:
        raise PipelineError(
            f"'{name}' gives several panes of a window, of which the newest counts. Say what identifies a row: "
            f"keys={{'{name}': ['column']}}, or a function of the row."
        )
    return (lambda pair: pair[0]) if key == "pair" else key


def _shown_key(grouping: Grouping, pcoll: PCollection) -> tuple[str, ...] | str | None:
    if isinstance(grouping, Aggregate):
        shown = pcoll.shape.columns is not None and all(name in pcoll.shape.columns for name in grouping.keys)
        return tuple(grouping.keys) if shown or pcoll.producer.transform is grouping else None
    if isinstance(grouping, PerKey) and not grouping.keyed:
        return ()
    return "pair" if pcoll.producer.transform is grouping else None


def _groupings(pcoll: PCollection) -> list[Grouping]:
    transform = pcoll.producer.transform
    if isinstance(transform, Grouping):
        return [transform]
    return [found for before in pcoll.producer.inputs for found in _groupings(before)]


def tapped(pipeline: Pipeline, taps: Sequence[Tap]) -> Graph:
    """The pipeline without its stores, and with a topic for each tap."""
    graph = Graph(pipeline.name)
    graph.allow_unsafe_triggers = pipeline.allow_unsafe_triggers
    graph.nodes = [node for node in pipeline.nodes if not isinstance(node.transform, StoreSink)]
    for i, tap in enumerate(taps):
        reified = Map(_with_window if tap.pcoll.windowing.assigned else _without_window)
        written = _add(graph, f"Tap {i}", reified, tap.pcoll)
        _add(graph, f"Write tap {i}", WriteToTopic(tap.topic), written)
    return graph


def _add(graph: Graph, label: str, transform: Any, pcoll: PCollection) -> PCollection:
    node = Node(label, transform, (pcoll,))
    node.output = PCollection(graph, node, transform.output((pcoll,)))
    graph.nodes.append(node)
    return node.output


def _with_window(
    element: Any, time: Any = DoFn.TimestampParam, window: Any = DoFn.WindowParam, pane: Any = DoFn.PaneInfoParam
) -> Any:
    return _packed(Row(element, time.micros, (window.start_us, window.end_us), pane.index))


def _without_window(element: Any, time: Any = DoFn.TimestampParam) -> Any:
    return _packed(Row(element, time.micros, None, 0))


def _packed(row: Row) -> dict[str, str]:
    return {"row": base64.b64encode(pickle.dumps(tuple(row), protocol=5)).decode()}


def make_topics(log: Log, taps: Sequence[Tap]) -> None:
    """One partition each, so that rows stand in the order in which they were written."""
    for tap in taps:
        log.create_topic(tap.topic, TopicConfig(partitions=1))


def rows_of(log: Log, tap: Tap) -> list[Row]:
    documents = [
        document for record in log.read(tap.topic, 0, 0) for document in codec.decode(record)[codec.JSON].to_list()
    ]
    return [Row(*pickle.loads(base64.b64decode(orjson.loads(document)["row"]))) for document in documents]


def dead_letters(log: Log, topic: str) -> list[Any]:
    """Where and with what events failed; the errors of a whole batch differ in their words."""
    letters = newest_dead_letters(log, topic, limit=log.end(topic, 0))
    return [{"transform": letter["transform"], "input": letter["input"]} for letter in letters]
