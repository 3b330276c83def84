"""Grouping before the shuffle: left out where it is in vain, tried again now and then, the answer the same."""

from contextlib import closing
from pathlib import Path

import polars as pl
import pytest

import streamflow as sf
from streamflow.engine.combine.pre_aggregation import PreAggregation
from streamflow.stores.table import Catalog
from streamflow.topics import Publisher


@pytest.mark.parametrize(
    ("seen", "worthwhile"),
    [
        ([], True),
        ([(100_000, 500)], True),
        ([(100_000, 95_000)], False),
        ([(9_000, 9_000)], True),  # too few to learn from
        ([(100_000, 95_000), *[(100_000, 100_000)] * 14], False),
        ([(100_000, 95_000), *[(100_000, 100_000)] * 15], True),
        ([(100_000, 95_000), *[(100_000, 100_000)] * 15, (100_000, 10)], True),
    ],
)
def test_grouping_that_was_in_vain_is_left_out_for_a_while(seen: list[tuple[int, int]], worthwhile: bool) -> None:
    decision = PreAggregation()
    for events, rows in seen:
        decision.seen(events, rows)
    assert decision.worthwhile is worthwhile


def test_answer_does_not_depend_on_grouping_before_the_shuffle(tmp_path: Path) -> None:
    events = 60_000
    frame = pl.DataFrame({"user": pl.int_range(events, eager=True) % 29_000, "n": pl.int_range(events, eager=True)})
    frame = frame.with_columns(at=pl.lit(1_000_000) + pl.col("n") // 1_000)
    with closing(sf.connect(tmp_path)) as log:
        log.create_topic("in", sf.TopicConfig(1))
        publisher = Publisher(log, "in")
        for piece in frame.iter_slices(20_000):
            publisher.publish_frame(piece, event_time="at")
        publisher.end()
        p = sf.Pipeline("p", on=log, data=tmp_path, settings=sf.Settings(step_events_max=20_000))
        (
            p
            | sf.ReadFromTopic("in", schema={"user": pl.Int64, "n": pl.Int64})
            | sf.WindowInto(sf.FixedWindows(3600))
            | sf.Aggregate(by="user", events=sf.Count(), total=sf.Sum("n"), mean=sf.Mean("n"), least=sf.Min("n"))
            | sf.WriteToTable("t")
        )
        p.run()
    found = Catalog(tmp_path / "tables").sql("select user, events, total, mean, least from t order by user")
    expected = frame.group_by("user").agg(
        pl.len().cast(pl.Int64).alias("events"),
        pl.col("n").sum().alias("total"),
        pl.col("n").mean().alias("mean"),
        pl.col("n").min().alias("least"),
    )
    assert found.equals(expected.sort("user"))
