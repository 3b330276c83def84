"""`late_to` of joins by time: a row that comes too late to be joined is in a topic, exactly once, and still counted."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from crash_making import die_once, work
from pipelines import dead_letters, end_topic, make_topic, ordered, publish_json, read_events, read_times_us

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.runtime.launch import launch
from streamflow.testing.crashing import WrappedLog
from streamflow.topics.protocol import Log

SETTINGS = sf.Settings(partitions=2, step_events_max=2, commit_events_max=1)
FIRST = {"l": [("a", 1, 10), ("b", 2, 50)], "r": [("a", 3, 11), ("b", 4, 50)]}
"""By topic (key, value, second): the watermark stands at 50 s then."""
THEN = {"l": [("a", 5, 12), ("b", 6, 49), ("c", 7, 60)], "r": [("a", 8, 20), ("a", 9, 30), ("c", 10, 61)]}
LATE = {
    "interval": [("a", 5, 12, "left"), ("a", 8, 20, "right"), ("a", 9, 30, "right")],
    "as of": [("a", 5, 12, "left"), ("b", 6, 49, "left"), ("a", 8, 20, "right"), ("a", 9, 30, "right")],
    "table": [("a", 5, 12, "left"), ("b", 6, 49, "left")],
}
"""The interval waits 5 s, the others not at all; what a table says late counts from then on."""

Join = Callable[[Any, Any], Any]
LATE_TO: dict[str, Any] = {"late_to": "too-late"}
COLUMNS: dict[str, Join] = {
    "interval": lambda left, right: left | sf.IntervalJoin(right, on="k", lower=-5, upper=5, how="full", **LATE_TO),
    "as of": lambda left, right: left | sf.AsOfJoin(right, on="k", tolerance=9, **LATE_TO),
    "table": lambda left, right: left | sf.TableJoin(right, on="k", **LATE_TO),
}
PAIRS: dict[str, Join] = {
    "interval": lambda left, right: (left, right) | sf.IntervalJoin.Full(-5, 5, **LATE_TO),
    "as of": lambda left, right: (left, right) | sf.AsOfJoin.Left(9, **LATE_TO),
    "table": lambda left, right: (left, right) | sf.TableJoin.Inner(**LATE_TO),
}


def pipeline(join: Join, *, pairs: bool = False, into: sf.WindowInto | None = None) -> sf.Pipeline:
    p = sf.Pipeline("p", settings=SETTINGS)
    schema = {"k": str, "v": int, "at": int}
    left, right = (p | topic >> sf.ReadFromTopic(topic, schema=schema, event_time="at") for topic in ("l", "r"))
    if into is not None:
        left = left | into
    if pairs:
        left, right = (
            side | f"Pair {i}" >> sf.Map(lambda row: (row["k"], row["v"])) for i, side in enumerate((left, right))
        )
    join(left, right) | sf.WriteToTopic("out")
    return p


def publish(log: Log, events: dict[str, list[tuple[str, int, int]]]) -> None:
    for topic, rows in events.items():
        for k, v, at in rows:
            publish_json(log, [{"k": k, "v": v, "at": at * 1_000_000}], topic=topic)


def first_log(first: sf.Pipeline) -> Log:
    log = sf.open_log("memory://")
    for topic in FIRST:
        make_topic(log, topic, partitions=1)
    publish(log, FIRST)
    first.run(on=log, until="drained")
    publish(log, THEN)
    for topic in FIRST:
        end_topic(log, topic)
    return log


def told(log: Log) -> list[Any]:
    """What is in the topic: (key, value, second, side)."""
    times = read_times_us(log, "too-late")
    return ordered(
        (row.get("k", row.get("key")), row.get("v", row.get("value")), time_us // 1_000_000, row["late_side"])
        for row, time_us in zip(read_events(log, "too-late"), times, strict=True)
    )


@pytest.mark.parametrize("pairs", [False, True], ids=["columns", "pairs"])
@pytest.mark.parametrize("name", LATE)
def test_rows_that_come_too_late_are_in_the_topic_with_their_own_times(name: str, pairs: bool) -> None:
    p = pipeline((PAIRS if pairs else COLUMNS)[name], pairs=pairs)
    log = first_log(p)
    result = p.run(on=log)
    assert told(log) == ordered(LATE[name])
    assert result.total("dropped") == len(LATE[name])
    assert not result.dead_letters
    fields = {"key", "value", "late_side"} if pairs else {"k", "v", "at", "late_side"}
    assert all(set(row) == fields for row in read_events(log, "too-late"))


def test_the_topic_of_the_lefts_windows_is_taken_if_none_is_given() -> None:
    def interval(left: Any, right: Any) -> Any:
        return left | sf.IntervalJoin(right, on="k", lower=-5, upper=5)

    log = first_log(pipeline(interval))
    p = pipeline(interval, into=sf.WindowInto(sf.FixedWindows(10), late_to="too-late"))
    p.run(on=log)
    assert told(log) == ordered(LATE["interval"]), "also of state that was there before"
    assert "what is too late goes to topic 'too-late'" in p.explain()


def test_what_can_not_be_told_is_refused_when_it_is_built() -> None:
    p = sf.Pipeline()
    left, right = (p | t >> sf.ReadFromTopic(t, schema={"k": str, "late_side": str}, bounded=True) for t in ("l", "r"))
    with pytest.raises(sf.PipelineError, match=r"column 'late_side' says what came too late \(late_to\)"):
        left | sf.TableJoin(right, on="k", late_to="x")
    with pytest.raises(sf.PipelineError, match="late_to takes the name of a topic, not 7"):
        left | sf.AsOfJoin(right, on="k", late_to=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
@pytest.mark.parametrize("pairs", [False, True], ids=["columns", "pairs"])
def test_death_at_any_commit_loses_and_doubles_nothing_of_what_is_late(pairs: bool, applied: bool) -> None:
    def built(settings: sf.Settings) -> sf.Pipeline:
        return pipeline((PAIRS if pairs else COLUMNS)["interval"], pairs=pairs)

    log = first_log(built(SETTINGS))
    wrapped = WrappedLog(log, lambda n, commit: commit())
    work(launch(built(SETTINGS), log, SETTINGS), cast(Log, wrapped), ManualClock(), "only")
    assert told(log) == ordered(LATE["interval"])
    out = ordered(read_events(log, "out"))
    assert wrapped.commits > 3
    for k in range(wrapped.commits):
        log = first_log(built(SETTINGS))
        die_once(built, SETTINGS, log, k, applied=applied)
        assert told(log) == ordered(LATE["interval"]), f"died at commit {k}"
        assert ordered(read_events(log, "out")) == out
        assert dead_letters(log, "p") == []
