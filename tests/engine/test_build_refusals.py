"""What can't work is refused when the pipeline is built, with the name of what is wrong and a hint."""

from collections.abc import Callable
from typing import Any

import pytest

import streamflow as sf
from streamflow.base.errors import DataError, PipelineError
from streamflow.coders import PickleCoder
from streamflow.options.pipeline_options import PipelineOptions, TypeOptions
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.transforms.trigger import AfterCount, AfterWatermark, Repeatedly
from streamflow.transforms.userstate import BagStateSpec
from streamflow.transforms.window import GlobalWindows

ACCUMULATING = sf.AccumulationMode.ACCUMULATING
SCHEMA = {"price": float, "item": str}


def events(p: sf.Pipeline) -> Any:
    return p | sf.ReadFromTopic("bids", schema=SCHEMA)


def windowed(p: sf.Pipeline, **options: Any) -> Any:
    return events(p) | sf.WindowInto(sf.FixedWindows(60), **options)


def counted(p: sf.Pipeline, **options: Any) -> Any:
    return windowed(p, **options) | sf.Aggregate(by=["item"], n=sf.Count())


def twice(p: sf.Pipeline) -> Any:
    values = p | sf.Create([1])
    values | "Same" >> sf.Map(str)
    return values | "Same" >> sf.Map(str)


def mixed(p: sf.Pipeline) -> Any:
    return ((p | sf.Create([1])), (sf.Pipeline("other") | sf.Create([2]))) | sf.Flatten()


class Bundled(sf.DoFn):
    def process(self, element: Any) -> list[Any]:
        return [element]


class Stateful(sf.DoFn):
    BAG = BagStateSpec("bag", PickleCoder())

    def process(self, element: Any, bag: Any = sf.DoFn.StateParam(BAG)) -> list[Any]:
        return [element]


COLUMNS: dict[str, tuple[Callable[[sf.Pipeline], Any], str]] = {
    "unknown column in Where": (
        lambda p: events(p) | sf.Where(sf.col("prcie") > 0),
        r"Where: column 'prcie' not found. Did you mean 'price'\?",
    ),
    "unknown column in Select": (lambda p: events(p) | sf.Select("items"), r"Did you mean 'item'\?"),
    "unknown column in WithColumns": (
        lambda p: events(p) | sf.WithColumns(x=sf.col("zzz")),
        "column 'zzz' not found. There are: price, item",
    ),
    "unknown key in Aggregate": (
        lambda p: windowed(p) | sf.Aggregate(by=["itme"], n=sf.Count()),
        r"Aggregate: column 'itme' not found. Did you mean 'item'\?",
    ),
    "unknown column in an aggregate": (
        lambda p: windowed(p) | sf.Aggregate(n=sf.Sum("prices")),
        r"column 'prices' not found. Did you mean 'price'\?",
    ),
    "unknown key of a table": (lambda p: events(p) | sf.WriteToTable("t", key=["itm"]), r"Did you mean 'item'\?"),
    "unknown column in a row key": (
        lambda p: events(p) | sf.WriteToRows("r", row_key="itm", family="f"),
        r"Did you mean 'item'\?",
    ),
    "column taken away before": (
        lambda p: events(p) | sf.Select("item") | sf.Where(sf.col("price") > 1),
        "column 'price' not found",
    ),
    "operation on the wrong type": (lambda p: events(p) | sf.WithColumns(x=sf.col("item").dt.hour()), "WithColumns: "),
    "sum of text": (
        lambda p: windowed(p) | sf.Aggregate(n=sf.Count(), s=sf.Sum("item")),
        r"Aggregate: 's': Sum\(item\) can't take String.* apply WithColumns\(item=sf.col\('item'\).cast\(float\)\)",
    ),
    "mean of what is no number": (
        lambda p: windowed(p) | sf.Aggregate(m=sf.Mean(sf.col("price").cast(str) + "!")),
        r"'m': Mean\(.*\) can't take String.* Give it a column of another type",
    ),
    "columns grouped as pairs": (
        lambda p: windowed(p) | sf.GroupByKey(),
        r"GroupByKey: grouping by key needs \(key, value\) pairs, but the input has columns. Apply Map",
    ),
    "no expression": (lambda p: events(p) | sf.Where(True), "True is no expression"),  # type: ignore[arg-type]
    "reserved name in WithColumns": (
        lambda p: events(p) | sf.WithColumns(_x=sf.lit(1)),
        "column '_x': names that begin",
    ),
    "reserved name in Select": (lambda p: events(p) | sf.Select(_x="item"), "column '_x': names that begin"),
    "reserved name of an aggregate": (
        lambda p: windowed(p) | sf.Aggregate(_n=sf.Count()),
        "column '_n' is given twice",
    ),
    "aggregate named as its key": (
        lambda p: windowed(p) | sf.Aggregate(by=["item"], item=sf.Count()),
        "column 'item' is given twice",
    ),
    "aggregate named as a bound": (
        lambda p: windowed(p) | sf.Aggregate(window_start=sf.Count()),
        "column 'window_start' is given twice",
    ),
    "aggregate of nothing": (lambda p: windowed(p) | sf.Aggregate(by=["item"]), "no aggregate given"),
    "aggregate that is none": (
        lambda p: windowed(p) | sf.Aggregate(n=sum),  # type: ignore[arg-type]
        "'n' must be an aggregate such as Count",
    ),
    "select of nothing": (lambda p: events(p) | sf.Select(), "Select needs at least one column"),
    "event time outside the schema": (
        lambda p: p | sf.ReadFromTopic("bids", schema=SCHEMA, event_time="when"),
        r"event_time 'when' is not in the schema \(price, item\)",
    ),
    "event time that is no time": (
        lambda p: p | sf.ReadFromTopic("bids", schema=SCHEMA, event_time="price"),
        "event_time 'price' is Float64",
    ),
}

