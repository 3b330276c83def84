"""Launching: topics, registration, values of Create; again and again without effect, and refusals that help."""

import pytest
from pipelines import end_topic, make_topic, publish_json, read_events

import streamflow as sf
from streamflow.base.errors import ConflictError, NotFoundError, PipelineError
from streamflow.runtime.launch import attach, launch
from streamflow.topics.protocol import Log, TopicConfig


@pytest.fixture
def log() -> Log:
    return sf.open_log("memory://")


def counting(name: str = "p", size_s: int = 60, partitions: int = 3) -> sf.Pipeline:
    p = sf.Pipeline(name, settings=sf.Settings(partitions=partitions))
    events = p | "Read" >> sf.ReadFromTopic("in", schema={"k": str}) | sf.WindowInto(sf.FixedWindows(size_s))
    events | "Count" >> sf.Aggregate(by=["k"], n=sf.Count()) | sf.WriteToTopic("out")
    return p


def test_launch_makes_topics_and_tasks(log: Log) -> None:
    make_topic(log, partitions=2)
    p = counting()
    launch(p, log, p.settings)
    assert {info.name: (info.config.partitions, info.config.internal) for info in log.topics()} == {
        "in": (2, False),
        "out": (TopicConfig().partitions, False),
        "p.count": (3, True),
        "p.dead-letter": (1, False),
        "p.plan.outline": (1, True),
    }
    tasks = log.snapshot("p").tasks
    assert sorted((task.stage, task.partition) for task in tasks) == [
        ("count", 0),
        ("count", 1),
        ("count", 2),
        ("read", 0),
        ("read", 1),
    ]


def test_launching_again_changes_nothing(log: Log) -> None:
    make_topic(log)
    first = launch(counting(), log, counting().settings)
    before = (log.topics(), log.snapshot("p").tasks)
    assert launch(counting(), log, counting().settings).fingerprint == first.fingerprint
    assert (log.topics(), log.snapshot("p").tasks) == before


def test_output_topic_keeps_the_configuration_it_has(log: Log) -> None:
    make_topic(log)
    make_topic(log, "out", partitions=1)
    launch(counting(), log, counting().settings)
    assert log.topic("out").config.partitions == 1


def test_missing_source_is_named_with_what_to_do(log: Log) -> None:
    make_topic(log, "inn")
    with pytest.raises(NotFoundError, match=r"topic 'in' does not exist. Did you mean 'inn'\? Create it with"):
        launch(counting(), log)


@pytest.mark.parametrize(("size_s", "partitions"), [(61, 3), (60, 4)])
def test_other_shape_under_the_same_name_is_refused(log: Log, size_s: int, partitions: int) -> None:
    make_topic(log)
    launch(counting(), log, counting().settings)
    changed = counting(size_s=size_s, partitions=partitions)
    for start in (launch, attach):
        with pytest.raises(ConflictError):
            start(changed, log, changed.settings)
    launch(counting("q", size_s, partitions), log, changed.settings)


def test_refused_launch_leaves_no_pipeline_behind(log: Log) -> None:
    with pytest.raises(NotFoundError):
        launch(counting(), log)
    assert log.pipelines() == {}


def test_attach_does_not_take_back_a_request_to_stop(log: Log) -> None:
    make_topic(log)
    attach(counting(), log, counting().settings)
    log.request_stop("p")
    attach(counting(), log, counting().settings)
    assert log.snapshot("p").stopping
    launch(counting(), log, counting().settings)
    assert not log.snapshot("p").stopping


@pytest.mark.parametrize(
    ("value", "words"),
    [(lambda: 0, "a value can't be stored"), (sf.TimestampedValue(1, 1e15), "beyond the years 1 to 9999")],
)
def test_value_of_create_that_can_not_be_stored_is_refused(log: Log, value: object, words: str) -> None:
    p = sf.Pipeline("p", on=log)
    p | sf.Create([value]) | sf.Map(str)
    with pytest.raises(PipelineError, match=words):
        p.run()


def test_drained_run_leaves_windows_open_and_the_next_goes_on_from_there(log: Log) -> None:
    make_topic(log)
    publish_json(log, [{"k": "a"}], [0])
    counting().run(on=log, until="drained")
    assert read_events(log) == []
    publish_json(log, [{"k": "a"}, {"k": "b"}], [1, 61_000_000])
    counting().run(on=log, until="drained")
    assert [(row["k"], row["n"]) for row in read_events(log)] == [("a", 2)]
    end_topic(log)
    result = counting().run(on=log)
    assert sorted((row["k"], row["n"]) for row in read_events(log)) == [("a", 2), ("b", 1)]
    assert result.counters["read"]["events_in"] == 3


def test_two_pipelines_read_one_topic_each_for_itself(log: Log) -> None:
    make_topic(log)
    publish_json(log, [{"k": "a"}], [0])
    end_topic(log)
    for name in ("p", "q"):
        counting(name).run(on=log)
    assert [row["n"] for row in read_events(log)] == [1, 1]
