"""Plans: what becomes a stage, what is fused, where each stage writes, and when two plans mean the same."""

from collections.abc import Callable
from typing import Any

import pytest

import streamflow as sf
from streamflow.base.errors import PipelineError
from streamflow.engine.plan import Plan, Stage, Step, build_plan
from streamflow.transforms.grouping import PerKey

MINUTE = sf.FixedWindows(60)
SCHEMA = {"k": str, "v": int}


def read(pipeline: sf.Pipeline, topic: str = "in") -> Any:
    return pipeline | f"Read {topic}" >> sf.ReadFromTopic(topic, schema=SCHEMA)


def plan_of(build: Callable[[sf.Pipeline], object], **settings: Any) -> Plan:
    pipeline = sf.Pipeline("p")
    build(pipeline)
    return build_plan(pipeline, sf.Settings(**settings))


def tree(steps: tuple[Step, ...]) -> list[Any]:
    """Labels, each followed by its children or the topic it writes to."""
    return [(step.node.label, step.topic or tree(step.children)) for step in steps]


def shape(stage: Stage) -> tuple[str, str, str, int | None, tuple[str, ...]]:
    return stage.name, stage.kind, stage.topic, stage.partitions, stage.upstream


def test_stages_begin_at_sources_groupings_and_store_sinks() -> None:
    def build(p: sf.Pipeline) -> None:
        counts = read(p) | sf.WindowInto(MINUTE) | "Count" >> sf.Aggregate(by=["k"], n=sf.Count())
        counts | "Keep" >> sf.WriteToTable("counts")
        counts | "Tell" >> sf.WriteToTopic("out")

    assert [shape(stage) for stage in plan_of(build, partitions=5).stages] == [
        ("read-in", "source", "in", None, ()),
        ("count", "grouping", "p.count", 5, ("read-in",)),
        ("keep", "sink", "p.keep", 1, ("count",)),
    ]


def test_chain_without_shuffle_is_one_stage() -> None:
    plan = plan_of(
        lambda p: (
            read(p)
            | "A" >> sf.Where(sf.col("v") > 0)
            | "B" >> sf.WithColumns(w=sf.col("v") * 2)
            | "C" >> sf.Map(lambda row: row)
            | "D" >> sf.WriteToTopic("out")
        )
    )
    (stage,) = plan.stages
    assert tree(stage.steps) == [("A", [("B", [("C", [("D", "out")])])])]


def test_fan_out_reads_once_and_writes_to_each_log() -> None:
    def build(p: sf.Pipeline) -> None:
        events = read(p) | sf.WindowInto(MINUTE)
        events | "By key" >> sf.Aggregate(by=["k"], n=sf.Count())
        events | "All" >> sf.Aggregate(n=sf.Count())
        events | "Raw" >> sf.WriteToTopic("raw")

    plan = plan_of(build)
    assert tree(plan.stage("read-in").steps) == [("By key", "p.by-key"), ("All", "p.all"), ("Raw", "raw")]
    assert set(plan.stage("read-in").outputs) == {"p.by-key", "p.all", "raw"}


def test_grouping_without_a_key_has_one_partition() -> None:
    def build(p: sf.Pipeline) -> None:
        events = read(p) | sf.WindowInto(MINUTE)
        events | "All" >> sf.Aggregate(n=sf.Count())
        events | "Sum" >> sf.CombineGlobally(sum).without_defaults()
        events | sf.Map(lambda row: (row["k"], row)) | "Keyed" >> sf.GroupByKey()

    plan = plan_of(build, partitions=7)
    assert [plan.stage(name).partitions for name in ("all", "sum", "keyed")] == [1, 1, 7]


def test_flatten_becomes_part_of_both_stages_above_it() -> None:
    def build(p: sf.Pipeline) -> None:
        both = (read(p, "a"), read(p, "b")) | sf.Flatten()
        both | "Keep" >> sf.Where(sf.col("v") > 0) | sf.WindowInto(MINUTE) | "Count" >> sf.Aggregate(n=sf.Count())

    plan = plan_of(build)
    expected = [("Keep", [("Count", "p.count")])]
    assert tree(plan.stage("read-a").steps) == tree(plan.stage("read-b").steps) == expected
    assert plan.stage("count").upstream == ("read-a", "read-b")


def test_collection_flattened_with_itself_flows_twice() -> None:
    def build(p: sf.Pipeline) -> None:
        events = read(p)
        (events, events) | sf.Flatten() | "Out" >> sf.WriteToTopic("out")

    assert tree(plan_of(build).stages[0].steps) == [("Out", "out"), ("Out", "out")]


def test_depth_counts_the_stages_before() -> None:
    def build(p: sf.Pipeline) -> None:
        once = read(p) | sf.WindowInto(MINUTE) | "Once" >> sf.Aggregate(by=["k"], n=sf.Count())
        once | "Twice" >> sf.Aggregate(n=sf.Sum("n")) | "Keep" >> sf.WriteToTable("t")

    plan = plan_of(build)
    assert [plan.depth(stage.name) for stage in plan.stages] == [1, 2, 3, 4]


