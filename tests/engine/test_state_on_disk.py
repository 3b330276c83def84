"""State that is only in the log: panes are those of a state in memory, what is read is what is needed, and no piece of
work is larger than the memory for it.
"""

import random
from collections.abc import Iterable, Sequence

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipelines import end_topic, make_topic, ordered, publish_frame, read_events, records
from state_making import ACCUMULATING, DISCARDING, SIZE, Event, Keeper, Pane, column_combiner, unexpected, windowing

import streamflow as sf
from streamflow.engine import memory, task
from streamflow.engine.combine.contract import EVENTS, Combiner
from streamflow.engine.combine.rows import RowCombiner
from streamflow.engine.context import StepContext
from streamflow.model.batch import Elements
from streamflow.model.windowing import AccumulationMode
from streamflow.topics.frames import read_compact
from streamflow.topics.protocol import Log
from streamflow.transforms.combine import CombinePerKey

PIECE_BYTES = 300
"""Of about five rows."""
FAR = 10_000
STEPS = 300


@pytest.fixture(autouse=True)
def _tiny_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "PIECE_BYTES_MIN", PIECE_BYTES)


KEYS = [*"abcdefghijklmno", None]
steps = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(KEYS), st.integers(-30, 60), st.integers(-5, 5)), max_size=12),
        st.integers(0, 15),
        st.sampled_from(["go on", "go on", "restart", "let go"]),
    ),
    max_size=14,
)


@given(
    steps=steps,
    mode=st.sampled_from([ACCUMULATING, DISCARDING]),
    lateness=st.sampled_from([0, 7, 20]),
    segments_max=st.sampled_from([0, 1, 3, 1000]),
    memory_bytes=st.sampled_from([0, 0, 1_500, 1 << 20]),
    on_rows=st.booleans(),
)
def test_any_steps_restarts_and_memory_give_the_panes_of_a_state_in_memory(
    steps: list[tuple[list[tuple[str | None, int, int]], int, str]],
    mode: AccumulationMode,
    lateness: int,
    segments_max: int,
    memory_bytes: int,
    on_rows: bool,
) -> None:
    of = windowing(mode, lateness)
    combiner: Combiner = RowCombiner(CombinePerKey(sum), of) if on_rows else column_combiner(of)
    resident, spilled = Keeper(of, 1000, combiner=combiner), Keeper(of, segments_max, memory_bytes, combiner=combiner)
    for i, (events, advance, then) in enumerate([([], 0, "go on"), *steps, ([], FAR, "go on")]):
        after = max(resident.watermark, -30) + advance
        if then == "restart":
            spilled.restart()
        elif then == "let go":
            spilled.head.state.let_go()
        expected = outcome(resident, events, after, on_rows=on_rows)
        assert outcome(spilled, events, after, on_rows=on_rows) == expected, f"step {i}"
    assert spilled.segments == {}


def outcome(keeper: Keeper, events: Sequence[tuple[str | None, int, int]], after: int, *, on_rows: bool) -> object:
    """Panes, and how many events were late and dropped."""
    batches = keeper.fire([partial(keeper.combiner, events, on_rows=on_rows)] if events else [], after)
    rows: list[object] = []
    for batch in batches:
        if isinstance(batch, Elements):
            rows += zip(batch.values, batch.times, batch.windows or (), strict=True)
        else:
            rows += batch.select("k", "_wstart", "_wend", "total", "_pane").rows()
    return sorted(rows, key=repr), keeper.context.counts["late"], keeper.context.counts["dropped"]


def partial(combiner: Combiner, events: Sequence[tuple[str | None, int, int]], *, on_rows: bool) -> pl.DataFrame:
    keys, times, values = zip(*events, strict=True)
    if on_rows:
        elements = Elements(list(zip(keys, values, strict=True)), list(times), [-1] * len(times))
        return combiner.partial(elements, unexpected)
    frame = pl.DataFrame(
        {"k": keys, "_time": times, "v": values, "_offset": [-1] * len(times)}, schema_overrides={"k": pl.String}
    )
    return combiner.partial(frame, unexpected)


