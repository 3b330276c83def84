"""Query 1, currency conversion: every bid with its price in euros instead of dollars.

A dollar is 89 euro cents, and what is below a cent is cut off, as in Beam's suite; in Flink's it is 0.908 euros.
"""

import streamflow as sf
from streamflow.examples.nexmark.events import DISORDER_S, Bid, read

SQL = "SELECT auction, bidder, price * 89 // 100 AS price, date_time, extra FROM bid"


def build(disorder_s: float = DISORDER_S, settings: sf.Settings | None = None) -> sf.Pipeline:
    p = sf.Pipeline("nexmark-q1", settings=settings)
    (
        p
        | read(Bid, disorder_s=disorder_s)
        | sf.WithColumns(price=sf.col("price") * 89 // 100)
        | sf.WriteToTable("nexmark_q1")
    )
    return p


pipeline = build()
