"""Leaves: operators that append a batch to logs, split by key, spread over partitions, or as events for users."""

from collections.abc import Iterable, Sequence

import polars as pl

from streamflow.base.errors import DataError
from streamflow.engine.combine.contract import EVENTS, WINDOW_ROWS_MIN, windows_apart
from streamflow.engine.combine.pre_aggregation import PreAggregation
from streamflow.engine.context import StepContext
from streamflow.engine.outputs import json_event
from streamflow.engine.slices import SHUFFLE_SEED, hashes
from streamflow.model.batch import OFFSET, VALUE, Batch, Elements, OnBad, pickled, public, to_elements
from streamflow.model.window import TIME, WINDOW_START


class Shuffle:
    """Splits rows by the hash of their key and appends them to the log of the stage behind. `pre_aggregation`: learns
    from the partials of a grouping."""

    def __init__(
        self, topic: str, keys: Sequence[str], partitions: int, pre_aggregation: PreAggregation | None = None
    ) -> None:
        self.topic, self.keys, self.partitions = topic, list(keys), partitions
        self.pre_aggregation = pre_aggregation

    def run(self, batch: Batch, context: StepContext) -> None:
        assert isinstance(batch, pl.DataFrame)
        if self.pre_aggregation is not None:
            self.pre_aggregation.seen(int(batch[EVENTS].sum()), batch.height)
        windowed = WINDOW_START in batch.columns
        for frame in windows_apart(batch, WINDOW_ROWS_MIN * self.partitions) if windowed else (batch,):
            for partition, part in self._parts(frame):
                context.frames[self.topic, partition].append(part)

    def _parts(self, frame: pl.DataFrame) -> Iterable[tuple[int, pl.DataFrame]]:
        if self.partitions == 1 or not self.keys:
            return [(0, frame)]
        target = (hashes(frame, self.keys, SHUFFLE_SEED) % self.partitions).alias("_target")
        parts = frame.with_columns(target).partition_by("_target", as_dict=True, include_key=False)
        return ((int(partition), part) for (partition,), part in parts.items())

    def close(self) -> None: ...


class Spread:
    """Appends the batch to an internal log, equal parts to its partitions; single rows to one after the other."""

    def __init__(self, label: str, topic: str, partitions: int, first: int) -> None:
        self.label, self.topic, self.partitions, self._next = label, topic, partitions, first

    def run(self, batch: Batch, context: StepContext) -> None:
        frame = batch if isinstance(batch, pl.DataFrame) else storable(batch, context.on_bad(self.label))
        frame = frame.drop(OFFSET, strict=False)
        for part in frame.iter_slices(max(1, -(-frame.height // self.partitions))):
            context.frames[self.topic, self._next % self.partitions].append(part)
            self._next += 1

    def close(self) -> None: ...


class Publish:
    """WriteToTopic: columns as an envelope, Python values as JSON events."""

    def __init__(self, label: str, topic: str, partition: int) -> None:
        self.label, self.topic, self.partition = label, topic, partition

    def run(self, batch: Batch, context: StepContext) -> None:
        if isinstance(batch, pl.DataFrame) and VALUE not in batch.columns:
            frame = public(batch).with_columns(batch[TIME])
            context.frames[self.topic, self.partition].append(frame)
            return
        elements, on_bad = to_elements(batch), context.on_bad(self.label)
        for value, offset, time_us in zip(elements.values, elements.offsets, elements.times, strict=True):
            try:
                event = json_event(value)
            except DataError as error:
                on_bad(value, offset, error)
            else:
                context.events[self.topic, self.partition].append((event, time_us))

    def close(self) -> None: ...


def storable(batch: Elements, on_bad: OnBad) -> pl.DataFrame:
    """As `pickled`; values that can't be are told and left out."""
    try:
        return pickled(batch)
    except Exception:
        good = Elements()
    for i, value in enumerate(batch.values):
        one = Elements()
        one.append(value, batch.times[i], batch.offsets[i], batch.window(i))
        try:
            pickled(one)
        except Exception as error:
            on_bad(value, batch.offsets[i], error)
        else:
            good.append(value, batch.times[i], batch.offsets[i], batch.window(i))
    return pickled(good)
