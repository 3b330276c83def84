"""Async functions and DoFns in pipelines: what they give, what becomes of elements that fail, and how a step that waits
for calls ends."""

import asyncio
import functools
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from jumping import jumping_calls
from pipelines import collected, dead_letters, end_topic, make_topic, ordered, publish_json, read_events

import streamflow as sf
from streamflow.base.clock import ManualClock
from streamflow.engine.calls import Calls
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_finished
from streamflow.runtime.worker import Stop, Worker
from streamflow.topics.protocol import Assignment, Log
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import CombiningValueStateSpec, TimerSpec, on_timer


async def double(n: int, more: int = 0) -> int:
    await asyncio.sleep(0)
    return 2 * n + more


async def up_to(n: int) -> list[int]:
    return list(range(n))


async def each_up_to(n: int) -> AsyncIterator[int]:
    for i in range(n):
        await asyncio.sleep(0)
        yield i


async def is_odd(n: int) -> bool:
    return n % 2 == 1


async def add(a: int, b: int) -> int:
    return a + b


class Doubling:
    async def __call__(self, n: int) -> int:
        return 2 * n


class Returning(sf.DoFn):
    async def process(self, element: int, more: int = 0) -> list[int]:
        return [element, element + more]


class Yielding(sf.DoFn):
    async def process(self, element: int) -> AsyncIterator[int]:  # type: ignore[override]
        yield element
        if element == 2:
            yield 20


class Silent(sf.DoFn):
    async def process(self, element: int) -> None:
        return None


TRANSFORMS: dict[str, tuple[Any, list[Any]]] = {
    "Map": (sf.Map(double), [2, 4, 6]),
    "Map with arguments": (sf.Map(double, more=1), [3, 5, 7]),
    "Map of a lambda": (sf.Map(lambda n: double(n)).with_async(), [2, 4, 6]),
    "Map of a partial": (sf.Map(functools.partial(double, more=1)), [3, 5, 7]),
    "Map of an object": (sf.Map(Doubling()), [2, 4, 6]),
    "FlatMap": (sf.FlatMap(up_to), [0, 0, 1, 0, 1, 2]),
    "FlatMap that yields": (sf.FlatMap(each_up_to), [0, 0, 1, 0, 1, 2]),
    "Filter": (sf.Filter(is_odd), [1, 3]),
    "Filter of a lambda": (sf.Filter(lambda n: is_odd(n)).with_async(), [1, 3]),  # type: ignore[attr-defined]
    "ParDo": (sf.ParDo(Returning(), 10), [1, 11, 2, 12, 3, 13]),
    "ParDo that yields": (sf.ParDo(Yielding()), [1, 2, 20, 3]),
    "ParDo that gives nothing": (sf.ParDo(Silent()), []),
    "ParDo of a function": (sf.ParDo(up_to), [0, 0, 1, 0, 1, 2]),
}


@pytest.mark.parametrize("case", TRANSFORMS.values(), ids=TRANSFORMS)
def test_async_functions_give_what_plain_ones_would_in_the_same_order(case: tuple[Any, list[Any]]) -> None:
    transform, expected = case
    assert collected(lambda p: p | sf.Create([1, 2, 3]) | transform) == expected


def test_map_tuple_spreads_elements_for_an_async_function() -> None:
    assert collected(lambda p: p | sf.Create([(1, 2), (3, 4)]) | sf.MapTuple(add)) == [3, 7]


def test_filter_keeps_columns() -> None:
    log = sf.open_log("memory://")
    make_topic(log)
    publish_json(log, [{"n": 1}, {"n": 2}, {"n": 3}])
    end_topic(log)

    async def odd(row: dict[str, int]) -> bool:
        return row["n"] % 2 == 1

    p = sf.Pipeline(on=log)
    events = p | sf.ReadFromTopic("in", schema={"n": int}) | sf.Filter(odd)
    events | sf.Where(sf.col("n") > 1) | sf.WriteToTopic("out")
    p.run()
    assert read_events(log) == [{"n": 3}]


def test_what_a_function_asks_for_and_its_several_outputs_work() -> None:
    async def placed(n: int, at: Any = sf.DoFn.TimestampParam, window: Any = sf.DoFn.WindowParam) -> AsyncIterator[Any]:
        yield n, float(at), float(window.start)
        if n == 7:
            yield sf.TaggedOutput("late", sf.TimestampedValue(n, 3))

    def build(p: sf.Pipeline) -> Any:
        events = p | sf.Create([sf.TimestampedValue(n, n) for n in (1, 7)]) | sf.WindowInto(sf.SlidingWindows(10, 5))
        outputs = events | sf.FlatMap(placed).with_outputs("late", main="main")
        late = outputs.late | sf.Map(lambda n, at=sf.DoFn.TimestampParam: (n, float(at)))
        return (outputs.main, late) | sf.Flatten()

    found = collected(build)
    assert ordered(found) == ordered([(1, 1, 0), (1, 1, -5), (7, 7, 0), (7, 7, 5), (7, 3), (7, 3)])


