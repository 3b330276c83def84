"""Sources and sinks of a user's own, and objects that functions share."""

import gc
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

import streamflow as sf
from streamflow.io import BoundedSource, OffsetRangeTracker, Read, Sink, Write
from streamflow.io.iobase import SourceBundle, Writer
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.util import assert_that, equal_to
from streamflow.utils.shared import Shared


class Numbers(BoundedSource):
    def split(self, desired_bundle_size: int, start_position: Any = None, stop_position: Any = None) -> Any:
        for start in range(0, 10, 4):
            yield SourceBundle(4, self, start, min(10, start + 4))

    def get_range_tracker(self, start_position: Any, stop_position: Any) -> OffsetRangeTracker:
        return OffsetRangeTracker(start_position, stop_position)

    def read(self, range_tracker: Any) -> Iterator[int]:
        number = range_tracker.start_position()
        while range_tracker.try_claim(number):
            yield number
            number += 1


PLACED: dict[str, list[int]] = {}
OPEN: dict[str, list[int]] = {}


class InParts(Sink):
    def initialize_write(self) -> str:
        return "part-"

    def open_writer(self, init_result: Any, uid: str) -> "Part":
        return Part(init_result + uid)

    def finalize_write(self, init_result: Any, writer_results: Iterable[Any], pre_finalize_result: Any) -> list[int]:
        for name in writer_results:
            PLACED[name] = OPEN[name]
        return [len(values) for values in PLACED.values()]


class Part(Writer):
    def __init__(self, name: str) -> None:
        self.name = name
        OPEN[name] = []

    def write(self, value: int) -> None:
        OPEN[self.name].append(1 // value)

    def close(self) -> str:
        return self.name


def test_a_source_is_read_in_the_bundles_that_it_is_split_into() -> None:
    with TestPipeline() as pipeline:
        assert_that(pipeline | Read(Numbers()), equal_to(range(10)))


@pytest.mark.parametrize("values", [[1, 1, 1], []])
def test_a_sink_puts_in_place_what_was_written_once(values: list[int]) -> None:
    PLACED.clear()
    with TestPipeline() as pipeline:
        sizes = pipeline | sf.Create(values) | Write(InParts())
        assert_that(sizes | sf.CombineGlobally(sum), equal_to([len(values)]))
    assert sum(map(sum, PLACED.values())) == len(values)


def test_what_a_writer_can_not_write_is_a_dead_letter_and_nothing_else_is_lost() -> None:
    PLACED.clear()
    pipeline = sf.Pipeline()
    pipeline | sf.Create([1, 0, 1]) | Write(InParts())
    result = pipeline.run()
    assert isinstance(result.first_error, ZeroDivisionError)
    assert sum(map(sum, PLACED.values())) == 2


def test_offsets_are_claimed_in_ascending_order_and_what_is_left_can_be_split_off() -> None:
    tracker = OffsetRangeTracker(100, 200)
    assert tracker.try_split(150) is None  # nothing is claimed yet
    assert tracker.try_claim(110)
    assert tracker.fraction_consumed() == 0.1
    assert (tracker.try_split(110), tracker.try_split(200)) == (None, None)
    assert tracker.try_split(150) == (150, 0.5)
    assert (tracker.try_claim(149), tracker.try_claim(150)) == (True, False)
    with pytest.raises(ValueError, match="ascending"):
        tracker.try_claim(120)
    with pytest.raises(ValueError, match="ends before"):
        OffsetRangeTracker(2, 1)


class Model:
    pass


def test_a_shared_object_is_made_once_and_anew_for_another_tag() -> None:
    handle, other = Shared(), Shared()
    model = handle.acquire(Model)
    assert handle.acquire(Model) is model
    assert handle.acquire(Model, tag="v2") is not model
    made: list[Any] = []
    del model
    handle.acquire(Model)
    other.acquire(Model)  # is the last one now, and held instead
    gc.collect()
    handle.acquire(lambda: made.append(1))
    assert made == [1]
