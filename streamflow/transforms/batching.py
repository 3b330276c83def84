"""Elements in batches, with Apache Beam's names: those of a bundle as they come (BatchElements), those of a key until
there are enough of them (GroupIntoBatches)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from streamflow.base.errors import PipelineError
from streamflow.model.graph import PCollection, PTransform
from streamflow.model.time import DurationTypes, duration_us
from streamflow.model.window import IntervalWindow
from streamflow.transforms.elementwise import DoFn, Map, ParDo
from streamflow.transforms.outputs import WindowedValue
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import BagStateSpec, CombiningValueStateSpec, TimerSpec, on_timer

SHARDS = 16
"""Into how many parts `WithShardedKey` splits a key: as many as there are partitions by default."""


_ADAPTING = {
    "target_batch_overhead",
    "target_batch_duration_secs",
    "target_batch_duration_secs_including_fixed_cost",
    "max_batch_duration_secs",
    "variance",
    "clock",
    "record_metrics",
}


class BatchElements(PTransform):
    """Lists of elements of one window, for functions that are cheaper per element with many at once. They have
    `max_batch_size` elements, or fewer at the end of what a task reads in one step, and the time of the window's end.

    The rest is what Apache Beam adapts the size by: it is taken, and not needed, for a step brings what there is."""

    def __init__(self, min_batch_size: int = 1, max_batch_size: int = 10_000, **adapting: Any) -> None:
        if unknown := sorted(adapting.keys() - _ADAPTING):
            raise PipelineError(f"BatchElements takes no {unknown[0]!r}. It takes min_batch_size and max_batch_size.")
        if not 1 <= min_batch_size <= max_batch_size:
            raise PipelineError(
                f"batch sizes must be 1 or more, and the least no more than the most, got {min_batch_size} and "
                f"{max_batch_size}."
            )
        self.max_batch_size = max_batch_size

    def expand(self, pcoll: PCollection) -> Any:
        return pcoll | ParDo(_Batching(self.max_batch_size))


class _Batching(DoFn):
    def __init__(self, size_max: int) -> None:
        self.size_max = size_max
        self.batches: dict[IntervalWindow, list[Any]] = {}

    def start_bundle(self) -> None:
        self.batches = {}

    def process(self, element: Any, window: Any = DoFn.WindowParam) -> Iterator[Any]:
        batch = self.batches.setdefault(window, [])
        batch.append(element)
        if len(batch) >= self.size_max:
            yield _at_end(self.batches.pop(window), window)

    def finish_bundle(self) -> Iterator[Any]:
        for window, batch in self.batches.items():
            yield _at_end(batch, window)


def _at_end(batch: list[Any], window: IntervalWindow) -> WindowedValue:
    return WindowedValue(batch, window.max_timestamp(), [window])


class GroupIntoBatches(PTransform):
    """(key, value) pairs → (key, list of `batch_size` values) per key and window. What is fewer is given when the
    window has closed, or, where it is said, `max_buffering_duration_secs` after the first of them came.

    `clock` (seconds since the epoch): the time that the latter is measured by, if not the worker's."""

    def __init__(
        self,
        batch_size: int,
        max_buffering_duration_secs: DurationTypes | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        if not isinstance(batch_size, int) or batch_size < 1:
            raise PipelineError(f"batch_size must be 1 or more, got {batch_size!r}.")
        if max_buffering_duration_secs is not None and duration_us(max_buffering_duration_secs) <= 0:
            raise PipelineError(
                f"max_buffering_duration_secs must be above 0, or None for no end, got {max_buffering_duration_secs!r}."
            )
        self.batch_size, self.buffering, self.clock = batch_size, max_buffering_duration_secs, clock

    def expand(self, pcoll: PCollection) -> Any:
        return pcoll | ParDo(_GroupIntoBatches(self.batch_size, self.buffering, self.clock))

    class WithShardedKey(PTransform):
        """The same for a key with much of the data: it is split over tasks. Gives (ShardedKey, list) pairs."""

        def __init__(
            self,
            batch_size: int,
            max_buffering_duration_secs: DurationTypes | None = None,
            clock: Callable[[], float] | None = None,
        ) -> None:
            self.batches = GroupIntoBatches(batch_size, max_buffering_duration_secs, clock)

        def default_label(self) -> str:
            return self.label or "GroupIntoBatches.WithShardedKey"

        def expand(self, pcoll: PCollection) -> Any:
            sharded: PCollection = pcoll | ParDo(_Sharded())
            pairs: PCollection = sharded | self.batches
            return pairs | Map(lambda pair: (ShardedKey(*pair[0]), pair[1]))


@dataclass(frozen=True, slots=True)
class ShardedKey:
    """One part of a key."""

    key: Any
    shard_id: int


class _Sharded(DoFn):
    """Deals the elements out in turn; it does not matter where a restart begins."""

    def __init__(self) -> None:
        self.next = 0

    def process(self, element: Any, key: Any = DoFn.KeyParam) -> Iterator[Any]:
        self.next = (self.next + 1) % SHARDS
        yield (key, self.next), element[1]


class _GroupIntoBatches(DoFn):
    VALUES = BagStateSpec("values")
    COUNT = CombiningValueStateSpec("count", sum)
    WINDOW = TimerSpec("window", TimeDomain.WATERMARK)
    BUFFERING = TimerSpec("buffering", TimeDomain.REAL_TIME)

    def __init__(self, batch_size: int, buffering: DurationTypes | None, clock: Callable[[], float] | None) -> None:
        self.batch_size, self.buffering, self.clock = batch_size, buffering, clock

    def process(
        self,
        element: Any,
        values: Any = DoFn.StateParam(VALUES),
        count: Any = DoFn.StateParam(COUNT),
        window_timer: Any = DoFn.TimerParam(WINDOW),
        buffering_timer: Any = DoFn.TimerParam(BUFFERING),
        window: Any = DoFn.WindowParam,
    ) -> Iterator[Any]:
        key, value = element
        values.add(value)
        count.add(1)
        held = count.read()
        if held == 1:
            window_timer.set(window.end)
            if self.buffering is not None and self.clock is not None:
                buffering_timer.set(self.clock() + duration_us(self.buffering) / 1e6)
            elif self.buffering is not None:
                buffering_timer.set_relative(self.buffering)
        if held >= self.batch_size:
            window_timer.clear()
            buffering_timer.clear()
            yield from self._batch(key, values, count)

    @on_timer(WINDOW)
    def closed(
        self,
        key: Any = DoFn.KeyParam,
        values: Any = DoFn.StateParam(VALUES),
        count: Any = DoFn.StateParam(COUNT),
        buffering_timer: Any = DoFn.TimerParam(BUFFERING),
    ) -> Iterator[Any]:
        buffering_timer.clear()
        yield from self._batch(key, values, count)

    @on_timer(BUFFERING)
    def buffered(
        self,
        key: Any = DoFn.KeyParam,
        values: Any = DoFn.StateParam(VALUES),
        count: Any = DoFn.StateParam(COUNT),
        window_timer: Any = DoFn.TimerParam(WINDOW),
    ) -> Iterator[Any]:
        window_timer.clear()
        yield from self._batch(key, values, count)

    def _batch(self, key: Any, values: Any, count: Any) -> Iterator[Any]:
        batch = values.read()
        values.clear()
        count.clear()
        yield key, batch
