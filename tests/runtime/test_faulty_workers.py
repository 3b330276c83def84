"""Workers whose user code hangs, holds the interpreter or eats memory are noticed, shown, ended and replaced; what the
pipeline gives is whole. Real processes: each fault befalls the first worker that meets it."""

import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from pipelines import end_topic, make_topic, publish_json, read_events

import streamflow as sf

EVENTS = 50
PIPELINE = """
import re, time
from pathlib import Path
import streamflow as sf

HELD = []

def stumble(event):
    first = Path(__file__).with_name("stumbled")
    if event["n"] == 7 and not first.exists():
        first.touch()
        FAULT
    return event

pipeline = sf.Pipeline("faulty", settings=sf.Settings(SETTINGS))
(
    pipeline
    | sf.ReadFromTopic("numbers")
    | sf.Map(stumble)
    | sf.WriteToTopic("out")
)
"""


@pytest.mark.parametrize(
    ("fault", "settings", "said"),
    [
        ("time.sleep(3600)", "step_s_max=1.0", ["has not ended within 1.0 s", "in stumble", "replacing it"]),
        (
            "re.fullmatch('(a+)+', 'a' * 64 + 'b')",
            "heartbeat_s=0.2, lease_s=1.0",
            ["was taken for dead and still runs", "in stumble", "killed by SIGABRT, replacing it"],
        ),
        (
            "HELD.append(bytearray(b'x') * (800 << 20)); time.sleep(2)",
            "memory_bytes_max=400 << 20",
            ["of 400 that it may: it hands its tasks over"],
        ),
    ],
    ids=["hangs", "holds the interpreter", "eats memory"],
)
def test_a_faulty_worker_is_shown_and_replaced_and_nothing_is_lost(
    tmp_path: Path, fault: str, settings: str, said: list[str]
) -> None:
    target, data = tmp_path / "faulty.py", tmp_path / "data"
    target.write_text(PIPELINE.replace("FAULT", fault).replace("SETTINGS", settings))
    with closing(sf.open_log(data)) as log:
        make_topic(log, "numbers", partitions=2)
        make_topic(log, "out", partitions=1)
        publish_json(log, [{"n": n} for n in range(EVENTS)], topic="numbers")
        end_topic(log, "numbers")
    command = [sys.executable, "-m", "streamflow", "run", str(target), "--data", str(data), "--workers", "1"]
    done = subprocess.run([*command, "--until", "finished", "--port", "0"], capture_output=True, text=True, timeout=60)
    written = (data / "logs" / "faulty.log").read_text() + done.stderr
    assert done.returncode == 0, written
    for words in said:
        assert words in written
    with closing(sf.open_log(data)) as log:
        assert sorted(event["n"] for event in read_events(log, "out")) == list(range(EVENTS))
