"""Spread: elements as they are onto an internal log, for stages that hold no groups: store sinks and Reshuffle."""

import polars as pl

from streamflow.engine.context import StepContext
from streamflow.model.batch import OFFSET, Batch, Elements, OnBad, pickled


class Spread:
    """Appends the batch to an internal log, equal parts to its partitions; single rows to one after the other."""

    def __init__(self, label: str, topic: str, partitions: int, first: int) -> None:
        self.label, self.topic, self.partitions, self._next = label, topic, partitions, first

    def run(self, batch: Batch, context: StepContext) -> None:
        frame = batch if isinstance(batch, pl.DataFrame) else _pickled(batch, context.on_bad(self.label))
        frame = frame.drop(OFFSET, strict=False)
        for part in frame.iter_slices(max(1, -(-frame.height // self.partitions))):
            context.frames[self.topic, self._next % self.partitions].append(part)
            self._next += 1

    def close(self) -> None: ...


def _pickled(batch: Elements, on_bad: OnBad) -> pl.DataFrame:
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
