"""Groupings with triggers and merging windows in whole pipelines, in Apache Beam's words."""

from pathlib import Path
from typing import Any

import pytest
from pipelines import collected, end_topic, make_topic, ordered, publish_json, read_events

import streamflow as sf
from streamflow.transforms.trigger import (
    AccumulationMode,
    AfterCount,
    AfterWatermark,
    Repeatedly,
)
from streamflow.transforms.window import (
    FixedWindows,
    GlobalWindows,
    IntervalWindow,
    NonMergingWindowFn,
    Sessions,
    TimestampCombiner,
    TimestampedValue,
    WindowFn,
)
from streamflow.utils.windowed_value import PaneInfo, PaneInfoTiming

S = 1_000_000


@pytest.fixture(params=["memory", "folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    return "memory://" if request.param == "memory" else tmp_path


def visits(p: sf.Pipeline, *events: tuple[str, int]) -> Any:
    return p | sf.Create([TimestampedValue((key, at), at) for key, at in events])


def shown(pair: Any, window: Any = sf.DoFn.WindowParam, pane: Any = sf.DoFn.PaneInfoParam) -> Any:
    key, values = pair
    return key, int(window.start), int(window.end), pane.timing.name, pane.index, sorted(values)


def test_names_stand_where_beams_users_import_them_from() -> None:
    assert sf.window.FixedWindows(5).assign(sf.window.WindowFn.AssignContext(7)) == [IntervalWindow(5, 10)]
    assert sf.transforms.trigger.AfterCount is sf.trigger.AfterCount is AfterCount
    assert repr(IntervalWindow(0, 10)) == "[0.0, 10.0)"
    assert PaneInfo(timing=PaneInfoTiming.EARLY).timing == PaneInfoTiming.EARLY
    assert AfterWatermark(early=AfterCount(2), late=AfterCount(3)).get_continuation_trigger() == AfterWatermark(
        early=AfterCount(1), late=AfterCount(1)
    )


def test_sessions_are_per_key_and_carry_their_window() -> None:
    def build(p: sf.Pipeline) -> Any:
        events = visits(p, ("a", 0), ("b", 5), ("a", 8), ("a", 18), ("a", 30), ("b", 7))
        return events | sf.WindowInto(Sessions(10)) | sf.GroupByKey() | sf.Map(shown)

    assert ordered(collected(build)) == [
        ("a", 0, 18, "ON_TIME", 0, [0, 8]),
        ("a", 18, 28, "ON_TIME", 0, [18]),
        ("a", 30, 40, "ON_TIME", 0, [30]),
        ("b", 5, 17, "ON_TIME", 0, [5, 7]),
    ]


def test_early_panes_and_the_one_on_time() -> None:
    def build(p: sf.Pipeline) -> Any:
        windowed = visits(p, *(("a", at) for at in range(5))) | sf.WindowInto(
            FixedWindows(10),
            trigger=AfterWatermark(early=AfterCount(2)),
            accumulation_mode=AccumulationMode.ACCUMULATING,
        )
        return windowed | sf.GroupByKey() | sf.Map(shown)

    assert collected(build) == [
        ("a", 0, 10, "EARLY", 0, [0, 1]),
        ("a", 0, 10, "EARLY", 1, [0, 1, 2, 3]),
        ("a", 0, 10, "ON_TIME", 2, [0, 1, 2, 3, 4]),
    ]


@pytest.mark.parametrize("step_events_max", [1, 2, 100])
def test_count_trigger_counts_elements_whatever_the_batches(step_events_max: int) -> None:
    log = sf.open_log("memory://")
    make_topic(log, partitions=1)
    for at in range(7):
        publish_json(log, [{"k": "a", "v": at}], [at * S])
    end_topic(log)
    p = sf.Pipeline(on=log, settings=sf.Settings(partitions=1, step_events_max=step_events_max))
    windowed = (
        p
        | sf.ReadFromTopic("in", schema={"k": str, "v": int}, bounded=True, disorder=100)
        | sf.WindowInto(GlobalWindows(), Repeatedly(AfterCount(3)), accumulation_mode=AccumulationMode.DISCARDING)
    )
    windowed | sf.Aggregate(by=["k"], n=sf.Count(), s=sf.Sum("v")) | sf.WriteToTopic("out")
    p.run()
    assert [(row["n"], row["s"]) for row in read_events(log)] == [(3, 3), (3, 12), (1, 6)]


def test_sums_of_sessions_on_columns() -> None:
    def build(p: sf.Pipeline) -> Any:
        rows = [TimestampedValue({"k": "a", "v": at}, at) for at in (0, 5, 30)]
        windowed = p | sf.Create(rows) | sf.AsColumns({"k": str, "v": int}) | sf.WindowInto(Sessions(10))
        return windowed | sf.Aggregate(by=["k"], n=sf.Count(), s=sf.Sum("v")) | sf.Select("k", "n", "s")

    assert ordered(collected(build)) == [{"k": "a", "n": 1, "s": 30}, {"k": "a", "n": 2, "s": 5}]


def test_grouping_behind_sessions_keeps_each_session() -> None:
    def build(p: sf.Pipeline) -> Any:
        events = visits(p, ("a", 0), ("b", 0), ("a", 5), ("c", 40)) | sf.WindowInto(Sessions(10))
        return events | sf.CombinePerKey(sum) | sf.Map(lambda pair: (0, pair)) | sf.GroupByKey() | sf.Map(shown)

    assert ordered(collected(build)) == [
        (0, 0, 10, "ON_TIME", 0, [("b", 0)]),
        (0, 0, 15, "ON_TIME", 0, [("a", 5)]),
        (0, 40, 50, "ON_TIME", 0, [("c", 40)]),
    ]


def test_grouping_behind_early_panes_hands_each_on() -> None:
    def build(p: sf.Pipeline) -> Any:
        windowed = visits(p, *(("a", at) for at in range(4))) | sf.WindowInto(
            FixedWindows(10), Repeatedly(AfterCount(2)), accumulation_mode=AccumulationMode.DISCARDING
        )
        sums = windowed | sf.CombinePerKey(sum) | sf.Map(lambda pair: pair[1])
        return sums | sf.CombineGlobally(sum).without_defaults()

    assert collected(build) == [1, 5]


def test_result_has_the_earliest_event_time_of_its_pane() -> None:
    def build(p: sf.Pipeline) -> Any:
        windowed = visits(p, ("a", 3), ("a", 7)) | sf.WindowInto(
            FixedWindows(10), timestamp_combiner=TimestampCombiner.OUTPUT_AT_EARLIEST
        )
        times = windowed | sf.CombinePerKey(sum) | sf.Map(lambda _, t=sf.DoFn.TimestampParam: float(t))
        return times | sf.WindowInto(FixedWindows(5)) | sf.Map(lambda t, w=sf.DoFn.WindowParam: (t, float(w.start)))

    assert collected(build) == [(3.0, 0.0)]


def test_results_held_back_hold_the_watermark_of_what_comes_after(place: str | Path) -> None:
    """Without the hold the watermark behind the first grouping would be past their time, and they would be dropped."""
    log = sf.open_log(place)
    make_topic(log, partitions=1)

    def run(until: Any) -> sf.PipelineResult:
        p = sf.Pipeline("p", on=log, settings=sf.Settings(partitions=1))
        pairs = p | sf.ReadFromTopic("in") | sf.Map(lambda event: ("k", event["v"]))
        sums = (
            pairs
            | sf.WindowInto(FixedWindows(100), timestamp_combiner=TimestampCombiner.OUTPUT_AT_EARLIEST)
            | sf.CombinePerKey(sum)
        )
        again = sums | sf.WindowInto(FixedWindows(10)) | "Again" >> sf.CombinePerKey(sum)
        again | sf.Map(lambda pair, w=sf.DoFn.WindowParam: [int(w.start), pair[1]]) | sf.WriteToTopic("out")
        return p.run(until=until)

    for at in (3, 50, 90):
        publish_json(log, [{"v": at}], [at * S])
        run("drained")
    assert read_events(log) == []
    end_topic(log)
    assert run("finished").total("dropped") == 0
    assert read_events(log) == [[0, 143]]
    log.close()


class ByLength(NonMergingWindowFn):
    """Long words in windows of a minute, short ones in windows of ten seconds."""

    def assign(self, assign_context: WindowFn.AssignContext) -> list[IntervalWindow]:
        size = 60 if len(assign_context.element[0]) > 3 else 10
        start = int(assign_context.timestamp) // size * size
        return [IntervalWindow(start, start + size)]


def test_window_function_of_the_users_own_sees_the_element_where_it_stands() -> None:
    def build(p: sf.Pipeline) -> Any:
        windowed = visits(p, ("a", 1), ("long", 2), ("a", 12), ("a", 3), ("long", 55)) | sf.WindowInto(ByLength())
        return windowed | sf.Map(lambda pair: ("k", pair[1])) | sf.GroupByKey() | sf.Map(shown)

    assert ordered(collected(build)) == [
        ("k", 0, 10, "ON_TIME", 0, [1, 3]),
        ("k", 0, 60, "ON_TIME", 0, [2, 55]),
        ("k", 10, 20, "ON_TIME", 0, [12]),
    ]


def test_global_default_is_given_once_and_only_for_no_input() -> None:
    def build(p: sf.Pipeline, *values: int) -> Any:
        windowed = (
            p
            | sf.Create(list(values))
            | sf.WindowInto(GlobalWindows(), Repeatedly(AfterCount(2)), accumulation_mode=AccumulationMode.DISCARDING)
        )
        return windowed | sf.CombineGlobally(sum)

    assert collected(build) == [0]
    assert collected(lambda p: build(p, 1, 2)) == [3]
    assert collected(lambda p: build(p, 1, 2, 4)) == [3, 4]


def test_pane_whose_values_do_not_go_together_is_a_dead_letter() -> None:
    p = sf.Pipeline()
    events = p | sf.Create(
        [TimestampedValue(("a", 1), 1), TimestampedValue(("a", "x"), 2), TimestampedValue(("b", 3), 3)]
    )
    seen: list[Any] = []
    events | sf.WindowInto(Sessions(10)) | sf.CombinePerKey(max) | sf.Map(seen.append)
    result = p.run()
    assert seen == [("b", 3)]
    assert [letter["input"] for letter in result.dead_letters] == ["a"]


def test_fanout_leaves_sessions_whole() -> None:
    def build(p: sf.Pipeline, fanout: int) -> Any:
        windowed = visits(p, *(("a", at) for at in (0, 4, 8, 12, 40))) | sf.WindowInto(Sessions(5))
        return windowed | sf.CombinePerKey(sum).with_hot_key_fanout(fanout)

    assert ordered(collected(lambda p: build(p, 3))) == [("a", 24), ("a", 40)]


def test_panes_of_another_kind_leave_the_users_windows_as_they_are() -> None:
    def build(p: sf.Pipeline) -> Any:
        windowed = visits(p, ("a", 1), ("long", 2), ("a", 12)) | sf.WindowInto(ByLength())
        return windowed | sf.Map(lambda pair: ("k", pair[1])) | sf.CombinePerKey(sum).with_hot_key_fanout(2)

    assert ordered(collected(build)) == [("k", 1), ("k", 12), ("k", 2)]
