"""Pipelines at work: what `run` tells, bad events, scaling, stopping, workers that can't go on. Real processes."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cli.command import BIN, call, ok, refused, told
from cli.visits import BAD, PIPELINE

import streamflow as sf
from streamflow.runtime import crew

RUN = ["run", "visits.py", "--data", "data", "--port", "0"]


def prepare(folder: Path, events: list[str], *, end: bool, text: str = PIPELINE) -> None:
    (folder / "visits.py").write_text(text)
    told("topic", "create", "visits", "--data", "data", "--partitions", "1")
    typed = "".join(f"{event}\n" for event in events).encode()
    told("topic", "publish", "visits", "--data", "data", "--unchecked", *(["--end"] if end else []), typed=typed)


@contextmanager
def running(folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A `run` in the background, with a worker that has joined; killed if the test has not ended it."""
    command = [str(BIN / "streamflow"), *RUN, *more]
    process = subprocess.Popen(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        wait_for(lambda: workers() == 1, "a worker to join")
        yield process
    finally:
        call("stop", "visits", "--data", "data")
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=20)


def workers() -> int:
    done = call("status", "--data", "data", "--json")
    return sum(row["workers"] for row in json.loads(done.stdout)) if done.exit_code == 0 else 0


def worker_ids(folder: Path) -> set[str]:
    with closing(sf.open_log(folder / "data")) as log:
        return set(log.snapshot("visits").workers)


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s for {what}"
        time.sleep(0.05)


def test_bad_events_go_to_the_dead_letter_topic_and_the_workers_live_on(folder: Path) -> None:
    prepare(folder, BAD, end=True)
    ran = call(*RUN, "--until", "finished")
    assert ran.exit_code == 0
    written = (folder / "data" / "logs" / "visits.log").read_text()
    assert {line.split()[2] for line in written.splitlines()} == {"INFO"}, "no worker had anything to complain of"
    assert "5 events failed, the first in Read-visits: " in ran.stderr
    assert "`streamflow topic tail visits.dead-letter --data data`." in ran.stderr
    stages = [line.split() for line in ran.stdout.splitlines() if line[:1].islower()][-3:]
    assert stages == [
        ["read-visits", "7", "2", "0", "0", "5"],
        ["aggregate", "2", "2", "0", "0", "0"],
        ["table-by-page", "2", "2", "0", "0", "0"],
    ]
    rows = json.loads(told("sql", "-d", "data", "--json", "select page, visits from by_page order by page"))
    assert rows == [{"page": "/", "visits": 1}, {"page": "/b", "visits": 1}]
    (status,) = json.loads(told("status", "--data", "data", "--json"))
    assert (status["dead_lettered"], status["backlog_events"], status["workers"]) == (5, 0, 0)
    assert status["ended"]
    assert not any("_le:" in key or key.endswith(("_sum", "_count")) for key in status)
    check_letters()
    again = call(*RUN, "--until", "finished")
    assert "nothing new was read" in again.stdout
    assert again.stderr == ""


def check_letters() -> None:
    tail = ["topic", "tail", "visits.dead-letter", "--data", "data"]
    letters = [json.loads(line)["event"] for line in told(*tail, "--json").splitlines()]
    by_offset = {letter["offset"]: letter for letter in letters}
    assert sorted(by_offset) == [1, 2, 3, 4, 5]
    assert by_offset[1]["input"] == BAD[1]
    assert "page" in by_offset[2]["error"]
    assert by_offset[5]["error"] == "ValueError: no such page [int]"
    assert "in checked" in by_offset[5]["traceback"]
    assert by_offset[5]["transform"] == "Map(checked)"
    shown = told(*tail)
    assert "Map(checked)  visits/0 offset 5\n    ValueError: no such page [int]\n    input: {" in shown
    assert "Traceback" not in shown


