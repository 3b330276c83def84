"""All flights that left New York City in 2013: hourly delays per airport → a table, daily counts per carrier → wide
rows.

Events arrive as flights land, up to eleven hours behind other flights' departures, and event time is departure. So
the windows allow 13 hours of lateness, and correct what they gave before with further panes: both sinks keep the
newest.

    loadgen flights --to demo-data
    streamflow run streamflow.examples.flights --data demo-data --workers 2 --until finished
"""

from typing import TypedDict

import polars as pl

import streamflow as sf

LATENESS_S = 13 * 3600
DELAYED_MINUTES = 15


class Flight(TypedDict):
    """What the pipeline needs of an event; a flight that never left has no delay."""

    origin: str
    carrier: str
    dep_delay: int | None
    distance: int


def windows_of(seconds: int) -> sf.WindowInto:
    """Windows whose late panes hold everything so far, for sinks that keep the newest."""
    return sf.WindowInto(
        sf.FixedWindows(seconds), allowed_lateness=LATENESS_S, accumulation_mode=sf.AccumulationMode.ACCUMULATING
    )


def build(name: str = "flights", topic: str = "flights", settings: sf.Settings | None = None) -> sf.Pipeline:
    p = sf.Pipeline(name, settings=settings)
    flights = p | sf.ReadFromTopic(topic, schema=Flight)

    (
        flights
        | "hours" >> windows_of(3600)
        | "hourly"
        >> sf.Aggregate(
            by=["origin"],
            flights=sf.Count(),
            departed=sf.Count("dep_delay"),
            mean_delay=sf.Mean("dep_delay"),
            worst_delay=sf.Max("dep_delay"),
        )
        | sf.Select(
            "origin",
            "flights",
            "departed",
            "mean_delay",
            "worst_delay",
            hour="window_start",
            month=sf.col("window_start").dt.strftime("%Y-%m"),
        )
        | sf.WriteToTable("flights_hourly", partition_by=["month"], key=["origin", "hour"])
    )

    (
        flights
        | "days" >> windows_of(24 * 3600)
        | "daily"
        >> sf.Aggregate(
            by=["carrier"],
            flights=sf.Count(),
            departed=sf.Count("dep_delay"),
            delayed=sf.Sum((sf.col("dep_delay") > DELAYED_MINUTES).cast(pl.Int64)),
            miles=sf.Sum("distance"),
        )
        | sf.WriteToRows(
            "carrier_daily",
            row_key=pl.format("{}#{}", "carrier", sf.col("window_start").dt.strftime("%Y-%m-%d")),
            family="day",
            columns=["flights", "departed", "delayed", "miles"],
        )
    )
    return p


pipeline = build()
