"""The publishing loop: slots of a schedule in, durable batches out. The only module that waits and publishes.

Each batch is idempotent: its sequence encodes the position after it, so that a run killed at any moment is
resumed at exactly the event that is not there yet, whatever batch size either run used.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

import polars as pl

from loadgen.dataset import Dataset, Reader, times_us, to_json
from loadgen.pacing import Slot
from loadgen.report import Tally
from streamflow.base.clock import Clock
from streamflow.base.errors import ConflictError
from streamflow.topics.publisher import Publisher

Format = Literal["json", "envelope"]

_TURNS = 1 << 16
_AHEAD_BATCHES = 2
"""Slots prepared and not yet published: enough to keep both threads busy, little enough to hold in memory."""


def sequence_of(position: int, turn: int) -> int:
    """The sequence of the batch that ends before event `position`; rises with `position`.

    A keyless batch goes to partition `sequence % partitions`. Positions are often multiples of a round batch
    size and would leave partitions empty, so the low bits count batches.
    """
    return position * _TURNS + turn % _TURNS


def position_of(sequence: int) -> int:
    """How many events of the set are in the topic after `sequence`; 0 for -1 (nothing yet)."""
    return max(sequence, 0) // _TURNS


@dataclass(frozen=True)
class Feed:
    """A data set and where it goes. `done`: how many of its events are in the topic already."""

    dataset: Dataset
    publisher: Publisher
    done: int

    @classmethod
    def resumed(cls, dataset: Dataset, publisher: Publisher) -> "Feed":
        return cls(dataset, publisher, position_of(publisher.last_sequence))


def replay(
    feeds: Sequence[Feed],
    slots: Iterable[Slot],
    tally: Tally,
    *,
    format: Format,
    clock: Clock,
    wait: Callable[[float], bool],
    on_batch: Callable[[Tally], None] = lambda _: None,
) -> None:
    """Publish each slot when it is due, keeping `tally` up to date. Slots number the events of the mixture.

    Of a slot, the events of one topic become durable before those of the next, in the order of `feeds`.
    `wait(seconds)` returns True as soon as the run is to stop; it is asked before each slot, with 0 when the
    slot is due already. ConflictError if someone else publishes the same data set to the same topic at the
    same time.
    """
    turns = [feed.publisher.last_sequence + 1 for feed in feeds]
    start_s = clock.monotonic_s()
    with closing(_prepared(feeds, slots, format)) as prepared:
        for turn, (slot, batches) in enumerate(prepared):
            due_s = start_s + slot.due_s
            if wait(max(0.0, due_s - clock.monotonic_s())):
                return
            before_s = clock.monotonic_s()
            for batch, first_turn in zip(batches, turns, strict=True):
                _publish(batch, sequence_of(batch.end, first_turn + turn))
            tally.publish_s.append(clock.monotonic_s() - before_s)
            tally.behind_s_max = max(tally.behind_s_max, before_s - due_s)
            for batch in batches:
                tally.disorder[batch.feed.publisher.topic].add(batch.times_us)
                tally.events += batch.frame.height
                tally.bytes += batch.bytes
            tally.position = slot.end
            on_batch(tally)


@dataclass(frozen=True)
class _Batch:
    """What of a slot goes to one topic: the events of its set up to number `end`."""

    feed: Feed
    end: int
    frame: pl.DataFrame
    times_us: pl.Series
    documents: list[bytes] | None
    bytes: int


def _prepared(
    feeds: Sequence[Feed], slots: Iterable[Slot], format: Format
) -> Generator[tuple[Slot, list[_Batch]], None, None]:
    """Batches made by another thread while this one waits for the disk."""
    readers = [Reader(feed.dataset) for feed in feeds]

    def prepare(slot: Slot) -> tuple[Slot, list[_Batch]]:
        return slot, [_batch(feed, reader, slot, format) for feed, reader in zip(feeds, readers, strict=True)]

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="loadgen-prepare") as thread:
        ahead: deque[Future[tuple[Slot, list[_Batch]]]] = deque()
        for slot in slots:
            ahead.append(thread.submit(prepare, slot))
            if len(ahead) > _AHEAD_BATCHES:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _batch(feed: Feed, reader: Reader, slot: Slot, format: Format) -> _Batch:
    before = feed.dataset.before
    end = max(feed.done, before(slot.end))
    frame = reader.frame(max(feed.done, before(slot.first)), end)
    documents = to_json(frame) if format == "json" else None
    size = int(frame.estimated_size()) if documents is None else sum(map(len, documents))
    return _Batch(feed, end, frame, times_us(frame, feed.dataset.time), documents, size)


def _publish(batch: _Batch, sequence: int) -> None:
    publisher, dataset = batch.feed.publisher, batch.feed.dataset
    if batch.documents is None:
        written = publisher.publish_frame(batch.frame, event_time=dataset.time, sequence=sequence)
    else:
        written = publisher.publish_batch(batch.documents, batch.times_us.to_list(), sequence=sequence)
    if written < batch.frame.height:
        raise ConflictError(
            f"'{dataset.producer}' was published to topic '{publisher.topic}' by someone else meanwhile. "
            "Let one loadgen finish before another one starts on the same topic"
        )
