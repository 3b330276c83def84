"""Query 8, monitor new users: who has joined and begun an auction within the same ten seconds?

A join in fixed windows, in which each person occurs once: so it can be said on columns, as one aggregate over persons
and sellers together. The paper asked for twelve hours. As in Flink's suite each person is given once; Beam's gives one
row for each auction.
"""

import polars as pl

import streamflow as sf
from streamflow.examples.nexmark.events import DISORDER_S, WINDOW_S, Auction, Person, read

SQL = f"""
    WITH joined AS (SELECT id, name, time_bucket(INTERVAL {WINDOW_S} SECOND, date_time) AS window_start FROM person),
         sold AS (SELECT seller, time_bucket(INTERVAL {WINDOW_S} SECOND, date_time) AS window_start FROM auction)
    SELECT id, name, window_start FROM joined
    WHERE (id, window_start) IN (SELECT (seller, window_start) FROM sold)
"""


def build(disorder_s: float = DISORDER_S, settings: sf.Settings | None = None) -> sf.Pipeline:
    p = sf.Pipeline("nexmark-q8", settings=settings)
    persons = (
        p
        | read(Person, "id", "name", disorder_s=disorder_s)
        | "person" >> sf.Select("id", "name", auctions=sf.lit(0, pl.Int64))
    )
    sellers = (
        p
        | read(Auction, "seller", disorder_s=disorder_s)
        | "seller" >> sf.Select(id="seller", name=sf.lit(None, pl.String), auctions=sf.lit(1, pl.Int64))
    )
    (
        (persons, sellers)
        | sf.Flatten()
        | sf.WindowInto(sf.FixedWindows(WINDOW_S))
        | "join" >> sf.Aggregate(by=["id"], name=sf.Max("name"), auctions=sf.Sum("auctions"))
        | sf.Where(sf.col("name").is_not_null() & (sf.col("auctions") > 0))
        | sf.Select("id", "name", "window_start")
        | sf.WriteToTable("nexmark_q8")
    )
    return p


pipeline = build()
