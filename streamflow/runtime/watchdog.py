"""The watchdog of a worker's process: it ends a process whose step is stuck, and has one that takes too much memory
replaced before the kernel kills it. A thread beside the worker.

What is ended here loses nothing: it is as if it had been killed. A process in which no Python thread gets to run any
more (a native call that never returns and holds the interpreter) gives no heartbeats, is taken for dead, and is ended
by its supervisor."""

import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from streamflow.runtime.processes import memory_bytes
from streamflow.runtime.worker import Worker

logger = logging.getLogger(__name__)

LOOK_S = 0.5
DRAIN_S = 30.0
"""What a worker that holds too much memory gets to finish its step."""
EXIT_STUCK = 4
EXIT_FULL = 5
"""Exit codes of a process that was ended because a step was stuck, or for its memory."""


@dataclass(frozen=True, slots=True)
class Limits:
    """step_s: the longest that a step may last; memory_bytes: what the process may hold in memory."""

    step_s: float
    memory_bytes: int


@dataclass(slots=True)
class Watchdog:
    """`end`: how it ends the process; the stack of the thread that made this is what it shows."""

    worker: Worker
    limits: Limits
    end: Callable[[int], None] = os._exit
    full: bool = False
    """It has asked the worker to go, for its memory."""
    _watched: int = field(default_factory=threading.get_ident, init=False)
    _done: threading.Event = field(default_factory=threading.Event, init=False)

    def __enter__(self) -> "Watchdog":
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        full_since_s: float | None = None
        while not self._done.wait(LOOK_S):
            now_s = self.worker.clock.monotonic_s()
            stepping = self.worker.stepping
            if stepping is not None and now_s - stepping[1] > self.limits.step_s:
                where = "".join(traceback.format_stack(sys._current_frames().get(self._watched)))
                logger.critical(
                    "%s: a step of %s has not ended within %s s, ending this process. It is at\n%s",
                    *(self.worker.id, stepping[0], self.limits.step_s, where),
                )
                self.end(EXIT_STUCK)
            held = memory_bytes()
            if held > self.limits.memory_bytes and full_since_s is None:
                full_since_s = now_s
                self._replace(held)
            if full_since_s is not None and now_s - full_since_s > DRAIN_S:
                self.end(EXIT_FULL)

    def _replace(self, held: int) -> None:
        self.full = True
        logger.error(
            "%s: holds %s MB of memory, of %s that it may: it hands its tasks over, to be replaced. If that happens "
            "again and again, lower Settings(step_events_max=…, state_bytes_max=…) or raise memory_bytes_max",
            *(self.worker.id, held >> 20, self.limits.memory_bytes >> 20),
        )
        self.worker.stop.request()
