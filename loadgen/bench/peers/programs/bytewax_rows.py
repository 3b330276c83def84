"""W1 with Bytewax one event at a time: `python bytewax_rows.py JOB [INDEX ADDRESS...]`.

Bytewax's own operators throughout: `flat_map` to events, `filter_map` to views with their campaign, and a tumbling
`count_window` per campaign.

Its clocks need care, or events are lost. By default the watermark runs on with the wall clock, so a pause makes events
late: here the clock stands still, and the watermark of one process is the highest event time less the disorder. With
two processes a key's watermark is the maximum over both readers: only a wait longer than the data keeps every event,
and the windows close at the end of the input.
"""

import json
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bytewax.operators as op
import bytewax.operators.windowing as win
import msgspec
from bytewax.dataflow import Dataflow
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.run import cli_main
from bytewax_blocks import Blocks
from bytewax_cluster import member

WINDOW = timedelta(seconds=10)
WINDOW_US = 10_000_000
DISORDER = timedelta(seconds=1)
"""An event comes at most this much after a later one."""
LONGER_THAN_THE_DATA = timedelta(days=1000)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class View(msgspec.Struct, gc=False):
    """The fields that W1 needs, of any event."""

    ad_id: str
    event_type: str
    event_time: int


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    process, addresses = member(sys.argv[2:])
    start_s = time.perf_counter()
    wait = LONGER_THAN_THE_DATA if addresses else DISORDER
    flow = dataflow(job["ndjson"], job["campaigns"], Path(job["answer"]), wait)
    cli_main(flow, process_id=process if addresses else None, addresses=addresses or None)
    if process == 0:  # returns when all processes have come to the end
        Path(job["told"]).write_text(json.dumps({"seconds_inner": time.perf_counter() - start_s}))


def dataflow(ndjson: str, campaigns_csv: str, answer: Path, wait: timedelta) -> Dataflow:
    """Views per campaign and window."""
    campaign_of = dict(line.split(",") for line in Path(campaigns_csv).read_text().splitlines()[1:])
    clock = win.EventClock(_event_time, wait, now_getter=lambda: EPOCH, to_system_utc=lambda _: None)
    flow = Dataflow("rows")
    blocks = op.input("blocks", flow, Blocks(ndjson))
    events = op.flat_map("decode", blocks, _decode)
    views = op.filter_map("views", events, _campaign_and_time(campaign_of))
    counts = win.count_window("count", views, clock, win.TumblingWindower(WINDOW, EPOCH), _campaign)
    op.output("answer", counts.down, Parts(answer))
    return flow


_lines = msgspec.json.Decoder(View).decode_lines


def _decode(item: tuple[int, bytes | None]) -> list[View]:
    return _lines(item[1] or b"")


def _campaign_and_time(campaign_of: dict[str, str]) -> Callable[[View], tuple[str, int] | None]:
    def step(event: View) -> tuple[str, int] | None:
        return (campaign_of[event.ad_id], event.event_time) if event.event_type == "view" else None

    return step


def _campaign(view: tuple[str, int]) -> str:
    return view[0]


def _event_time(view: tuple[str, int]) -> datetime:
    return EPOCH + timedelta(microseconds=view[1])


class Parts(DynamicSink):
    """A CSV file for each worker, without a header."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "_Part":
        self._folder.mkdir(parents=True, exist_ok=True)
        return _Part(self._folder / f"part-{worker_index}.csv")


class _Part(StatelessSinkPartition):
    def __init__(self, path: Path) -> None:
        self._file = path.open("w")

    def write_batch(self, items: list[tuple[str, tuple[int, int]]]) -> None:
        """Items: (campaign, (number of the window since the epoch, views))."""
        self._file.writelines(f"{campaign},{window * WINDOW_US},{views}\n" for campaign, (window, views) in items)
        self._file.flush()

    def close(self) -> None:
        self._file.close()


if __name__ == "__main__":
    main()
