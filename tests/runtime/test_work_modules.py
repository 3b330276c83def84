"""What a worker's process loads: memory that each of them keeps as long as it lives."""

import subprocess
import sys
from pathlib import Path

import polars as pl

import streamflow as sf
from streamflow.runtime.launch import launch
from streamflow.runtime.target import load_pipeline
from streamflow.stores.table.catalog import Catalog

TARGET = """
import polars as pl
import streamflow as sf

pipeline = sf.Pipeline("p", settings=sf.Settings(sink_interval_s=0.0))
events = pipeline | sf.ReadFromTopic("in", schema={"user": pl.String, "n": pl.Int64})
windows = events | sf.WindowInto(sf.FixedWindows(60))
windows | "sum" >> sf.Aggregate(by=["user"], total=sf.Sum("n")) | sf.WriteToTable("totals")
events | sf.WriteToTable("events")
events | sf.WriteToRows("users", row_key="user", family="f", columns=["n"])
"""
WORKER = """
import sys
from pathlib import Path
from streamflow.runtime.work import work
work(sys.argv[1], Path(sys.argv[2]), "worker", "drained")
print(*{name.partition(".")[0] for name in sys.modules})
"""
HEAVY = {
    *("deltalake", "arro3", "pyarrow", "duckdb", "numpy", "pandas", "matplotlib"),
    *("rich", "typer", "click", "prometheus_client", "asyncio", "http", "multiprocessing", "unittest"),
}


def test_a_worker_loads_no_library_that_it_could_do_without(tmp_path: Path) -> None:
    """Neither where it makes a table, nor where it goes on with one, nor for one that gets no rows."""
    target = tmp_path / "flow.py"
    target.write_text(TARGET)
    data = tmp_path / "data"
    log = sf.open_log(data)
    log.create_topic("in", sf.TopicConfig(partitions=1))
    launch(load_pipeline(f"{target}:pipeline"), log)
    for n in range(3):
        sf.Publisher(log, "in").publish_frame(pl.DataFrame({"user": ["ann", "bob"], "n": [n, n]}))
        command = [sys.executable, "-c", WORKER, f"{target}:pipeline", str(data)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        loaded = set(done.stdout.split())
        assert {"polars", "streamflow", "lmdb"} <= loaded
        assert not sorted(HEAVY & loaded)
    log.close()
    assert Catalog(data / "tables").sql("SELECT count(*), sum(n) FROM events").rows() == [(6, 6)]
