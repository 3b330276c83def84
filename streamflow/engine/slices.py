"""Slices of keys, so that no piece of work on a state need hold all of it at once. Pure.

A slice is the groups whose hash begins with certain bits, named by these bits behind a leading 1: slice 1 is all
groups, and slice n falls into 2n and 2n + 1, and so on. The hash is Polars' own; a log's folder refuses a Polars with
another one.
"""

from collections.abc import Sequence

import polars as pl

ALL = 1
SHUFFLE_SEED = 0
_SLICE_SEED = 1
"""Another one than the shuffle's: of the hashes that it sends to one task, some bits are always the same."""
_HASH_BITS = 64
_DEPTH_BITS_MAX = 16
"""Where cutting ends: what is still too large in one of 65,536 slices is a few groups of enormous accumulators."""


def hashes(frame: pl.DataFrame, keys: Sequence[str], seed: int) -> pl.Series:
    """A hash for each row; equal keys have the same one, whatever type their batch gave them."""
    return frame.select(_comparable(name, frame.schema[name]) for name in keys).hash_rows(seed=seed)


def _comparable(name: str, dtype: pl.DataType) -> pl.Expr:
    """Equal keys must meet whatever type their batch gave them: without a schema 1 may be an integer here and a float
    there, and an envelope may bring text as a category."""
    column = pl.col(name)
    if dtype.is_numeric() or dtype == pl.Boolean:
        return column.cast(pl.Float64)
    if dtype in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    return column.cast(pl.Datetime("us")) if dtype == pl.Datetime else column


def cut(frame: pl.DataFrame, keys: Sequence[str], wanted: int) -> pl.DataFrame:
    """The rows that belong to the slice."""
    depth = _depth(wanted)
    width = _HASH_BITS - depth
    first = (wanted - (1 << depth)) << width
    low, high = (pl.lit(bound, pl.UInt64) for bound in (first, first + (1 << width) - 1))
    return frame.filter(pl.lit(hashes(frame, keys, _SLICE_SEED)).is_between(low, high))


def contains(outer: int, inner: int) -> bool:
    deeper = inner.bit_length() - outer.bit_length()
    return deeper >= 0 and inner >> deeper == outer


def overlap(left: int, right: int) -> bool:
    return contains(left, right) or contains(right, left)


def can_be_cut(wanted: int) -> bool:
    return _depth(wanted) < _DEPTH_BITS_MAX


def passes(weights: Sequence[tuple[int, int]], bytes_max: int, within: int = ALL, *, bits: int = 1) -> list[int]:
    """Slices that make up `within` and each hold `bytes_max` or less, to be worked on one after the other.

    `weights`: (slice, bytes) of all that is to be read; hashes spread it evenly. A slice that holds too much is cut by
    the next `bits` of the hash."""
    here = [(of, size) for of, size in weights if overlap(of, within)]
    weight = sum(size >> max(0, _depth(within) - _depth(of)) for of, size in here)
    if weight <= bytes_max or not can_be_cut(within):
        return [within]
    parts = range(within << bits, (within + 1) << bits)
    return [leaf for part in parts for leaf in passes(here, bytes_max, part, bits=bits)]


def _depth(of: int) -> int:
    return of.bit_length() - 1
