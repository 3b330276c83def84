"""Query 2, selection: auction and price of the bids on certain auctions, those whose number is a multiple of 123.

The paper named five auctions; with a rule, as in both suites, the share of bids stays the same however long it runs.
"""

import streamflow as sf
from streamflow.examples.nexmark.events import DISORDER_S, Bid, read

EVERY = 123
SQL = f"SELECT auction, price FROM bid WHERE auction % {EVERY} = 0"


def build(disorder_s: float = DISORDER_S, settings: sf.Settings | None = None) -> sf.Pipeline:
    p = sf.Pipeline("nexmark-q2", settings=settings)
    (
        p
        | read(Bid, "auction", "price", disorder_s=disorder_s)
        | sf.Where(sf.col("auction") % EVERY == 0)
        | sf.Select("auction", "price")
        | sf.WriteToTable("nexmark_q2")
    )
    return p


pipeline = build()
