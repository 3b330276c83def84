"""The calls for one batch, on an event loop: lanes that share what is to be called, time-outs, tries, pauses.

Only what really calls async functions loads this module: `asyncio` costs each process megabytes.
"""

import asyncio
import concurrent.futures
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from streamflow.transforms.asynchronous import AsyncOptions

CANCEL_S_MAX = 1.0
"""How long a call that is cancelled may take to end. Then it is left behind: nobody waits for it any more."""

Call = Callable[[int], Coroutine[Any, Any, Any]]
Left = set["asyncio.Task[Any]"]
"""Calls that nobody waits for; the loop itself would forget them."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of the element at `index`: what its call gave, or the error of its last try."""

    index: int
    value: Any
    error: Exception | None = None


class Bundle:
    """The calls for one batch. `outcomes` are in the order in which they ended, if that was asked for."""

    def __init__(
        self,
        call: Call,
        count: int,
        options: AsyncOptions,
        uniform: Callable[[float, float], float],
        left: Left,
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


async def bounded(fn: Callable[[], Any], timeout_s: float) -> Any:
    """What `fn`, async or not, gives. TimeoutError if that takes too long."""
    async with asyncio.timeout(timeout_s):
        result = fn()
        if isinstance(result, AsyncIterator):
            return [item async for item in result]
        return await result if inspect.isawaitable(result) else result


def submit(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop) -> concurrent.futures.Future[Any]:
    return asyncio.run_coroutine_threadsafe(coroutine, loop)


def serve(loop: asyncio.AbstractEventLoop) -> None:
    """The loop's thread: until it is stopped, then with a moment for what still runs there to end."""
    try:
        loop.run_forever()
        if pending := asyncio.all_tasks(loop):
            for task in pending:
                task.cancel()
            loop.run_until_complete(asyncio.wait(pending, timeout=CANCEL_S_MAX))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()
