"""W1 with Bytewax one event at a time: `python bytewax_rows.py JOB`, run by an interpreter that has Bytewax.

Bytewax's own operators throughout: lines of a file, `map`, `filter_map` and a tumbling `count_window` per campaign.
One process: with two, the watermark of a key is the maximum over both readers, which loses events.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path

import bytewax.operators as op
import bytewax.operators.windowing as win
import msgspec
from bytewax.connectors.files import FileSource
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main

WINDOW = timedelta(seconds=10)
WINDOW_US = 10_000_000
DISORDER = timedelta(seconds=1)
"""An event comes at most this much after a later one."""
BATCH_LINES = 10_000
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class View(msgspec.Struct, gc=False):
    """The fields that W1 needs."""

    ad_id: str
    event_type: str
    event_time: int


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    start_s = time.perf_counter()
    cli_main(dataflow(job["ndjson"], job["campaigns"], Path(job["answer"])))
    Path(job["told"]).write_text(json.dumps({"seconds_inner": time.perf_counter() - start_s}))


def dataflow(ndjson: str, campaigns_csv: str, answer: Path) -> Dataflow:
    """Views per campaign and window."""
    campaign_of = dict(line.split(",") for line in Path(campaigns_csv).read_text().splitlines()[1:])
    # A clock that stands still: the watermark is the highest event time less the disorder. The default lets the
    # watermark run on with the wall clock, and events that a pause delays are lost.
    clock = win.EventClock(lambda time_us: EPOCH + timedelta(microseconds=time_us), DISORDER, now_getter=lambda: EPOCH)
    flow = Dataflow("rows")
    lines = op.input("lines", flow, FileSource(ndjson, batch_size=BATCH_LINES))
    events = op.map("decode", lines, msgspec.json.Decoder(View).decode)
    views = op.filter_map("views", events, _campaign_and_time(campaign_of))
    counts = win.fold_window("count", views, clock, win.TumblingWindower(WINDOW, EPOCH), int, _one_more, _sum)
    op.output("answer", counts.down, Answer(answer))
    return flow


def _campaign_and_time(campaign_of: dict[str, str]) -> Callable[[View], tuple[str, int] | None]:
    def step(event: View) -> tuple[str, int] | None:
        return (campaign_of[event.ad_id], event.event_time) if event.event_type == "view" else None

    return step


def _one_more(count: int, _time_us: int) -> int:
    return count + 1


def _sum(count: int, other: int) -> int:
    return count + other


class Answer(DynamicSink):
    """One CSV file without a header."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_AnswerFile":
        return _AnswerFile(self._path)


class _AnswerFile(StatelessSinkPartition):
    def __init__(self, path: Path) -> None:
        self._file = path.open("w")

    def write_batch(self, items: list[tuple[str, tuple[int, int]]]) -> None:
        """Items: (campaign, (number of the window since the epoch, views))."""
        self._file.writelines(f"{campaign},{window * WINDOW_US},{views}\n" for campaign, (window, views) in items)

    def close(self) -> None:
        self._file.close()


if __name__ == "__main__":
    main()
