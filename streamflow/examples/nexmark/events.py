"""What the queries share: the events of the three topics, how they are read, and the windows of the suites."""

from datetime import datetime
from typing import Any, TypedDict, get_type_hints

import streamflow as sf

DISORDER_S = 1.0
"""How far out of order events may be: enough for `loadgen nexmark --out-of-order 10000` at its usual rate."""
WINDOW_S = 10
PERIOD_S = 2
"""Of the sliding windows, as in Flink's suite. Beam's has them begin every 5 s."""


class Person(TypedDict):
    id: int
    name: str
    email_address: str
    credit_card: str
    city: str
    state: str
    date_time: datetime
    extra: str


class Auction(TypedDict):
    """Bids are taken from `date_time` until `expires`. `initial_bid` and `reserve` are in cents."""

    id: int
    item_name: str
    description: str
    initial_bid: int
    reserve: int
    date_time: datetime
    expires: datetime
    seller: int
    category: int
    extra: str


class Bid(TypedDict):
    """`price` in cents; `bidder` is a person's id."""

    auction: int
    bidder: int
    price: int
    date_time: datetime
    extra: str


def read(
    kind: type[Person] | type[Auction] | type[Bid],
    *fields: str,
    disorder_s: float = DISORDER_S,
    bounded: bool = False,
) -> sf.ReadFromTopic:
    """The events of one kind, of which only `fields` (default: all) and their time are decoded."""
    hints: dict[str, Any] = get_type_hints(kind)
    schema = {name: hint for name, hint in hints.items() if not fields or name in (*fields, "date_time")}
    topic = kind.__name__.lower()
    return sf.ReadFromTopic(topic, schema=schema, event_time="date_time", disorder=disorder_s, bounded=bounded)
