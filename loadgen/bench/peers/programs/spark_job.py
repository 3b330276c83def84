"""Does one job in Spark Structured Streaming; spark-submit starts it. Argument: the job's JSON file."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

FIELDS = "user_id STRING, ad_id STRING, event_type STRING, event_time BIGINT"
DISORDER = "1 second"
WINDOW = "10 seconds"
MARKER = {"user_id": "", "ad_id": "", "event_type": "view", "event_time": 4_102_444_800_000_000}
"""In append mode a window is given when the watermark has passed it: an event of 2100 closes all others, and its own
stays open. It passes the filter, which Spark moves below the watermark, and is of no ad."""


@dataclass(frozen=True)
class Job:
    """Of the JSON file, what this program needs."""

    work: str
    ndjson: str
    campaigns: str
    answer: str
    told: str
    scratch: str

    @classmethod
    def read(cls, path: Path) -> "Job":
        given: dict[str, Any] = json.loads(path.read_text())
        return cls(**{name: given[name] for name in cls.__dataclass_fields__})


def main() -> None:
    job = Job.read(Path(sys.argv[1]))
    spark = SparkSession.builder.getOrCreate()
    folder = events_folder(job)
    start_s = time.perf_counter()
    answer = WORKS[job.work](spark, job, events(spark, folder))
    stream = answer.writeStream.format("csv").outputMode("append").trigger(availableNow=True)
    stream = stream.option("path", job.answer).option("checkpointLocation", f"{job.scratch}/checkpoints")
    stream.start().awaitTermination()
    Path(job.told).write_text(json.dumps({"seconds_inner": time.perf_counter() - start_s}))
    spark.stop()


def events_folder(job: Job) -> Path:
    """A folder with the events and the marker: Spark's stream of files is of a folder's."""
    folder = Path(job.scratch) / "events"
    folder.mkdir()
    (folder / "events.json").symlink_to(job.ndjson)
    (folder / "marker.json").write_text(json.dumps(MARKER))
    return folder


def events(spark: SparkSession, folder: Path) -> DataFrame:
    read = spark.readStream.schema(FIELDS).json(str(folder))
    return read.withColumn("time", f.timestamp_micros("event_time")).withWatermark("time", DISORDER)


def w1(spark: SparkSession, job: Job, ads: DataFrame) -> DataFrame:
    """campaign_id, window_start_us, views"""
    campaigns = spark.read.csv(job.campaigns, header=True, schema="ad_id STRING, campaign_id STRING")
    return (
        ads.filter(f.col("event_type") == "view")
        .join(f.broadcast(campaigns), "ad_id")
        .groupBy("campaign_id", f.window("time", WINDOW))
        .agg(f.count("*").alias("views"))
        .select("campaign_id", f.unix_micros("window.start"), "views")
    )


def w2(spark: SparkSession, job: Job, ads: DataFrame) -> DataFrame:
    """user_id, window_start_us, events, micros"""
    return (
        ads.groupBy("user_id", f.window("time", WINDOW))
        .agg(f.count("*").alias("events"), f.sum(f.col("event_time") % 1_000_000).alias("micros"))
        .select("user_id", f.unix_micros("window.start"), "events", "micros")
    )


WORKS: dict[str, Callable[[SparkSession, Job, DataFrame], DataFrame]] = {"W1-json": w1, "W2-json": w2}

if __name__ == "__main__":
    main()
