"""simulate finds what depends on batches, order, crashes and zombies, in the pipeline and in what it runs on, with a
seed that replays; and says nothing against what does not.
"""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

import streamflow as sf
from streamflow.pvalue import AsDict
from streamflow.runtime.pipeline import Pipeline
from streamflow.testing import Simulated, SimulationFailed, TestStream, simulate
from streamflow.testing.difference import difference
from streamflow.topics.memory.log import MemoryLog
from streamflow.topics.memory.store import Store, Task
from streamflow.topics.protocol import TaskId
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.trigger import AfterAny, AfterCount, AfterProcessingTime, AfterWatermark, Repeatedly
from streamflow.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer

SCHEMA = {"k": str, "v": int, "at": int}
EVENTS = [{"k": "abc"[i % 3], "v": i * 7 % 30, "at": i * i % 97 * 1_000_000} for i in range(40)]
"""Out of order by up to 97 seconds."""
ACCUMULATING = sf.AccumulationMode.ACCUMULATING
Wrong = tuple[Pipeline, dict[str, Any]]


def read(p: Pipeline, disorder: float = 100) -> Any:
    return p | sf.ReadFromTopic("in", schema=SCHEMA, event_time="at", disorder=disorder)


def windowed(p: Pipeline, *args: Any, **kwargs: Any) -> Any:
    return read(p) | sf.WindowInto(*args, **kwargs) | sf.Map(lambda row: (row["k"], row["v"]))


# What gives the same whatever happens.


def columns(p: Pipeline) -> None:
    rows = read(p) | sf.WindowInto(sf.FixedWindows(10))
    rows | sf.Aggregate(by=["k"], n=sf.Count(), mean=sf.Mean("v")) | sf.WriteToTable("counts")
    rows | sf.Aggregate(by=["k"], top=sf.Max("v")) | sf.WriteToRows("tops", row_key="k", family="f")


def sessions(p: Pipeline) -> None:
    """Early panes of windows that merge: these and the windows that are none any more must not be compared."""
    pairs = windowed(p, sf.Sessions(5), AfterWatermark(early=AfterCount(2)), ACCUMULATING)
    lists = pairs | sf.GroupByKey()
    lists | sf.MapTuple(lambda k, vs: (k, sorted(vs))) | "Out" >> sf.WriteToTopic("out")


def early_panes(p: Pipeline) -> None:
    trigger = Repeatedly(AfterAny(AfterCount(2), AfterProcessingTime(3)))
    pairs = windowed(p, sf.FixedWindows(10), trigger, ACCUMULATING, allowed_lateness=20)
    pairs | sf.CombinePerKey(sum) | "Out" >> sf.WriteToTopic("out")


class Remember(sf.DoFn):
    VALUES, END = BagStateSpec("values"), TimerSpec("end", TimeDomain.WATERMARK)

    def process(
        self,
        element: Any,
        values: Any = sf.DoFn.StateParam(VALUES),
        end: Any = sf.DoFn.TimerParam(END),
        window: Any = sf.DoFn.WindowParam,
    ) -> None:
        values.add(element[1])
        end.set(window.end)

    @on_timer(END)
    def close(self, values: Any = sf.DoFn.StateParam(VALUES), key: Any = sf.DoFn.KeyParam) -> Iterator[Any]:
        yield {"k": key, "values": sorted(values.read())}


def state_and_timers(p: Pipeline) -> None:
    windowed(p, sf.FixedWindows(10)) | sf.ParDo(Remember()) | sf.WriteToTopic("out")


def values_and_sides(p: Pipeline) -> None:
    names = p | "Names" >> sf.Create([("a", "ann"), ("b", "bob")])
    read(p) | sf.Map(lambda row, names: {**row, "name": names.get(row["k"])}, AsDict(names)) | sf.WriteToTopic("out")
    total = p | sf.Create(range(100)) | sf.Reshuffle() | sf.CombineGlobally(sum)
    total | sf.WriteToTopic("total")


def bad_events(p: Pipeline) -> None:
    read(p) | sf.Map(lambda row: {"part": 1 / (row["v"] % 5)}) | sf.WriteToTopic("out")


