"""Latency: from the intended publication of an event until its row can be read in the sink, under a steady load.

Open loop: a process of its own publishes JSON events of about 280 bytes at `rate`, in durable batches of 10 ms, by a
schedule that waits for nobody. Each event carries the time at which it was to be published; a publisher or a pipeline
that falls behind shows as latency (no coordinated omission), and so does an event's wait for its batch. The pipeline,
exactly-once as always, writes every event as a row.

A row counts as readable when an observer, another process, has seen it:

- table: the observer looks each millisecond for the next version of the Delta table; all rows of the files that a
  version adds have become readable when it is there;
- rows: the observer looks every other millisecond, in each partition of the topic, for the row of the last event of
  the next batch; as a partition is written in order, all rows of the batch are readable then.

The first `WARM_UP_S` of the load are left out. Every event must have arrived once.
"""

import json
import os
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl

import streamflow as sf
from loadgen.bench.alone.processes import supervised, wait_until
from loadgen.bench.job import Job, Runner
from loadgen.bench.streamflow_runner import PARTITIONS
from loadgen.dataset import to_json
from loadgen.profiles import ads
from streamflow.base.errors import DataError
from streamflow.engine.stores import rows_folder, tables_folder
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.topics import Publisher, open_log
from streamflow.topics.protocol import Snapshot, TopicConfig

TARGET = "loadgen.bench.alone.latency:pipeline"
TOPIC = "events"
BATCH_S = 0.01
WARM_UP_S = 3.0
LEAD_S = 0.3
"""Between the start of the schedule and the load's process being ready for it."""
TABLE_LOOK_S, ROWS_LOOK_S = 0.001, 0.002
FAMILY, QUALIFIER = "e", "sent_us"
_PAYLOADS = 1_000
_QUANTILES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "p99_9_ms": 0.999, "max_ms": 1.0}


class Sent:
    """An event's number, and when it was to be published."""

    n: int
    sent_us: int


def pipeline() -> sf.Pipeline:
    """What the workers execute: each event becomes a row."""
    job = Job.current()
    p = sf.Pipeline(job.name)
    events = p | sf.ReadFromTopic(TOPIC, schema=Sent)
    if job.work == "latency-table":
        events | sf.WriteToTable(job.name)
    else:
        key = sf.col("n").cast(pl.String).str.zfill(12)
        events | sf.WriteToRows(job.name, row_key=key, family=FAMILY, columns=[QUALIFIER])
    return p


class _Schedule:
    """Event n is due `n / rate` seconds after the start; batch k holds the events `[k, k + 1) * batch`, and is due with
    its last one."""

    def __init__(self, job: Job) -> None:
        self.rate = job.parameters["rate"]
        self.batch = max(1, round(self.rate * BATCH_S))
        self.batches = int(self.rate * job.parameters["duration_s"]) // self.batch
        self.events = self.batches * self.batch

    def sent_us(self, start_us: int, n: pl.Series) -> pl.Series:
        return start_us + (n.cast(pl.Float64) * (1e6 / self.rate)).cast(pl.Int64)


def prepare(job: Job) -> None:
    if job.parameters["duration_s"] <= WARM_UP_S:
        raise DataError(f"--seconds must be above {WARM_UP_S:g}, which are left out. Give 20")
    log = open_log(job.data)
    log.create_topic(TOPIC, TopicConfig(PARTITIONS))
    log.close()


