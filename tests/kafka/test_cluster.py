"""Pipelines on a real Kafka: the same results as in memory, what a task's commits promise, and what is refused."""

import re
import secrets
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from aiokafka.errors import KafkaConnectionError
from kafka.cluster_run import ClusterRun, wait_for
from pipelines import end_topic, make_topic, ordered, publish_json, read_events
from typer.testing import CliRunner

import streamflow as sf
from streamflow.base.errors import ConflictError, DataError, NotFoundError, PipelineError
from streamflow.cli.main import app
from streamflow.runtime.cluster import ClusterLog
from streamflow.runtime.cluster.holding import Held, claimed
from streamflow.runtime.cluster.membership import GUARANTEE
from streamflow.topics import codec, open_log
from streamflow.topics.protocol import (
    Log,
    SegmentInfo,
    StageInput,
    StateSegment,
    StepCommit,
    TaskId,
    TopicConfig,
    WorkerInfo,
)

pytestmark = pytest.mark.kafka
SETTINGS = sf.Settings(partitions=2)


@pytest.fixture
def cluster(kafka_url: str) -> Iterator[ClusterLog]:
    handle = ClusterLog(kafka_url)
    yield handle
    handle.close()


@pytest.fixture
def name() -> str:
    return f"p{secrets.token_hex(4)}"


def windows(events: Any) -> Any:
    return (
        events
        | sf.WindowInto(sf.FixedWindows(10))
        | sf.Aggregate(by=["key"], n=sf.Count(), most=sf.Max("value"))
        | sf.Select("key", "window_start", "n", "most")
    )


def grouped_by_key(events: Any) -> Any:
    return (
        events
        | "Pair" >> sf.Map(lambda event: (event["key"], event["value"]))
        | sf.WindowInto(sf.Sessions(5))
        | sf.GroupByKey()
        | "Name" >> sf.Map(lambda pair: {"key": pair[0], "values": sorted(pair[1])})
    )


def with_a_side_input(events: Any) -> Any:
    total = events | "Value" >> sf.Map(lambda event: event["value"]) | sf.CombineGlobally(sum)
    return events | "Share" >> sf.Map(
        lambda event, of: {"value": event["value"], "of": of}, of=sf.pvalue.AsSingleton(total)
    )