async def looked_up(row: Any) -> Any:
    return {"k": row["k"]}


def async_calls(p: Pipeline) -> None:
    read(p) | sf.Map(looked_up) | sf.WriteToTopic("out")


@pytest.mark.parametrize(
    "build",
    [columns, sessions, early_panes, state_and_timers, values_and_sides, bad_events, async_calls],
    ids=lambda build: build.__name__,
)
def test_right_pipeline_gives_the_same_whatever_happens(build: Callable[[Pipeline], None]) -> None:
    p = sf.Pipeline()
    build(p)
    keys: dict[str, Any] = {"Out": lambda row: row[0]} if build is sessions else {}
    done = simulate(p, inputs={"in": EVENTS}, keys=keys, runs=10)
    assert done.runs == 10
    assert done.rows > 20
    assert min(done.crashes, done.zombies, done.moves, done.resent) > 0


def test_order_that_no_promise_forbids_is_made_anew_for_two_topics() -> None:
    """Neither falls behind the other, so that nothing is late."""
    p = sf.Pipeline()
    sides = {}
    for topic, disorder in (("in", 100), ("other", 200)):
        rows = p | sf.ReadFromTopic(topic, schema=SCHEMA, event_time="at", disorder=disorder)
        pairs = rows | f"Window {topic}" >> sf.WindowInto(sf.FixedWindows(10))
        sides[topic] = pairs | f"Pair {topic}" >> sf.Map(lambda row: (row["k"], row["v"]))
    joined = sides | sf.CoGroupByKey()
    joined | sf.MapTuple(lambda k, of: (k, *map(sorted, of.values()))) | sf.WriteToTopic("out")
    assert simulate(p, inputs={"in": EVENTS, "other": EVENTS[::2]}, runs=5).rows > 20


# What does not, and is found.

numbers = count()


def global_counter() -> Wrong:
    p = sf.Pipeline()
    p | sf.Create(range(10)) | sf.Map(lambda v: {"v": v, "n": next(numbers)}) | sf.WriteToTopic("out")
    return p, {}


class HalfAndHalf(sf.CombineFn):
    """A mean that forgets how many values stand behind each accumulator."""

    def create_accumulator(self) -> Any:
        return None

    def add_input(self, accumulator: Any, value: Any) -> Any:
        return value if accumulator is None else (accumulator + value) / 2

    def merge_accumulators(self, accumulators: Any) -> Any:
        known = [each for each in accumulators if each is not None]
        return sum(known) / len(known) if known else None

    def extract_output(self, accumulator: Any) -> Any:
        return accumulator


def merge_not_associative() -> Wrong:
    p = sf.Pipeline()
    means = windowed(p, sf.FixedWindows(10)) | sf.CombinePerKey(HalfAndHalf())
    means | sf.MapTuple(lambda k, mean: {"k": k, "mean": mean}) | sf.WriteToTopic("out")
    return p, {"in": EVENTS}


class Before(sf.DoFn):
    LAST = ReadModifyWriteStateSpec("last")

    def process(self, element: Any, last: Any = sf.DoFn.StateParam(LAST)) -> Iterator[Any]:
        yield {"k": element[0], "v": element[1], "before": last.read()}
        last.write(element[1])


def order_dependent() -> Wrong:
    p = sf.Pipeline()
    read(p) | sf.Map(lambda row: (row["k"], row["v"])) | sf.ParDo(Before()) | sf.WriteToTopic("out")
    return p, {"in": EVENTS}


class PerBundle(sf.DoFn):
    def start_bundle(self) -> None:
        self.first = True

    def process(self, element: Any) -> Iterator[Any]:
        yield {"v": element["v"], "first": self.first}
        self.first = False


def batch_dependent() -> Wrong:
    p = sf.Pipeline()
    read(p) | sf.ParDo(PerBundle()) | sf.WriteToTopic("out")
    return p, {"in": EVENTS}


