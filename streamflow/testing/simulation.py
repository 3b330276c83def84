"""simulate: does a pipeline give the same whatever happens to it?

    def test_visits_are_counted_whatever_happens():
        simulate(visits.pipeline, inputs={"visits": [{"user": "ann", "page": "/", "ms": 12}, …]})

runs it once quietly, then again and again under a seeded adversary, and compares what comes out. The adversary cuts
inputs into batches of other sizes and orders (as far as the reader's `disorder` allows), publishes some of them twice,
takes other numbers of partitions, workers and events per step, lets workers die between any two steps and before or
after any commit, takes living ones for dead, moves tasks, and lets the clock go on. The engine makes nothing of all
this; what does show is in the pipeline's own functions: a counter outside of state, a combination that depends on its
order, a late event that the disorder does not cover.

All runs on `memory://`, in one thread: no topic, table or file of the pipeline is touched. Functions are called for
real. The seed decides all that is said to have happened; only the order of groups within a batch is Polars' own.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from streamflow.base.errors import PipelineError, SimulationFailed
from streamflow.base.settings import Settings
from streamflow.model.graph import Graph, Node, PCollection
from streamflow.runtime.launch import launch
from streamflow.runtime.pipeline import Pipeline
from streamflow.testing import feeds
from streamflow.testing.adversary import Delivery, Run, Troubles
from streamflow.testing.difference import Finals, difference
from streamflow.testing.taps import DEAD_LETTERS, KeyLike, Tap, dead_letters, make_topics, rows_of, tapped, taps_of
from streamflow.topics.memory import MemoryLog
from streamflow.topics.protocol import Log, TopicConfig
from streamflow.transforms.collections import Create
from streamflow.transforms.io import ReadFromTopic, WriteToTopic

__all__ = ["Simulated", "SimulationFailed", "simulate"]

RUNS = 30
SCHEDULE_SHOWN_MAX = 40
"""Of the actions that led to a difference, a message has the last ones; `SimulationFailed.schedule` has all."""


@dataclass(frozen=True)
class Simulated:
    """What was done: `runs`, `actions` over all of them, and how often a worker died, a living one was taken for dead
    (`zombies`), tasks moved, a piece of input was published twice. `rows`: how many there were to compare in a run."""

    runs: int
    actions: int
    rows: int
    crashes: int
    zombies: int
    moves: int
    resent: int


@dataclass(frozen=True)
class _Subject:
    """What is simulated, made once."""

    pipeline: Pipeline
    graph: Graph
    taps: Sequence[Tap]
    inputs: feeds.Inputs
    disorders_us: Mapping[str, int]
    normalise: Callable[[Any], Any]


@dataclass(frozen=True)
class _Outcome:
    finals: Finals
    dropped: int
    run: Run


def simulate(
    pipeline: Pipeline,
    seed: int = 0,
    runs: int = RUNS,
    *,
    inputs: Mapping[str, Sequence[Any]] | None = None,
    outputs: Iterable[PCollection] | None = None,
    keys: Mapping[str, KeyLike] | None = None,
    normalise: Callable[[Any], Any] = lambda value: value,
) -> Simulated:
    """Run the pipeline quietly, then `runs` times under an adversary with the seeds `seed`, `seed + 1`, …

    `inputs`: the events of each topic that it reads: dicts, bytes of JSON, `TimestampedValue`s of them (else the time
    is 1970 where the reader takes it from no field), `Message`s with key and attributes. They need not be in order, but
    what comes later than the reader's `disorder` may be dropped or not. `Create` and files are read as they are.
    `outputs`: PCollections to be compared; else the rows that go into its sinks. Of several panes of a window the
    newest counts: `keys` says what identifies a row, by the label of the output, where that can't be seen: column
    names, or a function of the row. `normalise` is applied to each row, e.g. to sort a list whose order means nothing.
    Numbers may differ in their last digits.

    SimulationFailed (an AssertionError) with the first seed whose outcome differs: `simulate(pipeline, seed=…)` begins
    with just that run. PipelineError if the pipeline can't be simulated, and whatever the quiet run raises.
    """
    subject = _subject(pipeline, inputs or {}, outputs, keys or {}, normalise)
    quiet = _outcome(subject, Random(seed), quiet=True)
    done = Troubles()
    actions = 0
    for each in range(seed, seed + runs):
        run = _adverse(subject, each, quiet)
        actions += len(run.schedule)
        done = _sum(done, run.troubles)
    rows = sum(len(values) for final in quiet.finals.values() for values in final.values())
    return Simulated(runs, actions, rows, done.crashes, done.zombies, done.moves, done.resent)


def _sum(one: Troubles, other: Troubles) -> Troubles:
    return Troubles(**{name: value + vars(other)[name] for name, value in vars(one).items()})


def _subject(
    pipeline: Pipeline,
    inputs: Mapping[str, Sequence[Any]],
    outputs: Iterable[PCollection] | None,
    keys: Mapping[str, KeyLike],
    normalise: Callable[[Any], Any],
) -> _Subject:
    if pipeline.players:
        raise PipelineError("a TestStream says itself what comes when. Give the elements with Create to simulate.")
    sources = [node.transform for node in pipeline.nodes if isinstance(node.transform, ReadFromTopic)]
    written = {node.transform.topic for node in pipeline.nodes if isinstance(node.transform, WriteToTopic)}
    if looped := written & {source.topic for source in sources}:
        raise PipelineError(f"topic '{min(looped)}' is written and read, so that it has no end. Simulate each part.")
    if any(source.from_offset or source.from_time_us is not None for source in sources):
        raise PipelineError("from_offset and from_time mean a topic that is there. Simulate without them.")
    taps = taps_of(pipeline, outputs, keys)
    graph = tapped(pipeline, taps)
    graph.nodes = [_given_later(node) for node in graph.nodes]
    disorders_us: dict[str, int] = {}
    for source in sources:
        disorder_us = source.watermark.disorder_us
        disorders_us[source.topic] = min(disorder_us, disorders_us.get(source.topic, disorder_us))
    return _Subject(pipeline, graph, taps, feeds.parsed(inputs, sources), disorders_us, normalise)


def _given_later(node: Node) -> Node:
    if not isinstance(node.transform, Create):
        return node
    transform = Create(node.transform.values)
    transform.given_later = True
    given = replace(node, transform=transform)
    given.output = node.output
    return given


def _adverse(subject: _Subject, seed: int, quiet: _Outcome) -> Run:
    run: Run | None = None

    def began(begun: Run) -> None:
        nonlocal run
        run = begun

    try:
        outcome = _outcome(subject, Random(seed), quiet=False, began=began)
    except Exception as error:
        schedule = [] if run is None else run.schedule
        raise _failed(subject, seed, schedule, [f"It raises {type(error).__name__}: {error}"]) from error
    if lines := difference(quiet.finals, outcome.finals):
        raise _failed(subject, seed, outcome.run.schedule, [*lines, *_hints(subject, outcome, quiet)])
    return outcome.run


def _outcome(
    subject: _Subject, random: Random, *, quiet: bool, began: Callable[[Run], None] = lambda run: None
) -> _Outcome:
    log = MemoryLog()
    settings = subject.pipeline.settings if quiet else _drawn(subject.pipeline.settings, random)
    for topic in subject.inputs:
        log.create_topic(topic, TopicConfig(partitions=1 if quiet else random.randint(1, 4)))
    make_topics(log, subject.taps)
    plan = launch(subject.graph, log, replace(settings, partitions=1) if quiet else settings)
    queues: list[deque[Delivery]] = []
    if subject.inputs:
        queues.append(feeds.of_topics(subject.inputs, subject.disorders_us, log, random, quiet=quiet))
    creates = [stage for stage in plan.stages if stage.kind == "create"]
    queues += [feeds.of_values(stage, log, random, quiet=quiet) for stage in creates]
    workers, troubles = (1, 0) if quiet else (random.randint(1, 3), random.randint(1, 8))
    run = Run(plan, log, random, queues, workers, troubles)
    if not quiet:
        run.schedule.append(
            f"{workers} workers, {settings.partitions} partitions, steps of {settings.step_events_max} events"
        )
    began(run)
    run.run()
    tasks = log.snapshot(plan.pipeline).tasks.values()
    dropped = sum(int(task.counters.get("dropped", 0)) for task in tasks)
    return _Outcome(_finals(subject, log, plan.dead_letter_topic), dropped, run)


def _drawn(settings: Settings, random: Random) -> Settings:
    return replace(
        settings,
        partitions=random.choice((1, 2, 3)),
        step_events_max=random.choice((1, 3, 10, 1_000)),
        compact_segments=random.choice((1, 4, settings.compact_segments)),
        state_bytes_max=random.choice((0, settings.state_bytes_max)),
    )


def _finals(subject: _Subject, log: Log, dead_letter_topic: str) -> Finals:
    finals: dict[str, Mapping[Any, Sequence[Any]]] = {}
    for tap in subject.taps:
        final = tap.final(rows_of(log, tap))
        finals[tap.name] = {key: list(map(subject.normalise, values)) for key, values in final.items()}
    finals[DEAD_LETTERS] = {None: dead_letters(log, dead_letter_topic)}
    return finals


def _hints(subject: _Subject, outcome: _Outcome, quiet: _Outcome) -> list[str]:
    hints = []
    for topic, events in subject.inputs.items():
        if late := feeds.late_events(events, subject.disorders_us[topic]):
            seconds = subject.disorders_us[topic] / 1e6
            hints.append(
                f"{late} events of '{topic}' come more than disorder={seconds:g} s behind others, so that it depends "
                "on the pace which are late. Raise disorder, or allowed_lateness."
            )
    if outcome.dropped != quiet.dropped:
        hints.append(f"{outcome.dropped} events were dropped as too late, in the quiet run {quiet.dropped}.")
    return hints


def _failed(subject: _Subject, seed: int, schedule: Sequence[str], lines: Sequence[str]) -> SimulationFailed:
    left_out = len(schedule) - SCHEDULE_SHOWN_MAX
    shown = [f"… {left_out} actions before these"] if left_out > 0 else []
    shown += schedule[-SCHEDULE_SHOWN_MAX:]
    return SimulationFailed(
        "\n".join(
            [
                f"pipeline '{subject.pipeline.name}' gives another result under seed {seed} than in a quiet run.",
                *lines,
                f"Replay it with simulate(pipeline, seed={seed}). What happened:",
                *(f"  {action}" for action in shown),
            ]
        ),
        seed,
        tuple(schedule),
    )
