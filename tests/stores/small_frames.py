"""Frames as a sink gets them, small enough to read."""

import polars as pl


def rows(start: int, end: int, **columns: object) -> pl.DataFrame:
    """A frame with offsets `[start, end)`, a column `n` equal to them, and the given constants."""
    frame = pl.DataFrame({"_offset": range(start, end), "n": range(start, end)}, schema_overrides={"_offset": pl.Int64})
    return frame.with_columns(**{name: pl.lit(value) for name, value in columns.items()})