def with_bad_events(events: Any) -> Any:
    return events | "Invert" >> sf.Map(lambda event: {"inverse": 60 // event["value"]})


BUILDERS = [windows, grouped_by_key, with_a_side_input, with_bad_events]


def results(log: Log, name: str, build: Callable[[Any], Any]) -> tuple[list[Any], list[Any]]:
    """What the pipeline gives, and what it could not work off."""
    make_topic(log, f"{name}-in", partitions=2)
    make_topic(log, f"{name}-out", partitions=2)
    for partition in range(2):
        events = [{"key": n % 3, "value": n} for n in range(40)]
        times_us = [n * 1_000_000 for n in range(40)]
        publish_json(log, events, times_us, topic=f"{name}-in", partition=partition)
    end_topic(log, f"{name}-in")
    pipeline = sf.Pipeline(name, settings=SETTINGS)
    schema = {"key": pl.Int64(), "value": pl.Int64()} if build is windows else None
    events = pipeline | sf.ReadFromTopic(f"{name}-in", schema=schema, disorder=60, bounded=True)
    build(events) | "Write" >> sf.WriteToTopic(f"{name}-out")
    bad = [letter["input"] for letter in pipeline.run(on=log).dead_letters]
    return ordered(read_events(log, f"{name}-out")), ordered(bad)


@pytest.mark.parametrize("build", BUILDERS)
def test_pipeline_gives_what_it_gives_in_memory(cluster: ClusterLog, name: str, build: Callable[[Any], Any]) -> None:
    memory = open_log("memory://")
    expected = results(memory, name, build)
    assert expected[0]
    assert results(cluster, name, build) == expected


def task_of(cluster: ClusterLog, name: str) -> TaskId:
    """Of a pipeline of one stage on a topic of one partition."""
    for topic in ("in", "out"):
        cluster.create_topic(f"{name}-{topic}", TopicConfig(partitions=1))
    cluster.register_pipeline(name, "f", [StageInput("s", f"{name}-in")])
    return TaskId(name, "s", 0)


def claim(cluster: ClusterLog, task: TaskId, worker: str) -> Held:
    loop = cluster._loop
    view = loop.run(cluster._open_view(task.pipeline))
    place = loop.run(cluster._known(task.pipeline)).place(task)
    held = loop.run(claimed(cluster._client, view.last, place, worker, 100, cluster._now_ms))
    assert held is not None
    return held


def step(task: TaskId, epoch: int, offset: int, *, drop: tuple[int, ...] = ()) -> StepCommit:
    """One event to the output, and a segment of several messages."""
    out = codec.encode_json(f"{task.pipeline}-out", 0, [b"%d" % offset], [0])
    segment = StateSegment(SegmentInfo(offset, offset, 0), b"%d" % offset * 150)
    return StepCommit(task, epoch, offset, offset, [out], [segment], drop, {"events_in": float(offset)})


def given(cluster: ClusterLog, task: TaskId) -> list[int]:
    return [int(event) for event in read_events(cluster, f"{task.pipeline}-out")]


def test_whoever_claims_a_task_finds_what_was_committed_and_ends_the_one_before(cluster: ClusterLog, name: str) -> None:
    task, run = task_of(cluster, name), cluster._loop.run
    zombie = claim(cluster, task, "a")
    assert [run(zombie.commit(step(task, 1, n), cluster._now_ms)) for n in (1, 2)] == [True, True]
    assert run(zombie.commit(step(task, 1, 3, drop=(1,)), cluster._now_ms))
    owner = claim(cluster, task, "b")
    assert (owner.record.epoch, owner.record.offset, owner.record.counters) == (2, 3, {"events_in": 3.0})
    assert sorted(owner.segments) == [2, 3]
    assert not run(zombie.commit(step(task, 1, 4), cluster._now_ms))
    assert run(owner.commit(step(task, 2, 4), cluster._now_ms))
    assert given(cluster, task) == [1, 2, 3, 4]
    # Read with the claim, read from Kafka, and written by this owner itself.
    assert [run(owner.payload(n)) for n in (2, 2, 4)] == [b"2" * 150, b"2" * 150, b"4" * 150]
    run(zombie.close())
    run(owner.close())


@pytest.mark.parametrize("applied", [True, False])
def test_commit_without_an_answer_is_applied_once(cluster: ClusterLog, name: str, applied: bool) -> None:
    task, run = task_of(cluster, name), cluster._loop.run
    held = claim(cluster, task, "a")
    producer = held.producer

    class Away:
        def __getattr__(self, what: str) -> Any:
            return getattr(producer, what)

        @asynccontextmanager
        async def transaction(self) -> AsyncIterator[None]:
            async with producer.transaction():
                yield
                if not applied:
                    raise KafkaConnectionError
            raise KafkaConnectionError

    held.producer = Away()  # type: ignore[assignment]
    assert run(held.commit(step(task, 1, 7), cluster._now_ms))
    assert held.producer is not producer
    assert run(held.commit(step(task, 1, 8), cluster._now_ms))
    assert given(cluster, task) == [7, 8]
    run(held.close())


def test_after_a_reset_a_pipeline_begins_anew_with_epochs_that_are_higher(cluster: ClusterLog, name: str) -> None:
    """A store has seen the epochs of before, and refuses lower ones."""
    task, run = task_of(cluster, name), cluster._loop.run
    run(claim(cluster, task, "a").close())
    held = claim(cluster, task, "b")
    assert run(held.commit(step(task, 2, 5), cluster._now_ms))
    run(held.close())
    cluster.reset_pipeline(name)
    assert name not in cluster.pipelines()
    anew = claim(cluster, task_of(cluster, name), "c")
    assert (anew.record.epoch, anew.record.offset, anew.segments) == (3, 0, {})
    run(anew.close())


def test_other_partition_counts_shapes_and_guarantees_are_refused(
    cluster: ClusterLog, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    task = task_of(cluster, name)
    cluster.add_partitions(f"{name}-in", 2)
    with pytest.raises(ConflictError, match=f"'{name}-in' has 2 partitions.*began with 1"):
        cluster.register_pipeline(task.pipeline, "f", [StageInput("s", f"{name}-in")])
    with pytest.raises(ConflictError, match="another shape"):
        cluster.register_pipeline(task.pipeline, "g", [StageInput("s", f"{name}-in")])
    with pytest.raises(ConflictError, match="began with 1"):
        cluster.join(WorkerInfo("w", name, 1, 1.0, 0))
    (tmp_path / "a.txt").write_text("a\n")
    files = sf.Pipeline(f"{name}-files")
    files | sf.ReadFromText(str(tmp_path / "a.txt")) | sf.WriteToTopic(f"{name}-out")
    with pytest.raises(PipelineError, match="files can't be read"):
        files.run(on=cluster)
    publish_json(cluster, [{}], topic=f"{name}-in")
    large = sf.Pipeline(f"{name}-large")
    (
        large
        | sf.ReadFromTopic(f"{name}-in")
        | sf.Map(lambda _: secrets.token_hex(3_000_000))
        | sf.WriteToTopic(f"{name}-out")
    )
    with pytest.raises(DataError, match="larger than Kafka takes"):
        large.run(on=cluster, until="drained")
    missing = sf.Pipeline(f"{name}-missing")
    missing | sf.ReadFromTopic(f"{name}-im") | sf.WriteToTopic(f"{name}-out")
    with pytest.raises(NotFoundError, match=f"Did you mean '{name}-in'"):
        missing.run(on=cluster)
    monkeypatch.setenv(GUARANTEE, "exactly_once")
    whole = sf.Pipeline(f"{name}-whole")
    whole | sf.ReadFromTopic(f"{name}-in") | sf.WriteToTopic(f"{name}-out")
    with pytest.raises(PipelineError, match="loses events"):
        whole.run(on=cluster)


def page(address: str) -> str:
    with urllib.request.urlopen(address, timeout=10) as answer:
        return str(answer.read().decode())


def test_commands_show_stop_and_forget_a_pipeline(kafka_url: str, tmp_path: Path, name: str) -> None:
    def command(*arguments: str, answer: str = "") -> str:
        done = CliRunner().invoke(app, ["cluster", *arguments, "--on", kafka_url], input=answer)
        return f"{done.exit_code} {done.output}"

    with ClusterRun(kafka_url, tmp_path, name, rounds=3, batch=300, end=False) as run:
        worker = run.start("--port", "0")
        wait_for(lambda: run.events("odd").height == 1800, 60, "everything to be read")
        address = re.findall(r"http://\S+/metrics", run.log_of(0).read_text())[0]
        counted = f'streamflow_events_in_total{{pipeline="{name}",stage="read-{name}-in"}} 3600.0'
        wait_for(lambda: counted in page(address), 30, "the page to tell it")
        shown = command("status", name)
        assert "1 worker" in shown
        assert "3600" in shown.replace(",", "")
        assert "has 1 workers. Stop them first" in command("reset", name, "--yes")
        assert "stopping 1 worker" in command("stop", name)
        assert worker.wait(20) == 0
        topics = {f"{name}.{what}" for what in ("tasks", "status", "aggregate", "aggregate.changelog", "dead-letter")}
        assert topics <= {info.name for info in run.log.topics()}
        assert "Aborted" in command("reset", name, answer="n\n")
        assert "forgotten" in command("reset", name, answer="y\n")
        left = {info.name for info in run.log.topics() if info.name.startswith(name)}
        assert left == {f"{name}-in", f"{name}-odd", f"{name}-sums", f"{name}.dead-letter"}
        assert f"pipeline '{name}' does not exist" in command("status", name)
