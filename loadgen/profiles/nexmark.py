"""The auction house of the Nexmark benchmark (Tucker, Tufte, Papadimos, Maier 2004) as Apache Beam's and Flink's suites
generate it: of 50 events one is a new person, three are new auctions, 46 are bids.

The rules (proportions, ids, who is hot, prices, how long auctions last, sizes) are those of the published generators;
the random numbers are ours. Event number n is a pure function of (shape, n), and so are the k-th person, auction and
bid, whose event numbers follow from k. Money is in cents. Texts are letters, drawn from a few thousand of each length.

Each kind has a topic of its own. A query reads only the kinds it asks for, with columns that are never empty because an
event is of another kind, and nothing has to take events apart that have nothing in common. The price is that several
topics must be published in step: that is what a mixture is for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import polars as pl

from loadgen.dataset import Dataset
from loadgen.draws import draw, mix, pick
from streamflow.base.errors import DataError

PERSONS, AUCTIONS, BIDS = 1, 3, 46
EPOCH = PERSONS + AUCTIONS + BIDS
"""Events after which the kinds come round again: first persons, then auctions, then bids."""
FIRST_ID = 1_000
FIRST_CATEGORY, CATEGORIES = 10, 5

ACTIVE_PERSONS = 1_000
"""The newest, from which sellers and bidders are drawn that are not hot."""
AUCTIONS_IN_FLIGHT = 100
"""The newest, from which bids are drawn that are not for a hot one."""
ID_LEAD = 10
"""So many ids that do not exist yet are drawn too: their events look as if they had been overtaken."""
HOT_EVERY = 100
"""One auction, one seller and one bidder of a hundred is hot, until the next hundred begins."""
HOT_AUCTION_RATIO, HOT_SELLER_RATIO, HOT_BIDDER_RATIO = 2, 4, 4
"""All but one of so many are for, or by, the hot one."""

PERSON_BYTES, AUCTION_BYTES, BID_BYTES = 200, 500, 100
"""What events have on average, numbers counting 8; `extra` makes up for what is missing."""
EVENTS_PER_S_DEFAULT = 10_000
START_US_DEFAULT = 1_704_067_200_000_000
"""2024-01-01T00:00:00Z."""

STATES = ("AZ", "CA", "ID", "OR", "WA", "WY")
CITIES = (
    "Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne",
)  # fmt: skip
FIRST_NAMES = ("Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter")
LAST_NAMES = ("Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris")

_PERSON, _AUCTION, _BID, _TEXT = range(1, 5)
"""Streams of random numbers."""
_TEXTS = 4_096
_DATETIME = pl.Datetime("us", "UTC")


@dataclass(frozen=True)
class Shape:
    """What decides every event.

    Event n happens at `start_us + n / events_per_s`. `out_of_order` above 1: events come in groups of so many, whose
    times are shuffled within the group (the published generators' `outOfOrderGroupSize`). DataError for a number that
    makes no sense.
    """

    seed: int = 0
    start_us: int = START_US_DEFAULT
    events_per_s: float = EVENTS_PER_S_DEFAULT
    out_of_order: int = 1

    def __post_init__(self) -> None:
        for name, value in (("event rate", self.events_per_s), ("out-of-order group", self.out_of_order)):
            if value <= 0:
                raise DataError(f"{name} must be above 0, not {value}. Give a positive number")

    @property
    def disorder_us(self) -> int:
        """No event is further behind the newest one before it."""
        return self._after_us(self.out_of_order - 1)

    @property
    def horizon_us(self) -> int:
        """How long an auction lasts on average: until as many have begun as are in flight."""
        return self._after_us(AUCTIONS_IN_FLIGHT * EPOCH // AUCTIONS)

    def times_us(self, number: pl.Series) -> pl.Series:
        """When the events of these numbers (UInt64) happen."""
        group = self.out_of_order
        place = number if group == 1 else number // group * group + number * 953 % group
        return self.start_us + (place.cast(pl.Float64) * (1e6 / self.events_per_s)).cast(pl.Int64)

    def _after_us(self, events: int) -> int:
        return int(events * 1e6 / self.events_per_s)


def persons(first: int, count: int, shape: Shape) -> pl.DataFrame:
    """Persons `[first, first + count)`: id, name, email_address, credit_card, city, state, date_time, extra."""
    number = _count(first, count) * EPOCH
    a = draw(number, shape.seed, _PERSON)
    b = mix(a)
    c = mix(b)
    card = [(c // (1 << shift) % 10_000).cast(pl.String).str.zfill(4) for shift in (0, 16, 32, 48)]
    columns = {
        "id": _ids(_last_person(number)),
        "name": _joined(pick(_pool(FIRST_NAMES), a), " ", pick(_pool(LAST_NAMES), a // 1_000)),
        "email_address": _joined(pick(_texts(7), b), "@", pick(_texts(5), b // _TEXTS), ".com"),
        "credit_card": _joined(card[0], " ", card[1], " ", card[2], " ", card[3]),
        "city": pick(_pool(CITIES), a // 1_000_000),
        "state": pick(_pool(STATES), a // 1_000_000_000),
        "date_time": shape.times_us(number).cast(_DATETIME),
    }
    return _padded(pl.DataFrame(columns), ("name", "email_address", "credit_card", "city", "state"), 8, PERSON_BYTES, b)


def auctions(first: int, count: int, shape: Shape) -> pl.DataFrame:
    """Auctions `[first, first + count)`: id, item_name, description, initial_bid, reserve, date_time, expires, seller,
    category, extra."""
    k = _count(first, count)
    number = k // AUCTIONS * EPOCH + PERSONS + k % AUCTIONS
    a = draw(number, shape.seed, _AUCTION)
    b = mix(a)
    c = mix(b)
    d = mix(c)
    person = _last_person(number)
    begins_us = shape.times_us(number)
    lasts_us = 1_000 + (d % max(2 * shape.horizon_us, 1)).cast(pl.Int64)
    initial_bid = _prices(c)
    columns = {
        "id": _ids(k),
        "item_name": pick(_texts(20), a),
        "description": pick(_texts(100), a // _TEXTS),
        "initial_bid": initial_bid,
        "reserve": initial_bid + _prices(mix(d)),
        "date_time": begins_us.cast(_DATETIME),
        "expires": (begins_us + lasts_us).cast(_DATETIME),
        "seller": _ids(_hot_or(_hot(person), _active_person(person, b // 4), b % HOT_SELLER_RATIO)),
        "category": (FIRST_CATEGORY + a // (_TEXTS * _TEXTS) % CATEGORIES).cast(pl.Int64),
    }
    return _padded(pl.DataFrame(columns), ("item_name", "description"), 48, AUCTION_BYTES, b)


def bids(first: int, count: int, shape: Shape) -> pl.DataFrame:
    """Bids `[first, first + count)`: auction, bidder, price, date_time, extra."""
    k = _count(first, count)
    number = k // BIDS * EPOCH + PERSONS + AUCTIONS + k % BIDS
    a = draw(number, shape.seed, _BID)
    b = mix(a)
    auction, person = k // BIDS * AUCTIONS + AUCTIONS - 1, _last_person(number)
    # The second of the hundred, that hot bidders are not the hot sellers.
    bidder = _hot_or(_hot(person) + 1, _active_person(person, b // 4), b % HOT_BIDDER_RATIO)
    return pl.DataFrame(
        {
            "auction": _ids(_hot_or(_hot(auction), _auction_in_flight(auction, a // 2), a % HOT_AUCTION_RATIO)),
            "bidder": _ids(bidder),
            "price": _prices(mix(b)),
            "date_time": shape.times_us(number).cast(_DATETIME),
            "extra": pick(_extras(BID_BYTES - 32), a // (1 << 32)),
        }
    )


def datasets(events: int, shape: Shape) -> Mapping[str, Dataset]:
    """The first `events` events as a mixture: topic → data set. DataError unless there are any.

    Persons come before the auctions they sell, and these before bids: a reader of several topics that has seen a bid's
    time may then trust that nothing older is still to come in the others.
    """
    if events <= 0:
        raise DataError(f"events must be above 0, not {events}. Give a positive number")
    producer = f"loadgen-nexmark-{shape.seed}-{shape.start_us}-{shape.events_per_s}-{shape.out_of_order}"

    def part(make: Callable[[int, int, Shape], pl.DataFrame], offset: int, proportion: int) -> Dataset:
        def read(first: int, count: int) -> pl.DataFrame:
            return make(first, count, shape)

        def before(number: int) -> int:
            return number // EPOCH * proportion + min(max(number % EPOCH - offset, 0), proportion)

        return Dataset(producer, before(events), "date_time", read, before=before)

    return {
        "person": part(persons, 0, PERSONS),
        "auction": part(auctions, PERSONS, AUCTIONS),
        "bid": part(bids, PERSONS + AUCTIONS, BIDS),
    }


def _count(first: int, count: int) -> pl.Series:
    return pl.int_range(first, first + count, dtype=pl.UInt64, eager=True)


def _ids(number: pl.Series) -> pl.Series:
    return (number + FIRST_ID).cast(pl.Int64)


def _last_person(number: pl.Series) -> pl.Series:
    """The newest person at the time of an event, itself included; counted from 0."""
    return number // EPOCH * PERSONS


def _active_person(newest: pl.Series, random: pl.Series) -> pl.Series:
    there = newest + 1
    active = there.clip(upper_bound=ACTIVE_PERSONS)
    return there - active + random % (active + ID_LEAD)


def _auction_in_flight(newest: pl.Series, random: pl.Series) -> pl.Series:
    oldest = newest - newest.clip(upper_bound=AUCTIONS_IN_FLIGHT)
    return oldest + random % (newest - oldest + 1 + ID_LEAD)


def _hot(newest: pl.Series) -> pl.Series:
    return newest // HOT_EVERY * HOT_EVERY


def _hot_or(hot: pl.Series, other: pl.Series, nth: pl.Series) -> pl.Series:
    return hot.zip_with(nth > 0, other)


def _prices(random: pl.Series) -> pl.Series:
    """From one to a million, evenly spread over the powers of ten; in cents."""
    exponent = (random // (1 << 11)).cast(pl.Float64) * (6 / (1 << 53))
    return pl.select((pl.lit(10.0).pow(exponent) * 100).round()).to_series().cast(pl.Int64)


def _padded(
    frame: pl.DataFrame, texts: tuple[str, ...], numbers_bytes: int, average_bytes: int, random: pl.Series
) -> pl.DataFrame:
    """With an `extra` that brings the row to about its average size, a fifth of what was missing more or less."""
    sizes = [pl.col(text).str.len_bytes().cast(pl.Int64) for text in texts]
    missing = average_bytes - numbers_bytes - pl.sum_horizontal(sizes)
    spare = (missing * 0.2).round().cast(pl.Int64)
    length = missing - spare + pl.lit((random // (1 << 33)).cast(pl.Int64)) % (2 * spare).clip(lower_bound=1)
    pool = pick(_letters(average_bytes * 6 // 5), random // (1 << 40))
    return frame.with_columns(pl.lit(pool).str.head(length.clip(lower_bound=0)).alias("extra"))


@cache
def _pool(values: tuple[str, ...]) -> pl.Series:
    return pl.Series(values)


@cache
def _letters(length: int) -> pl.Series:
    """Random texts of just that many letters."""
    number = pl.int_range(_TEXTS * length, dtype=pl.UInt64, eager=True)
    codes = bytes((draw(number, 0, _TEXT) % 26 + ord("a")).to_list())
    return pl.Series([codes[at : at + length].decode() for at in range(0, len(codes), length)])


@cache
def _texts(below: int) -> pl.Series:
    """Random texts of 3 letters and more, but less than `below`."""
    lengths = 3 + draw(_count(0, _TEXTS), below, _TEXT) % (below - 3)
    return _letters(below).str.head(lengths)


@cache
def _extras(average: int) -> pl.Series:
    """Random texts of that length on average, a fifth more or less."""
    spare = round(average * 0.2)
    lengths = average - spare + draw(_count(0, _TEXTS), average, _TEXT) % (2 * spare)
    return _letters(average + spare).str.head(lengths)


def _joined(*parts: pl.Series | str) -> pl.Series:
    return pl.select(pl.concat_str(pl.lit(part) for part in parts)).to_series()
