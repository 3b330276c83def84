import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.report import Disorder, Tally


def naive(times_us: list[int]) -> tuple[int, int]:
    newest, out_of_order, latest_by = times_us[0], 0, 0
    for time_us in times_us:
        out_of_order += time_us < newest
        latest_by = max(latest_by, newest - time_us)
        newest = max(newest, time_us)
    return out_of_order, latest_by


@given(times_us=st.lists(st.integers(-1000, 1000), min_size=1), batch=st.integers(1, 7))
def test_disorder_is_what_a_loop_counts_whatever_the_batches(times_us: list[int], batch: int) -> None:
    disorder = Disorder()
    for at in range(0, len(times_us), batch):
        disorder.add(pl.Series(times_us[at : at + batch], dtype=pl.Int64))

    assert (disorder.out_of_order, disorder.latest_by_us) == naive(times_us)
    assert disorder.events == len(times_us)
    assert disorder.share == disorder.out_of_order / len(times_us)


def test_measuring_disorder_leaves_the_batch_as_it_was() -> None:
    times_us = pl.Series([3, 1, 2], dtype=pl.Int64)
    for _ in range(2):
        Disorder().add(times_us)

    assert times_us.to_list() == [3, 1, 2]


def test_an_empty_batch_changes_no_figure() -> None:
    disorder = Disorder()
    disorder.add(pl.Series([], dtype=pl.Int64))

    assert (disorder.events, disorder.share, disorder.latest_by_us) == (0, 0.0, 0)


def test_publishing_time_is_a_nearest_rank_quantile_in_milliseconds() -> None:
    tally = Tally(position=0)
    assert tally.publish_ms(0.5) is None

    tally.publish_s.extend(n / 1000 for n in range(1, 101))

    assert tally.publish_ms(0.5) == pytest.approx(51)
    assert tally.publish_ms(0.99) == pytest.approx(100)