def too_little_disorder() -> Wrong:
    p = sf.Pipeline()
    rows = read(p, disorder=1) | sf.WindowInto(sf.FixedWindows(10))
    rows | sf.Aggregate(by=["k"], n=sf.Count()) | sf.WriteToTopic("out")
    return p, {"in": EVENTS}


@pytest.mark.parametrize(
    "build",
    [global_counter, merge_not_associative, order_dependent, batch_dependent, too_little_disorder],
    ids=lambda build: build.__name__,
)
def test_wrong_pipeline_is_found_with_a_seed_that_replays(build: Callable[[], Wrong]) -> None:
    p, inputs = build()
    with pytest.raises(SimulationFailed, match="gives another result under seed") as found:
        simulate(p, inputs=inputs)
    again, _ = build()
    with pytest.raises(SimulationFailed) as replayed:
        simulate(again, seed=found.value.seed, inputs=inputs)
    assert replayed.value.seed == found.value.seed
    assert replayed.value.schedule == found.value.schedule
    if build in (merge_not_associative, order_dependent, batch_dependent):
        assert str(replayed.value) == str(found.value)


def test_failure_says_what_differs_what_happened_and_how_to_replay_it() -> None:
    p, inputs = too_little_disorder()
    with pytest.raises(AssertionError) as found:
        simulate(p, inputs=inputs)
    told = str(found.value)
    assert "Replay it with simulate(pipeline, seed=0)" in told
    assert "  missing: {'k': " in told
    assert "events of 'in' come more than disorder=1 s behind others" in told
    assert "were dropped as too late, in the quiet run 0" in told
    assert "events are published to 'in'" in told
    assert " computes read-in/" in told


# That what it runs on is wrong is found too.


def without_fencing(patch: pytest.MonkeyPatch) -> None:
    def held(self: Store, task: TaskId, epoch: int) -> Task | None:
        return self.pipelines[task.pipeline].tasks[task]

    patch.setattr(Store, "held", held)


def without_sequences(patch: pytest.MonkeyPatch) -> None:
    publish = MemoryLog.publish
    patch.setattr(MemoryLog, "publish", lambda self, records, producer=None: publish(self, records))
    patch.setattr(MemoryLog, "last_sequence", lambda self, topic, producer: -1)


def without_state(patch: pytest.MonkeyPatch) -> None:
    """What a commit has of state is lost."""
    apply = Store.apply

    def forgetful(self: Store, commit: Any, task: Task, now_us: int) -> None:
        apply(self, commit, task, now_us)
        task.segments.clear()

    patch.setattr(Store, "apply", forgetful)


@pytest.mark.parametrize("spoil", [without_fencing, without_sequences, without_state], ids=lambda spoil: spoil.__name__)
def test_log_that_breaks_its_promise_is_found(
    spoil: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch)
    p = sf.Pipeline()
    state_and_timers(p)
    with pytest.raises(SimulationFailed):
        simulate(p, inputs={"in": EVENTS})


# How it is asked.


def test_outputs_are_compared_instead_of_the_sinks() -> None:
    """The order of a list that came of a grouping means nothing: `normalise` says so."""
    p = sf.Pipeline()
    lists = p | sf.Create([("k", i) for i in range(20)]) | sf.GroupByKey()
    lists | sf.Map(lambda pair: {"n": next(numbers)}) | sf.WriteToTopic("ignored")
    with pytest.raises(SimulationFailed):
        simulate(p, outputs=[lists])
    done = simulate(p, outputs=[lists], normalise=lambda pair: (pair[0], sorted(pair[1])))
    assert done == Simulated(30, done.actions, 1, done.crashes, done.zombies, done.moves, done.resent)


def test_what_the_pipeline_writes_to_is_left_alone(tmp_path: Any) -> None:
    log = sf.open_log(tmp_path)
    p = sf.Pipeline(on=log, data=tmp_path)
    p | sf.Create([{"v": 1}]) | sf.WriteToTable("values")
    before = sorted(tmp_path.rglob("*"))
    assert simulate(p, runs=2).rows == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert log.topics() == []
    log.close()


