"""Advertisement views per campaign and ten seconds: the shape of the Yahoo Streaming Benchmark, W1 of our own
benchmarks.

    loadgen ads --to data --events 1000000 --format envelope
    streamflow run streamflow.examples.ads --data data --workers 2 --until finished
"""

from collections.abc import Mapping

import polars as pl

import streamflow as sf
from loadgen.profiles.ads import campaigns

WINDOW_S = 10
DISORDER_S = 1
"""What the profile's events have: stamped up to a second before they are published."""


class View:
    """The fields that the pipeline needs, three of seven; no other is decoded."""

    ad_id: str
    event_type: str
    event_time: int


def build(
    name: str = "ads",
    topic: str = "ads",
    table: str = "campaign_views",
    campaign_of: Mapping[str, str] | None = None,
    settings: sf.Settings | None = None,
) -> sf.Pipeline:
    pairs = campaigns() if campaign_of is None else campaign_of
    campaign = sf.col("ad_id").replace_strict(list(pairs), list(pairs.values()), default=None, return_dtype=pl.String)
    p = sf.Pipeline(name, settings=settings)
    (
        p
        | sf.ReadFromTopic(topic, schema=View, event_time="event_time", disorder=DISORDER_S)
        | sf.Where(sf.col("event_type") == "view")
        | sf.WithColumns(campaign_id=campaign)
        | sf.Where(sf.col("campaign_id").is_not_null())
        | sf.WindowInto(sf.FixedWindows(WINDOW_S))
        | "views" >> sf.Aggregate(by=["campaign_id"], views=sf.Count())
        | sf.Select("campaign_id", "window_start", "views")
        | sf.WriteToTable(table)
    )
    return p


pipeline = build()
