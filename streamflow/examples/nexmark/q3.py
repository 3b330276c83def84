"""Query 3, local item suggestion: who sells in Oregon, Idaho or California in category 10, and in which auctions?

Persons and auctions are joined over all time. A join in the global window gives its result when both topics have ended,
and so they must; the suites' joins give each pair as soon as both sides are there, and end with the same pairs.
"""

from collections.abc import Iterator
from typing import Any

import streamflow as sf
from streamflow.examples.nexmark.events import DISORDER_S, Auction, Person, read

STATES = ("OR", "ID", "CA")
CATEGORY = 10
SQL = f"""
    SELECT p.name, p.city, p.state, a.id AS auction
    FROM auction a JOIN person p ON a.seller = p.id
    WHERE a.category = {CATEGORY} AND p.state IN {STATES}
"""


class Suggestion:
    name: str
    city: str
    state: str
    auction: int


def build(disorder_s: float = DISORDER_S, settings: sf.Settings | None = None) -> sf.Pipeline:
    p = sf.Pipeline("nexmark-q3", settings=settings)
    sellers = (
        p
        | read(Person, "id", "name", "city", "state", disorder_s=disorder_s, bounded=True)
        | sf.Where(sf.col("state").is_in(STATES))
        | "Seller" >> sf.Map(lambda person: (person["id"], person))
    )
    items = (
        p
        | read(Auction, "id", "seller", "category", disorder_s=disorder_s, bounded=True)
        | sf.Where(sf.col("category") == CATEGORY)
        | "Item" >> sf.Map(lambda auction: (auction["seller"], auction["id"]))
    )
    (
        (sellers, items)
        | sf.Flatten()
        | sf.GroupByKey()
        | sf.FlatMap(pairs)
        | sf.AsColumns(Suggestion)
        | sf.WriteToTable("nexmark_q3")
    )
    return p


def pairs(group: tuple[int, list[Any]]) -> Iterator[dict[str, Any]]:
    """Of what has one seller's number, each item with the seller; none if the seller is not among the persons."""
    for seller in (value for value in group[1] if isinstance(value, dict)):
        for item in (value for value in group[1] if not isinstance(value, dict)):
            yield {name: seller[name] for name in ("name", "city", "state")} | {"auction": item}


pipeline = build()
