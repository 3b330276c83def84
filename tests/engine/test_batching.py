"""BatchElements and GroupIntoBatches."""

from typing import Any

import pytest
from pipelines import collected, ordered
from stateful_making import Machine

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.model.window import FixedWindows
from streamflow.model.windowing import Windowing
from streamflow.transforms import util
from streamflow.transforms.batching import _GroupIntoBatches
from streamflow.utils.sharded_key import ShardedKey


def timed(values: list[Any]) -> list[sf.TimestampedValue]:
    return [sf.TimestampedValue(value, n) for n, value in enumerate(values)]


def test_names_are_where_beams_users_look_for_them() -> None:
    assert (util.BatchElements, util.GroupIntoBatches) == (sf.BatchElements, sf.GroupIntoBatches)


def test_batch_elements_gives_lists_of_one_window_and_no_more_than_asked_for() -> None:
    def build(p: sf.Pipeline) -> Any:
        windowed = p | sf.Create(timed([*range(10)])) | sf.WindowInto(sf.FixedWindows(7))
        batches = windowed | sf.BatchElements(min_batch_size=2, max_batch_size=3)
        return batches | sf.Map(lambda batch, window=sf.DoFn.WindowParam: (float(window.start), batch))

    assert ordered(collected(build)) == [(0, [0, 1, 2]), (0, [3, 4, 5]), (0, [6]), (7, [7, 8, 9])]
    sizes = collected(lambda p: p | sf.Create(range(10)) | sf.BatchElements() | sf.Map(len))
    assert sizes == [10]


@pytest.mark.parametrize("step_events_max", [2, 100])
def test_group_into_batches_gives_full_batches_and_the_rest_when_the_window_closes(step_events_max: int) -> None:
    pairs = [("ab"[n % 2], n) for n in range(14)]

    def build(p: sf.Pipeline) -> Any:
        windowed = p | sf.Create(timed(pairs)) | sf.WindowInto(sf.FixedWindows(10))
        return windowed | sf.GroupIntoBatches(3)

    found = ordered(collected(build, sf.Settings(step_events_max=step_events_max)))
    assert found == [("a", [0, 2, 4]), ("a", [10, 12]), ("a", [6, 8]), ("b", [1, 3, 5]), ("b", [11, 13]), ("b", [7, 9])]


def test_what_waits_too_long_is_a_batch() -> None:
    m = Machine(_GroupIntoBatches(3, 10, None), Windowing(FixedWindows(100)))
    pairs = timed([("k", n) for n in range(9)])
    assert m.step(*pairs[:2], now=0) == []
    assert m.step(pairs[2], *pairs[3:4], now=9) == [("k", [0, 1, 2])]
    assert m.step(now=18.9) == []
    assert m.step(now=19) == [("k", [3])]
    assert m.step(pairs[4], to=100, now=20) == [("k", [4])]
    assert m.head.due_us is None
    assert len(m.state) == 0


def test_clock_of_ones_own_measures_how_long_a_batch_waits() -> None:
    clock = ManualClock(50_000_000)
    m = Machine(_GroupIntoBatches(3, 10, clock.monotonic_s))
    m.step(sf.TimestampedValue(("k", 1), 0), now=0)
    assert m.head.due_us == 60_000_000


def test_sharded_keys_split_what_belongs_to_one_key() -> None:
    pairs = [("k", n) for n in range(40)]
    found = collected(lambda p: p | sf.Create(pairs) | sf.GroupIntoBatches.WithShardedKey(2))
    assert sorted(n for _, batch in found for n in batch) == [*range(40)]
    assert {type(key) for key, _ in found} == {ShardedKey}
    assert {key.key for key, _ in found} == {"k"}
    assert len({key.shard_id for key, _ in found}) > 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: sf.GroupIntoBatches(0), "batch_size must be 1 or more, got 0"),
        (lambda: sf.GroupIntoBatches(2, -1), "must be above 0, or None for no end, got -1"),
        (lambda: sf.BatchElements(5, 2), "got 5 and 2"),
        (lambda: sf.BatchElements(max_size=2), "takes no 'max_size'"),
    ],
)
def test_batches_that_can_not_be_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
