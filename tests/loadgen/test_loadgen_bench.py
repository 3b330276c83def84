import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import polars as pl
import pytest

from loadgen.bench import harness, reference
from loadgen.bench.harness import Plan, bench
from loadgen.bench.inputs import WINDOW_US, Inputs, written
from loadgen.bench.measure import Usage, measure
from loadgen.bench.result import Run, medians
from loadgen.bench.systems import SYSTEMS, System
from loadgen.profiles import ads
from streamflow.base.errors import CorruptionError, StreamFlowError

EVENTS = 120_000
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture(scope="module")
def inputs(folder: Path) -> Inputs:
    return written(folder, EVENTS, seed=4)


def measured(tmp_path: Path, code: str, timeout_s: float = 30) -> Usage:
    return measure([sys.executable, "-c", code], tmp_path / "log", dict(os.environ), timeout_s)


def is_running(pid: str) -> bool:
    """A killed orphan may stay a zombie: whether it is reaped is up to the machine's init process."""
    try:
        return "State:\tZ" not in Path("/proc", pid, "status").read_text()
    except FileNotFoundError:
        return False


def test_w1_counts_what_a_loop_counts(inputs: Inputs) -> None:
    campaigns = ads.campaigns(4)
    counts: dict[tuple[str, int], int] = {}
    for event in ads.events(0, EVENTS, 4).iter_rows(named=True):
        if event["event_type"] == "view":
            window_us = event["event_time"] // WINDOW_US * WINDOW_US
            key = (campaigns[event["ad_id"]], window_us)
            counts[key] = counts.get(key, 0) + 1
    answer = reference.reference("W1-envelope", inputs)

    assert {(campaign, window_us): views for campaign, window_us, views in answer.iter_rows()} == counts
    assert answer.columns == ["campaign_id", "window_start_us", "views"]


@pytest.mark.parametrize(
    "runner",
    [reference.w1_duckdb_json, reference.w1_duckdb_parquet, reference.w1_polars_json, reference.w1_polars_parquet],
)
def test_every_batch_engine_and_format_gives_the_reference(
    inputs: Inputs, tmp_path: Path, runner: Callable[[Inputs, Path, int], None]
) -> None:
    runner(inputs, tmp_path / "answer", 1)

    assert reference.same(pl.read_parquet(tmp_path / "answer"), reference.reference("W1-envelope", inputs))


