"""A worker process whose calls hang is told to stop."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pipelines import end_topic, make_topic, publish_json, read_events

import streamflow as sf
from streamflow.runtime.target import load_pipeline

PIPELINE = """
import asyncio
import streamflow as sf


async def fetch(row):
    if not HANGS:
        return row
    print("calling", flush=True)
    await asyncio.Event().wait()


HANGS = True
pipeline = sf.Pipeline("hanging")
pipeline | sf.ReadFromTopic("in", schema={"n": int}) | sf.Map(fetch) | sf.WriteToTopic("out")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_worker_whose_calls_hang_ends_within_seconds_of_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    target = tmp_path / "hanging.py"
    target.write_text(PIPELINE)
    log = sf.open_log(tmp_path / "data")
    make_topic(log, partitions=2)
    publish_json(log, [{"n": 1}, {"n": 2}])
    end_topic(log)
    command = [sys.executable, "-m", "streamflow.runtime.work", str(target), str(tmp_path / "data"), "first"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "calling\n"
            child.send_signal(number)
            _, said = child.communicate(timeout=5)
        finally:
            child.kill()
    assert child.returncode == 0
    assert "was given up: the worker stops: its pending calls are cancelled" in said
    assert read_events(log) == []
    target.write_text(PIPELINE.replace("HANGS = True", "HANGS = False"))
    load_pipeline(str(target)).run(on=log)
    assert read_events(log) == [{"n": 1}, {"n": 2}]
    log.close()