def fill(keeper: Keeper, count: int, *, at: int = 1, after: int = 5, per_step: int = 4) -> list[Pane]:
    """So many keys, a few with each step; the panes that they are to give."""
    for first in range(0, count, per_step):
        events: list[Event] = [(f"key {i}", at, i) for i in range(first, min(first + per_step, count))]
        assert keeper.step(events, after) == []
    return sorted((f"key {i}", at // SIZE * SIZE, i, 0) for i in range(count))


def all_on_disk() -> Keeper:
    """Nothing stays in memory, and nothing is merged on disk."""
    keeper = Keeper(windowing(), 1000, 0)
    keeper.memory.piece_bytes = 1 << 20
    return keeper


def test_step_that_only_adds_reads_nothing() -> None:
    keeper = all_on_disk()
    fill(keeper, 100)
    assert keeper.reads == 0
    assert keeper.head.state.rows() == 0


def test_claimed_state_is_read_when_it_is_needed_and_not_before() -> None:
    keeper = Keeper(windowing(), 1000)
    expected = fill(keeper, 40)
    keeper.restart()
    keeper.step([], 6)
    assert keeper.reads == 0
    assert keeper.step([], 10) == expected
    assert keeper.reads == 10
    assert keeper.step([("key 3", 1, 10)], 11) == [("key 3", 0, 13, 1)]
    assert keeper.reads == 10 + 1, "one more for its columns, when the first events came"


def test_only_segments_of_windows_that_fire_are_read() -> None:
    keeper = all_on_disk()
    early = fill(keeper, 4, at=1)
    late = fill(keeper, 40, at=11)
    assert keeper.step([], 10) == early
    assert keeper.reads == 1
    assert keeper.step([], 20) == late
    assert keeper.reads == 1 + 10


def test_late_event_reads_only_segments_of_its_window() -> None:
    keeper = all_on_disk()
    fill(keeper, 4, at=1)
    fill(keeper, 40, at=11)
    keeper.step([], 10)
    keeper.reads = 0
    assert keeper.step([("key 2", 1, 5)], 10) == [("key 2", 0, 7, 1)]
    assert keeper.reads == 1


def test_large_window_fires_in_slices_of_its_keys() -> None:
    keeper = Keeper(windowing(), 8, 0)
    expected = fill(keeper, 300)
    batches = keeper.fire([], 10)
    frames = [batch for batch in batches if isinstance(batch, pl.DataFrame)]
    assert len(frames) > 20
    assert max(frame.height for frame in frames) < 40
    assert sorted(row for frame in frames for row in frame.select("k", "_wstart", "total", "_pane").rows()) == expected


def test_large_window_in_memory_fires_in_slices_too() -> None:
    keeper = Keeper(windowing(), 1000, 1 << 30)
    keeper.memory.piece_bytes = PIECE_BYTES
    expected = fill(keeper, 300)
    assert len(keeper.fire([], 10)) > 20
    assert keeper.reads == 0
    assert len(expected) == 300


def test_slices_are_made_when_they_are_asked_for() -> None:
    keeper = Keeper(windowing(), 1000, 0)
    fill(keeper, 300)
    keeper.reads = 0
    batches = iter(keeper.head.fire(keeper.watermark, 10, StepContext()))
    next(batches)
    first = keeper.reads
    next(batches)
    assert 0 < first < keeper.reads


@pytest.mark.parametrize("segments_max", [4, 8])
@pytest.mark.parametrize("keys", [20, 3_000])
def test_compaction_reads_a_bounded_piece_and_rewrites_each_row_a_few_times(segments_max: int, keys: int) -> None:
    """Many steps with keys at random: of few keys, and of so many that none comes twice in a piece."""
    choose = random.Random(1)
    keeper = Keeper(windowing(), segments_max, 0)
    rows_in = rows_out = most_read = 0
    for _ in range(STEPS):
        before = set(keeper.segments)
        keeper.bytes_read = 0
        keeper.step([(f"key {choose.randrange(keys)}", 1, 1) for _ in range(4)], 5)
        new = [segment.info for number, segment in keeper.segments.items() if number not in before]
        most_read = max(most_read, keeper.bytes_read)
        rows_in += new[-1].rows
        rows_out += sum(info.rows for info in new[:-1])
    assert most_read <= 4 * 4 * PIECE_BYTES
    assert rows_out <= 7 * rows_in
    infos = [segment.info for segment in keeper.segments.values()]
    for of in {info.slice for info in infos}:
        sizes = [info.memory_bytes for info in infos if info.slice == of]
        assert len(sizes) <= 8 * segments_max
        assert sum(sizes) <= 8 * PIECE_BYTES
    assert sum(total for _, _, total, _ in keeper.step([], 10)) == STEPS * 4


def test_one_enormous_group_is_rewritten_a_few_times_only() -> None:
    of = windowing()
    keeper = Keeper(of, 4, 0, combiner=RowCombiner(CombinePerKey(Joined()), of))
    written = 0
    for i in range(STEPS):
        before = set(keeper.segments)
        keeper.fire([partial(keeper.combiner, [("hot", 1, i % 10)] * 20, on_rows=True)], 5)
        written += sum(len(segment.payload) for number, segment in keeper.segments.items() if number not in before)
    held = sum(len(segment.payload) for segment in keeper.segments.values())
    assert held > 10 * PIECE_BYTES
    assert written < 20 * held
    (batch,) = keeper.fire([], 10)
    assert isinstance(batch, Elements)
    ((key, text),) = batch.values
    assert (key, sorted(text)) == ("hot", sorted("0123456789" * (STEPS * 2)))


class Joined(sf.CombineFn):
    """All digits as one text: an accumulator that grows."""

    def create_accumulator(self) -> str:
        return ""

    def add_input(self, accumulator: str, element: int) -> str:
        return f"{accumulator}{element}"

    def merge_accumulators(self, accumulators: Iterable[str]) -> str:
        return "".join(accumulators)

    def extract_output(self, accumulator: str) -> str:
        return accumulator


def test_compaction_of_what_is_in_memory_leaves_it_there() -> None:
    keeper = Keeper(windowing(), 2)
    for i in range(20):
        keeper.step([(f"key {i % 3}", 1, 1)], 5)
    compacting = keeper.reads
    assert compacting > 0
    assert [total for _, _, total, _ in keeper.step([], 10)] == [7, 7, 6]
    assert keeper.reads - compacting <= 3


def test_taken_up_state_is_counted_and_let_go_again_when_it_is_too_much() -> None:
    keeper = Keeper(windowing(), 1000, 20_000)
    fill(keeper, 40)
    keeper.restart()
    keeper.step([], 10)
    assert keeper.head.state.rows() == 40
    fill(keeper, 400, at=11, after=12)
    assert keeper.head.state.rows() < 440
    spilled = keeper.totals["state_bytes_spilled"]
    assert spilled > 0
    assert keeper.totals["state_bytes_read"] > 0
    assert len(keeper.step([], 20)) == 400


def test_columns_of_another_kind_are_refused_also_when_all_state_is_on_disk() -> None:
    told: list[list[str]] = []
    for memory_bytes in (0, 1 << 30):
        keeper = Keeper(windowing(), 1000, memory_bytes)
        combiner = keeper.combiner
        for keys in (["a", "b"], [1, 2], [None, "c"]):
            frame = pl.DataFrame({"k": keys, "_time": [1, 1], "v": [1, 1], "_offset": [0, 1]})
            keeper.fire([combiner.partial(frame, unexpected)], 5)
            if memory_bytes == 0:
                keeper.restart()
        told.append([str(letter.error) for letter in keeper.dead])
        (batch,) = keeper.fire([], 10)
        assert isinstance(batch, pl.DataFrame)
        assert sorted(batch["k"].to_list(), key=repr) == ["a", "b", "c", None]
    assert told[0] == told[1]
    assert len(told[0]) == 2
    assert "columns of other kinds than before" in told[0][0]


def test_keys_of_mixed_number_types_are_one_group_in_every_slice() -> None:
    combiner = sf.Aggregate(by=["k"], total=sf.Sum("v"))
    keeper = Keeper(windowing(), 2, 0)
    assert combiner.keys == keeper.combiner.keys
    for _ in range(3):
        for keys in ([1, 2, 3, 4, 5, 6, 7, 8], [1.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]):
            frame = pl.DataFrame({"k": keys, "_time": [1] * 8, "v": [1] * 8, "_offset": [0] * 8})
            keeper.fire([keeper.combiner.partial(frame, unexpected)], 5)
    keeper.fire([], 10)
    late = pl.DataFrame({"k": [3, 2], "_time": [1] * 2, "v": [1] * 2, "_offset": [0] * 2})
    (batch,) = keeper.fire([keeper.combiner.partial(late, unexpected)], 10)
    assert isinstance(batch, pl.DataFrame)
    assert sorted(batch.select("k", "total").rows()) == [(2.0, 4), (3.0, 7)]


@pytest.mark.parametrize(("options", "alone"), [({"commit_bytes_max": 1}, True), ({}, False)])
def test_worker_commits_once_much_is_to_be_written(
    options: dict[str, int], alone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = sf.open_log("memory://")
    together: list[int] = []
    commit = log.commit
    monkeypatch.setattr(log, "commit", lambda commits: together.append(len(commits)) or commit(commits))
    _run_sums(log, sf.Settings(partitions=4, **options))
    assert (max(together) == 1) == alone


def test_outputs_of_a_large_window_are_encoded_slice_by_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, sliced = sf.open_log("memory://"), sf.open_log("memory://")
    _run_sums(whole, sf.Settings(partitions=1))
    assert len(records(whole, "out")) == 1
    monkeypatch.setattr(task, "ROWS_WAITING_MAX", 10)
    _run_sums(sliced, sf.Settings(partitions=1, state_bytes_max=0))
    assert len(records(sliced, "out")) > 3
    assert ordered(read_events(sliced)) == ordered(read_events(whole))


def _run_sums(log: Log, settings: sf.Settings) -> None:
    """Of 200 keys in one window, from four partitions."""
    make_topic(log)
    for partition in range(4):
        keys = [f"key {i}" for i in range(partition * 20, 140 + partition * 20)]
        publish_frame(log, pl.DataFrame({"k": keys, "v": range(140)}), partition=partition)
    end_topic(log)
    p = sf.Pipeline(on=log, settings=settings)
    windows = p | sf.ReadFromTopic("in", schema={"k": str, "v": int}) | sf.WindowInto(sf.FixedWindows(10))
    windows | sf.Aggregate(by=["k"], n=sf.Count(), s=sf.Sum("v")) | sf.WriteToTopic("out")
    p.run()


def test_segment_tells_the_windows_and_rows_it_holds() -> None:
    keeper = Keeper(windowing(), 1000)
    keeper.step([("a", 1, 1), ("b", 25, 1), ("b", 26, 1)], 5)
    (segment,) = keeper.segments.values()
    frame = read_compact(segment.payload)
    assert (segment.info.rows, segment.info.low_us, segment.info.high_us, segment.info.slice) == (2, 10, 30, 1)
    assert segment.info.memory_bytes == pytest.approx(frame.estimated_size(), rel=0.2)
    assert frame[EVENTS].sum() == 3


def test_rows_whose_windows_are_gone_with_their_own_step_are_not_written() -> None:
    keeper = Keeper(windowing(lateness=0), 1000)
    assert keeper.step([("a", 1, 1), ("b", 11, 1)], 10) == [("a", 0, 1, 0)]
    (segment,) = keeper.segments.values()
    assert read_compact(segment.payload)["k"].to_list() == ["b"]
