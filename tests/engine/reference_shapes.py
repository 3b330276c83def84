"""Groupings to be compared with the reference model: every window function and trigger, by rows or columns, as
hypothesis draws them. No test of its own lives here."""

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from reference_model import Model
from reference_windows import END, windows_of

import streamflow as sf
from streamflow.model.time import MAX_US
from streamflow.transforms import trigger as t
from streamflow.transforms import window as w

S = 1_000_000
MIDNIGHT_S = 1711839600
"""In Berlin, of the day that has 23 hours."""


class Parity(w.NonMergingWindowFn):
    """Fixed windows whose size goes by the value."""

    def assign(self, assign_context: w.WindowFn.AssignContext) -> list[w.IntervalWindow]:
        bounds = windows_of(("parity",), int(assign_context.timestamp), assign_context.element["v"])
        return [w.IntervalWindow(start, end) for start, end in bounds]


class Touching(w.WindowFn):
    """Sessions that become one where they only touch, too."""

    def __init__(self, gap: int) -> None:
        self.gap = gap

    def assign(self, assign_context: w.WindowFn.AssignContext) -> list[w.IntervalWindow]:
        return [w.IntervalWindow(assign_context.timestamp, assign_context.timestamp + self.gap)]

    def merge(self, merge_context: w.WindowFn.MergeContext) -> None:
        groups: list[list[w.IntervalWindow]] = []
        for each in sorted(merge_context.windows, key=lambda each: each.start_us):
            if groups and each.start_us <= max(other.end_us for other in groups[-1]):
                groups[-1].append(each)
            else:
                groups.append([each])
        for group in groups:
            merge_context.merge(group, w.IntervalWindow(group[0].start, max(each.end for each in group)))


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
    "fixed": w.FixedWindows,
    "sliding": w.SlidingWindows,
    "sessions": w.Sessions,
    "touching": Touching,
    "parity": Parity,
    "global": w.GlobalWindows,
    "days": lambda zone: w.CalendarWindows.days(timezone=zone),
}
STAMPS = {
    None: w.TimestampCombiner.OUTPUT_AT_EOW,
    min: w.TimestampCombiner.OUTPUT_AT_EARLIEST,
    max: w.TimestampCombiner.OUTPUT_AT_LATEST,
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
any_trigger = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.tuples(st.just("repeat"), inner),
        st.tuples(st.sampled_from(["any", "all", "each", "or"]), inner, inner),
        st.tuples(st.just("watermark"), st.none() | inner, st.none() | inner),
    ),
    max_leaves=4,
)
USUAL_TRIGGERS = [("default",), ("watermark", ("count", 1), ("count", 2)), ("repeat", ("count", 2))]
safe_trigger = st.one_of(
    st.just(("default",)),
    st.tuples(st.just("repeat"), any_trigger),
    st.tuples(st.just("watermark"), st.none() | any_trigger, any_trigger),
)
"""Such as never finish."""
window_fns = st.sampled_from(
    [
        ("fixed", 10, 0),
        ("fixed", 10, 3),
        ("sliding", 10, 5, 0),
        ("sliding", 7, 3, 1),
        ("sliding", 4, 6, 2),
        ("sessions", 5),
        ("sessions", 3),
        ("touching", 4),
        ("parity",),
        ("global",),
        ("days", "Europe/Berlin"),
    ]
)


@dataclass(frozen=True)
class Shape:
    """What is grouped how. `path`: rows by one of two transforms, or columns."""

    window: Any = ("fixed", 10, 0)
    trigger: Any = ("default",)
    lateness_s: int = 0
    accumulating: bool = True
    stamp: Any = None
    on_time: bool = True
    closing: bool = False
    path: str = "columns"
    rows_only: bool = False

    @property
    def base_s(self) -> int:
        """Where in time its events are."""
        return MIDNIGHT_S - 20 if self.window[0] == "days" else 0

    @property
    def one_by_one(self) -> bool:
        return self.trigger in (("default",), ("watermark", None, None))

    def model(self) -> Model:
        of = (self.window, self.trigger, self.lateness_s, self.accumulating, self.stamp, self.on_time, self.closing)
        return Model(*of)

    def pipeline(self, disorder_s: float, **options: Any) -> sf.Pipeline:
        settings = sf.Settings(compact_segments=1, allow_unsafe_triggers=True, rows_only=self.rows_only, **options)
        p = sf.Pipeline("p", settings=settings)
        read = p | sf.ReadFromTopic("in", schema={"k": str, "v": int}, disorder=disorder_s, bounded=True)
        windowed = read | sf.WindowInto(
            WINDOWS[self.window[0]](*self.window[1:]),
            trigger_of(self.trigger),
            t.AccumulationMode.ACCUMULATING if self.accumulating else t.AccumulationMode.DISCARDING,
            STAMPS[self.stamp],
            self.lateness_s,
            on_time_behavior=w.OnTimeBehavior.FIRE_ALWAYS if self.on_time else w.OnTimeBehavior.FIRE_IF_NON_EMPTY,
            closing_behavior=w.ClosingBehavior.FIRE_ALWAYS if self.closing else w.ClosingBehavior.FIRE_IF_NON_EMPTY,
        )
        if self.path == "columns":
            grouped = windowed | "Group" >> sf.Aggregate(by=["k"], values=sf.CollectList("v"))
        else:
            pairs = windowed | sf.Map(lambda event: (event["k"], event["v"]))
            combine = sf.GroupByKey() if self.path == "group" else sf.CombinePerKey(sf.combiners.ToListCombineFn())
            grouped = pairs | "Group" >> combine
        grouped | sf.Map(shown) | sf.WriteToTopic("out")
        return p


shapes = st.builds(
    Shape,
    window_fns,
    st.sampled_from(USUAL_TRIGGERS) | any_trigger,
    st.sampled_from([0, 0, 3, 10, 100]),
    st.booleans(),
    st.sampled_from(list(STAMPS)),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["group", "combine", "columns"]),
    st.sampled_from([False, False, True]),
)


def shown(
    result: Any,
    window: Any = sf.DoFn.WindowParam,
    pane: Any = sf.DoFn.PaneInfoParam,
    timestamp: Any = sf.DoFn.TimestampParam,
) -> list[Any]:
    """As the model has it."""
    key, values = (result["k"], result["values"]) if isinstance(result, dict) else result
    is_global = window == w.GlobalWindow()
    start, end = (-END, END) if is_global else (window.start_us // S, window.end_us // S)
    stamp = None if timestamp.micros == min(window.end_us, MAX_US) - 1 else timestamp.micros // S
    flags = [pane.index, pane.nonspeculative_index, pane.is_first, pane.is_last]
    return [key, start, end, pane.timing.name, *flags, stamp, sorted(values)]
