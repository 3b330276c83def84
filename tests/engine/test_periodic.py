"""PeriodicImpulse and PeriodicSequence: what comes when, with which watermark, and exactly once whatever is killed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pipelines import dead_letters, make_topic, ordered, publish_json, read_events, read_times_us

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_drained, is_finished
from streamflow.runtime.worker import Worker
from streamflow.testing.crashing import Died, dying
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.test_stream import TestStream
from streamflow.testing.util import assert_that, equal_to
from streamflow.topics.protocol import Log
from streamflow.transforms.periodicsequence import PeriodicImpulse, PeriodicSequence
from streamflow.utils.timestamp import Timestamp

SETTINGS = sf.Settings(partitions=2, step_events_max=3, commit_events_max=1)


def run(p: sf.Pipeline, log: Log, *moments: float) -> None:
    """Drained at each of these seconds of a clock that stands still in between."""
    clock = ManualClock()
    for moment in moments:
        clock.advance(moment - clock.now_us() / 1e6)
        p.run(on=log, clock=clock, until="drained")


def test_elements_come_when_the_clock_has_come_to_them_and_none_is_missed() -> None:
    log = sf.open_log("memory://")
    p = sf.Pipeline("p", settings=SETTINGS)
    p | PeriodicImpulse(start_timestamp=10, fire_interval=5) | sf.WriteToTopic("out")
    run(p, log, 9.9)
    assert read_events(log) == []
    run(p, log, 10)
    assert read_events(log) == [10.0]
    run(p, log, 14.9, 31)
    assert read_events(log) == [10.0, 15.0, 20.0, 25.0, 30.0]
    assert read_times_us(log) == [10_000_000, 15_000_000, 20_000_000, 25_000_000, 30_000_000]


def test_watermark_is_the_time_of_the_next_one() -> None:
    log = sf.open_log("memory://")
    p = sf.Pipeline("p", settings=SETTINGS)
    ticks = p | PeriodicImpulse(start_timestamp=0, fire_interval=5, data=["a", "b"], stop_timestamp=30)
    counted = ticks | sf.WindowInto(sf.FixedWindows(10)) | sf.combiners.Count.Globally().without_defaults()
    counted | sf.WriteToTopic("out")
    run(p, log, 4)
    assert read_events(log) == []
    run(p, log, 5)
    assert read_events(log) == [2], "the next one is in the next window"
    run(p, log, 9, 15)
    assert read_events(log) == [2, 2]
    run(p, log, 100)
    assert read_events(log) == [2, 2, 2]


def test_it_ends_before_its_stop_and_then_the_run_does() -> None:
    with TestPipeline() as p:
        ticks = p | PeriodicImpulse(start_timestamp=3, stop_timestamp=5, fire_interval=0.5, apply_windowing=True)
        windows = ticks | sf.Map(lambda at, window=sf.DoFn.WindowParam: (at, float(window.start), float(window.end)))
        assert_that(windows, equal_to([(3.0, 3.0, 3.5), (3.5, 3.5, 4.0), (4.0, 4.0, 4.5), (4.5, 4.5, 5.0)]))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"data": ["a", "b", "c"]}, [("a", 0), ("b", 1), ("c", 2)]),
        ({"data": ["a", "b"], "stop_timestamp": 5}, [("a", 0), ("b", 1), ("a", 2), ("b", 3), ("a", 4)]),
        ({"data": [(Timestamp(7), "a"), (Timestamp(2), "b")]}, [("a", 7), ("b", 2)]),
        ({"stop_timestamp": Timestamp(2)}, [(0.0, 0), (1.0, 1)]),
    ],
)
def test_data_is_given_in_turn_with_its_times_if_it_has_these(options: Any, expected: list[Any]) -> None:
    with TestPipeline() as p:
        ticks = p | PeriodicImpulse(start_timestamp=0, fire_interval=1, **options)
        timed = ticks | sf.Map(lambda value, at=sf.DoFn.TimestampParam: (value, int(at)))
        assert_that(timed, equal_to(expected))


def test_sequences_run_beside_each_other_and_what_is_none_is_a_dead_letter() -> None:
    spans = [(0, 4, 2), (Timestamp(1), Timestamp(3), 1.0), (5, 1, 1), (0, 9, 0), "x"]
    with TestPipeline(dead_letters_allowed=True) as p:
        assert_that(p | sf.Create(spans) | PeriodicSequence(), equal_to([0.0, 2.0, 1.0, 2.0]))
    assert sorted(letter["input"] for letter in p.result.dead_letters if isinstance(letter["input"], str)) == ["x"]
    assert p.result.total("dead_lettered") == 2


def test_a_test_stream_says_what_time_it_is() -> None:
    stream = TestStream().advance_watermark_to(0).advance_processing_time(11).add_elements(["a"])
    with TestPipeline() as p:
        p | stream | "Seen" >> sf.Map(str)
        ticks = p | PeriodicImpulse(start_timestamp=0, fire_interval=5)
        ticks | sf.Map(seen.append)
        seen.clear()
    assert seen == [0.0, 5.0, 10.0]


seen: list[float] = []


def test_a_side_input_changes_with_each_impulse() -> None:
    log = sf.open_log("memory://")
    make_topic(log, partitions=1)
    p = sf.Pipeline("p", settings=SETTINGS)
    rates = p | PeriodicImpulse(start_timestamp=0, fire_interval=10, data=["low", "high"], apply_windowing=True)
    events = p | sf.ReadFromTopic("in", schema={"at": int}, event_time="at") | sf.WindowInto(sf.FixedWindows(10))
    told = events | sf.Map(lambda row, rate: [row["at"] // 1_000_000, rate], sf.pvalue.AsSingleton(rates))
    told | sf.WriteToTopic("out")
    publish_json(log, [{"at": at * 1_000_000} for at in (1, 12, 3)])
    run(p, log, 11)
    assert ordered(read_events(log)) == ordered([[1, "low"], [3, "low"], [12, "high"]])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fire_interval": 0}, "interval is not above 0"),
        ({"start_timestamp": 5, "stop_timestamp": 4}, "before it begins"),
        ({"data": []}, "needs data"),
        ({"start_timestamp": 0, "stop_timestamp": 999, "data": [(Timestamp(0), 1)]}, "too few until 999"),
    ],
)
def test_what_can_not_work_is_refused_when_built(options: Any, words: str) -> None:
    with pytest.raises(sf.PipelineError, match=words):
        PeriodicImpulse(**options)


def test_start_by_default_is_when_it_was_first_launched() -> None:
    def built() -> sf.Pipeline:
        p = sf.Pipeline("p", settings=SETTINGS)
        p | PeriodicImpulse(fire_interval=3600) | sf.WriteToTopic("out")
        return p

    log = sf.open_log("memory://")
    for _ in range(3):
        built().run(on=log, until="drained")
    assert len(read_events(log)) == 1


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
@pytest.mark.parametrize("place", ["memory", "folder"])
def test_death_at_any_commit_misses_and_doubles_nothing(place: str, applied: bool, tmp_path: Path) -> None:
    def built() -> sf.Pipeline:
        p = sf.Pipeline("p", settings=SETTINGS)
        ticks = p | PeriodicImpulse(start_timestamp=0, stop_timestamp=12, fire_interval=1)
        ticks | "Ticks" >> sf.WriteToTopic("out")
        windows = ticks | sf.WindowInto(sf.FixedWindows(4)) | sf.CombineGlobally(sum).without_defaults()
        windows | "Sums" >> sf.WriteToTopic("sums")
        return p

    def work(log: Log, clock: ManualClock, name: str, done: Callable[..., bool]) -> None:
        plan = launch(built(), log, SETTINGS)
        Worker(plan, log, None, worker_id=name, clock=clock, until=lambda seen: done(plan, seen)).run()

    deaths = 0
    for k in range(0, 40, 1 if place == "memory" else 5):
        log = sf.open_log("memory://" if place == "memory" else tmp_path / f"log{k}")
        clock, mortal = ManualClock(), dying(log, k, applied=applied)
        try:
            for second in (0, 5, 20):
                clock.advance(second - clock.now_us() / 1e6)
                work(mortal, clock, "first", is_finished if second == 20 else is_drained)
        except Died:
            deaths += 1
            clock.advance(SETTINGS.lease_s + 20)
            work(log, clock, "second", is_finished)
        assert read_events(log) == [float(second) for second in range(12)], f"died at commit {k}"
        assert sorted(read_events(log, "sums")) == [6, 22, 38]
        assert dead_letters(log, "p") == []
        log.close()
    assert deaths >= (8 if place == "memory" else 2)
