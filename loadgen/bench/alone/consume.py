"""Reading: one process takes a whole topic in, through the log and into the three columns that W1 needs of seven.

Bytes are read, their checksums compared, and decoded as a source task does it; nothing is computed of them.
"""

import time
from typing import Any

import polars as pl

from loadgen.bench.job import Job, Runner
from loadgen.bench.streamflow_runner import PARTITIONS, log_folder, publish
from streamflow.base.errors import DataError
from streamflow.base.settings import Settings
from streamflow.engine.source import SourceDecoder
from streamflow.examples.ads import View
from streamflow.topics import open_log
from streamflow.transforms.io import ReadFromTopic

SECOND_US = 1_000_000


def prepare(job: Job) -> None:
    publish(job.inputs)


def _run(job: Job) -> dict[str, Any]:
    topic, bounds = job.work.removeprefix("consume-"), Settings()
    log = open_log(log_folder(job.inputs))
    decoder = SourceDecoder(ReadFromTopic(topic, schema=View, event_time="event_time"))
    began_s = time.perf_counter()
    events = micros = views = 0
    for partition in range(PARTITIONS):
        offset, end = 0, log.end(topic, partition)
        while offset < end:
            records = log.read(
                topic, partition, offset, max_events=bounds.step_events_max, max_bytes=bounds.step_bytes_max
            )
            for frame in decoder.decode(records, _refuse):
                assert isinstance(frame, pl.DataFrame)
                events += frame.height
                micros += int((frame["event_time"] % SECOND_US).sum())
                views += int((frame["event_type"] == "view").sum())
            offset = records[-1].end
    seconds = time.perf_counter() - began_s
    log.close()
    return {"seconds_inner": seconds, "events": events, "micros": micros, "views": views}


def verified(job: Job, told: dict[str, Any]) -> bool:
    """As many events and views as there are, and the same sum of what is below the second in their times."""
    micros, views = pl.col("event_time") % SECOND_US, pl.col("event_type") == "view"
    query = pl.scan_parquet(job.inputs.parquet).select(events=pl.len(), micros=micros.sum(), views=views.sum())
    right = query.collect().row(0, named=True)
    found = {name: told[name] for name in right}
    # Sums are there to be compared, and tell people nothing.
    del told["micros"], told["views"]
    return found == right


def _refuse(event: object, offset: int, error: Exception) -> None:
    raise DataError(f"event at offset {offset} can't be decoded: {error}. Delete the input folder") from error


RUNNERS: dict[str, dict[str, Runner]] = {"streamflow": dict.fromkeys(("consume-json", "consume-envelope"), _run)}
