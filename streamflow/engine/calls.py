"""Calls of async functions: many at a time, each bounded in time and tried again, on one event loop for all tasks of a
worker.

The loop has a thread of its own. So what lives longer than a step (connections, their keep-alive) goes on between
steps; a pipeline can be run where the caller's thread has a loop already, as in a notebook; and who waits for the calls
can be told to stop. The loop's clock is the only one here: a test passes in a loop whose clock it decides about.
"""

import asyncio
import concurrent.futures
import inspect
import logging
import random
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from streamflow.base.errors import StepCancelledError
from streamflow.transforms.asynchronous import AsyncOptions

logger = logging.getLogger(__name__)

CANCEL_S_MAX = 1.0
"""How long a call that is cancelled may take to end. Then it is left behind: nobody waits for it any more."""
CLOSE_S_MAX = 2.0
"""How long the thread may take to end: so long a function may hold it up that does not give control back."""

Call = Callable[[int], Coroutine[Any, Any, Any]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the element at `index`: what its call gave, or the error of its last try."""

    index: int
    value: Any
    error: Exception | None = None


class Calls:
    """The event loop of a worker, begun with the first call. Used by one thread at a time, but for `interrupt`.

    `uniform(a, b)`: a random number in [a, b], for the pauses between tries."""

    def __init__(
        self,
        new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._new_loop, self._uniform = new_loop, uniform
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._waited_for: concurrent.futures.Future[Any] | None = None
        self._interrupted = False
        self._left: set[asyncio.Task[Any]] = set()

    def run(self, call: Call, count: int, options: AsyncOptions) -> "Bundle":
        """The outcomes of `call(0)` … `call(count - 1)`: all of them, or StepCancelledError."""
        bundle = Bundle(call, count, options, self._uniform, self._left)
        self._wait(bundle.run())
        return bundle

    def wait(self, fn: Callable[[], Any], timeout_s: float, *, interruptible: bool = True) -> Any:
        """What `fn`, async or not, gives if called on the loop. TimeoutError if that takes too long."""
        return self._wait(_bounded(fn, timeout_s), interruptible)

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
        thread.join(CANCEL_S_MAX + CLOSE_S_MAX)
        if thread.is_alive():
            logger.warning(
                "an async function holds its thread up and is left behind. Does it call something that blocks?"
            )

    def _wait(self, coroutine: Coroutine[Any, Any, T], interruptible: bool = True) -> T:
        with self._lock:
            if self._interrupted and interruptible:
                coroutine.close()
                raise StepCancelledError("the worker stops: no more calls are made. The next one makes them")
            future = asyncio.run_coroutine_threadsafe(coroutine, self._running())
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

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = self._new_loop()
            self._thread = threading.Thread(target=_serve, args=(self._loop,), name="async", daemon=True)
            self._thread.start()
        return self._loop


class Bundle:
    """The calls for one batch. `outcomes` are in the order in which they ended, if that was asked for."""

    def __init__(
        self,
        call: Call,
        count: int,
        options: AsyncOptions,
        uniform: Callable[[float, float], float],
        left: set[asyncio.Task[Any]],
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.retried = self.timed_out = 0
        self._call, self._count, self._options, self._uniform, self._left = call, count, options, uniform, left
        self._next = iter(range(count))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._options.concurrency, self._count)):
                group.create_task(self._lane())
        if self._options.ordered:
            self.outcomes.sort(key=lambda outcome: outcome.index)

    async def _lane(self) -> None:
        """One call after the other; as many lanes as there may be calls at a time share what is to be called."""
        for index in self._next:
            self.outcomes.append(await self._outcome(index))

    async def _outcome(self, index: int) -> Outcome:
        failures = 0
        while True:
            try:
                return Outcome(index, await self._tried(index))
            except Exception as error:
                failures += 1
                if failures > self._options.retries or not self._options.tries_again(error):
                    return Outcome(index, None, error)
            self.retried += 1
            await asyncio.sleep(self._options.pause_s(failures, self._uniform))

    async def _tried(self, index: int) -> Any:
        """One try, as a task of its own: one that ignores its cancellation holds nobody up."""
        task = asyncio.get_running_loop().create_task(self._call(index))
        try:
            if not await _ends(task, self._options.timeout_s):
                self.timed_out += 1
                task.cancel()
                await _ends(task, CANCEL_S_MAX)
                raise TimeoutError(f"a call took longer than {self._options.timeout_s:g} s and was cancelled")
        finally:
            if not task.done():
                task.cancel()
                self._left.add(task)
                task.add_done_callback(self._forget)
        if task.cancelled():
            raise RuntimeError("the function cancelled its own task")
        return task.result()

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._left.discard(task)
        if not task.cancelled():
            task.exception()  # else it would be logged as never looked at


async def _ends(task: asyncio.Task[Any], within_s: float) -> bool:
    """`asyncio.wait`, at a third of its cost: this is paid for each element."""
    if task.done():
        return True
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def wake(_: object = None) -> None:
        if not waiter.done():
            waiter.set_result(None)

    task.add_done_callback(wake)
    timer = loop.call_later(within_s, wake)
    try:
        await waiter
    finally:
        timer.cancel()
        task.remove_done_callback(wake)
    return task.done()


async def _bounded(fn: Callable[[], Any], timeout_s: float) -> Any:
    async with asyncio.timeout(timeout_s):
        result = fn()
        if isinstance(result, AsyncIterator):
            return [item async for item in result]
        return await result if inspect.isawaitable(result) else result


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
        if pending := asyncio.all_tasks(loop):
            for task in pending:
                task.cancel()
            loop.run_until_complete(asyncio.wait(pending, timeout=CANCEL_S_MAX))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
