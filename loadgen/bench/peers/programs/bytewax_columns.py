"""W1 and W2 with Bytewax in columns: `python bytewax_columns.py JOB [INDEX ADDRESS...]`.

An item of the dataflow is a batch: a block of lines, decoded by msgspec into the needed fields, then a Polars frame of
partial aggregates. Partials are split by a hash of their key, and one `stateful_batch` per worker merges them window
by window. With two cores there are two processes (Python decodes, so threads would share one core); the blocks of the
file are dealt to them in turn.

Bytewax's own windows would lose events here: their watermark follows the wall clock and is the maximum over readers.
So each batch carries the watermark of its reader, and a window closes at the minimum over readers, which is exact.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # read at import; a process has one core

import bytewax.operators as op
import msgspec
import polars as pl
from bytewax.dataflow import Dataflow
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from bytewax_blocks import Blocks
from bytewax_cluster import member

WINDOW_US = 10_000_000
DISORDER_US = 1_000_000
"""An event comes at most this much after a later one."""
END_US = 1 << 62
"""The watermark of a reader that has read everything."""
BUCKETS = ("3", "4")
"""Keys of the exchange. Bytewax sends a key where its hash says, and among two workers these two part."""


class View(msgspec.Struct, gc=False):
    """The fields that W1 needs."""

    ad_id: str
    event_type: str
    event_time: int


class Action(msgspec.Struct, gc=False):
    """The fields that W2 needs."""

    user_id: str
    event_time: int


class Work(NamedTuple):
    """`partials`: from whole lines to a frame of `key`, window_start_us and `sums`, where a key may come twice, and
    the highest event time seen (0: none)."""

    key: str
    sums: tuple[str, ...]
    partials: Callable[[bytes], tuple[pl.DataFrame, int]]


class Batch(NamedTuple):
    """Partial aggregates from one reader's block, and a time that all its later events have reached."""

    reader: int
    watermark_us: int
    partials: pl.DataFrame | None


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    process, addresses = member(sys.argv[2:])
    start_s = time.perf_counter()
    work = w1(job["campaigns"]) if job["work"] == "W1-json" else w2()
    flow = dataflow(work, job["ndjson"], Path(job["answer"]), max(len(addresses), 1))
    cli_main(flow, process_id=process if addresses else None, addresses=addresses or None)
    if process == 0:  # returns when all processes have come to the end
        Path(job["told"]).write_text(json.dumps({"seconds_inner": time.perf_counter() - start_s}))


def dataflow(work: Work, ndjson: str, answer: Path, readers: int) -> Dataflow:
    """Read and decode, split by key, merge per window, write."""
    flow = Dataflow("columns")
    blocks = op.input("blocks", flow, Blocks(ndjson))
    batches = op.flat_map("partials", blocks, _Partials(work, BUCKETS[:readers]))
    merged = op.stateful_batch("merge", batches, lambda _: Merge(work, readers))
    op.output("answer", merged, Parts(answer))
    return flow


def w1(campaigns_csv: str) -> Work:
    """Views per campaign and window."""
    campaigns = pl.read_csv(campaigns_csv)
    decode = msgspec.json.Decoder(View).decode_lines

    def partials(lines: bytes) -> tuple[pl.DataFrame, int]:
        views = [event for event in decode(lines) if event.event_type == "view"]
        frame = pl.DataFrame({"ad_id": [v.ad_id for v in views], "event_time": [v.event_time for v in views]}, VIEWS)
        counts = frame.join(campaigns, on="ad_id").group_by("campaign_id", WINDOW_START).agg(VIEW_COUNT)
        return counts, frame["event_time"].max() or 0

    return Work("campaign_id", ("views",), partials)


def w2() -> Work:
    """Events, and the sum of their microseconds within a second, per user and window. Not reduced per block: among a
    million users hardly any comes twice in it."""
    decode = msgspec.json.Decoder(Action).decode_lines

    def partials(lines: bytes) -> tuple[pl.DataFrame, int]:
        events = decode(lines)
        columns = {"user_id": [e.user_id for e in events], "event_time": [e.event_time for e in events]}
        frame = pl.DataFrame(columns, ACTIONS)
        return frame.select("user_id", WINDOW_START, ONE_EVENT, MICROS), frame["event_time"].max() or 0

    return Work("user_id", ("events", "micros"), partials)


VIEWS = {"ad_id": pl.String, "event_time": pl.Int64}
ACTIONS = {"user_id": pl.String, "event_time": pl.Int64}
TIME = pl.col("event_time")
WINDOW_START = (TIME - TIME % WINDOW_US).alias("window_start_us")
VIEW_COUNT = pl.len().cast(pl.Int64).alias("views")
ONE_EVENT = pl.lit(1, pl.Int64).alias("events")
MICROS = (TIME % 1_000_000).alias("micros")


class _Partials:
    """From (reader, block) to one `Batch` for each bucket, an empty one too: it carries the watermark."""

    def __init__(self, work: Work, buckets: tuple[str, ...]) -> None:
        self._work = work
        self._buckets = buckets
        self._bucket_of = pl.col(work.key).hash() % len(buckets)

    def __call__(self, item: tuple[int, bytes | None]) -> list[tuple[str, Batch]]:
        reader, block = item
        if block is None:
            return [(bucket, Batch(reader, END_US, None)) for bucket in self._buckets]
        partials, time_us = self._work.partials(block)
        split = [partials]
        if len(self._buckets) > 1:
            split = [partials.filter(self._bucket_of == number) for number in range(len(self._buckets))]
        return [
            (bucket, Batch(reader, time_us - DISORDER_US, rows))
            for bucket, rows in zip(self._buckets, split, strict=True)
        ]


class Merge(StatefulBatchLogic):
    """One bucket's open windows: partials as they came, merged when the watermark passes the end of a window."""

    def __init__(self, work: Work, readers: int) -> None:
        self._keys = (work.key, "window_start_us")
        self._sums = [pl.col(name).sum() for name in work.sums]
        self._watermarks_us = dict.fromkeys(range(readers), -END_US)
        self._open: list[pl.DataFrame] = []
        self._closed_us = -END_US

    def on_batch(self, values: list[Batch]) -> tuple[Iterable[pl.DataFrame], bool]:
        for batch in values:
            self._watermarks_us[batch.reader] = max(self._watermarks_us[batch.reader], batch.watermark_us)
            if batch.partials is not None:
                self._open.append(batch.partials)
        watermark_us = min(self._watermarks_us.values())
        closed_us = watermark_us - watermark_us % WINDOW_US
        if closed_us <= self._closed_us or not self._open:
            return [], False
        self._closed_us = closed_us
        partials = pl.concat(self._open)
        closes = pl.col("window_start_us") < closed_us
        self._open = [partials.filter(~closes)]
        return [partials.filter(closes).group_by(self._keys).agg(self._sums)], False

    def snapshot(self) -> Any:
        return self._watermarks_us, self._open, self._closed_us


class Parts(DynamicSink):
    """A CSV file for each worker, without a header."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Part":
        self._folder.mkdir(parents=True, exist_ok=True)
        return _Part(self._folder / f"part-{worker_index}.csv")


class _Part(StatelessSinkPartition):
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write_batch(self, items: list[tuple[str, pl.DataFrame]]) -> None:
        for _, rows in items:
            rows.write_csv(self._file, include_header=False)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


if __name__ == "__main__":
    main()
