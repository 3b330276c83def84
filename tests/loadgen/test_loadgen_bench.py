import os
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import polars as pl
import pytest
from rich.console import Console

from loadgen.bench import harness, reference
from loadgen.bench.harness import Plan, bench
from loadgen.bench.inputs import WINDOW_US, Inputs, written
from loadgen.bench.measure import Usage, measure
from loadgen.bench.plot import check, drawn
from loadgen.bench.result import OURS, Run, medians
from loadgen.bench.systems import SYSTEMS, Ours, Peer
from loadgen.bench.table import rates
from loadgen.profiles import ads
from streamflow.base.errors import CorruptionError, DataError, StreamFlowError

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


def test_w2_sums_what_a_loop_sums(inputs: Inputs) -> None:
    sums: dict[tuple[str, int], tuple[int, int]] = {}
    for event in ads.events(0, EVENTS, 4).iter_rows(named=True):
        key = (event["user_id"], event["event_time"] // WINDOW_US * WINDOW_US)
        events, micros = sums.get(key, (0, 0))
        sums[key] = (events + 1, micros + event["event_time"] % 1_000_000)
    answer = reference.reference("W2-envelope", inputs)

    assert {(user, window_us): (n, micros) for user, window_us, n, micros in answer.iter_rows()} == sums
    assert answer.columns == ["user_id", "window_start_us", "events", "micros"]


@pytest.mark.parametrize("question", ["W1", "W2"])
@pytest.mark.parametrize(
    "engine", [reference.duckdb_json, reference.duckdb_parquet, reference.polars_json, reference.polars_parquet]
)
def test_every_batch_engine_and_format_gives_the_reference(
    inputs: Inputs, tmp_path: Path, engine: Callable[[reference.Question, Inputs, Path, int], None], question: str
) -> None:
    engine(getattr(reference, question), inputs, tmp_path / "answer", 1)

    assert reference.same(pl.read_parquet(tmp_path / "answer"), reference.reference(f"{question}-envelope", inputs))


def test_engines_that_disagree_are_reported(inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deciding, _ = reference.REFERENCES["W1-envelope"]

    def wrong(_: Inputs, answer: Path, cores: int) -> None:
        reference.reference("W1-envelope", inputs).with_columns(pl.col("views") + 1).write_parquet(answer)

    monkeypatch.setitem(reference.REFERENCES, "WX", (deciding, wrong))
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
    (run,) = bench(Plan(["W1-envelope"], ["duckdb"], EVENTS, folder, repeat=1, seed=4))

    assert not run.verified


def test_a_failing_system_is_reported_with_its_last_output(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SYSTEMS, "abacus", Ours("loadgen.bench.reference", ["W1-envelope"]))
    with pytest.raises(
        StreamFlowError, match=r"'abacus' failed on 'W1-envelope' with exit code 1(.|\n)*KeyError: 'abacus'"
    ):
        bench(Plan(["W1-envelope"], ["abacus"], EVENTS, folder, repeat=1, seed=4))


def test_a_system_is_prepared_outside_of_the_measurement(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[Inputs] = []
    duckdb = Ours("loadgen.bench.reference", ["W1-envelope"], prepared.append)
    monkeypatch.setitem(SYSTEMS, "duckdb", duckdb)
    bench(Plan(["W1-envelope"], ["duckdb"], EVENTS, folder, seed=4, repeat=2))

    assert [inputs.events for inputs in prepared] == [EVENTS]


@pytest.mark.parametrize("work", ["W1-json", "W2-envelope"])
def test_streamflow_answers_with_worker_processes(folder: Path, work: str) -> None:
    (run,) = bench(Plan([work], ["streamflow"], EVENTS, folder, repeat=1, seed=4))

    assert run.verified
    assert 0 < run.seconds_inner < run.seconds


PEER = r"""
import collections, csv, json, pathlib, sys, time
job = json.loads(pathlib.Path(sys.argv[1]).read_text())
began = time.perf_counter()
campaign_of = {row["ad_id"]: row["campaign_id"] for row in csv.DictReader(open(job["campaigns"]))}
counts = collections.Counter()
for event in map(json.loads, open(job["ndjson"])):
    if event["event_type"] == "view":
        counts[campaign_of[event["ad_id"]], event["event_time"] // 10_000_000 * 10_000_000] += 1
rows = [f"{campaign},{start},{views + LIE}" for (campaign, start), views in counts.items()]
answer = pathlib.Path(job["answer"])
for part, lines in (("a/part-0", rows[::2]), ("b/part-1.csv", rows[1::2]), ("part-2", [])):
    (answer / part).parent.mkdir(parents=True, exist_ok=True)
    (answer / part).write_text("\n".join(lines))
(answer / "_SUCCESS").write_text("not a part")
assert not list(pathlib.Path(job["scratch"]).iterdir())
assert (job["cores"], job["events"]) == (1, len(open(job["ndjson"]).readlines()))
pathlib.Path(job["told"]).write_text(json.dumps({"seconds_inner": time.perf_counter() - began, "python": "plain"}))
"""


def add_peer(monkeypatch: pytest.MonkeyPatch, program: str) -> list[Path]:
    """A peer named 'slow-abacus' that runs the program; the list gets the homes that were prepared."""
    homes: list[Path] = []
    module = ModuleType("slow_abacus")
    vars(module).update(
        WORKS=("W1-json",),
        prepare=homes.append,
        command=lambda home, job, cores: [sys.executable, "-c", program, str(job)],
    )
    monkeypatch.setitem(sys.modules, "loadgen.bench.peers.slow_abacus", module)
    monkeypatch.setitem(SYSTEMS, "slow-abacus", Peer("slow-abacus"))
    return homes


def test_a_peer_in_its_own_environment_is_measured_and_verified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    homes = add_peer(monkeypatch, PEER.replace("LIE", "0"))
    (run,) = bench(Plan(["W1-json"], ["slow-abacus"], EVENTS, folder, repeat=1, seed=4))

    assert run.verified
    assert homes == [folder / "systems" / "slow-abacus"]
    assert homes[0].is_dir()
    assert 0 < run.seconds_inner < run.seconds
    assert run.as_dict()["python"] == "plain"


def test_a_peer_that_miscounts_is_not_verified(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_peer(monkeypatch, PEER.replace("LIE", "1"))
    (run,) = bench(Plan(["W1-json"], ["slow-abacus"], EVENTS, folder, repeat=1, seed=4))

    assert not run.verified


def test_a_peer_that_is_not_there_hinders_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SYSTEMS, "unbuilt", Peer("unbuilt"))
    (run,) = bench(Plan(["W1-json"], ["duckdb"], EVENTS, folder, repeat=1, seed=4))

    assert run.verified
    with pytest.raises(DataError, match="system 'unbuilt' is not part of this build"):
        bench(Plan(["W1-json"], ["unbuilt"], EVENTS, folder, repeat=1, seed=4))


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


def test_peak_memory_includes_children_in_sessions_of_their_own(tmp_path: Path) -> None:
    def apart(code: str) -> str:
        return f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}], start_new_session=True)"

    usage = measured(tmp_path, apart(apart(HOLD)))

    assert 100 * MEBIBYTE < usage.peak_bytes < 200 * MEBIBYTE


