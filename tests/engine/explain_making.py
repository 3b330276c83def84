"""Pipelines of all kinds, to be explained. No test of its own lives here."""

from typing import Any

import streamflow as sf
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import ReadModifyWriteStateSpec, TimerSpec, on_timer

MINUTE = sf.FixedWindows(60)
SCHEMA = {"k": str, "v": int}


def columnar() -> sf.Pipeline:
    p = sf.Pipeline("counts", settings=sf.Settings(partitions=4))
    events = p | "In" >> sf.ReadFromTopic("in", schema=SCHEMA, disorder=1.5)
    kept = events | "Keep" >> sf.Where(sf.col("v").is_not_null())
    counts = kept | sf.WindowInto(MINUTE, allowed_lateness=90) | "Count" >> sf.Aggregate(by="k", m=sf.Mean("v"))
    counts | "Brief" >> sf.Select("k", "m") | "Table" >> sf.WriteToTable("counts")
    events | "Raw" >> sf.WriteToTopic("raw")
    return p


def rows() -> sf.Pipeline:
    p = sf.Pipeline("words", settings=sf.Settings(partitions=2))
    (
        p
        | sf.Create(["a", "b"])
        | "Pair" >> sf.Map(lambda word: (word, 1))
        | sf.CombinePerKey(sum)
        | "Out" >> sf.WriteToTopic("out")
    )
    return p


class Joined(sf.PTransform):
    def expand(self, pcoll: Any) -> Any:
        grouped = pcoll | sf.Flatten() | "Days" >> sf.WindowInto(sf.SlidingWindows(86_400, 3600)) | sf.GroupByKey()
        return grouped | "Inner" >> Named()


class Named(sf.PTransform):
    def expand(self, pcoll: Any) -> Any:
        return pcoll | "Dict" >> sf.Map(lambda pair: {"k": pair[0]}) | sf.AsColumns({"k": str})


def composed() -> sf.Pipeline:
    p = sf.Pipeline("both", settings=sf.Settings(partitions=2))
    left = p | "A" >> sf.ReadFromTopic("a")
    right = p | "B" >> sf.ReadFromTopic("b", event_time="at")
    joined = (left, right) | "Join" >> Joined()
    joined | "Rows" >> sf.WriteToRows("rows", row_key="k", family="f")
    return p


class Numbered(sf.DoFn):
    COUNT = ReadModifyWriteStateSpec("count")
    FLUSH = TimerSpec("flush", TimeDomain.WATERMARK)

    def process(self, pair: Any, count: Any = sf.DoFn.StateParam(COUNT), flush: Any = sf.DoFn.TimerParam(FLUSH)) -> Any:
        count.write((count.read() or 0) + 1)
        yield pair[0], count.read()
        yield sf.TaggedOutput("odd", pair)

    @on_timer(FLUSH)
    def flushed(self) -> Any:
        return []


def stateful() -> sf.Pipeline:
    p = sf.Pipeline("state", settings=sf.Settings(partitions=2))
    outputs = p | sf.Create([("a", 1)]) | "Number" >> sf.ParDo(Numbered()).with_outputs("odd", main="all")
    outputs["all"] | sf.Reshuffle() | "Out" >> sf.WriteToTopic("out")
    outputs["odd"] | "Odd" >> sf.WriteToTopic("raw")
    counts = (
        p | "In" >> sf.ReadFromTopic("in", schema=SCHEMA, bounded=True) | "Count" >> sf.Aggregate(by="k", n=sf.Count())
    )
    counts | "Fresh" >> sf.WriteToRows("rows", row_key="k", family="f")
    counts | sf.AsColumns({"k": str, "n": int}) | "Spread" >> sf.Reshuffle() | "Told" >> sf.WriteToTopic("raw")
    return p
