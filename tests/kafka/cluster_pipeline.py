"""The pipeline of the tests of clusters. Its name, which gives those of its topics, stands in STREAMFLOW_TEST_NAME."""

import os
from typing import TypedDict

import streamflow as sf
from streamflow.base.settings import Settings

NAME = os.environ.get("STREAMFLOW_TEST_NAME", "cluster-pipeline")
WINDOW_S = 10


class Reading(TypedDict):
    sensor: int
    at_us: int
    value: int


def build(name: str, *, table: bool = False) -> sf.Pipeline:
    """Each partition of the source says by its events how far it is, so no event is ever late and each window fires
    once."""
    pipeline = sf.Pipeline(name, settings=Settings(partitions=4))
    readings = pipeline | sf.ReadFromTopic(
        f"{name}-in", schema=Reading, event_time="at_us", watermark=sf.MarkerColumn("at_us")
    )
    readings | "odd" >> sf.Where(sf.col("value") % 2 == 1) | "to odd" >> sf.WriteToTopic(f"{name}-odd")
    sums = (
        readings
        | sf.WindowInto(sf.FixedWindows(WINDOW_S))
        | sf.Aggregate(by=["sensor"], readings=sf.Count(), total=sf.Sum("value"))
    )
    sums | "to sums" >> sf.WriteToTopic(f"{name}-sums")
    if table:
        sums | sf.WriteToTable("sums")
    return pipeline


pipeline = build(NAME, table="STREAMFLOW_TEST_TABLE" in os.environ)