def run(build: Callable[[sf.Pipeline], Any], log: Log | None = None, calls: Calls | None = None) -> sf.PipelineResult:
    """By a worker of its own."""
    log = log or sf.open_log("memory://")
    p = sf.Pipeline(on=log)
    build(p)
    plan = launch(p, log, p.settings)
    Worker(plan, log, None, calls=calls, until=lambda snapshot: is_finished(plan, snapshot)).run()
    return p.run()  # nothing is left to do


def test_element_that_fails_after_its_retries_is_a_dead_letter_with_the_last_error() -> None:
    tries: list[int] = []

    async def flaky(n: int) -> int:
        tries.append(n)
        if n == 1 or (n == 2 and tries.count(2) < 3):
            raise OSError(f"try {tries.count(n)} of {n}")
        return n

    log = sf.open_log("memory://")
    result = run(lambda p: p | sf.Create([1, 2, 3]) | sf.Map(flaky) | sf.WriteToTopic("out"), log, jumping_calls())
    assert read_events(log) == [2, 3]
    assert [(letter["input"], letter["error"]) for letter in dead_letters(log)] == [(1, "OSError: try 4 of 1")]
    assert "in flaky" in dead_letters(log)[0]["traceback"]
    assert result.total("calls_retried") == 3 + 2
    assert result.total("dead_lettered") == 1


def test_call_that_hangs_is_a_dead_letter_and_the_step_ends() -> None:
    async def hanging(n: int) -> int:
        if n == 2:
            await asyncio.Event().wait()
        return n

    log = sf.open_log("memory://")
    mapped = sf.Map(hanging).with_async(timeout_s=5, retries=1)
    result = run(lambda p: p | sf.Create([1, 2, 3]) | mapped | sf.WriteToTopic("out"), log, jumping_calls())
    assert read_events(log) == [1, 3]
    assert "TimeoutError: a call took longer than 5 s" in dead_letters(log)[0]["error"]
    assert result.total("calls_timed_out") == 2


@pytest.mark.parametrize("handled_first", [True, False])
def test_exceptions_are_an_output_after_the_last_try(handled_first: bool) -> None:
    tries: list[int] = []

    async def invert(n: int) -> float:
        tries.append(n)
        if n == 5:
            raise KeyError(n)
        return 1 / n

    mapped = sf.Map(invert).with_async(retries=1, backoff_s=0)
    mapped = mapped.with_exception_handling(exc_class=ZeroDivisionError)
    if handled_first:
        mapped = sf.Map(invert).with_exception_handling(exc_class=ZeroDivisionError)
        mapped = mapped.with_async(retries=1, backoff_s=0)
    log = sf.open_log("memory://")

    def build(p: sf.Pipeline) -> None:
        good, bad = p | sf.Create([0, 2, 5]) | mapped
        bad = bad | sf.Map(lambda letter: {"bad": letter[0], "error": letter[1][1]})
        (good, bad) | sf.Flatten() | sf.WriteToTopic("out")

    run(build, log, jumping_calls())
    assert ordered(read_events(log)) == ordered([0.5, {"bad": 0, "error": "ZeroDivisionError('division by zero')"}])
    assert [letter["input"] for letter in dead_letters(log)] == [5]
    assert tries.count(0) == tries.count(5) == 2


BAD: dict[str, tuple[Any, str]] = {
    "gives nothing to await": (sf.Map(lambda n: n).with_async(), "gave 1 at once, not something to await"),
    "gives one where many are asked for": (sf.FlatMap(lambda n: up_to_text(n)).with_async(), "must return an iterable"),
    "exits": (sf.Map(lambda n: exiting(n)).with_async(retries=0), "the function raised SystemExit"),
}


async def up_to_text(n: int) -> str:
    return str(n)


async def exiting(n: int) -> None:
    raise SystemExit(n)


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_what_no_try_can_mend_is_a_dead_letter(case: tuple[Any, str]) -> None:
    p = sf.Pipeline()
    p | sf.Create([1]) | case[0]
    assert case[1] in p.run().dead_letters[0]["error"]


EVENTS = 6


