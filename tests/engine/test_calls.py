"""Calls of async functions on a clock that jumps: how many at a time, time-outs, tries, order, what ends them."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from jumping import jumping_calls

import streamflow as sf
from streamflow.base.errors import StepCancelledError
from streamflow.engine.bundle import Bundle
from streamflow.engine.calls import Calls
from streamflow.engine.pace import calling_events
from streamflow.transforms.asynchronous import AsyncOptions

Options = AsyncOptions


@pytest.fixture
def calls() -> Iterator[Calls]:
    made = jumping_calls()
    yield made
    made.close()


def now_s() -> float:
    return asyncio.get_running_loop().time()


def answers(bundle: Bundle) -> list[Any]:
    return [outcome.value if outcome.error is None else repr(outcome.error) for outcome in bundle.outcomes]


@pytest.mark.parametrize(("concurrency", "ends_s"), [(1, 10.0), (3, 4.0), (64, 1.0)])
def test_no_more_calls_than_allowed_run_at_a_time(calls: Calls, concurrency: int, ends_s: float) -> None:
    running, most = 0, 0

    async def call(i: int) -> float:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(1)
        running -= 1
        return now_s()

    bundle = calls.run(call, 10, Options(concurrency=concurrency))
    assert most == min(concurrency, 10)
    assert max(answers(bundle)) == pytest.approx(ends_s)


@pytest.mark.parametrize(("ordered", "expected"), [(True, [0, 1, 2, 3]), (False, [3, 2, 1, 0])])
def test_outcomes_are_in_the_order_of_the_elements_or_of_the_answers(
    calls: Calls, ordered: bool, expected: list[int]
) -> None:
    async def call(i: int) -> int:
        await asyncio.sleep(10 - i)
        return i

    assert answers(calls.run(call, 4, Options(ordered=ordered))) == expected


TRIES: dict[str, tuple[Options, list[Any], list[float], Any]] = {
    # what each try does, when each began, what comes of it
    "a quick answer": (Options(), [7], [0], 7),
    "a later try that works": (Options(), [OSError("a"), OSError("b"), 7], [0, 0.2, 0.6], 7),
    "tries run out": (Options(retries=2), [OSError("a"), OSError("b"), OSError("c")], [0, 0.2, 0.6], "OSError('c')"),
    "no retries": (Options(retries=0), [OSError("a")], [0], "OSError('a')"),
    "pauses have a bound": (
        Options(retries=5, backoff_s=1, backoff_max_s=3),
        [OSError("a")] * 6,
        [0, 1, 3, 6, 9, 12],
        "OSError('a')",
    ),
    "an error that is not to be tried again": (Options(retry_on=OSError), [ValueError("a")], [0], "ValueError('a')"),
    "an error of several kinds": (Options(retry_on=(OSError, KeyError)), [KeyError(1), 7], [0, 0.2], 7),
    "bad data": (Options(), [sf.DataError("a")], [0], "DataError('a')"),
    "time-outs are tried again": (Options(timeout_s=10, retry_on=KeyError), ["hang", 7], [0, 10.2], 7),
    "time-outs to the end": (
        Options(timeout_s=10, retries=1),
        ["hang", "hang"],
        [0, 10.2],
        "TimeoutError('a call took longer than 10 s and was cancelled')",
    ),
    "one that can't be cancelled": (Options(timeout_s=10, retries=1), ["hang on", 7], [0, 11.2], 7),
    "one that answers its cancellation": (Options(timeout_s=10), ["too late", 7], [0, 10.2], 7),
    "one that cancels itself": (Options(), ["cancel", 7], [0, 0.2], 7),
}


@pytest.mark.parametrize("case", TRIES.values(), ids=TRIES)
def test_tries(calls: Calls, case: tuple[Options, list[Any], list[float], Any]) -> None:
    options, script, began, expected = case
    starts: list[float] = []

    async def call(i: int) -> Any:
        action = script[len(starts)]
        starts.append(now_s())
        if action == "cancel":
            raise asyncio.CancelledError
        while isinstance(action, str):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                if action == "too late":
                    return "late"
                if action == "hang" or len(starts) == len(script):
                    raise
        if isinstance(action, Exception):
            raise action
        return action

    bundle = calls.run(call, 1, options)
    assert starts == pytest.approx(began)
    assert answers(bundle) == [expected]
    assert bundle.retried == len(began) - 1
    assert bundle.timed_out == sum(isinstance(action, str) and action != "cancel" for action in script)


def test_pauses_are_random_between_nothing_and_twice_as_much_each_time() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    options = Options(backoff_s=0.5, backoff_max_s=3)
    assert [options.pause_s(n, uniform) for n in (1, 2, 3, 4, 10_000)] == [0.5, 1, 2, 3, 3]
    assert {low for low, _ in asked} == {0.0}


def test_slow_calls_hold_up_nobody_but_their_own_lane(calls: Calls) -> None:
    async def call(i: int) -> float:
        await asyncio.sleep(100 if i == 0 else 1)
        return now_s()

    ended = answers(calls.run(call, 11, Options(concurrency=2, timeout_s=200)))
    assert ended == pytest.approx([100, *range(1, 11)])


def test_interrupt_ends_pending_calls_and_lets_none_begin_until_closed() -> None:
    calls = Calls()
    begun, cancelled = threading.Event(), threading.Event()

    async def hanging(i: int) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def answering(i: int) -> int:
        return i

    interrupter = threading.Thread(target=lambda: (begun.wait(), calls.interrupt()))
    interrupter.start()
    with pytest.raises(StepCancelledError, match="pending calls are cancelled"):
        calls.run(hanging, 3, Options())
    interrupter.join()
    assert cancelled.wait(10)
    with pytest.raises(StepCancelledError, match="no more calls"):
        calls.run(answering, 3, Options())
    assert calls.wait(lambda: answering(5), 1, interruptible=False) == 5  # teardown
    calls.close()
    assert answers(calls.run(answering, 3, Options())) == [0, 1, 2]
    calls.close()


def test_interrupted_wait_in_the_callers_thread_cancels_the_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does where no signal handler was installed."""
    calls = Calls()
    cancelled = threading.Event()

    async def hanging(i: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    submit = asyncio.run_coroutine_threadsafe

    def submitted(coroutine: Any, loop: Any) -> Any:
        future = submit(coroutine, loop)
        submit(asyncio.sleep(0), loop).result()  # it has begun

        def result(timeout: float | None = None) -> Any:
            raise KeyboardInterrupt

        future.result = result  # type: ignore[method-assign]
        return future

    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", submitted)
    with pytest.raises(KeyboardInterrupt):
        calls.run(hanging, 1, Options())
    assert cancelled.wait(10)
    calls.close()


def test_lifecycle_methods_are_bounded_in_time(calls: Calls) -> None:
    with pytest.raises(TimeoutError):
        calls.wait(lambda: asyncio.sleep(61), 60)


def test_steps_that_call_read_what_takes_about_a_second() -> None:
    assert calling_events(256, 256, 0.1) == 512  # not more than twice as much at once
    assert calling_events(2_000, 1_000, 0.5) == 2_000
    assert calling_events(2_000, 2_000, 8.0) == 250
    assert calling_events(2, 1, 100.0) == 1
    assert calling_events(256, 0, 1.0) == 256