WINDOWS: dict[str, tuple[Callable[[sf.Pipeline], Any], str]] = {
    "endless input in the global window": (
        lambda p: events(p) | sf.Aggregate(n=sf.Count()),
        r"an endless input in the global window would never give a result. Apply e.g. WindowInto",
    ),
    "the same for pairs": (lambda p: events(p) | sf.Map(lambda e: (e, 1)) | sf.GroupByKey(), "an endless input"),
    "the same through Flatten": (
        lambda p: ((p | sf.Create([1])), (p | sf.ReadFromTopic("t"))) | sf.Flatten() | sf.CombineGlobally(sum),
        "an endless input",
    ),
    "defaults in windows": (
        lambda p: windowed(p) | sf.Map(lambda e: 1) | sf.CombineGlobally(sum),
        r"CombineGlobally\(…\).without_defaults\(\)",
    ),
    "different windows flattened": (
        lambda p: (windowed(p), p | sf.Create([1])) | sf.Flatten(),
        "the inputs have different windows",
    ),
    "keyed table with discarding panes": (
        lambda p: counted(p, allowed_lateness=5) | sf.WriteToTable("t", key=["item"]),
        "would replace the whole",
    ),
    "accumulating panes without a key": (
        lambda p: counted(p, allowed_lateness=5, accumulation_mode=ACCUMULATING) | sf.WriteToTable("t"),
        r"Give key=\[…\]",
    ),
    "state in windows that merge": (
        lambda p: p | sf.Create([(1, 1)]) | sf.WindowInto(sf.Sessions(5)) | sf.ParDo(Stateful()),
        "windows still merge. Group by key before",
    ),
    "endless input under a trigger that waits for the end": (
        lambda p: (
            events(p)
            | sf.WindowInto(GlobalWindows(), AfterWatermark(late=AfterCount(1)), ACCUMULATING)
            | sf.Aggregate(n=sf.Count())
        ),
        "an endless input in the global window",
    ),
    "early panes that would replace the whole": (
        lambda p: (
            windowed(p, trigger=Repeatedly(AfterCount(1)), accumulation_mode=sf.AccumulationMode.DISCARDING)
            | sf.Aggregate(by=["item"], n=sf.Count())
            | sf.WriteToTable("t", key=["item"])
        ),
        "would replace the whole",
    ),
    "negative lateness": (lambda p: windowed(p, allowed_lateness=-1), "allowed_lateness can't be negative"),
    "negative disorder": (lambda p: p | sf.ReadFromTopic("t", disorder=-1), "disorder can't be negative"),
    "number instead of a window": (
        lambda p: events(p) | sf.WindowInto(60),  # type: ignore[arg-type]
        "WindowInto takes a window function, e.g. FixedWindows",
    ),
}

