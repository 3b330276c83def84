"""Query 12, processing-time windows: how many bids does each bidder make within ten seconds by the clock?

As in Beam's suite: one window for all, whose pane ends ten seconds after its first bid has arrived. How bids fall into
panes depends on when they arrive, so what can be compared is their sum for each bidder.
"""

import polars as pl

import streamflow as sf
from streamflow.examples.nexmark.events import DISORDER_S, WINDOW_S, Bid, read

SQL = "SELECT bidder, count(*) AS bids FROM bid GROUP BY bidder"


def settled(answer: pl.DataFrame) -> pl.DataFrame:
    """What does not depend on the clock."""
    return answer.group_by("bidder").agg(pl.col("bids").sum())


def build(disorder_s: float = DISORDER_S, settings: sf.Settings | None = None) -> sf.Pipeline:
    p = sf.Pipeline("nexmark-q12", settings=settings)
    panes = sf.trigger.Repeatedly(sf.trigger.AfterProcessingTime(WINDOW_S))
    (
        p
        | read(Bid, "bidder", disorder_s=disorder_s)
        | sf.WindowInto(sf.GlobalWindows(), trigger=panes, accumulation_mode=sf.AccumulationMode.DISCARDING)
        | "count" >> sf.Aggregate(by=["bidder"], bids=sf.Count())
        | sf.WriteToTable("nexmark_q12")
    )
    return p


pipeline = build()
