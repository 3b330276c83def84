"""StreamFlow's cost in CPU time, as a multiple of a plain loop's over the same events: what a guard against becoming
slower can compare between machines, and on a machine that others use too.

    POLARS_MAX_THREADS=1 python -m loadgen.bench.guard

prints the ratios of W1. Both sides take turns in one process; of each the cheapest of `REPEATS` counts, as noise only
ever adds.
"""

import io
import json
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import polars as pl

from loadgen.bench.inputs import WINDOW_US, Inputs
from loadgen.bench.streamflow_runner import ENVELOPE_EVENTS, log_folder, of_work, publish, read_table
from loadgen.dataset import to_json
from loadgen.profiles import ads
from streamflow.base.errors import StreamFlowError
from streamflow.engine.stores import tables_folder

Result = TypeVar("Result")

EVENTS = 500_000
REPEATS = 6
_FIELDS = ["ad_id", "event_type", "event_time"]


class _View(msgspec.Struct):
    ad_id: str
    event_type: str
    event_time: int


def ratios(folder: Path, events: int = EVENTS, repeats: int = REPEATS) -> dict[str, float]:
    """Work → CPU seconds of StreamFlow over those of the loop. `folder`: an empty one, for topics and tables."""
    inputs = Inputs(folder, events)
    publish(inputs)
    campaigns = ads.campaigns()
    lines = [b"\n".join(to_json(frame)) for frame in ads.batches(events, batch=ENVELOPE_EVENTS)]
    envelopes = [_ipc(frame) for frame in ads.batches(events, batch=ENVELOPE_EVENTS)]
    loops: dict[str, Callable[[], int]] = {
        "W1-json": lambda: _count_lines(lines, campaigns),
        "W1-envelope": lambda: _count_frames(envelopes, campaigns),
    }
    return {work: _ratio(work, loop, inputs, repeats) for work, loop in loops.items()}


def _ratio(work: str, loop: Callable[[], int], inputs: Inputs, repeats: int) -> float:
    ours, theirs = [], []
    for _ in range(repeats):
        seconds, views = _timed(loop)
        theirs.append(seconds)
        seconds, table = _timed(lambda: _run(work, inputs))
        ours.append(seconds)
        counted = int(read_table(table)["views"].sum())
        if counted != views:
            raise StreamFlowError(f"StreamFlow counted {counted} views in {work}, the loop {views}. Find out why first")
    return min(ours) / min(theirs)


def _timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """CPU seconds of this process, all threads, and what came of them."""
    began_s = time.process_time()
    result = work()
    return time.process_time() - began_s, result


def _run(work: str, inputs: Inputs) -> Path:
    """From the durable topic into a table, exactly-once, as `Pipeline.run` does it in one process; the table."""
    name, folder = f"guard-{secrets.token_hex(4)}", log_folder(inputs)
    of_work(work, name, inputs.seed).run(on=folder, data=folder)
    return tables_folder(folder) / name


def _count_lines(blocks: Sequence[bytes], campaigns: dict[str, str]) -> int:
    decoder = msgspec.json.Decoder(_View)
    counts: Counter[tuple[str, int]] = Counter()
    for block in blocks:
        counts.update(
            (campaigns[event.ad_id], event.event_time // WINDOW_US)
            for event in decoder.decode_lines(block)
            if event.event_type == "view"
        )
    return counts.total()


def _count_frames(blocks: Sequence[bytes], campaigns: dict[str, str]) -> int:
    campaign = pl.col("ad_id").replace_strict(list(campaigns), list(campaigns.values()), return_dtype=pl.String)
    keys = [campaign.alias("campaign_id"), (pl.col("event_time") // WINDOW_US).alias("window")]
    partials = [
        pl.read_ipc_stream(block, columns=_FIELDS)
        .lazy()
        .filter(pl.col("event_type") == "view")
        .group_by(keys)
        .agg(pl.len())
        .collect()
        for block in blocks
    ]
    return int(pl.concat(partials).group_by("campaign_id", "window").agg(pl.col("len").sum())["len"].sum())


def _ipc(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_ipc_stream(buffer, compression="lz4")
    return buffer.getvalue()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        json.dump(ratios(Path(sys.argv[1]) if sys.argv[1:] else Path(temporary)), sys.stdout)
