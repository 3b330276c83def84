"""The process of one worker: finds its pipeline, works until told to stop, says why it could not. No command line here.

`python -m streamflow.runtime.work TARGET DATA NAME` is how a supervisor starts one: without what only the command
`streamflow` needs, which costs each process a quarter of its start and several megabytes.
"""

import faulthandler
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Literal

from streamflow.base.errors import (
    ConflictError,
    CorruptionError,
    DataError,
    NotFoundError,
    PipelineError,
    StreamFlowError,
)
from streamflow.base.settings import Settings
from streamflow.engine.plan import Plan
from streamflow.runtime.launch import attach
from streamflow.runtime.opening import open_pipelines
from streamflow.runtime.processes import keep_freed_memory, memory_bytes_max
from streamflow.runtime.progress import is_drained, is_finished
from streamflow.runtime.target import load_pipeline
from streamflow.runtime.watchdog import EXIT_FULL, Limits, Watchdog
from streamflow.runtime.worker import Stop, Worker
from streamflow.topics.protocol import Log, Snapshot

logger = logging.getLogger(__name__)

Until = Literal["stopped", "drained", "finished"]
Around = Callable[[Plan, Log], AbstractContextManager[object]]

HOPELESS_ERRORS = (PipelineError, DataError, NotFoundError, ConflictError, CorruptionError)
"""A worker that meets one of these would meet it again after a restart."""
EXIT_HOPELESS = 3
"""The exit code of a worker that met such an error."""
EXPLAIN_PANES = "--explain-panes"
"""What follows the name of a worker that is to keep the history of panes."""
HOPELESS = "gives up"
"""What such a worker writes between its name and the error, as the last thing it does."""


def work(
    target: str,
    data: Path | None,
    name: str,
    until: Until = "stopped",
    *,
    explain_panes: bool = False,
    on: str | None = None,
    static: bool = False,
    around: Around = lambda plan, log: nullcontext(),
) -> int:
    """Run a worker until SIGINT, SIGTERM or `until`; raises what it can't go on with, and gives the exit code of its
    process. `explain_panes`: keep the history of panes, also if the pipeline's settings do not say so. `on`: the log,
    if it is not the folder `data`, which then only keeps stores and may be None; `static`: `name` is kept over
    restarts; `around`: entered while it works."""
    faulthandler.enable()
    stop = stop_on_signals()
    pipeline = load_pipeline(target)
    place = on or data
    if place is None:
        raise PipelineError("a worker needs a folder or a Kafka. Give --data FOLDER or --on kafka://host:9092.")
    log = open_pipelines(place, static_id=name if static else None)
    try:
        plan = attach(pipeline, log, explaining(pipeline.settings, explain_panes))
        worker = Worker(plan, log, data, worker_id=name, stop=stop, until=condition(plan, until))
        settings = plan.settings
        limits = Limits(settings.step_s_max, settings.memory_bytes_max or memory_bytes_max())
        with around(plan, log), Watchdog(worker, limits) as watchdog:
            worker.run()
        return EXIT_FULL if watchdog.full else 0
    finally:
        log.close()


def explaining(settings: Settings, wanted: bool) -> Settings:
    """The settings with the history of panes kept, if that is wanted besides."""
    return replace(settings, explain_panes=settings.explain_panes or wanted)


def work_logged(
    target: str,
    data: Path | None,
    name: str,
    until: Until = "stopped",
    *,
    explain_panes: bool = False,
    on: str | None = None,
    around: Around = lambda plan, log: nullcontext(),
) -> int:
    """The same, as all that a process does, for whoever reads only the log; gives the exit code."""
    keep_freed_memory()
    try:
        return work(target, data, name, until, explain_panes=explain_panes, on=on, static=True, around=around)
    except HOPELESS_ERRORS as error:
        logger.error("%s: %s: %s", name, HOPELESS, error)
        return EXIT_HOPELESS
    except StreamFlowError as error:
        logger.error("%s: %s", name, error)
        return 1
    except Exception as error:
        logger.critical("%s: %s: %s", name, type(error).__name__, error, exc_info=error)
        return 1


def condition(plan: Plan, until: Until) -> Callable[[Snapshot], bool] | None:
    """What `until` means for a snapshot; None if nothing in it."""
    conditions = {"drained": is_drained, "finished": is_finished}
    test = conditions.get(until)
    return None if test is None else lambda snapshot: test(plan, snapshot)


def stop_on_signals() -> Stop:
    stop = Stop()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.request())
    return stop


def log_to_stderr(level: int, own_level: int | None = None) -> None:
    """`own_level`: of StreamFlow's own modules, if another."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    if own_level is not None:
        logging.getLogger("streamflow").setLevel(own_level)


if __name__ == "__main__":
    log_to_stderr(logging.WARNING, logging.INFO)
    sys.exit(work_logged(sys.argv[1], Path(sys.argv[2]), sys.argv[3], explain_panes=EXPLAIN_PANES in sys.argv[4:]))