@pytest.fixture
def log() -> Log:
    log = sf.open_log("memory://")
    make_topic(log, partitions=1)
    for n in range(EVENTS):
        publish_json(log, [{"n": n}])
    end_topic(log)
    return log


def through(transform: Any, log: Log) -> Any:
    p = sf.Pipeline("p", on=log)
    numbers = p | sf.ReadFromTopic("in", schema={"n": int}) | sf.Map(lambda row: row["n"])
    numbers | "Call" >> transform | sf.WriteToTopic("out")
    return launch(p, log, sf.Settings(step_events_max=2, commit_events_max=1, heartbeat_s=0.01))


class Client(sf.DoFn):
    """All its methods are to run on one loop, over several bundles."""

    seen: list[tuple[str, Any, Any]] = []  # noqa: RUF012 - shared by the copies of the tasks on purpose

    def note(self, what: str) -> None:
        self.seen.append((what, asyncio.get_running_loop(), threading.current_thread()))

    def setup(self) -> None:
        self.note("setup")  # not async, and on the loop all the same

    async def start_bundle(self) -> None:  # type: ignore[override]
        self.note("start")
        self.count = 0

    async def process(self, element: int) -> list[int]:
        self.note("process")
        self.count += 1
        return [element]

    async def finish_bundle(self) -> AsyncIterator[Any]:  # type: ignore[override]
        self.note("finish")
        yield sf.WindowedValue(-self.count, 0)

    async def teardown(self) -> None:  # type: ignore[override]
        self.note("teardown")


def test_all_methods_run_on_one_loop_over_all_bundles(log: Log) -> None:
    Client.seen.clear()
    plan = through(sf.ParDo(Client()), log)
    Worker(plan, log, None, until=lambda seen: is_finished(plan, seen)).run()
    assert read_events(log) == [0, 1, -2, 2, 3, -2, 4, 5, -2]
    names = [what for what, _, _ in Client.seen]
    assert names == ["setup", *["start", "process", "process", "finish"] * 3, "teardown"]
    assert len({loop for _, loop, _ in Client.seen}) == 1
    assert {thread.name for _, _, thread in Client.seen} == {"async"}
    assert Client.seen[0][1].is_closed()


def test_pipeline_runs_where_a_loop_is_running_already() -> None:
    async def notebook() -> list[Any]:
        return collected(lambda p: p | sf.Create([1, 2]) | sf.Map(double))

    assert asyncio.run(notebook()) == [2, 4]


