"""Query 7, highest bid: of each ten seconds the bid with the highest price, or all that share it.

The paper asked for the last minute. Beam's and Flink's suites join bids with the highest price; here one aggregate
keeps the rows that have it, so that only those cross the shuffle.
"""

from datetime import datetime

import streamflow as sf
from streamflow.examples.nexmark.events import DISORDER_S, WINDOW_S, Bid, read
from streamflow.examples.nexmark.most import EachRow, RowsOfMax

SQL = f"""
    SELECT auction, bidder, price, date_time, time_bucket(INTERVAL {WINDOW_S} SECOND, date_time) AS window_start
    FROM bid
    QUALIFY price = max(price) OVER (PARTITION BY time_bucket(INTERVAL {WINDOW_S} SECOND, date_time))
"""
FIELDS = {"auction": int, "bidder": int, "price": int, "date_time": datetime}


def build(disorder_s: float = DISORDER_S, settings: sf.Settings | None = None) -> sf.Pipeline:
    p = sf.Pipeline("nexmark-q7", settings=settings)
    (
        p
        | read(Bid, "auction", "bidder", "price", disorder_s=disorder_s)
        | sf.WindowInto(sf.FixedWindows(WINDOW_S))
        | "highest" >> sf.Aggregate(highest=RowsOfMax("price", keep=list(FIELDS)))
        | EachRow("highest", FIELDS)
        | sf.WriteToTable("nexmark_q7")
    )
    return p


pipeline = build()
