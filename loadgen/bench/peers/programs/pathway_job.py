"""W1 and W2 with Pathway in streaming mode: `python pathway_job.py JOB`.

Pathway takes in a file as one commit, so the events are laid out as a folder of pieces first: then its answer is
updated piece by piece. Windows are `tumbling` without a behavior: one would hold back the last windows for ever, since
a stream has no end. The job is done when the updates in the CSV file that Pathway writes add up to all events read;
its last write is when. Then the process is replaced by one that makes the updates into the answer, which is not timed.
"""

import json
import os
import sys
import time
from pathlib import Path
from threading import Event, Thread
from typing import Any

WINDOW_US = 10_000_000
PIECE_BYTES = 25 << 20
"""About 100,000 events: two seconds of event time, a fifth of a window."""
COMMIT_MS = 100
"""So that the end of the last piece is not waited for."""
POLL_S = 0.05
QUIET_S = 0.5
"""Within a commit the sum may pass by the right one: the file must also have rested for as long."""
SUMS = {"W1-json": ("views",), "W2-json": ("events", "micros")}
"""The columns of a work that are added up. The first one counts events."""
ANSWER = "answer"
"""Second argument of the process that only writes the answer."""


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    if sys.argv[2:] == [ANSWER]:
        answer(job)
        return
    seconds = run(job)
    Path(job["told"]).write_text(json.dumps({"seconds_inner": seconds}))
    os.execv(sys.executable, [sys.executable, __file__, sys.argv[1], ANSWER])


def run(job: dict[str, Any]) -> float:
    """From the start of the dataflow to its last update in the file, in seconds. It goes on running."""
    os.environ["PATHWAY_THREADS"] = str(job["cores"])  # read at import
    import pathway as pw

    pieces = Path(job["scratch"]) / "pieces"
    pieces.mkdir()
    events, views = split(Path(job["ndjson"]), pieces)
    all_read = Event()
    start_s = time.time()
    build(pw, job, pieces, events, all_read)
    engine = Thread(target=pw.run, kwargs={"monitoring_level": pw.MonitoringLevel.NONE}, daemon=True)
    engine.start()
    counted = Counted(_updates(job), views if job["work"] == "W1-json" else events)
    while not (all_read.is_set() and counted.complete()):
        if not engine.is_alive():
            raise SystemExit("Pathway ended before its answer was complete")
        time.sleep(POLL_S)
    return _updates(job).stat().st_mtime - start_s


def split(ndjson: Path, pieces: Path) -> tuple[int, int]:
    """Lay out the lines in files of about `PIECE_BYTES`; returns how many events and how many views there are."""
    events = views = 0
    with ndjson.open("rb") as lines:
        number = 0
        while piece := lines.read(PIECE_BYTES):
            piece += lines.readline()
            (pieces / f"{number:06}.ndjson").write_bytes(piece)
            events += piece.count(b"\n")
            views += piece.count(b'"event_type":"view"')
            number += 1
    return events, views


def build(pw: Any, job: dict[str, Any], pieces: Path, events: int, all_read: Event) -> None:
    """The dataflow, and a count of what it has read that sets `all_read`."""
    read, result = (_w1 if job["work"] == "W1-json" else _w2)(pw, pieces, job["campaigns"])
    pw.io.csv.write(result, _updates(job))

    def on_count(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        if is_addition and row["count"] == events:
            all_read.set()

    pw.io.subscribe(read.reduce(count=pw.reducers.count()), on_change=on_count)


def _w1(pw: Any, pieces: Path, campaigns_csv: str) -> tuple[Any, Any]:
    fields = pw.schema_from_types(ad_id=str, event_type=str, event_time=int)
    read = pw.io.jsonlines.read(pieces, schema=fields, autocommit_duration_ms=COMMIT_MS)
    ads = pw.schema_builder(
        {"ad_id": pw.column_definition(dtype=str, primary_key=True), "campaign_id": pw.column_definition(dtype=str)}
    )
    campaigns = pw.io.csv.read(campaigns_csv, schema=ads, mode="static")
    views = read.filter(read.event_type == "view")
    joined = views.join(campaigns, views.ad_id == campaigns.ad_id).select(campaigns.campaign_id, views.event_time)
    windows = joined.windowby(joined.event_time, window=_window(pw), instance=joined.campaign_id)
    return read, windows.reduce(
        campaign_id=pw.this._pw_instance, window_start_us=pw.this._pw_window_start, views=pw.reducers.count()
    )


def _w2(pw: Any, pieces: Path, campaigns_csv: str) -> tuple[Any, Any]:
    fields = pw.schema_from_types(user_id=str, event_time=int)
    read = pw.io.jsonlines.read(pieces, schema=fields, autocommit_duration_ms=COMMIT_MS)
    timed = read.select(read.user_id, read.event_time, micros=read.event_time % 1_000_000)
    windows = timed.windowby(timed.event_time, window=_window(pw), instance=timed.user_id)
    return read, windows.reduce(
        user_id=pw.this._pw_instance,
        window_start_us=pw.this._pw_window_start,
        events=pw.reducers.count(),
        micros=pw.reducers.sum(pw.this.micros),
    )


def _window(pw: Any) -> Any:
    return pw.temporal.tumbling(duration=WINDOW_US, origin=0)


class Counted:
    """Adds up the events in a growing file of updates, reading on from where it stopped.

    A line is key, window_start_us, events and maybe more, time, diff, all quoted; an update takes the old row back
    (diff -1) and adds the new one.
    """

    def __init__(self, updates: Path, events: int) -> None:
        self._updates = updates
        self._missing = events
        self._read = 0

    def complete(self) -> bool:
        """Whether the lines up to now add up to all events, and no more come."""
        with self._updates.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                if self._read:
                    columns = line.replace(b'"', b"").split(b",")
                    self._missing -= int(columns[2]) * int(columns[-1])
                self._read += len(line)
        return not self._missing and time.time() - self._updates.stat().st_mtime > QUIET_S


def answer(job: dict[str, Any]) -> None:
    """Make updates into rows: every sum of (value × diff) is the value that holds."""
    import pyarrow.compute as pc
    import pyarrow.csv

    table = pyarrow.csv.read_csv(_updates(job))
    sums = SUMS[job["work"]]
    for name in sums:
        table = table.set_column(table.schema.get_field_index(name), name, pc.multiply(table[name], table["diff"]))
    keys = table.column_names[:2]
    rows = table.group_by(keys).aggregate([(name, "sum") for name in sums])
    options = pyarrow.csv.WriteOptions(include_header=False)
    pyarrow.csv.write_csv(rows.select([*keys, *(f"{name}_sum" for name in sums)]), job["answer"], options)


def _updates(job: dict[str, Any]) -> Path:
    return Path(job["scratch"]) / "updates.csv"


if __name__ == "__main__":
    main()
