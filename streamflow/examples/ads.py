"""Advertisement views per campaign and ten seconds, the shape of the Yahoo Streaming Benchmark (W1 of our own
benchmarks), and events per user, a million of them (W2).

    loadgen ads --to data --events 1000000 --format envelope
    streamflow run streamflow.examples.ads --data data --workers 2 --until finished
    streamflow run streamflow.examples.ads:users --data data --workers 2 --until finished
"""

from collections.abc import Mapping

import polars as pl

import streamflow as sf
from loadgen.profiles.ads import campaigns

WINDOW_S = 10
DISORDER_S = 1
"""What the profile's events have: stamped up to a second before they are published."""


class View:
    """The fields that W1 needs, three of seven; no other is decoded."""

    ad_id: str
    event_type: str
    event_time: int


class Visit:
    """The fields that W2 needs."""

    user_id: str
    event_time: int


def build(
    name: str = "ads",
    topic: str = "ads",
    table: str = "campaign_views",
    campaign_of: Mapping[str, str] | None = None,
    settings: sf.Settings | None = None,
) -> sf.Pipeline:
    """W1: views per campaign."""
    pairs = campaigns() if campaign_of is None else campaign_of
    campaign = sf.col("ad_id").replace_strict(list(pairs), list(pairs.values()), default=None, return_dtype=pl.String)
    p = sf.Pipeline(name, settings=settings)
    (
        p
        | _read(topic, View, DISORDER_S)
        | sf.Where(sf.col("event_type") == "view")
        | sf.WithColumns(campaign_id=campaign)
        | sf.Where(sf.col("campaign_id").is_not_null())
        | sf.WindowInto(sf.FixedWindows(WINDOW_S))
        | "views" >> sf.Aggregate(by=["campaign_id"], views=sf.Count())
        | sf.Select("campaign_id", "window_start", "views")
        | sf.WriteToTable(table)
    )
    return p


def build_users(
    name: str = "ads-users",
    topic: str = "ads",
    table: str = "user_events",
    settings: sf.Settings | None = None,
    *,
    window_s: float = WINDOW_S,
    disorder_s: float = DISORDER_S,
) -> sf.Pipeline:
    """W2: events per user, and the sum of what is below the second in their times."""
    p = sf.Pipeline(name, settings=settings)
    (
        p
        | _read(topic, Visit, disorder_s)
        | sf.WindowInto(sf.FixedWindows(window_s))
        | "users" >> sf.Aggregate(by=["user_id"], events=sf.Count(), micros=sf.Sum(sf.col("event_time") % 1_000_000))
        | sf.Select("user_id", "window_start", "events", "micros")
        | sf.WriteToTable(table)
    )
    return p


def _read(topic: str, schema: type, disorder_s: float) -> sf.ReadFromTopic:
    return sf.ReadFromTopic(topic, schema=schema, event_time="event_time", disorder=disorder_s)


pipeline = build()
users = build_users()