VALUES: dict[str, tuple[Callable[[sf.Pipeline], Any], str]] = {
    "duplicate label": (twice, "label 'Same' is used twice"),
    "label that is no text": (
        lambda p: p | sf.Create([(1, 1)]) | sf.GroupByKey(1),  # type: ignore[arg-type]
        "1 can't be the label of GroupByKey, which is a text",
    ),
    "numbers grouped as pairs": (
        lambda p: p | sf.Create([1]) | sf.CombinePerKey(sum),
        r"'CombinePerKey\(sum\)' requires \(key, value\) pairs but got int. Make pairs",
    ),
    "state behind texts": (
        lambda p: p | sf.Create(["a"]) | sf.ParDo(Stateful()),
        r"state is kept per key, so 'ParDo\(Stateful\)' requires \(key, value\) pairs but got str",
    ),
    "pipelines mixed": (mixed, "Flatten mixes PCollections of different pipelines"),
    "Create of a text": (lambda p: p | sf.Create("abc"), r"Write Create\(\['abc'\]\)"),
    "Map of no function": (lambda p: p | sf.Create([1]) | sf.Map(5), "Map takes a function, not 5"),  # type: ignore[arg-type]
    "Filter of no function": (lambda p: p | sf.Create([1]) | sf.Filter("x"), "takes a function, not 'x'"),  # type: ignore[arg-type]
    "ParDo of a class": (
        lambda p: p | sf.Create([1]) | sf.ParDo(Bundled),  # type: ignore[arg-type]
        r"ParDo takes an instance: ParDo\(Bundled\(\)\)",
    ),
    "ParDo of no function": (
        lambda p: p | sf.Create([1]) | sf.ParDo(3),  # type: ignore[arg-type]
        "ParDo takes a DoFn or a function, not 3",
    ),
    "the main output's tag given twice": (
        lambda p: p | sf.Create([1]) | sf.FlatMap(str).with_outputs("a", main="a"),
        "tag 'a' is that of another output",
    ),
    "a tag given twice": (lambda p: p | sf.Create([1]) | sf.FlatMap(str).with_outputs("a", "a"), "given once"),
    "an output that there is not": (
        lambda p: (p | sf.Create([1]) | sf.Map(str).with_outputs("a", main="m")).b,
        r"Map\(str\) has no output 'b', but \['a', 'm'\]. Name it in with_outputs",
    ),
    "late events to what is no topic": (
        lambda p: p | sf.Create([1]) | sf.WindowInto(sf.FixedWindows(1), late_to=5),  # type: ignore[arg-type]
        "takes the name of a topic, not 5",
    ),
    "a threshold of bad elements": (
        lambda p: p | sf.Create([1]) | sf.Map(str).with_exception_handling(threshold=0.5),
        "Count those of the second output",
    ),
    "partition into none": (lambda p: p | sf.Create([1]) | sf.Partition(hash, 0), "must be at least 1, got 0"),
    "PCollection as an argument": (
        lambda p: p | "A" >> sf.Create([1]) | sf.Map(max, p | sf.Create([2])),
        "Say what of it: pvalue.AsSingleton",
    ),
    "combining with a number": (lambda p: p | sf.Create([(1, 2)]) | sf.CombinePerKey(3), "3 can't combine"),  # type: ignore[arg-type]
    "no transform": (lambda p: p | sf.Create([1]) | str, "is no transform"),
    "nothing to flatten": (lambda p: p.apply(sf.Flatten(), ()), "nothing to flatten"),
    "values flattened": (lambda p: (p | sf.Create([1]), 3) | sf.Flatten(), "not all are PCollections"),
    "transform applied to a number": (lambda p: 3 | sf.Map(str), "Left of `|` stands a PCollection"),
    "transform applied to the pipeline": (
        lambda p: p | sf.Map(str),
        r"stands behind 0 PCollections instead of 1. Join several",
    ),
    "source behind a collection": (lambda p: p | sf.Create([1]) | sf.ReadFromTopic("t"), "Begin with it"),
    "several collections without Flatten": (
        lambda p: (p | "A" >> sf.Create([1]), p | "B" >> sf.Create([2])) | sf.Map(str),
        r"Join several with `\(a, b\) \| Flatten\(\)`",
    ),
    "transform behind a sink": (
        lambda p: events(p) | sf.WriteToTopic("out") | sf.Map(str),
        "nothing comes out of 'Write-out'",
    ),
    "messages with a schema": (
        lambda p: p | sf.ReadFromTopic("t", schema=SCHEMA, with_attributes=True),
        "with_attributes gives whole messages",
    ),
    "composite without expand": (lambda p: p | sf.Create([1]) | sf.PTransform(), r"must define expand\(pcoll\)"),
    "options that are none": (lambda p: sf.Pipeline(options={"streaming": True}), "must be PipelineOptions"),
    "name that can be no topic": (lambda p: sf.Pipeline("my pipeline"), "1-64 letters"),
}