def test_composites_name_what_they_contain() -> None:
    class Counted(sf.PTransform):
        def expand(self, pcoll: sf.PCollection) -> Any:
            return pcoll | sf.WindowInto(MINUTE) | "Inner" >> sf.Aggregate(n=sf.Count())

    plan = plan_of(lambda p: read(p) | "Outer" >> Counted() | "Out" >> sf.WriteToTopic("out"))
    assert [stage.node.label for stage in plan.stages] == ["Read in", "Outer/Inner"]
    assert plan.stages[1].topic == "p.outer-inner"


def test_unlabelled_transforms_of_one_kind_are_numbered() -> None:
    def build(p: sf.Pipeline) -> None:
        events = read(p) | sf.WindowInto(MINUTE)
        for _ in range(3):
            events | sf.Aggregate(n=sf.Count())

    assert [stage.name for stage in plan_of(build).stages] == ["read-in", "aggregate", "aggregate-2", "aggregate-3"]


def test_labels_that_give_one_name_are_refused() -> None:
    def build(p: sf.Pipeline) -> None:
        events = read(p) | sf.WindowInto(MINUTE)
        events | "per key!" >> sf.Aggregate(n=sf.Count())
        events | "Per-Key" >> sf.Aggregate(n=sf.Count())

    with pytest.raises(PipelineError, match="label 'Per-Key' gives the name 'per-key', as does 'per key!'"):
        plan_of(build)


def test_label_of_the_dead_letters_is_refused() -> None:
    with pytest.raises(PipelineError, match="as does the dead letters"):
        plan_of(lambda p: read(p) | sf.WindowInto(MINUTE) | "Dead letter" >> sf.Aggregate(n=sf.Count()))


def test_pipeline_without_transforms_is_refused() -> None:
    with pytest.raises(PipelineError, match="pipeline 'p' is empty"):
        plan_of(lambda p: None)


def fingerprint(
    window: Any = MINUTE,
    transform: Any = None,
    tail: Callable[[Any], Any] = lambda pcoll: pcoll,
    *,
    lateness: float = 0,
    mode: sf.AccumulationMode = sf.AccumulationMode.DISCARDING,
    **settings: Any,
) -> str:
    def build(p: sf.Pipeline) -> None:
        windowed = read(p) | sf.WindowInto(window, allowed_lateness=lateness, accumulation_mode=mode)
        if isinstance(transform, PerKey):
            windowed = windowed | sf.Map(lambda row: (row["k"], row))
        tail(windowed | "Group" >> (transform or sf.Aggregate(by=["k"], n=sf.Count())))

    return plan_of(build, **settings).fingerprint


def test_fingerprint_is_the_same_for_the_same_pipeline() -> None:
    assert fingerprint() == fingerprint()
    assert fingerprint(transform=sf.CombinePerKey(sum)) == fingerprint(transform=sf.CombinePerKey(sum))


@pytest.mark.parametrize(
    "changed",
    [
        {"window": sf.FixedWindows(61)},
        {"window": sf.FixedWindows(60, offset=1)},
        {"window": sf.SlidingWindows(60, 30)},
        {"lateness": 5},
        {"mode": sf.AccumulationMode.ACCUMULATING},
        {"transform": sf.Aggregate(by=["v"], n=sf.Count())},
        {"transform": sf.Aggregate(by=[sf.col("v").cast(str).alias("k")], n=sf.Count())},
        {"transform": sf.Aggregate(by=["k"], n=sf.Count("v"))},
        {"transform": sf.Aggregate(by=["k"], n=sf.Count(), m=sf.Max("v"))},
        {"transform": sf.Aggregate(n=sf.Count())},
        {"partitions": 3},
        {"rows_only": True},
        {"tail": lambda pcoll: pcoll | "Keep" >> sf.WriteToTable("t")},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_fingerprint_changes_with_what_state_means(changed: dict[str, Any]) -> None:
    assert fingerprint(**changed) != fingerprint()


def test_fingerprint_tells_combining_functions_apart() -> None:
    class Other(sf.CombineFn):
        pass

    prints = [fingerprint(transform=sf.CombinePerKey(fn)) for fn in (sum, max, Other())]
    assert len({*prints, fingerprint(transform=sf.GroupByKey())}) == 4


@pytest.mark.parametrize(
    "changed",
    [
        {"step_events_max": 10},
        {"poll_s": 1.0},
        {"tail": lambda pcoll: pcoll | sf.Where(sf.col("n") > 1) | sf.WriteToTopic("out")},
    ],
    ids=lambda changed: "-".join(changed),
)
def test_fingerprint_does_not_change_with_what_touches_no_state(changed: dict[str, Any]) -> None:
    assert fingerprint(**changed) == fingerprint()
