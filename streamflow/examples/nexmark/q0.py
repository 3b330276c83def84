"""Query 0, pass through: every bid as it is. What the way from topic to table costs without any computation."""

import streamflow as sf
from streamflow.examples.nexmark.events import DISORDER_S, Bid, read

SQL = "SELECT auction, bidder, price, date_time, extra FROM bid"


def build(disorder_s: float = DISORDER_S, settings: sf.Settings | None = None) -> sf.Pipeline:
    p = sf.Pipeline("nexmark-q0", settings=settings)
    p | read(Bid, disorder_s=disorder_s) | sf.WriteToTable("nexmark_q0")
    return p


pipeline = build()
