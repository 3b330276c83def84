"""StreamFlow's own runner: a durable topic that holds the events already, worker processes, results in a Delta table.

Exactly-once is on, as it always is. Each run is a new pipeline that reads the whole topic from its beginning.
"""

import os
import secrets
import shutil
from functools import partial
from pathlib import Path

import polars as pl

from loadgen.bench.inputs import Inputs
from loadgen.dataset import to_json
from loadgen.profiles import ads
from streamflow.engine.stores import tables_folder
from streamflow.examples.ads import build
from streamflow.runtime.autoscaler import Policy
from streamflow.runtime.launch import launch
from streamflow.runtime.pipeline import Pipeline
from streamflow.runtime.progress import is_finished
from streamflow.runtime.supervisor import Supervisor
from streamflow.topics import Publisher, connect
from streamflow.topics.protocol import TopicConfig

TARGET = "loadgen.bench.streamflow_runner:pipeline"
ENVELOPE_EVENTS = 10_000
JSON_BATCH_EVENTS = 1_000
PARTITIONS = 16
_RUN, _TOPIC, _SEED = "STREAMFLOW_BENCH_RUN", "STREAMFLOW_BENCH_TOPIC", "STREAMFLOW_BENCH_SEED"
"""How the run reaches the worker processes, which build the pipeline for themselves."""


def publish(inputs: Inputs) -> None:
    """Both topics, once: `envelope` in batch envelopes, `json` as single events in batches. Goes on where it
    stopped."""
    log = connect(inputs.folder / "streamflow")
    for topic, batch in (("envelope", ENVELOPE_EVENTS), ("json", JSON_BATCH_EVENTS)):
        log.create_topic(topic, TopicConfig(PARTITIONS))
        publisher = Publisher(log, topic, name="bench")
        begin = publisher.last_sequence + 1
        for sequence in range(begin, -(-inputs.events // batch)):
            first = sequence * batch
            frame = ads.events(first, min(batch, inputs.events - first), inputs.seed)
            if topic == "envelope":
                publisher.publish_frame(frame, event_time="event_time", sequence=sequence)
            else:
                publisher.publish_batch(to_json(frame), frame["event_time"].to_list(), sequence=sequence)
        publisher.end()
    log.close()


def pipeline() -> Pipeline:
    """What the workers of a run execute."""
    run = os.environ[_RUN]
    return build(run, os.environ[_TOPIC], run, ads.campaigns(int(os.environ[_SEED])))


def _run(topic: str, inputs: Inputs, answer: Path, workers: int) -> None:
    folder = inputs.folder / "streamflow"
    run = f"w1-{topic}-{secrets.token_hex(4)}"
    os.environ |= {_RUN: run, _TOPIC: topic, _SEED: str(inputs.seed), "POLARS_MAX_THREADS": "1"}
    log = connect(folder)
    plan = launch(pipeline(), log)
    Supervisor(plan, log, folder, TARGET, workers, Policy(workers, workers), partial(is_finished, plan)).run()
    # Not at the top: the workers import this module, and have no use for the catalog's libraries.
    from streamflow.stores.table import Catalog

    windows = Catalog(tables_folder(folder)).sql(f'select campaign_id, window_start, views from "{run}"')
    windows.select(
        "campaign_id", pl.col("window_start").dt.epoch("us").alias("window_start_us"), "views"
    ).write_parquet(answer)
    log.reset_pipeline(run)
    log.close()
    shutil.rmtree(tables_folder(folder) / run)


RUNNERS = {"W1-json": partial(_run, "json"), "W1-envelope": partial(_run, "envelope")}
"""Work → what runs it, with a worker per core."""
