"""What once lost events, or left them waiting: ends of topics, retention, runs begun anew, workers taken for dead."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from pipelines import SECOND_US, dead_letters, end_topic, make_topic, ordered, publish_json, read_events

import streamflow as sf
from streamflow.base.clock import ManualClock, SystemClock
from streamflow.base.errors import ConflictError, NotFoundError
from streamflow.engine.context import StepContext
from streamflow.runtime.assignment import coordinate
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker
from streamflow.stores.table import Catalog
from streamflow.topics.embedded import EmbeddedLog
from streamflow.topics.protocol import Assignment, Log, TopicConfig, WorkerInfo

SETTINGS = sf.Settings(partitions=2, poll_s=0.02, heartbeat_s=0.02, sink_interval_s=0.0)


def count_per_ten_seconds(p: sf.Pipeline, events: Any) -> None:
    windowed = events | sf.WindowInto(sf.FixedWindows(10)) | sf.Map(lambda event: (event["k"], 1))
    windowed | sf.CombinePerKey(sum) | sf.Map(list) | sf.WriteToTopic("out")


def test_an_ended_topic_does_not_close_the_windows_of_one_that_goes_on() -> None:
    log = sf.open_log("memory://")
    for topic in ("in", "later", "out"):
        make_topic(log, topic, partitions=1)
    p = sf.Pipeline("p", on=log, settings=SETTINGS)
    both = (p | sf.ReadFromTopic("in", bounded=True), p | sf.ReadFromTopic("later", bounded=True))
    count_per_ten_seconds(p, both | sf.Flatten())
    publish_json(log, [{"k": "a"}], [2 * SECOND_US])
    end_topic(log)
    p.run(until="drained")
    publish_json(log, [{"k": "a"}], [3 * SECOND_US], topic="later")
    end_topic(log, "later")
    assert p.run().total("dropped") == 0
    assert read_events(log) == [["a", 2]]


def test_values_of_create_do_not_close_the_windows_of_a_topic_that_goes_on() -> None:
    log = sf.open_log("memory://")
    for topic in ("in", "out"):
        make_topic(log, topic, partitions=1)
    p = sf.Pipeline("p", on=log, settings=SETTINGS)
    both = (p | sf.Create([sf.TimestampedValue({"k": "a"}, 1)]), p | sf.ReadFromTopic("in", bounded=True))
    count_per_ten_seconds(p, both | sf.Flatten())
    publish_json(log, [{"k": "a"}], [2 * SECOND_US])
    p.run(until="drained")
    publish_json(log, [{"k": "a"}, {"k": "a"}], [3 * SECOND_US, 25 * SECOND_US])
    end_topic(log)
    assert p.run().total("dropped") == 0
    assert ordered(read_events(log)) == [["a", 1], ["a", 3]]


def test_a_reader_goes_on_behind_what_retention_took_and_counts_it(tmp_path: Path) -> None:
    clock = ManualClock(1_000 * SECOND_US)
    log = EmbeddedLog(tmp_path, clock=clock)
    log.create_topic("in", TopicConfig(1, retention_s=10))
    make_topic(log, "out")
    publish_json(log, [{"n": 1}, {"n": 2}])
    clock.advance(11)
    log.prune()
    p = sf.Pipeline("p", on=log, settings=SETTINGS)
    p | sf.ReadFromTopic("in") | sf.WriteToTopic("out")
    assert p.run(until="drained").total("expired") == 2
    publish_json(log, [{"n": 3}])
    result = p.run(until="drained")
    assert (result.total("expired"), read_events(log)) == (2, [{"n": 3}])
    log.close()


def rows_of(data: Path) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = Catalog(data / "tables").read("t").rows()
    return ordered(rows)


def write_to_table(log: Log | str, data: Path, values: list[dict[str, Any]], key: list[str]) -> sf.Pipeline:
    p = sf.Pipeline("p", on=log, data=data, settings=SETTINGS)
    p | sf.Create(values) | sf.WriteToTable("t", key=key)
    return p


def test_a_run_on_another_log_writes_all_its_rows_to_the_table_of_an_earlier_one(tmp_path: Path) -> None:
    write_to_table("memory://", tmp_path, [{"n": 1}, {"n": 2}], []).run()
    write_to_table("memory://", tmp_path, [{"n": 3}], []).run()
    write_to_table("memory://", tmp_path, [{"n": 4}, {"n": 5}, {"n": 6}, {"n": 7}], []).run()
    assert rows_of(tmp_path) == [(1,), (2,), (3,), (4,), (5,), (6,), (7,)]


def test_rows_of_a_later_run_are_the_newest_of_their_key(tmp_path: Path) -> None:
    write_to_table("memory://", tmp_path, [{"k": k, "n": 0} for k in "abc"], ["k"]).run()
    write_to_table("memory://", tmp_path, [{"k": "b", "n": 1}], ["k"]).run()
    assert rows_of(tmp_path) == [("a", 0), ("b", 1), ("c", 0)]


def test_a_pipeline_that_was_reset_writes_its_rows_again(tmp_path: Path) -> None:
    log = sf.open_log(tmp_path)
    write_to_table(log, tmp_path, [{"n": 1}, {"n": 2}], []).run()
    log.reset_pipeline("p")
    p = write_to_table(log, tmp_path, [{"n": 1}, {"n": 2}], [])
    p.run()
    p.run()
    assert rows_of(tmp_path) == [(1,), (1,), (2,), (2,)]
    log.close()


def test_a_result_of_the_global_window_can_be_windowed_again() -> None:
    log = sf.open_log("memory://")
    make_topic(log, "out", partitions=1)
    p = sf.Pipeline("p", on=log, settings=SETTINGS)
    total = p | sf.Create([1, 2]) | sf.CombineGlobally(sum)
    again = total | sf.WindowInto(sf.FixedWindows(10)) | sf.Map(lambda n: ("all", n)) | sf.CombinePerKey(sum)
    again | sf.Map(list) | sf.WriteToTopic("out")
    p.run()
    assert read_events(log) == [["all", 3]]


def test_values_of_create_can_be_published_as_they_are() -> None:
    log = sf.open_log("memory://")
    make_topic(log, "out", partitions=1)
    p = sf.Pipeline("p", on=log, settings=SETTINGS)
    p | sf.Create([1, "two", {"three": 3}]) | sf.WriteToTopic("out")
    p.run()
    assert read_events(log) == [1, "two", {"three": 3}]


class Reciprocal(sf.CombineFn):
    def create_accumulator(self) -> int:
        return 0

    def add_input(self, accumulator: int, element: int) -> int:
        return accumulator + element

    def merge_accumulators(self, accumulators: Any) -> int:
        return sum(accumulators)

    def extract_output(self, accumulator: int) -> float:
        return 1 / accumulator


def test_a_group_without_a_result_is_a_dead_letter_and_the_others_go_on() -> None:
    log = sf.open_log("memory://")
    make_topic(log, "out", partitions=1)
    p = sf.Pipeline("p", on=log, settings=SETTINGS)
    p | sf.Create([("a", 0), ("b", 2)]) | sf.CombinePerKey(Reciprocal()) | sf.Map(list) | sf.WriteToTopic("out")
    p.run()
    assert read_events(log) == [["b", 0.5]]
    (letter,) = dead_letters(log, "p")
    assert (letter["input"], letter["transform"]) == ("a", "CombinePerKey(Reciprocal)")
    assert "ZeroDivisionError" in letter["error"]


def test_any_error_of_a_python_function_inside_a_query_loses_only_its_row() -> None:
    log = sf.open_log("memory://")
    for topic in ("in", "out"):
        make_topic(log, topic, partitions=1)
    p = sf.Pipeline("p", on=log, settings=SETTINGS)
    found = sf.col("n").map_elements(lambda n: {1: 10, 3: 30}[n], return_dtype=pl.Int64)
    p | sf.ReadFromTopic("in", schema={"n": pl.Int64}) | sf.Select(found=found) | sf.WriteToTopic("out")
    publish_json(log, [{"n": 1}, {"n": 2}, {"n": 3}])
    assert p.run(until="drained").total("dead_lettered") == 1
    assert read_events(log) == [{"found": 10}, {"found": 30}]


def while_running(p: sf.Pipeline, act: Callable[[], None]) -> None:
    """Run the pipeline to its end; `act` is called once it has a member."""
    log = p.on
    assert not isinstance(log, (str, Path))
    failures: list[BaseException] = []

    def run() -> None:
        try:
            p.run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while p.name not in log.pipelines() or not log.snapshot(p.name).workers:
        log.wait_changed(0.01)
    act()
    thread.join(20)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def pass_through(log: Log) -> sf.Pipeline:
    for topic in ("in", "out"):
        make_topic(log, topic, partitions=1)
    p = sf.Pipeline("p", on=log, settings=SETTINGS)
    p | sf.ReadFromTopic("in", bounded=True) | sf.WriteToTopic("out")
    return p


def test_a_run_that_was_taken_for_dead_joins_again_and_finishes() -> None:
    log = sf.open_log("memory://")
    p = pass_through(log)

    def bury() -> None:
        log.reassign("p", lambda seen: Assignment(dead=frozenset(seen.workers)))
        while not log.snapshot("p").workers:
            log.wait_changed(0.01)
        publish_json(log, [{"n": 1}])
        end_topic(log)

    while_running(p, bury)
    assert read_events(log) == [{"n": 1}]


def test_a_run_whose_pipeline_was_replaced_meanwhile_is_refused() -> None:
    log = sf.open_log("memory://")

    def replace() -> None:
        with pytest.raises(ConflictError):
            launch(other, log, other.settings)
        log.reset_pipeline("p")
        launch(other, log, other.settings)

    other = sf.Pipeline("p", on=log, settings=SETTINGS)
    other | sf.Create([1]) | sf.WriteToTopic("out")
    with pytest.raises((ConflictError, NotFoundError)):
        while_running(pass_through(log), replace)


def test_a_worker_that_slept_longer_than_its_lease_does_not_bury_itself() -> None:
    log = sf.open_log("memory://")
    launch(pass_through(log), log, SETTINGS)
    log.join(WorkerInfo("sleeper", "p", 1, 1.0, heartbeat_us=0))
    log.join(WorkerInfo("silent", "p", 1, 1.0, heartbeat_us=0))
    decided = log.reassign("p", coordinate(60 * SECOND_US, 10.0, lambda worker: True, myself="sleeper"))
    assert decided.dead == {"silent"}
    assert {state.assigned for state in log.snapshot("p").tasks.values()} == {"sleeper"}


class Troubled:
    """A log that can't take signs of life at first; everything else works."""

    def __init__(self, log: Log, failures: int) -> None:
        self._log, self.failures, self.recovered = log, failures, threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def heartbeat(self, worker: str, now_us: int, *, draining: bool = False) -> bool:
        if self.failures:
            self.failures -= 1
            raise OSError("the disk is full")
        self.recovered.set()
        return self._log.heartbeat(worker, now_us, draining=draining)


