"""Random numbers by event number: column-wise, without state, the same with every Polars version.

They come from SplitMix64 (Steele, Lea, Flood 2014). All series are UInt64, whose products wrap; `//` is the shift.
"""

import polars as pl


def mix(x: pl.Series) -> pl.Series:
    """SplitMix64's output function, a bijection of 64 bits. Mixing a number again gives a further one."""
    x = (x ^ (x // (1 << 30))) * 0xBF58476D1CE4E5B9
    x = (x ^ (x // (1 << 27))) * 0x94D049BB133111EB
    return x ^ (x // (1 << 31))


def draw(number: pl.Series, seed: int, stream: int) -> pl.Series:
    """A random number for each event number. One `stream` for each thing drawn, so that no two are correlated."""
    salt = mix(pl.Series([(seed * 0x100 + stream) % (1 << 64)], dtype=pl.UInt64))
    return mix(number * 0x9E3779B97F4A7C15 + salt)


def pick(pool: pl.Series, number: pl.Series) -> pl.Series:
    """Of the pool the entry that each number comes to, round and round."""
    return pool.gather(number % len(pool))