REFUSED = COLUMNS | WINDOWS | VALUES


@pytest.mark.parametrize("case", REFUSED)
def test_refused_when_built(case: str) -> None:
    build, words = REFUSED[case]
    with pytest.raises(PipelineError, match=words):
        build(sf.Pipeline("p"))


def test_an_aggregate_that_can_not_take_a_column_says_so_where_types_are_known_late() -> None:
    for rows_only, words in ((False, "String"), (True, r"'x' \(str\)")):
        p = TestPipeline(settings=sf.Settings(rows_only=rows_only))
        with pytest.raises(DataError, match=rf"'m': Mean\(v\) can't take {words}"), p:
            p | sf.Create([{"k": "a", "v": "x"}]) | sf.Aggregate(by="k", n=sf.Count(), m=sf.Mean("v"))


def test_a_pipeline_without_transforms_does_nothing() -> None:
    with sf.Pipeline("p") as p:
        pass
    assert p.result.state == "DONE"
    with TestPipeline():
        pass


def test_late_panes_fit_a_table_when_mode_and_key_go_together() -> None:
    p = sf.Pipeline("p")
    counted(p, allowed_lateness=5, accumulation_mode=ACCUMULATING) | "A" >> sf.WriteToTable("t", key=["item"])
    counted(p, allowed_lateness=5) | "B" >> sf.WriteToTable("u")
    assert "stage a [sink]" in p.explain()


ALLOWING: dict[str, Callable[[], sf.Pipeline]] = {
    "settings": lambda: sf.Pipeline("p", settings=sf.Settings(allow_unsafe_triggers=True)),
    "options": lambda: sf.Pipeline("p", options=PipelineOptions(["--allow_unsafe_triggers"])),
    "options set": lambda: sf.Pipeline("p", options=_allowing()),
}


def _allowing() -> PipelineOptions:
    options = PipelineOptions()
    options.view_as(TypeOptions).allow_unsafe_triggers = True
    return options


@pytest.mark.parametrize("build", ALLOWING.values(), ids=ALLOWING)
def test_unsafe_trigger_is_accepted_where_settings_or_options_say_so(build: Callable[[], sf.Pipeline]) -> None:
    p = build()
    windowed(p, trigger=AfterCount(1), accumulation_mode=ACCUMULATING) | sf.Aggregate(n=sf.Count())
    assert "grouping" in p.explain()


def test_endless_input_may_be_grouped_in_the_global_window_by_a_trigger_that_fires_early() -> None:
    p = sf.Pipeline("p")
    events(p) | sf.WindowInto(GlobalWindows(), Repeatedly(AfterCount(1)), ACCUMULATING) | sf.Aggregate(n=sf.Count())
    assert "grouping" in p.explain()


def test_bounded_topic_may_be_grouped_in_the_global_window() -> None:
    p = sf.Pipeline("p")
    p | sf.ReadFromTopic("bids", schema=SCHEMA, bounded=True) | sf.Aggregate(n=sf.Count())
    assert "grouping" in p.explain()


def test_columns_are_known_all_the_way_through_a_pipeline() -> None:
    p = sf.Pipeline("p")
    totals = counted(p) | sf.Filter(lambda row: row["n"] > 1)
    with pytest.raises(PipelineError, match=r"Did you mean 'n'\?"):
        totals | sf.Select("nn")
    assert list(totals.shape.columns) == ["item", "window_start", "window_end", "n"]
