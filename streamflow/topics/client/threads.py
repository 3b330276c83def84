"""Blocking calls of a log, off the event loop; and what wakes those that wait for a change of the log."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from streamflow.topics.protocol import Log

T = TypeVar("T")
THREADS = 4
"""The log's writers queue behind one lock, so more would only wait."""
_LOOK_S = 0.2
"""How long a client that is closed may have to wait for its watcher."""


class Threads:
    """A small pool, made when it is first used."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="streamflow-client")

    async def run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    def close(self) -> None:
        self._pool.shutdown(wait=True)


class Changes:
    """One watcher of the log for all that wait in a client; it works while somebody waits. `count` rises with each
    change."""

    def __init__(self, log: Log, threads: Threads) -> None:
        self.count = 0
        self._log = log
        self._threads = threads
        self._waiting = 0
        self._changed = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    async def wait(self, since: int, timeout_s: float) -> None:
        """Until `count` is above `since`, or the time-out."""
        if self.count > since:
            return
        self._waiting += 1
        try:
            if self._watcher is None:
                self._watcher = asyncio.create_task(self._watch())
            # Not `wait_for`: it forgets that it was cancelled if the event comes in the same moment.
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._changed.wait()
        finally:
            self._waiting -= 1

    async def close(self) -> None:
        """Returns when nobody uses the log any more."""
        self._waiting = -(1 << 30)
        if self._watcher is not None:
            await asyncio.wait([self._watcher])

    async def _watch(self) -> None:
        try:
            while self._waiting > 0:
                if await self._threads.run(lambda: self._log.wait_changed(_LOOK_S)):
                    self.count += 1
                    self._changed.set()
                    self._changed = asyncio.Event()
        finally:
            self._watcher = None
