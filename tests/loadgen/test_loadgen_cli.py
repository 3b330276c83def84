import dataclasses
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import polars as pl
import pytest
from rich.console import Console

from loadgen.cli import exit_code, main
from loadgen.dataset import to_json
from loadgen.profiles import ads, flights
from loadgen.run import Settings, run
from streamflow.base.clock import SystemClock
from streamflow.model.time import MAX_US
from streamflow.topics import open_log
from streamflow.topics.protocol import Log

Start = Callable[..., "subprocess.Popen[str]"]
Finish = Callable[..., tuple[int, str, str]]
Frames = Callable[[Log, str], list[pl.DataFrame]]


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Finish:
    """`loadgen` in this process, for what needs no process of its own: exit code, stdout, stderr."""

    def go(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["loadgen", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        captured = capsys.readouterr()
        return int(exited.value.code or 0), captured.out, captured.err

    return go


def report(done: tuple[int, str, str]) -> dict[str, object]:
    code, out, err = done
    assert code == 0, err
    found = orjson.loads(out)
    assert isinstance(found, dict)
    return found


def size(log: Log, topic: str) -> int:
    if topic not in [info.name for info in log.topics()]:
        return 0
    return sum(log.end(topic, partition) for partition in range(log.topic(topic).config.partitions))


def wait_for(log: Log, topic: str, events: int, process: "subprocess.Popen[str]") -> None:
    deadline_s = time.monotonic() + 30
    while size(log, topic) < events:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s, f"only {size(log, topic)} of {events} events"
        log.wait_changed(0.1)


def test_a_run_killed_again_and_again_publishes_each_flight_exactly_once(
    tmp_path: Path, start: Start, finish: Finish, frames: Frames
) -> None:
    command = ("flights", "--to", tmp_path, "--max", 3_000, "--json")
    log = open_log(tmp_path)
    for events, batch in ((1, 25), (700, 10), (1_500, 40)):
        process = start(*command, "--rate", 4_000, "--batch", batch)
        wait_for(log, "flights", events, process)
        process.kill()
        process.wait()
    before = size(log, "flights")
    last = report(finish(*command))
    expected = flights.dataset().read(0, 3_000)

    assert last["skipped_events"] == before < 3_000
    assert last["events"] == 3_000 - before
    found = sorted(document for frame in frames(log, "flights") for document in frame["_json"])
    assert found == sorted(to_json(expected))
    log.close()


def test_all_flights_are_published_once_and_the_topic_ends(tmp_path: Path, finish: Finish) -> None:
    first = report(finish("flights", "--to", tmp_path, "--json"))
    code, out, _ = finish("flights", "--to", tmp_path)
    log = open_log(tmp_path)

    assert first["events"] == size(log, "flights") == flights.FLIGHTS
    assert first["out_of_order_share"] == pytest.approx(0.90, abs=0.005)
    assert first["latest_by_s"] == 665 * 60
    assert first["ended"] is True
    assert log.topic("flights").watermark_us == MAX_US
    assert code == 0
    assert "Everything was in topic 'flights'" in out
    assert "336,776 events, skipped" in out
    log.close()


def test_report_has_these_fields_and_no_others(tmp_path: Path, invoke: Finish) -> None:
    found = report(invoke("ads", "--to", tmp_path, "--events", 300, "--rate", 3_000, "--json"))

    assert list(found) == [
        "profile", "topic", "format", "partitions", "events", "skipped_events", "bytes", "seconds",
        "events_per_s", "events_per_s_target", "speedup", "speedup_target", "behind_s_max", "publish_ms_p50",
        "publish_ms_p99", "out_of_order_share", "latest_by_s", "ended", "interrupted",
    ]  # fmt: skip
    assert found["events"] == 300
    assert found["bytes"] == sum(map(len, to_json(ads.events(0, 300))))
    assert found["events_per_s_target"] == 3_000
    assert found["interrupted"] is False


def test_a_speedup_follows_the_landings(tmp_path: Path, invoke: Finish) -> None:
    found = report(invoke("flights", "--to", tmp_path, "--max", 100, "--speedup", 7_200, "--json"))
    arrival_us = flights.dataset().arrival_us

    assert arrival_us is not None
    planned_s = (arrival_us[99] - arrival_us[0]) / 1e6 / 7_200
    assert found["speedup_target"] == 7_200
    assert found["seconds"] == pytest.approx(planned_s, abs=0.5)
    assert found["ended"] is False


def test_the_topic_stays_open_when_only_a_part_was_published(tmp_path: Path, invoke: Finish) -> None:
    part = report(invoke("flights", "--to", tmp_path, "--max", 50, "--json"))
    forced = report(invoke("flights", "--to", tmp_path, "--max", 50, "--end", "--json"))

    assert (part["ended"], forced["ended"], forced["events"]) == (False, True, 0)


def test_a_whole_set_leaves_the_topic_open_on_request(tmp_path: Path, invoke: Finish) -> None:
    assert report(invoke("ads", "--to", tmp_path, "--events", 50, "--no-end", "--json"))["ended"] is False


def test_an_ended_topic_takes_no_more_events(tmp_path: Path, invoke: Finish) -> None:
    invoke("ads", "--to", tmp_path, "--events", 50)
    code, _, err = invoke("ads", "--to", tmp_path, "--events", 80)

    assert code == 1
    assert "topic 'ads' has ended, and 30 events are not in it" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_batch_reports_and_exits_with_zero(
    tmp_path: Path, start: Start, finish: Finish, number: signal.Signals
) -> None:
    process = start("ads", "--to", tmp_path, "--events", 100_000, "--rate", 500, "--json")
    log = open_log(tmp_path)
    wait_for(log, "ads", 1, process)
    process.send_signal(number)
    found = report(finish(process))

    assert found["interrupted"] is True
    assert found["ended"] is False
    assert found["events"] == size(log, "ads") < 100_000
    log.close()


@pytest.mark.parametrize(
    ("interrupted", "events", "skipped", "code"),
    [(False, 0, 0, 0), (False, 9, 0, 0), (True, 9, 0, 0), (True, 0, 9, 0), (True, 0, 0, 130)],
)
def test_exit_code_is_130_only_if_stopped_with_nothing_in_the_topic(
    tmp_path: Path, interrupted: bool, events: int, skipped: int, code: int
) -> None:
    settings = Settings(str(tmp_path), partitions=1)
    stop = threading.Event()
    whole = run("ads", {"ads": ads.dataset(1)}, settings, clock=SystemClock(), stop=stop, console=Console(stderr=True))
    changed = dataclasses.replace(whole, interrupted=interrupted, events=events, skipped_events=skipped)

    assert exit_code(changed) == code


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("flights", "--to", "{}", "--rate", "0"), 2, "--rate must be above 0, not 0"),
        (("flights", "--to", "{}", "--speedup", "-1"), 2, "--speedup must be above 0, not -1"),
        (("flights", "--to", "{}", "--rate", "1", "--speedup", "1"), 2, "Leave one out"),
        (("flights", "--to", "{}", "--max", "0"), 2, "--max must be at least 1"),
        (("flights", "--to", "memory://x"), 2, "lives inside one process"),
        (("flights", "--to", "/proc/nowhere"), 1, "'/proc/nowhere' can't be the folder of a log"),
        (("flights", "--to", "{}", "--topic", "a b", "--max", "1"), 2, "topic name 'a b' is not allowed"),
        (("ads", "--to", "{}", "--events", "0"), 2, "events must be above 0"),
        (("ads", "--to", "{}", "--events", "5", "--start", "noon"), 2, "--start 'noon' is no time"),
        (("bench", "W9"), 2, "there is no work 'W9'. Give some of W1-json"),
        (("bench", "W1-json", "--systems", "abacus"), 2, "there is no system 'abacus'"),
        (("bench", "idle", "--plot", "figure.svg"), 2, "of which none is to be measured"),
        (("bench", "recovery", "--keys", "-1"), 2, "--keys must be above 0"),
    ],
)
def test_a_mistake_is_named_with_a_hint_and_no_traceback(
    tmp_path: Path, invoke: Finish, arguments: tuple[str, ...], code: int, message: str
) -> None:
    found, out, err = invoke(*(argument.format(tmp_path) for argument in arguments))

    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path, invoke: Finish) -> None:
    (tmp_path / "data").write_text("")
    code, _, err = invoke("ads", "--to", tmp_path / "data", "--events", 1)

    assert code == 1
    assert f"'{tmp_path / 'data'}' can't be the folder of a log" in err


@pytest.mark.parametrize("command", ["flights", "ads", "bench"])
def test_help_teaches_by_example(invoke: Finish, command: str) -> None:
    code, out, _ = invoke(command, "--help")

    assert code == 0
    assert f"loadgen {command} " in out
