"""Query 4, average price for a category: the mean of the closing prices of a category's auctions.

An auction's closing price is the highest bid from when it begins until it expires, both included; one without a bid has
none. As in Flink's suite the mean is over all auctions, of which it shows each change; here it is given once, when the
topics have ended, and so they must. Beam's suite takes the mean in sliding windows, over bids that reach the reserve.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

import streamflow as sf
from streamflow.examples.nexmark.events import DISORDER_S, Auction, Bid, read

SQL = """
    SELECT category, sum(price) / count(*) AS price, count(*) AS auctions
    FROM (
        SELECT a.id, a.category, max(b.price) AS price
        FROM auction a JOIN bid b ON a.id = b.auction
        WHERE b.date_time BETWEEN a.date_time AND a.expires
        GROUP BY a.id, a.category
    )
    GROUP BY category
"""


class Listing(NamedTuple):
    category: int
    begins: datetime
    expires: datetime


class Offer(NamedTuple):
    price: int
    time: datetime


class Closing:
    """The columns of a closed auction."""

    category: int
    price: int


Known = tuple[Listing | None, list[Offer]]


class ClosingPrice(sf.CombineFn):
    """Of an auction's listing and offers its category and closing price; None if one is missing.

    As long as the listing is unknown any offer may be the one; from then on only the highest is kept.
    """

    def create_accumulator(self) -> Known:
        return None, []

    def add_input(self, accumulator: Known, element: Listing | Offer) -> Known:
        if isinstance(element, Offer):
            accumulator[1].append(element)
            return accumulator
        return element, accumulator[1]

    def merge_accumulators(self, accumulators: Iterable[Known]) -> Known:
        parts = list(accumulators)
        listing = next((listing for listing, _ in parts if listing is not None), None)
        return listing, [offer for _, offers in parts for offer in offers]

    def compact(self, accumulator: Known) -> Known:
        listing, offers = accumulator
        if listing is None:
            return accumulator
        valid = [offer for offer in offers if listing.begins <= offer.time <= listing.expires]
        return listing, [max(valid)] if valid else []

    def extract_output(self, accumulator: Known) -> dict[str, Any] | None:
        listing, offers = self.compact(accumulator)
        return None if listing is None or not offers else {"category": listing.category, "price": offers[0].price}


def build(disorder_s: float = DISORDER_S, settings: sf.Settings | None = None) -> sf.Pipeline:
    p = sf.Pipeline("nexmark-q4", settings=settings)
    listings = (
        p
        | read(Auction, "id", "category", "expires", disorder_s=disorder_s, bounded=True)
        | "Listing" >> sf.Map(lambda a: (a["id"], Listing(a["category"], a["date_time"], a["expires"])))
    )
    offers = (
        p
        | read(Bid, "auction", "price", disorder_s=disorder_s, bounded=True)
        | "Offer" >> sf.Map(lambda bid: (bid["auction"], Offer(bid["price"], bid["date_time"])))
    )
    (
        (listings, offers)
        | sf.Flatten()
        | sf.CombinePerKey(ClosingPrice())
        | sf.FlatMap(lambda auction: [] if auction[1] is None else [auction[1]])
        | sf.AsColumns(Closing)
        | sf.Aggregate(by=["category"], price=sf.Mean("price"), auctions=sf.Count())
        | sf.WriteToTable("nexmark_q4")
    )
    return p


pipeline = build()