def _run(job: Job) -> dict[str, Any]:
    log = open_log(job.data)
    plan = launch(pipeline(), log)
    with supervised(plan, job.data, TARGET, job.cores):
        wait_until(lambda: _owned(log.snapshot(plan.pipeline)), "the workers to take the tasks")
        observer, load = _process("observe"), _process("load")
        _check(load)
        wait_until(lambda: is_finished(plan, log.snapshot(plan.pipeline)), "the last events to arrive")
        _file(job, "done").touch()
        _check(observer)
    log.close()
    loaded, observed = (json.loads(_file(job, name).read_text()) for name in ("load", "observe"))
    latencies = _of_table(job, observed["seen"]) if job.work == "latency-table" else _of_rows(job, loaded, observed)
    steady = latencies.filter(pl.col("sent_us") >= loaded["start_us"] + WARM_UP_S * 1e6)
    latency_ms = (steady["seen_us"] - steady["sent_us"]) / 1e3
    return {
        "events": _Schedule(job).events,
        "seconds_inner": loaded["seconds"],
        **{name: latency_ms.quantile(q, interpolation="higher") for name, q in _QUANTILES.items()},
        "measured_events": steady.height,
        "warm_up_s": WARM_UP_S,
        "publish_ms_p99": loaded["publish_s_p99"] * 1e3,
        "publisher_behind_ms_max": loaded["behind_s_max"] * 1e3,
        "load_cpu_s": loaded["cpu_s"],
        "observer_cpu_s": observed["cpu_s"],
    }


def _owned(snapshot: Snapshot) -> bool:
    return all(state.owner for state in snapshot.tasks.values())


def _process(part: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "loadgen.bench.alone.latency", part])


def _check(process: "subprocess.Popen[bytes]") -> None:
    if process.wait():
        raise subprocess.CalledProcessError(process.returncode, process.args)


def _file(job: Job, name: str) -> Path:
    return Path(job.scratch) / name


def load(job: Job) -> dict[str, Any]:
    """The publishing process."""
    schedule, log = _Schedule(job), open_log(job.data)
    publisher = Publisher(log, TOPIC, name="load")
    heads = [document[:-1].decode() for document in to_json(ads.events(0, _PAYLOADS, job.seed))]
    start_us, start_s = time.time_ns() // 1_000 + int(LEAD_S * 1e6), time.monotonic() + LEAD_S
    behind_s_max, publish_s = 0.0, array("d")
    for k in range(schedule.batches):
        n = pl.int_range(k * schedule.batch, (k + 1) * schedule.batch, eager=True)
        sent_us = schedule.sent_us(start_us, n).to_list()
        pairs = zip(n.to_list(), sent_us, strict=True)
        events = [f'{heads[i % _PAYLOADS]},"n":{i},"sent_us":{us}}}'.encode() for i, us in pairs]
        due_s = start_s + (k + 1) * schedule.batch / schedule.rate
        if (early_s := due_s - time.monotonic()) > 0:
            time.sleep(early_s)
        if due_s > start_s + WARM_UP_S:
            behind_s_max = max(behind_s_max, time.monotonic() - due_s)
        # The sequence decides the partition: batch k is in partition k % PARTITIONS.
        began_s = time.monotonic()
        publisher.publish_batch(events, sent_us, sequence=k)
        publish_s.append(time.monotonic() - began_s)
    seconds = time.monotonic() - start_s
    publisher.end()
    log.close()
    return {
        "start_us": start_us,
        "seconds": seconds,
        "behind_s_max": behind_s_max,
        "publish_s_p99": pl.Series(publish_s).quantile(0.99, interpolation="higher"),
        "cpu_s": time.process_time(),
    }


def observe(job: Job) -> dict[str, Any]:
    """The observing process: when each version of the table, or each batch of rows, was seen."""
    seen = dict(_see_versions(job) if job.work == "latency-table" else _see_batches(job))
    return {"seen": seen, "cpu_s": time.process_time()}


def _see_versions(job: Job) -> Iterator[tuple[int, int]]:
    version, commits, done = 0, _commits(job), _file(job, "done")
    while True:
        ended = done.exists()
        while os.path.exists(commits / f"{version:020}.json"):
            yield version, time.time_ns() // 1_000
            version += 1
        if ended:
            return
        time.sleep(TABLE_LOOK_S)


