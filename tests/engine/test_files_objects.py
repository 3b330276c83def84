"""Files as a sink in object stores, in fsspec's memory and by the protocol of S3: each row in just one object, each
object whole, whoever dies and when."""

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import boto3
import fsspec
import polars as pl
import pytest
import s3fs
from moto.server import ThreadedMotoServer
from object_stores import NAME, SETTINGS, pipeline, written
from pipelines import end_topic, make_topic, publish_json

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Worker
from streamflow.stores.files import FileSpec, ObjectWriter
from streamflow.testing.crashing import Died, WrappedLog, dying
from streamflow.topics.protocol import Log

pytestmark = pytest.mark.filterwarnings("ignore:Exception in thread heartbeat", "ignore:unclosed")
"""Whose process is gone has no heartbeat left, and closes nothing."""

BUCKET = "bucket"
STORES = ["memory", "s3"]


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A server of this process, on the loopback; its URL."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (
            ("AWS_ENDPOINT_URL", url),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        s3fs.S3FileSystem.clear_instance_cache()
        yield url
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=STORES)
def prefixes(request: pytest.FixtureRequest) -> Callable[[], str]:
    """Another place each time."""
    if request.param == "s3":
        request.getfixturevalue("s3")
    return lambda: f"{request.param}://{BUCKET}/{uuid4().hex}"


def topic(rows: int, log: Log | None = None) -> Log:
    log = log or sf.open_log("memory://")
    make_topic(log, partitions=1)
    for n in range(0, rows, 3):
        publish_json(log, [{"n": each} for each in range(n, min(n + 3, rows))])
    end_topic(log)
    return log


def work(prefix: str, log: Log, clock: ManualClock, worker: str, settings: sf.Settings = SETTINGS) -> None:
    plan = launch(pipeline(prefix), log, settings)
    Worker(plan, log, None, worker_id=worker, clock=clock, until=lambda snapshot: is_finished(plan, snapshot)).run()


def both(rows: int) -> dict[str, list[int]]:
    return {"rows": list(range(rows)), "text": list(range(rows))}


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
def test_death_at_any_commit_leaves_each_row_in_one_object(prefixes: Callable[[], str], applied: bool) -> None:
    """The next one may read far more, or far less, at once."""
    counting, prefix = WrappedLog(topic(14), lambda n, commit: commit()), prefixes()
    work(prefix, cast(Log, counting), ManualClock(), "only")
    assert written(prefix) == both(14)
    assert counting.commits > 10
    for k in range(counting.commits):
        log, clock, prefix = topic(14), ManualClock(), prefixes()
        with pytest.raises(Died):
            work(prefix, dying(log, k, applied=applied), clock, "first")
        clock.advance(SETTINGS.lease_s + 1)
        work(prefix, log, clock, "second", sf.Settings(step_events_max=1 if k % 2 else 1000, sink_interval_s=0.0))
        assert written(prefix) == both(14), f"died at commit {k}"


@pytest.mark.parametrize("after", [False, True], ids=["before it is there", "after it is there"])
def test_death_in_an_upload_leaves_each_row_in_one_object(
    prefixes: Callable[[], str], monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    done = ObjectWriter.write
    for k in range(4):
        log, clock, prefix, uploads = topic(14), ManualClock(), prefixes(), iter(range(100))

        def dies(self: Any, *args: Any, at: int = k, uploads: Any = uploads) -> int:
            dead = next(uploads) == at
            stored = done(self, *args) if after or not dead else 0
            if dead:
                raise Died
            return stored

        monkeypatch.setattr(ObjectWriter, "write", dies)
        with pytest.raises(Died):
            work(prefix, log, clock, "first")
        monkeypatch.setattr(ObjectWriter, "write", done)
        clock.advance(SETTINGS.lease_s + 1)
        work(prefix, log, clock, "second", sf.Settings(step_events_max=1000, sink_interval_s=0.0))
        assert written(prefix) == both(14)


def test_upload_of_one_taken_for_dead_changes_nothing(
    prefixes: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It wakes up when all is done, and still has its object in its hands."""
    log, clock, prefix, done = topic(14), ManualClock(), prefixes(), ObjectWriter.write
    held: list[Any] = []

    def sleeps(*args: Any) -> int:
        held.append(args)
        raise Died

    monkeypatch.setattr(ObjectWriter, "write", sleeps)
    with pytest.raises(Died):
        work(prefix, log, clock, "first")
    monkeypatch.setattr(ObjectWriter, "write", done)
    clock.advance(SETTINGS.lease_s + 1)
    work(prefix, log, clock, "second", sf.Settings(step_events_max=1000, sink_interval_s=0.0))
    done(*held[0])
    assert written(prefix) == both(14)


def test_a_pipeline_that_was_reset_goes_on_behind_its_objects(prefixes: Callable[[], str]) -> None:
    prefix, log = prefixes(), topic(4)
    for _ in range(2):
        work(prefix, log, ManualClock(), "only")
        log.reset_pipeline(NAME)
    assert written(prefix) == {"rows": [*range(4), *range(4)], "text": [*range(4), *range(4)]}


def test_objects_are_named_by_their_offsets_and_those_of_others_are_not_looked_at(prefixes: Callable[[], str]) -> None:
    prefix = prefixes()
    system, inner = fsspec.core.url_to_fs(prefix)
    frame = pl.DataFrame({"_offset": [0, 1], "line": ["ü", "b"]})
    spec = FileSpec(f"{prefix}/[x]", ".txt.zst", "text")
    assert ObjectWriter(spec, "p.out").committed() == 0
    assert ObjectWriter(spec, "p.out").write(frame, 0, 2) == 2
    assert ObjectWriter(spec, "p.out-2").write(frame, 7, 9) == 2
    assert ObjectWriter(spec, "p.out").committed() == 2
    assert [path.rsplit("/", 1)[-1] for path in sorted(system.find(inner))] == [
        "[x]-p.out-000000000000-000000000002.txt.zst",
        "[x]-p.out-2-000000000007-000000000009.txt.zst",
    ]


@pytest.mark.chaos
def test_objects_are_exact_after_their_process_was_killed_again_and_again(s3: str, tmp_path: Path) -> None:
    rows, prefix, chance = 400, f"s3://{BUCKET}/killed", random.Random(7)
    with_log = topic(rows, sf.open_log(tmp_path / "log"))
    with_log.close()
    program = [sys.executable, str(Path(__file__).with_name("object_stores.py")), str(tmp_path / "log"), prefix]
    killed = 0
    for _ in range(30):
        process = subprocess.Popen(program, env=dict(os.environ), stderr=subprocess.PIPE, text=True)
        try:
            _, errors = process.communicate(timeout=chance.uniform(1.0, 1.6) if killed < 6 else 120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
        else:
            assert process.returncode == 0, errors
            break
    assert killed >= 2
    assert written(prefix) == both(rows)
