"""The partition law: equal keys meet, whatever type and batch they come in."""

from zlib import crc32

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamflow.base.errors import DataError
from streamflow.topics.partition import partition_column, partition_of

texts = st.lists(st.none() | st.text(max_size=12), max_size=60)
counts = st.integers(1, 64)


@given(texts, counts, st.integers(0, 1 << 70))
@settings(deadline=None)
def test_column_single_text_and_bytes_agree(keys: list[str | None], partitions: int, spread: int) -> None:
    expected = [spread % partitions if key is None else partition_of(key, partitions) for key in keys]
    as_text = pl.Series("key", keys, dtype=pl.String)
    assert partition_column(as_text, partitions, spread=spread).to_list() == expected
    assert partition_column(as_text.cast(pl.Binary), partitions, spread=spread).to_list() == expected
    assert all(partition_of(key, partitions) == partition_of(key.encode(), partitions) for key in keys if key)
    assert all(0 <= partition < partitions for partition in expected)


def test_long_columns_follow_the_same_law() -> None:
    keys = [None if n % 7 == 0 else f"user{n % 900}" for n in range(5_000)]
    long = partition_column(pl.Series(keys), 16, spread=5)
    assert long.dtype == pl.UInt32
    assert long.to_list() == [5 if key is None else crc32(key.encode()) % 16 for key in keys]
    assert long.to_list() == [
        partition
        for n in range(0, 5_000, 100)
        for partition in partition_column(pl.Series(keys[n : n + 100]), 16, spread=5)
    ]


def test_partitions_are_fixed_for_good() -> None:
    """CRC-32's published check value is 0xCBF43926 for "123456789"; that of "a" is 0xE8B7BE43."""
    assert [partition_of(key, 4_096) for key in ("", "a", "123456789")] == [0, 0xE43, 0x926]


def test_other_key_types_hash_as_their_text() -> None:
    expected = [partition_of(text, 16) for text in ("1", "2", "-3")]
    for dtype in (pl.Int8, pl.Int64):
        assert partition_column(pl.Series([1, 2, -3], dtype=dtype), 16).to_list() == expected
    assert partition_column(pl.Series([True]), 16).to_list() == [partition_of("true", 16)]
    for enumerated in (pl.Categorical(), pl.Enum(["b", "a"])):
        assert partition_column(pl.Series(["a"], dtype=enumerated), 16).to_list() == [partition_of("a", 16)]
    assert partition_column(pl.Series([None, None]), 16, spread=4).to_list() == [4, 4]


@pytest.mark.parametrize("keys", [pl.Series("k", [1.0]), pl.Series("k", [[1]]), pl.Series("k", [{"a": 1}])])
def test_keys_without_one_spelling_are_refused(keys: pl.Series) -> None:
    with pytest.raises(DataError, match="'k' has type"):
        partition_column(keys, 16)


def test_keys_spread_over_all_partitions() -> None:
    sizes = partition_column(pl.Series([f"user{n}" for n in range(16_000)]), 16).value_counts()["count"]
    assert len(sizes) == 16
    assert 800 < sizes.min() <= sizes.max() < 1_200  # type: ignore[operator]
