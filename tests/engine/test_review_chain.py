"""Three groupings in a chain beside a sliding one, from two flattened topics with idle partitions, into tables and
rows, by a worker that dies at random commits: every result is the direct computation, nothing twice, nothing left.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

import streamflow as sf
from streamflow.runtime.outline import outline_topic
from streamflow.stores.table import Catalog
from streamflow.stores.table.catalog import open_table
from streamflow.stores.widerow import WideRowStore, row_folder, rows_as_dicts
from streamflow.topics import codec
from streamflow.topics.protocol import Log, StepCommit, TopicConfig

SECOND_US = 1_000_000
TOPICS = ("a", "b")
PARTITIONS = 3
DEATHS_MAX = 500


class Died(BaseException):
    """The process is gone: no handler of the library may catch this."""


class Mortal:
    """A log on which a part of the commits is followed, or prevented, by death."""

    def __init__(self, log: Log, choose: random.Random) -> None:
        self._log, self._choose = log, choose

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def commit(self, commits: Sequence[StepCommit]) -> list[bool]:
        fate = self._choose.random()
        if fate < 0.05:
            raise Died
        results = self._log.commit(commits)
        if fate > 0.95:
            raise Died
        return results


def build(log: Any, data: Path, settings: sf.Settings, lateness_s: int) -> sf.Pipeline:
    p = sf.Pipeline("p", on=log, data=data, settings=settings)
    schema = {"k": pl.String, "v": pl.Int64}
    read = tuple(p | sf.ReadFromTopic(t, schema=schema, disorder=20, bounded=True) for t in TOPICS)
    both = read | sf.Flatten()
    tens = both | "W10" >> sf.WindowInto(sf.FixedWindows(10), allowed_lateness=lateness_s)
    first = tens | "G10" >> sf.Aggregate(by="k", n=sf.Count(), v=sf.Sum("v"))
    first | sf.WriteToTable("tens")
    forties = first | "W40" >> sf.WindowInto(sf.FixedWindows(40), allowed_lateness=lateness_s)
    second = forties | "G40" >> sf.Aggregate(by="k", n=sf.Sum("n"), v=sf.Sum("v"))
    second | sf.WriteToTable("forties")
    pairs = second | sf.WindowInto(sf.GlobalWindows()) | sf.Map(lambda row: (row["k"], (row["n"], row["v"])))
    totals = pairs | sf.CombinePerKey(summed_pairs) | "flat" >> sf.Map(lambda kv: {"k": kv[0], "n": kv[1][0]})
    totals | sf.WriteToTable("totals")
    sliding = both | "W30" >> sf.WindowInto(
        sf.SlidingWindows(30, 10),
        allowed_lateness=lateness_s,
        accumulation_mode=sf.AccumulationMode.ACCUMULATING,
    )
    last = sliding | "G30" >> sf.Aggregate(by="k", n=sf.Count(), v=sf.Sum("v"))
    last | sf.WriteToTable("sliding", key=["k", "window_start"])
    named = last | "id" >> sf.Map(lambda row: row | {"id": f"{row['k']}#{row['window_start'].timestamp():.0f}"})
    named | sf.WriteToRows("sliding", row_key="id", family="f", columns=["n", "v"])
    return p


def summed_pairs(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    kept = list(pairs)
    return sum(n for n, _ in kept), sum(v for _, v in kept)


class Scenario:
    """Batches are published, now and then all that is there is processed, at last the topics end. With lateness, times
    come in any order; without, within the disorder that the sources declare."""

    def __init__(self, seed: int, log: Log, data: Path, *, lateness_s: int) -> None:
        self.choose, self.log, self.data, self.lateness_s = random.Random(seed), log, data, lateness_s
        self.events: list[tuple[int, str, int]] = []
        self.mortal = Mortal(log, self.choose)
        self.settings = sf.Settings(
            partitions=2,
            step_events_max=self.choose.choice([1, 7, 10_000]),
            commit_events_max=self.choose.choice([1, 20, 400_000]),
            compact_segments=self.choose.choice([1, 3, 32]),
            state_bytes_max=self.choose.choice([0, 1_000, 256 << 20]),
            sink_interval_s=0.0,
            poll_s=0.01,
            prune_s=0.0,
        )

    def play(self) -> sf.PipelineResult:
        for topic in TOPICS:
            self.log.create_topic(topic, TopicConfig(PARTITIONS))
        for i in range(8):
            self.publish(self.choose.randint(0, 300) if self.lateness_s else 10 * i, topics=TOPICS if i % 3 else "a")
            if self.choose.random() < 0.5:
                self.run("drained")
        for topic in TOPICS:
            sf.Publisher(self.log, topic).end()
            self.run("drained")
        return self.run("finished")

    def publish(self, around_s: int, topics: Sequence[str]) -> None:
        """One atomic publish. The last partition of each topic stays empty."""
        parts: dict[tuple[str, int], list[tuple[int, str, int]]] = defaultdict(list)
        for _ in range(self.choose.randint(1, 30)):
            time_us = around_s * SECOND_US + self.choose.randint(-10 * SECOND_US, 9 * SECOND_US)
            event = (time_us, self.choose.choice("xyz"), self.choose.randint(-5, 5))
            parts[self.choose.choice(topics), self.choose.randrange(PARTITIONS - 1)].append(event)
            self.events.append(event)
        self.log.publish(
            [
                codec.encode_json(
                    topic, partition, [orjson.dumps({"k": k, "v": v}) for _, k, v in events], [t for t, *_ in events]
                )
                for (topic, partition), events in parts.items()
            ]
        )

    def run(self, until: Any) -> sf.PipelineResult:
        for _ in range(DEATHS_MAX):
            try:
                return build(self.mortal, self.data, self.settings, self.lateness_s).run(until=until)
            except Died:
                continue
        raise AssertionError(f"died {DEATHS_MAX} times")

    def expected(self, size_s: int, shifts_s: Sequence[int] = (0,)) -> list[tuple[Any, ...]]:
        """(key, window start, events, sum) of windows that begin at multiples of `size_s`, and these shifted."""
        frame = pl.DataFrame(self.events, schema=["t", "k", "v"], orient="row")
        start = pl.col("t") - pl.col("t") % (size_s * SECOND_US)
        shifted = pl.concat(frame.with_columns((start - s * SECOND_US).alias("w")) for s in shifts_s)
        return sorted(shifted.group_by("k", "w").agg(pl.len().cast(pl.Int64), pl.sum("v")).rows())


def panes_summed(data: Path, table: str) -> list[tuple[Any, ...]]:
    panes = Catalog(data / "tables").read(table)
    start = pl.col("window_start").dt.epoch("us").alias("w")
    return sorted(panes.group_by("k", start).agg(pl.sum("n").cast(pl.Int64), pl.sum("v")).rows())


def newest_panes(data: Path, table: str) -> list[tuple[Any, ...]]:
    panes = Catalog(data / "tables").read(table)
    return sorted(panes.select("k", pl.col("window_start").dt.epoch("us"), pl.col("n").cast(pl.Int64), "v").rows())


def wide_rows(data: Path, store: str) -> dict[str, tuple[Any, ...]]:
    with WideRowStore(row_folder(data / "rows", store), readonly=True) as opened:
        return {row["row"]: tuple(cell["value"] for cell in row["cells"]) for row in rows_as_dicts(opened)}


@pytest.mark.parametrize("lateness_s", [0, 10_000])
@pytest.mark.parametrize(("seed", "place"), [(1, "memory"), (2, "folder"), (3, "memory"), (4, "folder")])
def test_deaths_at_random_commits_leave_every_result_exact(
    seed: int, place: str, lateness_s: int, tmp_path: Path
) -> None:
    log = sf.open_log("memory://" if place == "memory" else tmp_path)
    scenario = Scenario(seed, log, tmp_path, lateness_s=lateness_s)
    result = scenario.play()
    assert (result.total("dropped"), result.total("dead_lettered")) == (0, 0)
    assert lateness_s or result.total("late") == 0
    assert panes_summed(tmp_path, "tens") == scenario.expected(10)
    assert panes_summed(tmp_path, "forties") == scenario.expected(40)
    totals = pl.DataFrame(scenario.events, schema=["t", "k", "v"], orient="row").group_by("k").len()
    assert sorted(Catalog(tmp_path / "tables").read("totals").select("k", "n").rows()) == sorted(totals.rows())
    sliding = scenario.expected(10, shifts_s=(0, 10, 20))
    assert newest_panes(tmp_path, "sliding") == sliding
    assert wide_rows(tmp_path, "sliding") == {f"{k}#{w // SECOND_US}": (n, v) for k, w, n, v in sliding}
    assert_nothing_twice_and_nothing_left(log, tmp_path)
    log.close()


def assert_nothing_twice_and_nothing_left(log: Log, data: Path) -> None:
    table = open_table(data / "tables" / "sliding")
    assert table is not None
    offsets = pl.read_parquet(table.file_uris(), columns=["_offset"])["_offset"]
    assert offsets.is_unique().all()
    assert len(offsets) == log.end("p.table-sliding", 0), "every pane is in the table's files once"
    snapshot = log.snapshot("p")
    assert not snapshot.workers
    assert all(state.owner is None for state in snapshot.tasks.values())
    log.prune()
    internal = [info for info in log.topics() if info.config.internal and info.name != outline_topic("p")]
    assert not any(log.read(i.name, part, 0) for i in internal for part in range(i.config.partitions))
