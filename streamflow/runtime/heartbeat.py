"""Signs of life of a worker, from a thread of their own, so that a long step is not taken for death."""

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from streamflow.base.clock import Clock
from streamflow.base.errors import NoSpaceError
from streamflow.topics.protocol import TaskLog

if TYPE_CHECKING:
    from streamflow.runtime.worker import Stop

logger = logging.getLogger(__name__)


class Heartbeat:
    """A sign every `every_s` seconds while it is entered. `on_stop`: called with those that tell of a requested stop,
    which is told at once; `on_lost`: when the worker turns out to be no member any more, after which no sign
    follows."""

    def __init__(
        self,
        worker: str,
        log: TaskLog,
        clock: Clock,
        stop: "Stop",
        every_s: float,
        *,
        on_stop: Callable[[], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._worker, self._log, self._clock, self._stop, self._every_s = worker, log, clock, stop, every_s
        self._on_stop, self._on_lost = on_stop, on_lost
        self._done, self._news = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._stop.listeners.append(self._news)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._done.set()
        # Before it is set here: a signal's handler must not set it in the middle of that.
        self._stop.listeners.remove(self._news)
        self._news.set()
        self._thread.join()

    def _beat(self) -> None:
        """A request to stop also ends the wait of the main thread."""
        while True:
            self._news.wait(self._every_s)
            self._news.clear()
            if self._done.is_set():
                return
            if self._stop.requested:
                self._on_stop()
            try:
                held = self._log.heartbeat(self._worker, self._clock.now_us(), draining=self._stop.requested)
            except NoSpaceError:
                continue
            except Exception:
                # What troubles the log for longer, the main thread raises; a thread that died of it would be silence.
                logger.warning("%s: no sign of life could be given", self._worker, exc_info=True)
                continue
            if not held:
                self._on_lost()
                return
