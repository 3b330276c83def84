"""Workers on a real Kafka, killed, suspended, added and taken away, and the broker too: what comes out is exact, as any
reader of committed messages sees it."""

import os
import random
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from kafka.cluster_run import ClusterRun, wait_for

from loadgen.kafka.broker import Cluster
from streamflow.stores.table.catalog import open_table

pytestmark = [pytest.mark.kafka, pytest.mark.chaos]
SEED = int(os.environ.get("STREAMFLOW_SEED", "7"))
CHAOS_S = float(os.environ.get("STREAMFLOW_CHAOS_S", "36"))
ROUND_S = 0.2
SUSPENDED_S = 14.0
"""Longer than the group waits for a sign of life."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "brokers", brokers=int(os.environ.get("STREAMFLOW_CHAOS_BROKERS", "1"))) as started:
        yield started


def test_killed_worker_is_taken_over_from_and_everything_comes_once(kafka_url: str, tmp_path: Path) -> None:
    name = f"kill-{secrets.token_hex(3)}"
    with ClusterRun(kafka_url, tmp_path, name, rounds=60, batch=100, pause_s=0.15) as run:
        first, _ = run.start(), run.start()
        wait_for(lambda: run.events("sums").height > 20, 90, "windows to fire")
        first.kill()
        run.wait_finished(150)
        run.assert_exact()


def test_table_has_each_row_once_when_the_worker_that_writes_it_is_killed(kafka_url: str, tmp_path: Path) -> None:
    name = f"table-{secrets.token_hex(3)}"
    with ClusterRun(kafka_url, tmp_path, name, rounds=40, batch=100, pause_s=0.1, table=True) as run:
        first = run.start()
        wait_for(lambda: (tmp_path / "tables" / "sums" / "_delta_log").exists(), 90, "the first rows in the table")
        first.kill()
        run.start()
        run.wait_finished(150)
        run.assert_exact()
        table = open_table(tmp_path / "tables" / "sums")
        assert table is not None
        rows = pl.read_parquet(table.file_uris()).select("window_start", "sensor", "readings", "total")
        starts = rows["window_start"].dt.epoch("us")
        assert sorted(zip(starts, *rows.drop("window_start"), strict=True)) == run.expected_sums()


def test_chaos_of_workers_and_broker_loses_and_doubles_nothing(cluster: Cluster, tmp_path: Path) -> None:
    """Three workers at least; each few seconds one is killed, or suspended until it is taken for dead, or told to stop,
    or one is added; in the middle a broker is killed and started again."""
    choose = random.Random(SEED)
    name = f"chaos-{SEED}"
    with ClusterRun(cluster.url, tmp_path, name, rounds=int(CHAOS_S / ROUND_S), batch=100, pause_s=ROUND_S) as run:
        for _ in range(3):
            run.start()
        wait_for(lambda: run.events("odd").height > 0, 120, "the workers to begin")
        faults = ["kill", "suspend", "broker", "stop", "add"]
        choose.shuffle(faults)
        while run.publishing:
            _do(faults.pop() if faults else choose.choice(["kill", "suspend", "stop", "add"]), choose, run, cluster)
            time.sleep(choose.uniform(2.0, 5.0))
        run.wait_finished(150)
        run.assert_exact()
        assert all(first > 0 for first in run.first_kept("aggregate")), "what was read is deleted"


def _do(fault: str, choose: random.Random, run: ClusterRun, cluster: Cluster) -> None:
    victim = choose.choice(run.running)
    if fault == "broker":
        nth = choose.randrange(len(cluster.ports))
        cluster.kill(nth)
        time.sleep(2.0)
        cluster.restart(nth)
    elif fault == "kill":
        victim.kill()
    elif fault == "stop":
        victim.terminate()
    elif fault == "suspend":
        victim.send_signal(signal.SIGSTOP)
        time.sleep(SUSPENDED_S)
        victim.send_signal(signal.SIGCONT)
    if fault == "add" or len(run.running) < 3:
        run.start()
