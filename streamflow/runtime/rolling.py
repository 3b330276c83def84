"""A rolling restart: the workers of a supervised pipeline are replaced one after the other, while the others work."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress

from streamflow.base.errors import StreamFlowError
from streamflow.runtime.processes import is_alive
from streamflow.topics.protocol import Log, Snapshot, WorkerInfo

REPLACED_S = 60.0
"""How long the end of one worker and the start of the next may take together."""
LOOK_S = 0.2


def replace_workers(log: Log, pipeline: str) -> Iterator[str]:
    """Ask each worker to hand its tasks over and go, wait until its successor works and no task is without an owner,
    then go on with the next; gives the id of each that was replaced. StreamFlowError if it takes too long: what is done
    stays so, and the rest goes on as it is."""
    crew = _working(log.snapshot(pipeline, counters=False))
    for worker in crew.values():
        with suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)
        deadline_s = time.monotonic() + REPLACED_S
        while not _is_replaced(log.snapshot(pipeline, counters=False), worker.id, len(crew)):
            if time.monotonic() > deadline_s:
                raise StreamFlowError(
                    f"worker {worker.id} was not replaced within {REPLACED_S:g} s; the others were left alone. See "
                    "what it and its supervisor write"
                )
            time.sleep(LOOK_S)
        yield worker.id


def _working(snapshot: Snapshot) -> dict[str, WorkerInfo]:
    return {each.id: each for each in snapshot.workers.values() if not each.draining and is_alive(each)}


def _is_replaced(snapshot: Snapshot, gone: str, workers: int) -> bool:
    working = _working(snapshot)
    owned = all(state.owner in working for state in snapshot.tasks.values())
    return gone not in snapshot.workers and owned and (len(working) >= workers or snapshot.stopping)