class Fetch(sf.DoFn):
    """Asks a server over one connection per element, and learns how often it was refused."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def setup(self) -> None:  # type: ignore[override]
        self.open = asyncio.Semaphore(8)

    async def process(self, element: int) -> AsyncIterator[dict[str, int]]:  # type: ignore[override]
        async with self.open:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                writer.write(b"GET /%d HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n" % element)
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        if b" 200 " not in head:
            raise OSError(head.decode() or "connection closed")
        yield {"n": element, "square": int(body)}


@pytest.fixture
def server_port() -> Iterator[int]:
    """An HTTP server in a thread of its own that squares numbers. It closes every third connection without an answer,
    and never answers 13."""
    loop = asyncio.new_event_loop()
    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        dropped = served % 3 == 0
        try:
            number = int((await reader.readuntil(b"\r\n\r\n")).split()[1][1:])
            if number == 13:
                await reader.read()  # until the client gives up
            elif not dropped:
                body = b"%d" % number**2
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))
        finally:
            writer.close()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield server.sockets[0].getsockname()[1]

    async def close() -> None:
        server.close()
        await server.wait_closed()

    asyncio.run_coroutine_threadsafe(close(), loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_elements_are_enriched_by_a_server_that_fails_now_and_then(server_port: int) -> None:
    log = sf.open_log("memory://")
    p = sf.Pipeline(on=log)
    fetched = sf.ParDo(Fetch(server_port)).with_async(concurrency=16, timeout_s=0.2, retries=20, backoff_s=0.001)
    numbers = p | sf.Create(range(60))
    numbers | sf.Filter(lambda n: n != 13) | fetched | sf.WriteToTopic("out")
    once = sf.ParDo(Fetch(server_port)).with_async(timeout_s=0.2, retries=1, backoff_s=0)
    numbers | sf.Filter(lambda n: n == 13) | "Never" >> once | "No" >> sf.WriteToTopic("none")
    result = p.run()
    assert read_events(log) == [{"n": n, "square": n * n} for n in range(60) if n != 13]
    assert result.total("calls_retried") > 10
    assert [letter["input"] for letter in result.dead_letters] == [13]


@pytest.mark.parametrize("how", ["stopped", "fenced"])
def test_calls_that_hang_end_at_once_with_their_worker_and_are_made_again_by_the_next(log: Log, how: str) -> None:
    stop = Stop()
    cancelled: list[int] = []

    async def hanging_at_4(n: int) -> int:
        if n < 4:
            return n
        if how == "stopped":
            stop.request()
        else:
            log.reassign("p", lambda snapshot: Assignment(dead=frozenset(snapshot.workers)))
            # It comes back as another member, to a world in which the call works.
            stop.request() if cancelled else None
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(n)
            raise
        return n

    plan = through(sf.Map(hanging_at_4), log)
    began_s = time.monotonic()
    Worker(plan, log, None, worker_id="first", stop=stop).run()
    assert time.monotonic() - began_s < 10  # the call alone would take four times 30 s
    assert set(cancelled) >= {4}
    snapshot = log.snapshot("p")
    assert [state.offset for state in snapshot.tasks.values()] == [4]
    assert read_events(log) == [0, 1, 2, 3]
    plan = through(sf.Map(double), log)
    Worker(plan, log, None, worker_id="second", until=lambda seen: is_finished(plan, seen)).run()
    assert read_events(log) == [0, 1, 2, 3, 8, 10]
    assert dead_letters(log, "p") == []


def test_time_is_the_loops_and_never_the_workers_clock(log: Log) -> None:
    """A worker on a clock that stands still calls all the same."""
    plan = through(sf.Map(double), log)
    Worker(plan, log, None, clock=ManualClock(), until=lambda seen: is_finished(plan, seen)).run()
    assert read_events(log) == [0, 2, 4, 6, 8, 10]


class Misfit(sf.DoFn):
    async def setup(self) -> None:  # type: ignore[override]
        """The only method that is async."""

    def process(self, element: Any) -> list[Any]:
        return [element]


class Counting(sf.DoFn):
    COUNT = CombiningValueStateSpec("count", sum)

    async def process(self, element: Any, count: Any = sf.DoFn.StateParam(COUNT)) -> list[Any]:
        return [element, count.read()]


class Ticking(sf.DoFn):
    TICK = TimerSpec("tick", TimeDomain.WATERMARK)

    def process(self, element: Any, tick: Any = sf.DoFn.TimerParam(TICK)) -> None: ...

    @on_timer(TICK)
    async def tick(self) -> None: ...


class Plain(sf.DoFn):
    COUNT = CombiningValueStateSpec("count", sum)

    def process(self, element: Any, count: Any = sf.DoFn.StateParam(COUNT)) -> list[Any]:
        return [element, count.read()]


async def first_of(n: int, of: int) -> int:
    return 0


REFUSALS: dict[str, tuple[Callable[[], Any], str]] = {
    "state": (lambda: sf.ParDo(Counting()), r"Counting.process is async, but has state.*Await before it: Map\(fetch\)"),
    "a timer": (lambda: sf.ParDo(Ticking()), "Ticking.tick is async, but has state"),
    "with_async with state": (lambda: sf.ParDo(Plain()).with_async(), "Plain has state"),
    "only setup is async": (lambda: sf.ParDo(Misfit()), "Misfit.setup is async, but process is not. Make it `async"),
    "Map that yields": (lambda: sf.Map(each_up_to), r"Map\(each_up_to\) needs one result for each element.*FlatMap"),
    "Filter that yields": (lambda: sf.Filter(each_up_to), r"Filter\(each_up_to\) needs one.*and the function yields"),
    "Partition": (lambda: sf.Partition(first_of, 2), "Partition can't await first_of. Apply it with Map before"),
    "partial outputs": (
        lambda: sf.FlatMap(each_up_to).with_exception_handling(partial=True),
        "partial=True: a try that fails gives nothing",
    ),
    "no concurrency": (lambda: sf.Map(double).with_async(concurrency=0), "concurrency must be .* at least 1, got 0"),
    "part of a retry": (lambda: sf.Map(double).with_async(retries=1.5), "retries must be a whole number"),  # type: ignore[arg-type]
    "no time-out": (lambda: sf.Map(double).with_async(timeout_s=float("inf")), "timeout_s must be above 0 and finite"),
    "pauses": (lambda: sf.Map(double).with_async(backoff_s=20), "backoff_s must be from 0 to backoff_max_s, got 20"),
    "retry_on": (lambda: sf.Map(double).with_async(retry_on="OSError"), "retry_on takes exception classes"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_async_is_refused_when_it_is_built(case: tuple[Callable[[], Any], str]) -> None:
    with pytest.raises(sf.PipelineError, match=case[1]):
        case[0]()
