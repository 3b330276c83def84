"""`late_to`: what comes too late for its window is in a topic, exactly once, and still counted."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from pipelines import dead_letters, end_topic, make_topic, ordered, publish_json, read_events, read_times_us

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker
from streamflow.testing.crashing import Died, WrappedLog, dying
from streamflow.topics.protocol import Log
from streamflow.transforms.userstate import CombiningValueStateSpec
from streamflow.transforms.window import Sessions

SETTINGS = sf.Settings(partitions=2, step_events_max=2, commit_events_max=1)
FIRST = [("a", 1, 1), ("b", 2, 2), ("a", 3, 50)]
"""(key, value, second): the last closes the windows of the others, lateness included."""
THEN = [("a", 4, 5), ("a", 5, 5), ("c", 6, 19), ("b", 7, 52), ("a", 8, 15)]
"""All but "b" are too late."""


def publish(log: Log, events: list[tuple[str, int, int]]) -> None:
    publish_json(log, [{"k": k, "v": v, "at": at * 1_000_000} for k, v, at in events])


class Running(sf.DoFn):
    COUNT = CombiningValueStateSpec("count", sum)

    def process(self, element: Any, count: Any = sf.DoFn.StateParam(COUNT)) -> list[Any]:
        count.add(1)
        return [[element[0], count.read()]]


def pairs(events: Any) -> Any:
    return events | sf.Map(lambda row: (row["k"], row["v"]))


GROUPINGS: dict[str, Callable[[Any], Any]] = {
    "Aggregate": lambda events: events | sf.Aggregate(by=["k"], n=sf.Count(), s=sf.Sum("v")),
    "Aggregate without keys": lambda events: events | sf.Aggregate(mean=sf.Mean("v")),
    "GroupByKey": lambda events: pairs(events) | sf.GroupByKey(),
    "CombinePerKey": lambda events: pairs(events) | sf.CombinePerKey(sum),
    "CombineGlobally": lambda events: (
        events | sf.Map(lambda row: row["v"]) | sf.CombineGlobally(sum).without_defaults()
    ),
    "state": lambda events: pairs(events) | sf.ParDo(Running()),
}


def pipeline(grouping: str, settings: sf.Settings = SETTINGS, late_to: str | None = "too-late") -> sf.Pipeline:
    p = sf.Pipeline("p", settings=settings)
    events = p | sf.ReadFromTopic("in", schema={"k": str, "v": int, "at": int}, event_time="at")
    windowed = events | sf.WindowInto(sf.FixedWindows(10), allowed_lateness=20, late_to=late_to)
    GROUPINGS[grouping](windowed) | sf.WriteToTopic("out")
    return p


def windows(start: int) -> dict[str, str]:
    return {
        name: f"1970-01-01T00:00:{second:02}Z" for name, second in (("window_start", start), ("window_end", start + 10))
    }


def written(record: dict[str, Any]) -> dict[str, Any]:
    """As JSON has it, where a column has a datetime."""
    return {
        name: value.astimezone(UTC).isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
        for name, value in record.items()
    }


LATE: dict[str, list[dict[str, Any]]] = {
    "Aggregate": [
        {"k": "a", "n": 2, "s": 9, **windows(0), "late_events": 2},
        {"k": "c", "n": 1, "s": 6, **windows(10), "late_events": 1},
        {"k": "a", "n": 1, "s": 8, **windows(10), "late_events": 1},
    ],
    "Aggregate without keys": [
        {"mean": 4.5, **windows(0), "late_events": 2},
        {"mean": 7.0, **windows(10), "late_events": 2},
    ],
    "GroupByKey": [
        {"key": "a", "value": [4, 5], **windows(0), "late_events": 2},
        {"key": "c", "value": [6], **windows(10), "late_events": 1},
        {"key": "a", "value": [8], **windows(10), "late_events": 1},
    ],
    "CombinePerKey": [
        {"key": "a", "value": 9, **windows(0), "late_events": 2},
        {"key": "c", "value": 6, **windows(10), "late_events": 1},
        {"key": "a", "value": 8, **windows(10), "late_events": 1},
    ],
    "CombineGlobally": [
        {"value": 9, **windows(0), "late_events": 2},
        {"value": 14, **windows(10), "late_events": 2},
    ],
    "state": [
        {"key": "a", "value": 4, **windows(0), "late_events": 1},
        {"key": "a", "value": 5, **windows(0), "late_events": 1},
        {"key": "c", "value": 6, **windows(10), "late_events": 1},
        {"key": "a", "value": 8, **windows(10), "late_events": 1},
    ],
}


def run_twice(p: sf.Pipeline) -> tuple[Log, sf.PipelineResult]:
    """The second time with what is too late by then."""
    log = sf.open_log("memory://")
    make_topic(log, partitions=1)
    publish(log, FIRST)
    p.run(on=log, until="drained")
    publish(log, THEN)
    end_topic(log)
    return log, p.run(on=log)


def as_written(records: list[dict[str, Any]]) -> list[Any]:
    return ordered(sorted(written(record).items()) for record in records)


@pytest.mark.parametrize("rows_only", [False, True], ids=["columns", "rows"])
@pytest.mark.parametrize("grouping", GROUPINGS)
def test_what_is_too_late_is_in_the_topic_as_the_grouping_would_give_it_alone(grouping: str, rows_only: bool) -> None:
    p = pipeline(grouping, sf.Settings(partitions=2, rows_only=rows_only))
    log, result = run_twice(p)
    assert as_written(read_events(log, "too-late")) == as_written(LATE[grouping])
    assert result.total("dropped") == 4
    assert not result.dead_letters
    quiet_log, quiet = run_twice(pipeline(grouping, sf.Settings(partitions=2, rows_only=rows_only), late_to=None))
    assert ordered(read_events(log)) == ordered(read_events(quiet_log)), "results are those without it"
    assert quiet.total("dropped") == 4


def test_sessions_tell_what_is_too_late_alike_on_columns_and_on_rows() -> None:
    def told(*, rows_only: bool) -> tuple[list[Any], list[Any]]:
        p = sf.Pipeline("p", settings=sf.Settings(partitions=2, rows_only=rows_only))
        events = p | sf.ReadFromTopic("in", schema={"k": str, "v": int, "at": int}, event_time="at")
        windowed = events | sf.WindowInto(Sessions(5), allowed_lateness=20, late_to="too-late")
        GROUPINGS["Aggregate"](windowed) | sf.WriteToTopic("out")
        log, result = run_twice(p)
        assert result.total("dropped") == 4
        return as_written(read_events(log, "too-late")), as_written(read_events(log))

    assert told(rows_only=False) == told(rows_only=True)
    assert len(told(rows_only=False)[0]) == 3, "two of them are in one session"


def test_late_records_have_the_time_of_results() -> None:
    log, _ = run_twice(pipeline("CombinePerKey"))
    assert set(read_times_us(log, "too-late")) == {9_999_999, 19_999_999}


def test_topic_for_what_is_late_is_made_at_once_and_said_in_the_plan() -> None:
    p = pipeline("Aggregate")
    log = sf.open_log("memory://")
    make_topic(log, partitions=1)
    end_topic(log)
    p.run(on=log)
    assert read_events(log, "too-late") == []
    assert "what is too late goes to topic 'too-late'" in p.explain()


def test_state_goes_on_when_late_to_is_added_or_taken_away() -> None:
    log = sf.open_log("memory://")
    make_topic(log, partitions=1)
    publish(log, FIRST)
    pipeline("Aggregate", late_to=None).run(on=log, until="drained")
    publish(log, THEN)
    pipeline("Aggregate").run(on=log, until="drained")
    assert sum(record["late_events"] for record in read_events(log, "too-late")) == 4


def test_late_record_that_is_no_json_is_a_dead_letter() -> None:
    p = sf.Pipeline("p", settings=SETTINGS)
    events = p | sf.ReadFromTopic("in", schema={"k": str, "v": int, "at": int}, event_time="at")
    windowed = events | sf.WindowInto(sf.FixedWindows(10), late_to="too-late")
    windowed | sf.Map(lambda row: (row["k"], object)) | sf.GroupByKey()
    _, result = run_twice(p)
    assert len(result.dead_letters) >= 1
    assert all("can't be published as JSON" in letter["error"] for letter in result.dead_letters)


def test_column_of_a_late_record_is_refused_as_an_aggregates_name() -> None:
    p = sf.Pipeline("p")
    events = p | sf.ReadFromTopic("in", schema={"v": int})
    with pytest.raises(sf.PipelineError, match=r"column 'late_events' says what came too late \(late_to\)"):
        events | sf.WindowInto(sf.FixedWindows(10), late_to="x") | sf.Aggregate(late_events=sf.Count())


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
@pytest.mark.parametrize("grouping", ["Aggregate", "CombinePerKey", "state"])
def test_death_at_any_commit_loses_and_doubles_nothing_of_what_is_late(grouping: str, applied: bool) -> None:
    def begun() -> tuple[Log, Any]:
        log = sf.open_log("memory://")
        make_topic(log, partitions=1)
        publish(log, FIRST)
        p = pipeline(grouping)
        p.run(on=log, until="drained")
        for event in THEN:
            publish(log, [event])
        end_topic(log)
        return log, launch(p, log, SETTINGS)

    def work(plan: Any, log: Log, clock: ManualClock, name: str) -> None:
        Worker(plan, log, None, worker_id=name, clock=clock, until=lambda seen: is_finished(plan, seen)).run()

    def late(log: Log) -> Counter[str]:
        found: Counter[str] = Counter()
        for record in read_events(log, "too-late"):
            row = written(record)
            found[f"{row.get('k', row.get('key'))} {row['window_start']} events"] += row["late_events"]
            found[f"{row.get('k', row.get('key'))} {row['window_start']} sum"] += row.get("s", row.get("value"))
        tasks = log.snapshot("p").tasks.values()
        found["dropped"] = int(sum(task.counters.get("dropped", 0) for task in tasks))
        return found

    log, plan = begun()
    wrapped = WrappedLog(log, lambda n, commit: commit())
    work(plan, cast(Log, wrapped), ManualClock(), "only")
    expected = late(log)
    assert expected["dropped"] == 4
    assert (expected["a 1970-01-01T00:00:00Z events"], expected["a 1970-01-01T00:00:00Z sum"]) == (2, 9)
    assert wrapped.commits > 3
    for k in range(wrapped.commits):
        (log, plan), clock = begun(), ManualClock()
        with pytest.raises(Died):
            work(plan, dying(log, k, applied=applied), clock, "first")
        clock.advance(SETTINGS.lease_s + 1)
        work(plan, log, clock, "second")
        assert late(log) == expected, f"died at commit {k}"
        assert dead_letters(log, "p") == []


@pytest.mark.parametrize("windows", [sf.Sessions(10), sf.FixedWindows(10)], ids=["sessions", "a trigger"])
def test_what_a_trigger_takes_no_more_is_told_as_well(windows: Any) -> None:
    log = sf.open_log("memory://")
    make_topic(log, partitions=1)
    p = sf.Pipeline("p", settings=SETTINGS)
    events = p | sf.ReadFromTopic("in", schema={"k": str, "v": int, "at": int}, event_time="at")
    early = sf.trigger.AfterWatermark(early=sf.trigger.AfterCount(1), late=sf.trigger.AfterCount(1))
    into = sf.WindowInto(windows, early, sf.AccumulationMode.DISCARDING, allowed_lateness=20, late_to="too-late")
    pairs(events | into) | sf.CombinePerKey(sum) | sf.WriteToTopic("out")
    publish(log, FIRST)
    p.run(on=log, until="drained")
    publish(log, THEN)
    end_topic(log)
    result = p.run(on=log)

    late = Counter[str]()
    for record in read_events(log, "too-late"):
        late[record["key"]] += record["value"]
    assert late == {"a": 4 + 5 + 8, "c": 6}
    assert result.total("dropped") == sum(record["late_events"] for record in read_events(log, "too-late")) == 4