def test_signs_of_life_go_on_after_one_could_not_be_given() -> None:
    log = sf.open_log("memory://")
    p = pass_through(log)
    plan = launch(p, log, SETTINGS)
    troubled: Any = Troubled(log, failures=2)
    worker = Worker(plan, troubled, None, until=lambda seen: is_finished(plan, seen), clock=SystemClock())
    thread = threading.Thread(target=worker.run)
    thread.start()
    assert troubled.recovered.wait(20)
    end_topic(log)
    thread.join(20)
    assert not thread.is_alive()


def test_letters_of_one_error_share_its_traceback_and_keep_no_frames() -> None:
    context = StepContext()
    bad = context.on_bad("Map")
    nothing: dict[str, int] = {}
    for n in range(3):
        try:
            try:
                nothing["missing"]
            except KeyError as missing:
                raise ValueError(n) from missing
        except ValueError as error:
            bad(n, n, error)
            bad(n, n, error)
    letters = [orjson.loads(letter.to_json("in", 0)) for letter in context.dead]
    assert [letter["error"] for letter in letters] == [f"ValueError: {n}" for n in (0, 0, 1, 1, 2, 2)]
    for letter in letters:
        assert 'nothing["missing"]' in letter["traceback"]
        assert letter["traceback"].index("KeyError: 'missing'") < letter["traceback"].index(letter["error"])
    assert len({id(letter.trace[0]) for letter in context.dead}) == 1
    assert not any(letter.error.__traceback__ for letter in context.dead)


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_an_error_that_can_not_be_printed_is_a_dead_letter_too() -> None:
    context = StepContext()
    context.on_bad("Map")(1, 1, UnspeakableError())
    assert "UnspeakableError" in orjson.loads(context.dead[0].to_json("in", 0))["error"]