def test_engines_that_disagree_are_reported(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(_: Inputs, answer: Path, cores: int) -> None:
        reference.reference("W1-envelope", inputs).with_columns(pl.col("views") + 1).write_parquet(answer)

    monkeypatch.setitem(reference.REFERENCES, "WX", (reference.w1_duckdb_parquet, wrong))
    with pytest.raises(CorruptionError, match="DuckDB and Polars disagree about 'WX'"):
        reference.reference("WX", inputs)


@pytest.mark.parametrize(
    ("other", "equal"),
    [
        (pl.DataFrame({"n": [2, 1], "k": ["b", "a"]}), True),
        (pl.DataFrame({"k": ["a", "b"], "n": [1, 3]}), False),
        (pl.DataFrame({"k": ["a", "b", "b"], "n": [1, 2, 2]}), False),
        (pl.DataFrame({"k": ["a", "b"], "m": [1, 2]}), False),
    ],
)
def test_answers_are_compared_as_sets_of_named_rows(other: pl.DataFrame, equal: bool) -> None:
    assert reference.same(pl.DataFrame({"k": ["a", "b"], "n": [1, 2]}), other) is equal


def test_inputs_are_written_once_and_hold_the_same_events_twice(folder: Path, inputs: Inputs) -> None:
    written_at = inputs.ndjson.stat().st_mtime_ns
    events = ads.events(0, EVENTS, 4)

    assert written(folder, EVENTS, seed=4) == inputs
    assert inputs.ndjson.stat().st_mtime_ns == written_at
    assert pl.read_ndjson(inputs.ndjson, schema=ads.SCHEMA).equals(events)
    assert pl.read_parquet(inputs.parquet).equals(events)


def test_inputs_left_half_written_are_written_again(tmp_path: Path) -> None:
    (tmp_path / "ads-10-0.partial").mkdir()
    (tmp_path / "ads-10-0.partial" / "ads.ndjson").write_text("{}\n")

    assert pl.read_ndjson(written(tmp_path, 10).ndjson, schema=ads.SCHEMA).height == 10


def test_harness_measures_each_system_in_turn_and_verifies_it(folder: Path) -> None:
    runs = bench(Plan(["W1-envelope"], ["duckdb", "polars"], EVENTS, folder, repeat=2, cores=1, seed=4))

    assert [run.system for run in runs] == ["duckdb", "polars"] * 2
    for run in runs:
        assert run.verified
        assert run.events == EVENTS
        assert 0 < run.seconds_inner < run.seconds
        assert run.cpu_seconds > 0
        assert run.peak_bytes > 20 * MEBIBYTE


def test_a_wrong_answer_is_not_verified(folder: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch) -> None:
    right = reference.reference("W1-envelope", inputs)
    monkeypatch.setattr(harness, "reference", lambda *_: right.with_columns(pl.col("views") + 1))
    (run,) = bench(Plan(["W1-envelope"], ["duckdb"], EVENTS, folder, seed=4))

    assert not run.verified


def test_a_failing_system_is_reported_with_its_last_output(
    folder: Path, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SYSTEMS, "abacus", System({"W1-envelope": reference.w1_duckdb_json}))
    with pytest.raises(
        StreamFlowError, match=r"'abacus' failed on 'W1-envelope' with exit code 1(.|\n)*KeyError: 'abacus'"
    ):
        bench(Plan(["W1-envelope"], ["abacus"], EVENTS, folder, seed=4))


def test_a_system_is_prepared_outside_of_the_measurement(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Inputs] = []
    duckdb = replace(SYSTEMS["duckdb"], prepare=prepared.append)
    monkeypatch.setitem(SYSTEMS, "duckdb", duckdb)
    bench(Plan(["W1-envelope"], ["duckdb"], EVENTS, folder, seed=4, repeat=2))

    assert [inputs.events for inputs in prepared] == [EVENTS]


SPIN = "import time\nend = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
HOLD = "import time; held = bytearray(b'x') * (100 << 20); time.sleep(0.4)"


def test_cpu_time_includes_children(tmp_path: Path) -> None:
    usage = measured(tmp_path, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SPIN!r}])")

    assert usage.cpu_seconds >= 0.4
    assert usage.seconds >= 0.4


def test_peak_memory_is_the_sum_over_processes_alive_at_once(tmp_path: Path) -> None:
    start = f"subprocess.Popen([sys.executable, '-c', {HOLD!r}])"
    two = f"import subprocess, sys; p = [{start} for _ in 'ab']; [q.wait() for q in p]"
    usage = measured(tmp_path, two)

    assert 200 * MEBIBYTE < usage.peak_bytes < 300 * MEBIBYTE


def test_memory_of_the_measuring_process_does_not_count(tmp_path: Path) -> None:
    held = bytearray(b"x") * (300 * MEBIBYTE)
    usage = measured(tmp_path, "import time; time.sleep(0.2)")

    assert len(held) == 300 * MEBIBYTE
    assert usage.peak_bytes < 100 * MEBIBYTE


def test_a_process_tree_that_takes_too_long_is_killed_whole(tmp_path: Path) -> None:
    code = "import os, subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    usage = measured(tmp_path, code, timeout_s=1.0)

    assert usage.exit_code == -9
    child = (tmp_path / "log").read_text().strip()
    # SIGKILL is sent before `measure` returns, but the kernel ends the child in its own time.
    deadline_s = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not is_running(child)


def test_median_run_is_the_middle_one_of_each_system() -> None:
    def run(system: str, seconds: float) -> Run:
        return Run("W1-json", system, 2, 100, seconds, seconds / 2, 1.0, 1, True)

    runs = [run("a", 3), run("b", 9), run("a", 1), run("b", 7), run("a", 2)]

    assert [(r.system, r.seconds) for r in medians(runs)] == [("a", 2), ("b", 9)]


def test_a_run_as_json_has_its_rates() -> None:
    run = Run("W1-json", "a", 2, 100, 2.0, 1.0, 1.5, 10, True)
    found = orjson.loads(orjson.dumps(run.as_dict()))

    assert list(found) == [
        "work", "system", "cores", "events", "seconds", "seconds_inner", "cpu_seconds", "peak_bytes", "verified",
        "events_per_s", "events_per_s_inner",
    ]  # fmt: skip
    assert (found["events_per_s"], found["events_per_s_inner"]) == (50, 100)
