"""The HTTP end: every metric of the table is exported, counted exactly, and the health paths tell the truth."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

import streamflow as sf
from streamflow.base.clock import SystemClock
from streamflow.base.errors import ConflictError
from streamflow.base.metrics import METRICS
from streamflow.runtime.launch import launch
from streamflow.runtime.worker import Worker
from streamflow.topics.protocol import Log, TopicConfig
from streamflow.web.server import MetricsServer


@pytest.fixture
def log() -> Log:
    log = sf.open_log("memory://")
    log.create_topic("in", TopicConfig(partitions=2))
    publisher = sf.Publisher(log, "in")
    publisher.publish_batch([orjson.dumps({"n": i}) for i in range(10)] + [b"{"], [1_000_000] * 11)
    publisher.publish_batch([b'{"n": 1}'] * 4, [100_000_000] * 4)
    return log


@pytest.fixture
def server(log: Log) -> Iterator[MetricsServer]:
    p = sf.Pipeline("p", settings=sf.Settings(partitions=2, poll_s=0.01))
    (
        p
        | sf.ReadFromTopic("in")
        | sf.Map(lambda e: ("k", e["n"]))
        | sf.WindowInto(sf.FixedWindows(10))
        | sf.CombinePerKey(sum)
    )
    plan = launch(p, log, p.settings)
    with MetricsServer(plan, log, SystemClock(), lambda: 3, "127.0.0.1", 0) as server:
        yield server


def get(server: MetricsServer, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(server.url + path) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def drain(server: MetricsServer) -> None:
    seen = iter([False] * 30)
    Worker(server.plan, server.log, None, until=lambda _: next(seen, True)).run()


def samples(server: MetricsServer) -> dict[tuple[str, str], float]:
    """(series, stage) → value."""
    families = text_string_to_metric_families(get(server, "/metrics")[1])
    return {(s.name, s.labels.get("stage", "")): s.value for family in families for s in family.samples}


def test_every_metric_of_the_table_is_exported_with_its_labels(server: MetricsServer) -> None:
    drain(server)
    families = {family.name: family for family in text_string_to_metric_families(get(server, "/metrics")[1])}
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert family.type == metric.kind
        assert {frozenset(s.labels) - {"le"} for s in family.samples} == {frozenset(metric.labels)}


def test_counters_are_what_has_been_committed(server: MetricsServer) -> None:
    assert samples(server)["streamflow_backlog_events", "read-in"] == 15
    drain(server)
    seen = samples(server)
    assert seen["streamflow_backlog_events", "read-in"] == 0
    assert seen["streamflow_events_in_total", "read-in"] == 15
    assert seen["streamflow_events_dead_lettered_total", "read-in"] == 1
    assert seen["streamflow_workers_wanted", ""] == 3
    assert seen["streamflow_step_seconds_count", "read-in"] >= 2


def test_readyz_says_what_is_missing_and_healthz_only_that_the_process_answers(server: MetricsServer) -> None:
    assert get(server, "/healthz") == (200, "ok\n")
    assert get(server, "/readyz") == (503, "no worker has joined yet\n")
    seen: list[tuple[int, str]] = []

    def until(_: object) -> bool:
        seen.append(get(server, "/readyz"))
        return len(seen) > 3

    Worker(server.plan, server.log, None, until=until).run()
    assert seen[-1] == (200, "ok\n")


def test_status_is_json_and_other_paths_are_answered_with_the_right_ones(server: MetricsServer) -> None:
    drain(server)
    status = json.loads(get(server, "/status")[1])
    assert status["pipeline"] == "p"
    assert status["counters"]["read-in"]["events_in"] == 15
    assert get(server, "/nothing")[0] == 404
    assert "/metrics" in get(server, "/")[1]


def test_a_taken_port_is_refused_and_without_a_choice_the_next_one_is_taken(server: MetricsServer, log: Log) -> None:
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(ConflictError, match="Choose another --port"):
        MetricsServer(server.plan, log, SystemClock(), lambda: 1, "127.0.0.1", port)
    with (
        MetricsServer(server.plan, log, SystemClock(), lambda: 1, "127.0.0.1", None) as first,
        MetricsServer(server.plan, log, SystemClock(), lambda: 1, "127.0.0.1", None) as second,
    ):
        assert first.url != second.url
