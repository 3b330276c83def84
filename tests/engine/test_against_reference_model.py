"""Random events, windows, triggers, lateness, modes, batches and crashes: each pane is that of the reference model."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from pipelines import end_topic, make_topic, ordered, publish_json, read_events
from reference_model import END, Model

import streamflow as sf
from streamflow.engine.combine import RowCombiner
from streamflow.engine.context import StepContext
from streamflow.engine.ledger import Ledger
from streamflow.engine.triggered import TriggeredHead
from streamflow.model.batch import Elements
from streamflow.model.time import MAX_US, MIN_US
from streamflow.model.window import Windowing
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker
from streamflow.topics import codec
from streamflow.topics.protocol import SegmentInfo
from streamflow.transforms import trigger as t
from streamflow.transforms.window import CalendarWindows, FixedWindows, Sessions, SlidingWindows, TimestampCombiner

S = 1_000_000
MIDNIGHT_S = 1711839600
"""In Berlin, of the day that has 23 hours."""

TRIGGERS: dict[str, Any] = {
    "count": t.AfterCount,
    "time": t.AfterProcessingTime,
    "repeat": t.Repeatedly,
    "any": t.AfterAny,
    "all": t.AfterAll,
    "each": t.AfterEach,
    "or": t.OrFinally,
    "default": t.DefaultTrigger,
    "never": t.Never,
    "watermark": t.AfterWatermark,
}
WINDOWS: dict[str, Any] = {
    "fixed": FixedWindows,
    "sliding": SlidingWindows,
    "sessions": Sessions,
    "days": lambda zone: CalendarWindows.days(timezone=zone),
}
STAMPS = {
    "end": TimestampCombiner.OUTPUT_AT_EOW,
    "earliest": TimestampCombiner.OUTPUT_AT_EARLIEST,
    "latest": TimestampCombiner.OUTPUT_AT_LATEST,
}


def trigger_of(spec: Any) -> Any:
    if spec is None:
        return None
    kind, *args = spec
    return TRIGGERS[kind](*(arg if isinstance(arg, int) else trigger_of(arg) for arg in args))


simple = st.one_of(
    st.tuples(st.just("count"), st.integers(1, 4)),
    st.tuples(st.just("time"), st.integers(0, 6)),
    st.sampled_from([("default",), ("never",), ("watermark", None, None)]),
)
specs = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.tuples(st.just("repeat"), inner),
        st.tuples(st.sampled_from(["any", "all", "each", "or"]), inner, inner),
        st.tuples(st.just("watermark"), st.none() | inner, st.none() | inner),
    ),
    max_leaves=4,
)
windows = st.sampled_from(
    [("fixed", 10), ("sliding", 10, 5), ("sliding", 4, 6), ("sessions", 5), ("sessions", 3), ("days", "Europe/Berlin")]
)


@dataclass(frozen=True)
class Step:
    """What happens until the watermark goes on; `parts`: into how many steps of the engine the events fall; `crashes`:
    whether the last of these is done twice, the first time in vain."""

    later_s: int
    events: Sequence[tuple[str, int, int]]
    watermark_s: int
    parts: int
    crashes: bool


steps = st.lists(
    st.builds(
        Step,
        st.integers(0, 5),
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(-5, 40), st.integers(0, 9)), max_size=8),
        st.integers(0, 12),
        st.integers(1, 4),
        st.booleans(),
    ),
    max_size=8,
)


class Engine:
    """The head of a grouping with its durable segments. What is not committed is lost with the head."""

    def __init__(self, windowing: Windowing) -> None:
        self.windowing = windowing
        self.segments: dict[int, tuple[SegmentInfo, bytes]] = {}
        self.watermark_us = MIN_US
        self.dropped = 0
        self.head = self.claim()

    def claim(self) -> TriggeredHead:
        self.combiner = RowCombiner(sf.GroupByKey(), self.windowing)
        ledger = Ledger([info for info, _ in self.segments.values()], lambda n: self.segments[n][1])
        return TriggeredHead(self.combiner, self.windowing, ledger, self.watermark_us, 2, "g")

    def step(self, now_s: int, events: Sequence[Any], watermark_us: int, *, crashes: bool) -> list[tuple[Any, ...]]:
        context = StepContext(now_us=now_s * S)
        bad: list[Any] = []
        elements = Elements([(k, v) for k, _, v in events], [at * S for _, at, _ in events], [0] * len(events))
        frame = self.combiner.singles(elements, lambda *args: bad.append(args))
        records = [codec.encode_frame("g", 0, part) for part in (frame.head(2), frame.tail(-2)) if part.height]
        self.head.absorb(records, context)
        panes = [pane for batch in self.head.fire(self.watermark_us, watermark_us, context) for pane in shown(batch)]
        delta = self.head.delta(0, watermark_us, context)
        assert not bad
        assert not context.dead
        if crashes:
            self.head = self.claim()
            return self.step(now_s, events, watermark_us, crashes=False)
        for segment in delta.add:
            self.segments[segment.info.sequence] = segment.info, segment.payload
        for sequence in delta.drop:
            del self.segments[sequence]
        self.watermark_us = watermark_us
        self.dropped += int(context.counts["dropped"])
        return panes


def shown(batch: Any) -> list[tuple[Any, ...]]:
    assert isinstance(batch, Elements)
    panes = []
    for i, (key, values) in enumerate(batch.values):
        window, pane = batch.window(i), batch.pane(i)
        assert window is not None
        assert pane is not None
        at_end = batch.times[i] == min(window.end_us, MAX_US) - 1
        panes.append(
            (
                key,
                window.start_us // S,
                window.end_us // S,
                pane.timing.name,
                pane.index,
                pane.nonspeculative_index,
                pane.is_first,
                pane.is_last,
                None if at_end else batch.times[i] // S,
                sorted(values),
            )
        )
    return panes


EARLY_AND_LATE = ("watermark", ("count", 2), ("count", 1))


@settings(max_examples=300, deadline=None)
@given(
    window=windows,
    spec=specs,
    lateness_s=st.sampled_from([0, 0, 3, 10, 100]),
    accumulating=st.booleans(),
    stamp=st.sampled_from(list(STAMPS)),
    script=steps,
)
@example(("sessions", 5), EARLY_AND_LATE, 10, True, "earliest", [Step(1, [("a", 0, 1), ("a", 3, 2)], 9, 2, True)] * 3)
@example(
    ("fixed", 10),
    ("all", ("time", 0), ("time", 1)),
    0,
    False,
    "end",
    [Step(0, [("a", 0, 0)], 0, 1, False), Step(1, [], 0, 1, False)],
)
def test_each_pane_is_that_of_the_reference_model(
    window: Any, spec: Any, lateness_s: int, accumulating: bool, stamp: str, script: Sequence[Step]
) -> None:
    mode = t.AccumulationMode.ACCUMULATING if accumulating else t.AccumulationMode.DISCARDING
    into = sf.WindowInto(
        WINDOWS[window[0]](*window[1:]),
        trigger_of(spec),
        mode,
        STAMPS[stamp],
        lateness_s,
    )
    base_s = MIDNIGHT_S - 20 if window[0] == "days" else 0
    model, engine = Model(window, spec, lateness_s, accumulating, stamp), Engine(into.windowing)
    now_s, watermark_s = 0, base_s - 10
    for step in script:
        now_s, watermark_s = now_s + step.later_s, watermark_s + step.watermark_s
        events = [(key, base_s + at, value) for key, at, value in step.events]
        expected = model.play(now_s, events, watermark_s)
        given_: list[Any] = []
        size = max(1, -(-len(events) // step.parts))
        for begin in range(0, max(1, len(events)), size):
            is_last = begin + size >= len(events)
            reached_us = watermark_s * S if is_last else engine.watermark_us
            given_ += engine.step(now_s, events[begin : begin + size], reached_us, crashes=step.crashes and is_last)
        assert sorted(given_, key=repr) == sorted(expected, key=repr)
    final = engine.step(now_s, [], MAX_US, crashes=False)
    assert sorted(final, key=repr) == sorted(model.play(now_s, [], END), key=repr)
    assert engine.dropped == model.dropped
    assert not list(engine.head._windows)
    assert len(engine.segments) == 0


def last_pane(pair: Any, window: Any = sf.DoFn.WindowParam, pane: Any = sf.DoFn.PaneInfoParam) -> list[Any]:
    return [[pair[0], int(window.start), int(window.end), sorted(pair[1])]] if pane.is_last else []


@settings(max_examples=15, deadline=None)
@given(
    window=windows,
    early=st.sampled_from([("count", 2), ("time", 0), ("any", ("count", 3), ("time", 1)), ("default",)]),
    events=st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 40), st.integers(0, 9)), min_size=1, max_size=20),
    partitions=st.sampled_from([1, 3]),
    step_events=st.sampled_from([1, 3, 1000]),
    workers=st.sampled_from([1, 3]),
    drains=st.sets(st.integers(0, 20)),
)
def test_last_panes_depend_on_no_batch_partition_or_worker(
    window: Any,
    early: Any,
    events: Sequence[tuple[str, int, int]],
    partitions: int,
    step_events: int,
    workers: int,
    drains: set[int],
) -> None:
    log = sf.open_log("memory://")
    make_topic(log, partitions=2)
    base_s = MIDNIGHT_S - 20 if window[0] == "days" else 0
    p = sf.Pipeline("p", settings=sf.Settings(partitions=partitions, step_events_max=step_events))
    windowed = (
        p
        | sf.ReadFromTopic("in", disorder=1000)
        | sf.WindowInto(
            WINDOWS[window[0]](*window[1:]),
            t.AfterWatermark(early=trigger_of(early)),
            t.AccumulationMode.ACCUMULATING,
        )
    )
    grouped = windowed | sf.Map(lambda event: (event["k"], event["v"])) | sf.GroupByKey()
    grouped | sf.FlatMap(last_pane) | sf.WriteToTopic("out")
    for i, (key, at, value) in enumerate(events):
        publish_json(log, [{"k": key, "v": value}], [(base_s + at) * S], partition=i % 2)
        if i in drains:
            p.run(on=log, until="drained")
    end_topic(log)
    plan = launch(p, log, p.settings)
    running = [Worker(plan, log, None, until=lambda snapshot: is_finished(plan, snapshot)) for _ in range(workers)]
    threads = [threading.Thread(target=worker.run) for worker in running]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model = Model(window, ("watermark", early, None), 0, True)
    model.play(0, [(key, base_s + at, value) for key, at, value in events], -END)
    expected = [[*pane[:3], pane[-1]] for pane in model.play(0, [], END) if pane[7]]
    assert ordered(read_events(log)) == ordered(expected)