def test_events_that_came_too_late_are_told(folder: Path) -> None:
    text = PIPELINE.replace("FixedWindows(86400)", "FixedWindows(10)").replace("sf.Map(checked)", "sf.Map(dict)")
    prepare(folder, [], end=False, text=text)
    log = sf.open_log(folder / "data")
    publisher = sf.Publisher(log, "visits")
    for time_us in (100_000_000, 1_000_000):
        publisher.publish_batch([BAD[0].encode()], [time_us])
        ran = call(*RUN, "--until", "drained")
    log.close()
    assert "1 event came too late and was dropped" in ran.stderr


def test_a_changed_pipeline_is_refused_and_reset_lets_it_begin_anew(folder: Path) -> None:
    prepare(folder, BAD[:1], end=True)
    told(*RUN, "--until", "finished", "--quiet")
    (folder / "visits.py").write_text(PIPELINE.replace("86400", "3600"))
    said = refused(*RUN, "--until", "finished")
    assert "state of another shape" in said
    assert "`streamflow reset visits --data data`." in said
    told("reset", "visits", "--data", "data", "--yes")
    told(*RUN, "--until", "finished", "--quiet")


def test_a_running_pipeline_is_scaled_and_stopped_and_nothing_else(folder: Path) -> None:
    prepare(folder, BAD[:1], end=False)
    with running(folder, "--until", "finished") as process:
        second = call(*RUN)
        assert "already supervised. Change its workers with `streamflow scale visits N --data data`" in second.stderr
        assert second.stdout == "", "nothing is announced that does not run"
        assert "Stop it first: `streamflow stop visits --data data`." in refused(
            "reset", "visits", "-d", "data", "--yes"
        )
        assert told("scale", "visits", "2", "-d", "data") == "visits: 2 workers wanted; 1 running now\n"
        wait_for(lambda: workers() == 2, "the second worker")
        before = worker_ids(folder)
        replaced = told("restart", "visits", "-d", "data").splitlines()
        assert sorted(replaced) == sorted(f"visits: {worker} replaced" for worker in before)
        assert len(worker_ids(folder)) == 2
        assert not before & worker_ids(folder)
        assert told("stop", "visits", "-d", "data") == "visits: stopping 2 workers\n"
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 0
    assert "topic 'visits' is not ended by its publisher yet" in out
    assert "`streamflow topic end visits --data data`" in out
    assert workers() == 0
    with running(folder):
        snapshot = sf.open_log(folder / "data").snapshot("visits")
        assert snapshot.workers_wanted is None, "what was asked of the earlier run is forgotten"


def test_a_worker_that_no_restart_can_help_ends_the_run_with_what_it_says(folder: Path) -> None:
    prepare(folder, BAD[:1], end=True, text=PIPELINE.replace('"by_page"', '"by page"'))
    began_s = time.monotonic()
    said = refused(*RUN)
    assert "table name 'by page' is not allowed" in said
    assert "\n" not in said.strip()
    assert time.monotonic() - began_s < 10


def test_a_worker_that_fails_is_replaced_with_its_last_words(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(crew, "CRASHES_MAX", 2)
    dies = "\nimport os, sys\nif sys.argv[0].endswith('work.py'): os.write(2, {!r}); os._exit(7)\n"
    prepare(folder, [], end=False, text=PIPELINE + dies.format(b""))
    said = refused(*RUN)
    assert "exited with 7 (nothing in data/logs/visits.log), replacing it" in caplog.text
    assert "2 workers in a row failed. They wrote nothing to 'data/logs/visits.log'" in said
    (folder / "visits.py").write_text(PIPELINE + dies.format(b"first\nno more memory\n"))
    said = refused(*RUN)
    assert "exited with 7 (no more memory), replacing it" in caplog.text
    assert said.splitlines()[-2:] == ["first", "no more memory"]


def test_status_counts_only_workers_that_are_alive(folder: Path) -> None:
    prepare(folder, BAD[:1], end=False)
    with running(folder) as process:
        process.kill()
        log = sf.open_log(folder / "data")
        (worker,) = log.snapshot("visits").workers.values()
        ok(f"kill -9 {worker.pid}", folder)
        wait_for(lambda: workers() == 0, "the worker to be gone")
        assert log.snapshot("visits").workers, "it is still a member"
        log.close()