def test_messages_bytes_and_times_are_inputs_too() -> None:
    p = sf.Pipeline()
    (
        p
        | sf.ReadFromTopic("messages", with_attributes=True)
        | "Keys" >> sf.Map(lambda m: {"key": m.key.decode()})
        | ("Out keys" >> sf.WriteToTopic("keys"))
    )
    timed = p | sf.ReadFromTopic("timed") | "Times" >> sf.Map(lambda v, t=sf.DoFn.TimestampParam: {"t": [v, int(t)]})
    timed | "Out times" >> sf.WriteToTopic("times")
    inputs = {
        "messages": [sf.Message({"v": i}, key=b"k%d" % i) for i in range(5)],
        "timed": [b"1", sf.TimestampedValue(2, 7)],
    }
    assert simulate(p, inputs=inputs, runs=3).rows == 7


def panes_of_what_is_new(p: Pipeline) -> dict[str, Any]:
    pairs = windowed(p, sf.FixedWindows(10), Repeatedly(AfterCount(2)), sf.AccumulationMode.DISCARDING)
    pairs | sf.CombinePerKey(sum) | sf.WriteToTopic("out")
    return {"inputs": {"in": []}}


def panes_without_a_key(p: Pipeline) -> dict[str, Any]:
    pairs = windowed(p, sf.FixedWindows(10), Repeatedly(AfterCount(2)), ACCUMULATING)
    pairs | sf.CombinePerKey(sum) | sf.MapTuple(lambda k, n: {"k": k, "n": n}) | sf.WriteToTopic("out")
    return {"inputs": {"in": []}}


def nothing_to_compare(p: Pipeline) -> dict[str, Any]:
    p | sf.Create([1])
    return {}


def no_events(p: Pipeline) -> dict[str, Any]:
    read(p) | sf.WriteToTopic("out")
    return {}


def events_for_nobody(p: Pipeline) -> dict[str, Any]:
    read(p) | sf.WriteToTopic("out")
    return {"inputs": {"in": [], "inn": []}}


def unknown_key(p: Pipeline) -> dict[str, Any]:
    read(p) | sf.WriteToTopic("out")
    return {"inputs": {"in": []}, "keys": {"wrote": ["k"]}}


def loop(p: Pipeline) -> dict[str, Any]:
    read(p) | sf.WriteToTopic("in")
    return {"inputs": {"in": []}}


def stream(p: Pipeline) -> dict[str, Any]:
    p | TestStream().add_elements([1]) | sf.WriteToTopic("out")
    return {}


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (panes_of_what_is_new, "which there are depends on the pace"),
        (panes_without_a_key, r"keys=\{'Write-out': \['column'\]\}"),
        (nothing_to_compare, r"outputs=\[pcoll\]"),
        (no_events, "topic 'in' is read, but has no events"),
        (events_for_nobody, "topic 'inn', which the pipeline does not read"),
        (unknown_key, "There are: Write-out"),
        (loop, "is written and read"),
        (stream, "with Create to simulate"),
    ],
    ids=lambda case: getattr(case, "__name__", ""),
)
def test_what_can_not_be_simulated_is_refused(build: Callable[[Pipeline], dict[str, Any]], told: str) -> None:
    p = sf.Pipeline()
    with pytest.raises(sf.PipelineError, match=told):
        simulate(p, **build(p))


@pytest.mark.parametrize(
    ("expected", "found", "told"),
    [
        ([1.0, {"a": [0.1 + 0.2]}], [1.0, {"a": [0.3]}], []),
        ([1, 2, 3], [2, 4, 5], ["2 missing, 2 extra, of 3 rows", "missing: 1", "extra: 4"]),
        ([("a", 1), ("b", 2)], [("a", 1), ("b", 3)], ["1 different", "('b', 2) was to be, ('b', 3) is there"]),
        ([1], [1, 1], ["1 extra, of 1 rows", "extra: 1"]),
    ],
)
def test_difference_tells_rows_that_are_missing_extra_and_different(
    expected: list[Any], found: list[Any], told: list[str]
) -> None:
    lines = "\n".join(difference({"out": {None: expected}}, {"out": {None: found}}))
    assert all(words in lines for words in told)
    assert bool(lines) == bool(told)
