"""Synthetic advertisement events in the shape of the Yahoo Streaming Benchmark (Chintapalli et al., 2016).

Event number n is a pure function of (seed, n), so any range is made on its own: no state, no files, no clock.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import polars as pl

from loadgen.dataset import BLOCK_EVENTS, Dataset
from loadgen.draws import draw, mix, pick
from streamflow.base.errors import DataError

ADS = 1_000
CAMPAIGNS = 100
PAGES = 10_000
USERS_DEFAULT = 1_000_000
EVENTS_PER_S_DEFAULT = 50_000
DISORDER_US = 1_000_000
START_US_DEFAULT = 1_704_067_200_000_000
"""2024-01-01T00:00:00Z."""

AD_TYPES = ("banner", "modal", "sponsored-search", "mail", "mobile")
EVENT_TYPES = ("view", "click", "purchase")
SCHEMA = pl.Schema(
    {
        "user_id": pl.String(),
        "page_id": pl.String(),
        "ad_id": pl.String(),
        "ad_type": pl.String(),
        "event_type": pl.String(),
        "event_time": pl.Int64(),
        "ip_address": pl.String(),
    }
)

_USER, _PAGE, _AD, _CAMPAIGN, _EVENT = range(1, 6)
"""Streams of random numbers: one for each thing drawn, so that no two are correlated."""
_OCTETS = pl.Series([str(i) for i in range(256)])
_AD_TYPES = pl.Series(AD_TYPES)
_EVENT_TYPES = pl.Series(EVENT_TYPES)


def events(
    first: int,
    count: int,
    seed: int = 0,
    *,
    users: int = USERS_DEFAULT,
    start_us: int = START_US_DEFAULT,
    events_per_s: float = EVENTS_PER_S_DEFAULT,
) -> pl.DataFrame:
    """Events `[first, first + count)` with the columns of `SCHEMA`; `event_time` is µs.

    Event n happens at `start_us + n / events_per_s` and is stamped up to `DISORDER_US` earlier, evenly
    spread.
    """
    number = pl.int_range(first, first + count, dtype=pl.UInt64, eager=True)
    a = draw(number, seed, _EVENT)
    b = mix(a)
    c = mix(b)
    happened_us = start_us + (number.cast(pl.Float64) * (1e6 / events_per_s)).cast(pl.Int64)
    columns = {
        "user_id": _entity(a % users, seed, _USER),
        "page_id": pick(_pool(seed, _PAGE, PAGES), b),
        "ad_id": pick(_pool(seed, _AD, ADS), b // PAGES),
        "ad_type": pick(_AD_TYPES, b // (PAGES * ADS)),
        "event_type": pick(_EVENT_TYPES, a // users),
        "event_time": happened_us - (c % DISORDER_US).cast(pl.Int64),
        "ip_address": _joined([pick(_OCTETS, c // (1 << shift)) for shift in (32, 40, 48, 56)], "."),
    }
    return pl.DataFrame(columns, schema=SCHEMA)


def batches(count: int, seed: int = 0, batch: int = BLOCK_EVENTS, **shape: Any) -> Iterator[pl.DataFrame]:
    """The first `count` events in frames of `batch`, the last one shorter. `shape`: the keywords of `events`.

    Another batch size cuts the same events elsewhere.
    """
    for first in range(0, count, batch):
        yield events(first, min(batch, count - first), seed, **shape)


def campaigns(seed: int = 0) -> dict[str, str]:
    """ad_id → campaign_id: `ADS` ads, ten to each of `CAMPAIGNS` campaigns."""
    names = _pool(seed, _CAMPAIGN, CAMPAIGNS)
    return {ad: names[i % CAMPAIGNS] for i, ad in enumerate(_pool(seed, _AD, ADS))}


def dataset(
    count: int,
    seed: int = 0,
    *,
    users: int = USERS_DEFAULT,
    start_us: int = START_US_DEFAULT,
    events_per_s: float = EVENTS_PER_S_DEFAULT,
) -> Dataset:
    """The first `count` events, for publishing. DataError for a number that makes no sense."""
    for name, value in (("events", count), ("users", users), ("event rate", events_per_s)):
        if value <= 0:
            raise DataError(f"{name} must be above 0, not {value}. Give a positive number")

    def read(first: int, size: int) -> pl.DataFrame:
        return events(first, size, seed, users=users, start_us=start_us, events_per_s=events_per_s)

    return Dataset(
        producer=f"loadgen-ads-{seed}-{users}-{start_us}-{events_per_s}",
        events=count,
        time="event_time",
        read=read,
    )


def _entity(number: pl.Series, seed: int, stream: int) -> pl.Series:
    """36 characters in the layout of a UUID."""
    high = draw(number, seed, stream)
    low = mix(high)
    h, w = ([pick(_hex(), half // (1 << shift)) for shift in (48, 32, 16, 0)] for half in (high, low))
    dash = pl.lit("-")
    return _joined([h[0], h[1], dash, h[2], dash, h[3], dash, w[0], dash, w[1], w[2], w[3]])


def _joined(parts: Sequence[pl.Series | pl.Expr], separator: str = "") -> pl.Series:
    return pl.select(pl.concat_str(parts, separator=separator)).to_series()


@cache
def _hex() -> pl.Series:
    return pl.Series([f"{i:04x}" for i in range(1 << 16)])


@cache
def _pool(seed: int, stream: int, size: int) -> pl.Series:
    return _entity(pl.int_range(size, dtype=pl.UInt64, eager=True), seed, stream)
