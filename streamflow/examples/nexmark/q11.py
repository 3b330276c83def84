"""Query 11, user sessions: how many bids does each bidder make in a row, less than ten seconds apart?

A session is over when its bidder has been silent for ten seconds of event time, as in both suites.
"""

import streamflow as sf
from streamflow.examples.nexmark.events import DISORDER_S, WINDOW_S, Bid, read

SQL = f"""
    WITH marked AS (
        SELECT bidder, date_time,
               date_time - lag(date_time) OVER of_bidder < INTERVAL {WINDOW_S} SECOND AS goes_on
        FROM bid WINDOW of_bidder AS (PARTITION BY bidder ORDER BY date_time)
    ), numbered AS (
        SELECT bidder, date_time,
               count(*) FILTER (WHERE goes_on IS NOT TRUE) OVER (PARTITION BY bidder ORDER BY date_time) AS session
        FROM marked
    )
    SELECT bidder, count(*) AS bids, min(date_time) AS window_start,
           max(date_time) + INTERVAL {WINDOW_S} SECOND AS window_end
    FROM numbered GROUP BY bidder, session
"""


def build(disorder_s: float = DISORDER_S, settings: sf.Settings | None = None) -> sf.Pipeline:
    p = sf.Pipeline("nexmark-q11", settings=settings)
    (
        p
        | read(Bid, "bidder", disorder_s=disorder_s)
        | sf.WindowInto(sf.Sessions(WINDOW_S))
        | "count" >> sf.Aggregate(by=["bidder"], bids=sf.Count())
        | sf.Select("bidder", "bids", "window_start", "window_end")
        | sf.WriteToTable("nexmark_q11")
    )
    return p


pipeline = build()
