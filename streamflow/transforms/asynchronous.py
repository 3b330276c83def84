"""Async functions: which functions are, and how they are called. Pure; the calling is the engine's."""

import inspect
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from streamflow.base.errors import DataError, PipelineError, StreamFlowError

_DOUBLINGS_MAX = 60
"""After which a pause no longer grows, whatever its bound: more would be no float."""


@dataclass(frozen=True, slots=True)
class AsyncOptions:
    """How an async function is called: see `ParDo.with_async`."""

    concurrency: int = 64
    timeout_s: float = 30.0
    retries: int = 3
    ordered: bool = True
    backoff_s: float = 0.2
    backoff_max_s: float = 10.0
    retry_on: type[Exception] | tuple[type[Exception], ...] = Exception

    def __post_init__(self) -> None:
        """PipelineError for what can't work."""
        for name, least in (("concurrency", 1), ("retries", 0)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise PipelineError(f"with_async: {name} must be a whole number of at least {least}, got {value!r}.")
        if not 0 < self.timeout_s < float("inf"):
            raise PipelineError(f"with_async: timeout_s must be above 0 and finite, got {self.timeout_s!r}.")
        if not 0 <= self.backoff_s <= self.backoff_max_s < float("inf"):
            raise PipelineError(
                f"with_async: backoff_s must be from 0 to backoff_max_s, got {self.backoff_s!r} and "
                f"{self.backoff_max_s!r}."
            )
        kinds = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        if not all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
            raise PipelineError(f"with_async: retry_on takes exception classes, not {self.retry_on!r}.")

    def tries_again(self, error: Exception) -> bool:
        """Errors of `retry_on` and time-outs may be gone next time; what a function says of the data itself stays."""
        retried = isinstance(error, self.retry_on) and not isinstance(error, StreamFlowError)
        return retried or isinstance(error, TimeoutError)

    def pause_s(self, failures: int, uniform: Callable[[float, float], float]) -> float:
        """Seconds before the next try, after so many (from 1): full jitter, as in Amazon's "Exponential Backoff And
        Jitter", so that those who failed together do not come back together. `uniform(a, b)`: a number in [a, b]."""
        doubled = self.backoff_s * 2.0 ** min(failures - 1, _DOUBLINGS_MAX)
        return uniform(0.0, min(self.backoff_max_s, doubled))


def is_async(fn: Any) -> bool:
    """Is it an `async def`, with or without `yield`, or an object that is called by one?"""
    called = fn if inspect.isroutine(fn) or not hasattr(type(fn), "__call__") else type(fn).__call__  # noqa: B004
    return any(
        test(each) for each in (fn, called) for test in (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    )


async def given(result: Any) -> Any:
    """What an async function that has been called gives: the result, or the list of what it yields. DataError if it is
    no async function."""
    if isinstance(result, AsyncIterator):
        return [item async for item in result]
    if not inspect.isawaitable(result):
        raise DataError(f"the function gave {result!r} at once, not something to await. Leave with_async(…) away.")
    return await result
