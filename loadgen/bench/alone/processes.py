"""What the works of this folder share: starting workers, and waiting for what the log will show."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from streamflow.base.errors import StreamFlowError
from streamflow.engine.plan import Plan
from streamflow.runtime import work
from streamflow.runtime.autoscaler import Policy
from streamflow.runtime.crew import WORKER_ENVIRONMENT
from streamflow.runtime.supervisor import Supervisor
from streamflow.runtime.worker import Stop
from streamflow.topics import open_log

WITHIN_S = 100.0
"""Nothing that is waited for takes longer, unless something is broken."""
LOOK_S = 0.005


def start_worker(target: str, data: Path, name: str = "worker") -> "subprocess.Popen[bytes]":
    """A worker process on its own, as a supervisor would start it."""
    command = [sys.executable, "-m", work.__name__, target, str(data), name]
    return subprocess.Popen(command, env={**os.environ, **WORKER_ENVIRONMENT})


@contextmanager
def supervised(plan: Plan, data: Path, target: str, workers: int) -> Iterator[None]:
    """So many worker processes, kept alive by a supervisor in a thread, and drained at the end."""
    log, stop = open_log(data), Stop()
    os.environ["POLARS_MAX_THREADS"] = "1"
    supervisor = Supervisor(plan, log, data, target, workers, Policy(workers, workers), stop=stop)
    thread = threading.Thread(target=supervisor.run, name="supervisor")
    thread.start()
    try:
        yield
    finally:
        stop.request()
        thread.join()
        log.close()


def memory_of(pid: int) -> dict[str, int]:
    """RSS: resident; PSS: shared pages divided by those who share them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
    return {"rss_bytes": kilobytes["Rss"] * 1024, "pss_bytes": kilobytes["Pss"] * 1024}


def wait_until(holds: Callable[[], bool], what: str) -> None:
    """Looks every `LOOK_S`. StreamFlowError if it does not come to hold within `WITHIN_S`."""
    deadline_s = time.monotonic() + WITHIN_S
    while not holds():
        if time.monotonic() > deadline_s:
            raise StreamFlowError(f"waited {WITHIN_S:g} s in vain for {what}. See the lines above")
        time.sleep(LOOK_S)
