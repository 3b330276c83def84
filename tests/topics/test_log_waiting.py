"""The contract of `wait_changed`, on every backend and between processes."""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
import topic_making as make

from streamflow.base.clock import ManualClock
from streamflow.topics.embedded import EmbeddedLog, signal, truth
from streamflow.topics.protocol import Assignment, Log, TopicConfig

contract = pytest.mark.contract


@pytest.fixture
def only_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look without a signal, however slow the machine is."""
    monkeypatch.setattr(truth, "_LOOK_S", 600.0)


@contract
def test_wait_notices_what_any_handle_commits_and_times_out_otherwise(open_log: Callable[[], Log]) -> None:
    log, other = open_log(), open_log()
    log.create_topic("t")
    assert log.wait_changed(0)
    assert not log.wait_changed(0.01)
    other.publish([make.record()])
    assert log.wait_changed(0)
    assert not log.wait_changed(0)


@contract
def test_wait_ends_when_something_is_committed_meanwhile(open_log: Callable[[], Log]) -> None:
    log, other = open_log(), open_log()
    log.create_topic("t")
    log.wait_changed(0)
    publisher = threading.Timer(0.05, other.publish, [[make.record()]])
    publisher.start()
    assert log.wait_changed(30)
    publisher.join()


@contract
def test_each_of_many_commits_ends_a_wait(open_log: Callable[[], Log], only_signals: None) -> None:
    log, other = open_log(), open_log()
    log.create_topic("t", TopicConfig(partitions=1))
    log.wait_changed(0)
    for nth in range(200):
        other.publish([make.record(count=1)])
        assert log.wait_changed(30)
        assert log.end("t", 0) == nth + 1


@contract
def test_heartbeats_claims_and_pruning_end_no_wait(
    open_log: Callable[[], Log], clock: ManualClock, only_signals: None
) -> None:
    log, other = open_log(), open_log()
    make.pipeline(other)
    other.publish([make.record()])
    clock.advance(30 * 24 * 3600)
    other.join(make.worker("w"))
    make.move(other, {make.task(): "w"})
    assert log.wait_changed(0)
    assert other.heartbeat("w", 1)
    claim = other.claim(make.task(), "w")
    assert claim is not None
    assert other.reassign("p", lambda _: Assignment()) == Assignment()
    other.prune()
    assert other.read("t", 0, 0) == []
    assert not log.wait_changed(0.1)
    other.heartbeat("w", 2, draining=True)
    assert log.wait_changed(30)
    assert other.release(make.task(), claim.state.epoch)
    assert log.wait_changed(30)


@contract
def test_every_handle_that_waits_is_woken(open_log: Callable[[], Log]) -> None:
    other = open_log()
    other.create_topic("t")
    handles = [open_log() for _ in range(5)]
    for log in handles:
        log.wait_changed(0)
    woken: list[bool] = []
    threads = [threading.Thread(target=lambda log=log: woken.append(log.wait_changed(60))) for log in handles]
    for thread in threads:
        thread.start()
    other.publish([make.record()])
    for thread in threads:
        thread.join()
    assert woken == [True] * 5


PUBLISHER = """
import sys, time
sys.path.insert(0, sys.argv[1])
import topic_making as make
from streamflow.topics.embedded import EmbeddedLog
log = EmbeddedLog(sys.argv[2])
for line in sys.stdin:
    time.sleep(0.05)
    if line == "publish\\n":
        log.publish([make.record()])
    else:
        log.heartbeat("w", 1)
    print(time.monotonic(), flush=True)
"""


@pytest.fixture
def elsewhere(embedded: EmbeddedLog, tmp_path: Path) -> Iterator[Callable[[str], Callable[[], float]]]:
    """Has another process do something 50 ms from now; gives what tells when it was done."""
    make.pipeline(embedded)
    embedded.join(make.worker("w"))
    command = [sys.executable, "-c", PUBLISHER, str(Path(__file__).parent), str(tmp_path / "log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        told, said = process.stdin, process.stdout

        def do(what: str) -> Callable[[], float]:
            told.write(f"{what}\n")
            told.flush()
            return lambda: float(said.readline())

        do("heartbeat")()
        yield do
        told.close()


def test_commit_of_another_process_ends_a_wait_within_milliseconds(
    embedded: EmbeddedLog, elsewhere: Callable[[str], Callable[[], float]]
) -> None:
    embedded.wait_changed(0)
    delays_s = []
    for _ in range(11):
        done_s = elsewhere("publish")
        assert embedded.wait_changed(60)
        woken_s = time.monotonic()
        delays_s.append(woken_s - done_s())
    assert median(delays_s) < 0.005


def test_heartbeat_of_another_process_ends_no_wait(
    embedded: EmbeddedLog, elsewhere: Callable[[str], Callable[[], float]], only_signals: None
) -> None:
    embedded.wait_changed(0)
    embedded.wait_changed(0)
    done_s = elsewhere("heartbeat")
    assert not embedded.wait_changed(0.5)
    done_s()
    done_s = elsewhere("publish")
    assert embedded.wait_changed(60)
    done_s()


def test_process_killed_before_its_signal_is_noticed_a_moment_later(
    embedded: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truth, "_LOOK_S", 0.05)
    monkeypatch.setattr(signal.Signal, "send", lambda self: None)
    other = EmbeddedLog(tmp_path / "log")
    embedded.wait_changed(0)
    other.create_topic("t")
    assert embedded.wait_changed(60)
    other.close()


def test_wait_works_where_there_is_no_inotify(
    embedded: EmbeddedLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "_watch", lambda path: None)
    other = EmbeddedLog(tmp_path / "log")
    embedded.wait_changed(0)
    assert not embedded.wait_changed(0.01)
    publisher = threading.Timer(0.05, other.create_topic, ["t"])
    publisher.start()
    assert embedded.wait_changed(60)
    publisher.join()
    other.close()


def test_who_may_only_read_is_woken_too_once_there_is_a_writer(tmp_path: Path) -> None:
    reader = signal.Signal(tmp_path, readonly=True)
    assert not reader.arm(), "nobody has made the file yet"
    writer = signal.Signal(tmp_path, readonly=False)
    assert reader.arm()
    assert not reader.wait(0)
    writer.send()
    writer.send()
    assert reader.wait(60)
    assert not reader.wait(0), "both were one"
    reader.close()
    assert not reader.wait(60), "a closed one waits for nothing"
    writer.close()