def test_memory_of_the_measuring_process_does_not_count(tmp_path: Path) -> None:
    held = bytearray(b"x") * (300 * MEBIBYTE)
    usage = measured(tmp_path, "import time; time.sleep(0.2)")

    assert len(held) == 300 * MEBIBYTE
    assert usage.peak_bytes < 100 * MEBIBYTE


def test_a_process_tree_that_takes_too_long_is_killed_whole(tmp_path: Path) -> None:
    start = "p = subprocess.Popen(['sleep', '60'], start_new_session=True)"
    code = f"import os, subprocess; {start}; print(p.pid, flush=True); p.wait()"
    usage = measured(tmp_path, code, timeout_s=1.0)

    assert usage.exit_code == -9
    child = (tmp_path / "log").read_text().strip()
    # SIGKILL is sent before `measure` returns, but the kernel ends the child in its own time.
    deadline_s = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not is_running(child)


def test_a_process_may_use_the_cores_it_is_given(tmp_path: Path) -> None:
    before = os.sched_getaffinity(0)
    command = [sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"]
    measure(command, tmp_path / "log", dict(os.environ), 30, cores=1)

    assert (tmp_path / "log").read_text().strip() == "1"
    assert os.sched_getaffinity(0) == before


def run_of(system: str, seconds: float, *, verified: bool = True, **extra: float) -> Run:
    return Run("W1-json", system, 2, 100, seconds, seconds / 2, 1.0, 1, verified, extra)


def test_median_run_is_the_middle_one_of_each_system() -> None:
    runs = [run_of("a", 3), run_of("b", 9), run_of("a", 1), run_of("b", 7), run_of("a", 2)]

    assert [(median.run.system, median.run.seconds) for median in medians(runs)] == [("a", 2), ("b", 9)]


def test_ratio_compares_runs_of_the_same_round() -> None:
    # The machine was four times slower in the second round; StreamFlow twice as fast in each.
    runs = [run_of(OURS, 1), run_of("b", 2), run_of(OURS, 4), run_of("b", 8), run_of(OURS, 1), run_of("b", 2)]

    assert [median.ratio for median in medians(runs)] == [1.0, 2.0]


@pytest.mark.parametrize("wrong", [OURS, "b"])
def test_no_ratio_with_an_answer_that_is_not_verified(wrong: str) -> None:
    runs = [run_of(name, 1, verified=name != wrong) for name in (OURS, "b")]

    assert medians(runs)[1].ratio is None
    assert medians([run_of("b", 1)])[0].ratio is None


def test_a_run_as_json_has_its_rates_and_comes_back() -> None:
    run = Run("W1-json", "a", 2, 100, 2.0, 1.0, 1.5, 10, True, {"p50_ms": 3.5})
    found = orjson.loads(orjson.dumps(run.as_dict()))

    assert list(found) == [
        "work", "system", "cores", "events", "seconds", "seconds_inner", "cpu_seconds", "peak_bytes", "verified",
        "events_per_s", "events_per_s_inner", "p50_ms",
    ]  # fmt: skip
    assert (found["events_per_s"], found["events_per_s_inner"]) == (50, 100)
    assert Run.of(found) == run


def shown(runs: list[Run]) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(rates(medians(runs)))
    return capture.get()


def test_table_hides_the_figures_of_a_wrong_answer() -> None:
    text = shown([run_of(OURS, 1e-3), run_of("liar", 4e-3, verified=False)])

    assert re.search(rf"{OURS} .*│ +200 │ +100 │ +1\.00 │ +0 │ +1\.00 │ +yes", text)
    assert re.search(r"liar .*│ +— │ +— │ +— │ +— │ +— │ +NO", text)


@pytest.mark.parametrize(("name", "start"), [("figure.svg", b"<?xml"), ("figure.png", b"\x89PNG")])
def test_rates_become_a_figure_without_wrong_answers(tmp_path: Path, name: str, start: bytes) -> None:
    drawn(medians([run_of(OURS, 1), run_of("duckdb", 2), run_of("liar", 1, verified=False)]), tmp_path / name)
    figure = (tmp_path / name).read_bytes()

    assert figure.startswith(start)
    if name.endswith(".svg"):
        assert b"duckdb" in figure
        assert b"liar" not in figure


def test_a_figure_of_nothing_verified_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to draw"):
        drawn(medians([run_of(OURS, 1, verified=False)]), tmp_path / "figure.svg")
    with pytest.raises(DataError, match="ends in"):
        check(tmp_path / "figure.doc")


def test_command_measures_prints_and_draws(folder: Path, tmp_path: Path, finish: Callable[..., Any]) -> None:
    runs, figure = tmp_path / "runs.json", tmp_path / "figure.svg"
    shape = ["--events", EVENTS, "--seed", 4, "--repeat", 1, "--inputs", folder]
    code, out, err = finish("bench", "W1-envelope", *shape, "--systems", "duckdb,polars", "--json", runs)
    plotted, _, _ = finish("bench-plot", runs, "--to", figure)

    assert (code, plotted) == (0, 0), err
    assert [entry["system"] for entry in orjson.loads(runs.read_bytes())] == ["duckdb", "polars"]
    assert "polars" in out
    assert b"polars" in figure.read_bytes()


def test_command_refuses_to_draw_what_is_no_run(tmp_path: Path, finish: Callable[..., Any]) -> None:
    (tmp_path / "odd.json").write_text('[{"work": "W1-json"}]')
    code, _, err = finish("bench-plot", tmp_path / "odd.json", "--to", tmp_path / "figure.svg")

    assert code == 2
    assert "holds no runs: 'system'" in err
