"""A backlog that one worker can't clear in time gets more workers, as real processes; the result does not change."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from chaos.flights_run import wait_for

from streamflow.runtime.processes import is_alive
from streamflow.stores.table import Catalog
from streamflow.topics import Publisher, open_log
from streamflow.topics.protocol import Log, TopicConfig

pytestmark = pytest.mark.chaos

EVENTS = 24_000
PIPELINE = """
import time
import streamflow as sf

def costly(event):
    end = time.perf_counter() + 0.0005
    while time.perf_counter() < end:
        pass
    return (event["n"] % 10, 1)

pipeline = sf.Pipeline("slow", settings=sf.Settings(step_events_max=100))
(
    pipeline
    | sf.ReadFromTopic("in")
    | sf.Map(costly)
    | sf.WindowInto(sf.FixedWindows(60))
    | sf.CombinePerKey(sum)
    | sf.Map(lambda pair: {"digit": pair[0], "events": pair[1]})
    | sf.WriteToTable("digits")
)
"""


def test_the_autoscaler_adds_workers_under_backlog_and_the_result_is_exact(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(PIPELINE)
    log = open_log(tmp_path / "data")
    log.create_topic("in", TopicConfig(partitions=16))
    publisher = Publisher(log, "in")
    for begin in range(0, EVENTS, 100):
        numbers = range(begin, begin + 100)
        publisher.publish_batch([orjson.dumps({"n": n}) for n in numbers], [n * 1_000 for n in numbers])
    publisher.end()
    command = [sys.executable, "-m", "streamflow", "run", str(tmp_path / "slow.py"), "--data", str(tmp_path / "data")]
    options = [
        "--workers",
        "1",
        "--max-workers",
        "3",
        "--latency",
        "1",
        "--until",
        "finished",
        "--quiet",
        "--port",
        "0",
    ]
    run = subprocess.Popen([*command, *options])
    try:
        wait_for(lambda: "slow" in log.pipelines(), 30, "the pipeline to be launched")
        wait_for(lambda: alive(log) == 3, 30, "three workers")
        assert run.wait(90) == 0
    finally:
        run.kill()
        run.wait()
    digits = Catalog(tmp_path / "data" / "tables").sql("select digit, events from digits order by digit")
    assert digits.rows() == [(digit, EVENTS // 10) for digit in range(10)]
    assert alive(log) == 0
    log.close()


def alive(log: Log) -> int:
    workers = log.snapshot("slow").workers.values()
    return sum(is_alive(worker) for worker in workers)
