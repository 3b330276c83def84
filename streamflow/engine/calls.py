"""Calls of async functions: many at a time, each bounded in time and tried again, on one event loop for all tasks of a
worker.

The loop has a thread of its own. So what lives longer than a step (connections, their keep-alive) goes on between
steps; a pipeline can be run where the caller's thread has a loop already, as in a notebook; and who waits for the calls
can be told to stop. The loop's clock is the only one here: a test passes in a loop whose clock it decides about. What
needs `asyncio` is loaded with the first call: it costs each process megabytes.
"""

import concurrent.futures
import logging
import random
import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from streamflow.base.errors import StepCancelledError
from streamflow.transforms.asynchronous import AsyncOptions

if TYPE_CHECKING:
    import asyncio

    from streamflow.engine.bundle import Bundle, Call, Left

logger = logging.getLogger(__name__)

CLOSE_S_MAX = 3.0
"""How long the thread may take to end: so long a function may hold it up that does not give control back."""


class Calls:
    """The event loop of a worker, begun with the first call. Used by one thread at a time, but for `interrupt`.

    `uniform(a, b)`: a random number in [a, b], for the pauses between tries."""

    def __init__(
        self,
        new_loop: "Callable[[], asyncio.AbstractEventLoop] | None" = None,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._new_loop, self._uniform = new_loop, uniform
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._waited_for: concurrent.futures.Future[Any] | None = None
        self._interrupted = False
        self._left: Left = set()

    def run(self, call: "Call", count: int, options: AsyncOptions) -> "Bundle":
        """The outcomes of `call(0)` … `call(count - 1)`: all of them, or StepCancelledError."""
        from streamflow.engine.bundle import Bundle

        bundle = Bundle(call, count, options, self._uniform, self._left)
        self._wait(bundle.run())
        return bundle

    def wait(self, fn: Callable[[], Any], timeout_s: float, *, interruptible: bool = True) -> Any:
        """What `fn`, async or not, gives if called on the loop. TimeoutError if that takes too long."""
        from streamflow.engine.bundle import bounded

        return self._wait(bounded(fn, timeout_s), interruptible)

    def interrupt(self) -> None:
        """End the calls that are waited for, and let none begin before `close`. From any thread."""
        with self._lock:
            self._interrupted = True
            if self._waited_for is not None:
                self._waited_for.cancel()

    def close(self) -> None:
        """End the loop, with all that still runs there. A later call begins another one."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
            self._interrupted = False
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSE_S_MAX)
        if thread.is_alive():
            logger.warning(
                "an async function holds its thread up and is left behind. Does it call something that blocks?"
            )

    def _wait(self, coroutine: Coroutine[Any, Any, Any], interruptible: bool = True) -> Any:
        from streamflow.engine.bundle import submit

        with self._lock:
            if self._interrupted and interruptible:
                coroutine.close()
                raise StepCancelledError("the worker stops: no more calls are made. The next one makes them")
            future = submit(coroutine, self._running())
            self._waited_for = future if interruptible else None
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            if not self._interrupted:
                raise RuntimeError("an async function cancelled its own task") from None
            raise StepCancelledError(
                "the worker stops: its pending calls are cancelled. The next one makes them"
            ) from None
        except BaseException:
            future.cancel()
            raise
        finally:
            self._waited_for = None

    def _running(self) -> "asyncio.AbstractEventLoop":
        if self._loop is None:
            import asyncio

            from streamflow.engine.bundle import serve

            self._loop = (self._new_loop or asyncio.new_event_loop)()
            self._thread = threading.Thread(target=serve, args=(self._loop,), name="async", daemon=True)
            self._thread.start()
        return self._loop
