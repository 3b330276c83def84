"""Processes die and come and go while the flights are loaded; the results are those of an undisturbed run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from chaos.flights_run import FLIGHTS, PIPELINE, FlightsRun, kill, wait_for

from streamflow.examples.demo import read_daily, read_hourly, reference
from streamflow.runtime.pipeline import result_of
from streamflow.stores.table.catalog import open_table
from streamflow.topics.protocol import Log, TaskId

pytestmark = pytest.mark.chaos
SEED = int(os.environ.get("STREAMFLOW_SEED", "7"))


def assert_undisturbed(data: Path, log: Log) -> None:
    """Both results equal the direct computation, and no event was counted twice or not at all on any way."""
    expected_hourly, expected_daily = reference()
    assert read_hourly(data).equals(expected_hourly)
    assert read_daily(data).equals(expected_daily)
    counted = result_of(PIPELINE, log.snapshot(PIPELINE)).counters
    assert counted["read-flights"]["events_in"] == FLIGHTS
    assert sum(of_stage.get("dropped", 0) + of_stage.get("dead_lettered", 0) for of_stage in counted.values()) == 0
    offsets = stored_offsets(data)
    assert offsets.is_unique().all(), "no pane is in the table twice"
    assert offsets.max() == log.end(f"{PIPELINE}.table-flights-hourly", 0) - 1


def stored_offsets(data: Path) -> pl.Series:
    """Input offsets of the rows in the table's files, superseded ones included."""
    table = open_table(data / "tables" / "flights_hourly")
    assert table is not None
    return pl.read_parquet(table.file_uris(), columns=["_offset"])["_offset"]


def test_killing_workers_each_second_and_the_supervisor_once_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """Three workers; SIGKILL of a random one each second, at least ten times; of the supervisor at the fifth."""
    choose = random.Random(SEED)
    kills = 0
    with FlightsRun(tmp_path, workers=3, rate=FLIGHTS // 14) as run:
        while kills < 10 or run.loadgen.poll() is None:
            time.sleep(1.0)
            pids = run.worker_pids()
            kills += bool(pids) and kill(choose.choice(pids))
            if kills == 5 and run.supervisor.poll() is None:
                run.supervisor.kill()
                run.supervisor.wait()
                kills += 1
                run.start_supervisor()
        run.wait_finished(120)
        assert kills >= 11
        assert_undisturbed(tmp_path, run.log)


def test_scaling_1_4_2_during_the_load_moves_only_what_must_move(tmp_path: Path) -> None:
    with FlightsRun(tmp_path, workers=1, rate=FLIGHTS // 12) as run:
        wait_for(lambda: balanced(run, 1), 30, "one worker to own everything")
        before = assigned(run)
        scale(run, 4)
        wait_for(lambda: balanced(run, 4), 30, "four workers to share the tasks")
        four = assigned(run)
        (first,) = set(before.values())
        assert sum(worker == first for worker in four.values()) >= len(four) // 8, "it keeps its share of the load"
        scale(run, 2)
        wait_for(lambda: balanced(run, 2), 30, "two workers to share the tasks")
        two = assigned(run)
        left = set(two.values())
        orphans = {task for task, worker in four.items() if worker not in left}
        assert {task for task in two if two[task] != four[task]} == orphans
        run.wait_finished(120)
        assert_undisturbed(tmp_path, run.log)


def test_ctrl_c_drains_commits_and_exits_0_within_5_s(tmp_path: Path) -> None:
    with FlightsRun(tmp_path, workers=2, rate=FLIGHTS // 12) as run:
        wait_for(lambda: read_events(run) > 20_000, 30, "some flights to be read")
        workers = run.worker_pids()
        began_s = time.monotonic()
        run.supervisor.send_signal(signal.SIGINT)
        assert run.supervisor.wait(10) == 0
        assert time.monotonic() - began_s < 5
        assert not any(Path(f"/proc/{pid}").exists() for pid in workers)
        snapshot = run.snapshot()
        assert not snapshot.workers
        assert all(state.owner is None for state in snapshot.tasks.values())
        run.start_supervisor()
        run.wait_finished(120)
        assert_undisturbed(tmp_path, run.log)


def scale(run: FlightsRun, workers: int) -> None:
    command = [sys.executable, "-m", "streamflow", "scale", PIPELINE, str(workers), "--data", str(run.data)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def assigned(run: FlightsRun) -> dict[TaskId, str | None]:
    return {task: state.owner for task, state in run.snapshot().tasks.items()}


def balanced(run: FlightsRun, workers: int) -> bool:
    snapshot = run.snapshot()
    owners = {state.owner for state in snapshot.tasks.values()}
    settled = all(state.owner == state.assigned for state in snapshot.tasks.values())
    return settled and None not in owners and len(owners) == len(snapshot.workers) == workers


def read_events(run: FlightsRun) -> int:
    return sum(state.offset for task, state in run.snapshot().tasks.items() if task.stage == "read-flights")
