"""What is told of a pipeline at work: the status line, the watermark, the JSON of its page."""

import json
import urllib.request
from collections.abc import Iterator

import pytest

import streamflow as sf
from streamflow.base.clock import ManualClock, SystemClock
from streamflow.cli.output import time_text
from streamflow.cli.progress import LINE_S, StatusLine, pipeline_watermark
from streamflow.engine.plan import Plan
from streamflow.model.time import MAX_US, MIN_US
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_drained
from streamflow.runtime.supervisor import NOT_ASKED, Status
from streamflow.runtime.worker import Worker
from streamflow.topics.protocol import Log
from streamflow.web.server import MetricsServer


@pytest.fixture
def log() -> Iterator[Log]:
    log = sf.open_log("memory://")
    log.create_topic("in", sf.TopicConfig(partitions=2))
    sf.Publisher(log, "in").publish_batch([b"{}"] * 500, [1_000_000 * n for n in range(500)])
    yield log
    log.close()


@pytest.fixture
def plan(log: Log) -> Plan:
    p = sf.Pipeline("p", settings=sf.Settings(partitions=2, poll_s=0.01))
    p | sf.ReadFromTopic("in", disorder=0) | sf.Map(lambda e: e)
    return launch(p, log, p.settings)


def work(plan: Plan, log: Log) -> None:
    Worker(plan, log, None, until=lambda snapshot: is_drained(plan, snapshot)).run()


def test_status_line_comes_every_5_s_where_there_is_no_terminal(
    plan: Plan, log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = ManualClock()
    line = StatusLine(plan, clock.monotonic_s)
    line(Status(log.snapshot("p"), 1, 2, NOT_ASKED))
    work(plan, log)
    for _ in range(100):
        clock.advance(0.1)
        line(Status(log.snapshot("p"), 2, 2, NOT_ASKED))
    line.close()
    first, second = capsys.readouterr().out.splitlines()
    assert LINE_S == 5
    assert first == "workers 2/2 · read 500 · 100 events/s · backlog 0 · watermark 1970-01-01 00:08:19"
    assert second == "workers 2/2 · read 500 · 0 events/s · backlog 0 · watermark 1970-01-01 00:08:19"


def test_watermark_is_that_of_the_sources_until_all_have_ended(plan: Plan, log: Log) -> None:
    assert time_text(pipeline_watermark(log.snapshot("p"))) == "-"
    work(plan, log)
    assert pipeline_watermark(log.snapshot("p")) == 499_000_000
    log.advance_watermark("in", MAX_US)
    work(plan, log)
    assert time_text(pipeline_watermark(log.snapshot("p"))) == "ended"
    assert time_text(MIN_US) == "-"


def test_status_json_counts_events_and_leaves_the_histograms_to_the_metrics(plan: Plan, log: Log) -> None:
    work(plan, log)
    with (
        MetricsServer(plan, log, SystemClock(), lambda: 1, "127.0.0.1", 0) as server,
        urllib.request.urlopen(f"{server.url}/status") as answer,
    ):
        counters = json.loads(answer.read())["counters"]["read-in"]
    assert counters["events_in"] == 500
    assert set(counters) <= {"events_in", "events_out", "late", "dropped", "dead_lettered", "expired"}
