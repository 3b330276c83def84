"""Query 5, hot items: which auctions have had the most bids in the last ten seconds, asked every two seconds?

All auctions with the greatest number are given. The paper asked for the last hour, every minute; the times here are
those of Flink's suite.
"""

import streamflow as sf
from streamflow.examples.nexmark.events import DISORDER_S, PERIOD_S, WINDOW_S, Bid, read
from streamflow.examples.nexmark.most import EachRow, RowsOfMax

SQL = f"""
    WITH counted AS (
        SELECT auction, last - seconds * INTERVAL 1 SECOND AS window_start, count(*) AS bids
        FROM (SELECT auction, time_bucket(INTERVAL {PERIOD_S} SECOND, date_time) AS last FROM bid),
             range(0, {WINDOW_S}, {PERIOD_S}) back(seconds)
        GROUP BY ALL
    )
    SELECT auction, bids, window_start FROM counted
    QUALIFY bids = max(bids) OVER (PARTITION BY window_start)
"""


def build(disorder_s: float = DISORDER_S, settings: sf.Settings | None = None) -> sf.Pipeline:
    p = sf.Pipeline("nexmark-q5", settings=settings)
    (
        p
        | read(Bid, "auction", disorder_s=disorder_s)
        | sf.WindowInto(sf.SlidingWindows(WINDOW_S, PERIOD_S))
        | "count" >> sf.Aggregate(by=["auction"], bids=sf.Count())
        | "hottest" >> sf.Aggregate(hot=RowsOfMax("bids", keep=["auction", "bids"]))
        | EachRow("hot", {"auction": int, "bids": int})
        | sf.WriteToTable("nexmark_q5")
    )
    return p


pipeline = build()