def _see_batches(job: Job) -> Iterator[tuple[int, int]]:
    from streamflow.stores.widerow import WideRowStore, row_folder

    schedule, done = _Schedule(job), _file(job, "done")
    awaited = list(range(min(PARTITIONS, schedule.batches)))
    folder = row_folder(rows_folder(job.data), job.name)
    wait_until(folder.exists, "the row store")
    with WideRowStore(folder, readonly=True) as store:
        while awaited:
            ended = done.exists()
            for k in list(awaited):
                at = awaited.index(k)
                while k < schedule.batches and store.read_row(_row_key((k + 1) * schedule.batch - 1)) is not None:
                    yield k, time.time_ns() // 1_000
                    k += PARTITIONS
                awaited[at] = k
            awaited = [k for k in awaited if k < schedule.batches]
            if ended:
                return
            time.sleep(ROWS_LOOK_S)


def _row_key(n: int) -> bytes:
    return b"%012d" % n


def _commits(job: Job) -> Path:
    return tables_folder(job.data) / job.name / "_delta_log"


def _of_table(job: Job, seen: dict[str, int]) -> pl.DataFrame:
    """sent_us, seen_us of each row, by the files that each version added."""
    frames = []
    for version, seen_us in seen.items():
        actions = map(json.loads, (_commits(job) / f"{int(version):020}.json").read_text().splitlines())
        for path in (action["add"]["path"] for action in actions if "add" in action):
            rows = pl.read_parquet(_commits(job).parent / unquote(path), columns=["sent_us"])
            frames.append(rows.with_columns(pl.lit(seen_us, dtype=pl.Int64).alias("seen_us")))
    return pl.concat(frames)


def _of_rows(job: Job, loaded: dict[str, Any], observed: dict[str, Any]) -> pl.DataFrame:
    """sent_us, seen_us of each event whose batch was seen: all of them, or the work is not verified."""
    schedule, seen = _Schedule(job), observed["seen"]
    n = pl.int_range(schedule.events, eager=True)
    batches = pl.DataFrame({"batch": [int(k) for k in seen], "seen_us": list(seen.values())})
    events = pl.DataFrame({"batch": n // schedule.batch, "sent_us": schedule.sent_us(loaded["start_us"], n)})
    return events.join(batches, on="batch")


def verified(job: Job, told: dict[str, Any]) -> bool:
    """Each event is there, once, with its time; and the observer saw each that was measured."""
    schedule = _Schedule(job)
    start_us = json.loads(_file(job, "load").read_text())["start_us"]
    n = pl.int_range(schedule.events, eager=True).alias("n")
    right = pl.DataFrame({"n": n, "sent_us": schedule.sent_us(start_us, n)})
    steady = right.filter(pl.col("sent_us") >= start_us + WARM_UP_S * 1e6)
    found = _table(job) if job.work == "latency-table" else _rows(job)
    return found.sort("n").equals(right) and told["measured_events"] == steady.height


def _table(job: Job) -> pl.DataFrame:
    from streamflow.stores.table import Catalog

    return Catalog(tables_folder(job.data)).read(job.name).select("n", "sent_us")


def _rows(job: Job) -> pl.DataFrame:
    from streamflow.stores.widerow import WideRowStore, row_folder

    with WideRowStore(row_folder(rows_folder(job.data), job.name), readonly=True) as store:
        pairs = [(int(row.key), row.newest(FAMILY, QUALIFIER.encode())) for row in store.scan()]
    sent = [int.from_bytes(value or b"", "big") for _, value in pairs]
    return pl.DataFrame({"n": [n for n, _ in pairs], "sent_us": sent})


RUNNERS: dict[str, dict[str, Runner]] = {"streamflow": dict.fromkeys(("latency-table", "latency-rows"), _run)}


if __name__ == "__main__":
    part, job = sys.argv[1], Job.current()
    _file(job, part).write_text(json.dumps({"load": load, "observe": observe}[part](job)))
