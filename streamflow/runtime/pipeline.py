"""`Pipeline`: the graph that users build, and `run`, which executes it in this process. Many processes: `streamflow
run`."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import orjson

from streamflow.base.clock import Clock, ManualClock, SystemClock
from streamflow.base.errors import AssertionFailedError, PipelineError
from streamflow.base.settings import Settings
from streamflow.engine.context import DeadLetter, safe_repr
from streamflow.engine.plan import Plan, build_plan
from streamflow.metrics.metric import MetricResults
from streamflow.model.graph import Graph
from streamflow.model.type_checks import TypeChecks
from streamflow.model.user_metrics import Number, is_users, numbers
from streamflow.options.pipeline_options import PipelineOptions, TypeOptions
from streamflow.runners.direct.direct_runner import DirectRunner
from streamflow.runtime.launch import launch
from streamflow.runtime.opening import open_pipelines
from streamflow.runtime.options import options_of
from streamflow.runtime.progress import awaits_clock, is_drained, is_finished, stage_tasks
from streamflow.runtime.worker import FAILURES_MAX, Stop, Worker
from streamflow.topics import codec
from streamflow.topics.protocol import Log, Snapshot

logger = logging.getLogger(__name__)

Until = Literal["finished", "drained"]
DEAD_LETTERS_MAX = 100
_END = object()
_PLAYED: dict[str, Any] = {"sink_interval_s": 0.0, "poll_s": 0.01}
"""Settings under a clock that stands still: no rest that ends by it, and no wait for somebody else."""


class PipelineState:
    """What a run can end as. (`run` returns when it has ended well, else it raises.)"""

    DONE = "DONE"


@dataclass(frozen=True)
class PipelineResult:
    """What a run has done. `counters`: stage → name → sum over its tasks, as committed. `dead_letters`: the newest
    events that failed, at most 100, each with `error`, `transform`, `input`, `topic`, `partition`, `offset`,
    `traceback`. `first_error`: of the first event that failed in this process. `state`: as in Apache Beam."""

    pipeline: str
    counters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    dead_letters: Sequence[Mapping[str, Any]] = ()
    first_error: Exception | None = field(default=None, compare=False)
    state: str = PipelineState.DONE
    numbers: Mapping[Number, float] = field(default_factory=dict, repr=False)

    def metrics(self) -> MetricResults:
        """What users' functions have counted (`streamflow.metrics.Metrics`), to be queried."""
        return MetricResults(self.numbers)

    def total(self, name: str) -> int:
        """Of one counter, over all stages: 'late', 'dropped', 'dead_lettered'…"""
        return int(sum(of_stage.get(name, 0) for of_stage in self.counters.values()))

    def wait_until_finish(self, duration: int | None = None) -> str:
        """As in Apache Beam; `run` has already waited."""
        return self.state

    def cancel(self) -> str:
        """As in Apache Beam; `run` has already ended."""
        return self.state


class Player(Protocol):
    """Gives a pipeline its input while it runs, one thing after the other, and says what time it is."""

    def play(self, plan: Plan, log: Log, clock: ManualClock) -> Iterator[None]:
        """Each item is one more thing that was given; the next is asked for when all before it is worked off."""


class Pipeline(Graph):
    """A pipeline: build it with `|`, then `run()`; or use it as a context manager, which runs it at the end.

    `name` names its state: another pipeline on the same log needs another name. `on`: where its topics are, `memory://`
    (this process, gone after), or a folder. `data`: the folder for tables and row stores; by default the log's folder.

    `runner`, `options`, `argv` are Apache Beam's: `options` are kept for `pipeline.options`, `argv` becomes some, and
    whatever the runner, `run` executes here.
    """

    result: PipelineResult
    """Of the last run."""

    def __init__(
        self,
        name: str = "pipeline",
        *,
        on: str | Path | Log = "memory://",
        data: str | Path | None = None,
        settings: Settings | None = None,
        runner: Any = None,
        options: PipelineOptions | None = None,
        argv: Sequence[str] | None = None,
    ) -> None:
        super().__init__(name)
        self.runner = DirectRunner() if runner is None else runner
        self._options = options_of(runner, options, argv)
        self.on, self.data, self.settings = on, data, settings or Settings()
        allowed = self.options.view_as(TypeOptions).allow_unsafe_triggers
        self.allow_unsafe_triggers = self.settings.allow_unsafe_triggers or allowed
        self.players: list[Player] = []
        """Of a test; their turns alternate."""

    @property
    def options(self) -> PipelineOptions:
        """As they were given."""
        return self._options

    @property
    def type_checks(self) -> TypeChecks:  # type: ignore[override] # it follows from the options
        of_types = self._options.view_as(TypeOptions)
        required = of_types.type_check_strictness == "ALL_REQUIRED"
        at_run = of_types.runtime_type_check or of_types.performance_runtime_type_check
        return TypeChecks(of_types.pipeline_type_check, at_run, required)

    def run(
        self,
        *,
        on: str | Path | Log | None = None,
        data: str | Path | None = None,
        until: Until = "finished",
        stop: Stop | None = None,
        clock: Clock | None = None,
        explain_panes: bool | None = None,
    ) -> PipelineResult:
        """Execute in this process and return when done.

        until='finished': every input has been ended by its publishers and all of it is through. 'drained': what has
        been published so far is through; windows that are still open stay open, timers that wait for the clock go on
        waiting, and a later run goes on from there. `clock`: what processing-time triggers and timers go by; a
        `streamflow.testing.ManualClock` stands still while it runs, and a step that fails is not tried again then.
        A pipeline without transforms does nothing, as in Apache Beam.
        `explain_panes`: keep the history of panes for `streamflow why`; None: as `Settings.explain_panes` says.
        PipelineError, NotFoundError or ConflictError if it can't be started; a step that keeps failing raises its
        error, and an assertion that does not hold (`streamflow.testing`) AssertionFailedError.
        """
        if not self.nodes:
            self.result = PipelineResult(self.name)
            return self.result
        for check in self.checks:
            check()
        target = self.on if on is None else on
        opened = isinstance(target, (str, Path))
        clock = clock or (ManualClock() if self.players else SystemClock())
        log: Log = open_pipelines(target, clock=clock) if isinstance(target, (str, Path)) else target
        try:
            settings = self.settings if explain_panes is None else replace(self.settings, explain_panes=explain_panes)
            plan = launch(self, log, replace(settings, **_PLAYED) if self.players else settings)
            folder = store_folder(log.url, data if data is not None else self.data)
            done = self._played(plan, log, clock, until)
            # Where time stands still, the pause before another try would have no end.
            failures_max = 1 if isinstance(clock, ManualClock) else FAILURES_MAX
            try:
                worker = Worker(plan, log, folder, stop=stop, until=done, clock=clock, failures_max=failures_max)
                worker.run()
            except AssertionFailedError as error:
                for letter in newest_dead_letters(log, plan.dead_letter_topic, limit=1):
                    error.add_note(f"An event failed before, in {letter['transform']}: {letter['error']}")
                raise
            result = result_of(plan.pipeline, log.snapshot(plan.pipeline))
            letters = newest_dead_letters(log, plan.dead_letter_topic)
            result = replace(result, dead_letters=letters, first_error=_error_of(worker.failed))
            _warn(result)
            self.result = result
            return result
        finally:
            if opened:
                log.close()

    def _played(self, plan: Plan, log: Log, clock: Clock, until: Until) -> Callable[[Snapshot], bool]:
        """Asked when there is nothing to do: gives what is next, and when that is all, whether `until` holds."""
        condition = is_finished if until == "finished" else is_drained
        if not self.players:
            return lambda snapshot: condition(plan, snapshot)
        if not isinstance(clock, ManualClock):
            raise PipelineError("a TestStream says what time it is. Run with a ManualClock, or without `clock`.")
        turns = [player.play(plan, log, clock) for player in self.players]

        def done(snapshot: Snapshot) -> bool:
            while turns:
                player = turns.pop(0)
                if next(player, _END) is not _END:
                    turns.append(player)
                    return False
            # The clock will not go on any more.
            return is_drained(plan, snapshot) if awaits_clock(plan, snapshot) else condition(plan, snapshot)

        return done

    def explain(self, format: Literal["text", "svg"] = "text") -> str:
        """The pipeline as it was written and as it runs, with the schema on every edge: what became which stage and one
        query, what crosses which log. Nothing is run.

        format='text' is for reading, 'svg' an SVG document. PipelineError if there is nothing to run.
        """
        # Workers have no use for it, and it would cost each a part of its start.
        from streamflow.engine.explain import explain

        return explain(self, build_plan(self, self.settings), format)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.run()


def _error_of(letter: DeadLetter | None) -> Exception | None:
    if letter is None:
        return None
    error = letter.error
    if not getattr(error, "__notes__", None):
        error.add_note(f"while running '{letter.transform}', input {safe_repr(letter.value)}")
        error.add_note("".join(letter.trace))
    return error


def store_folder(url: str, data: str | Path | None) -> Path | None:
    """Where stores are kept: as given, else beside the log, else nowhere."""
    if data is not None:
        return Path(data)
    return None if url.startswith(("memory:", "kafka:")) else Path(url.removeprefix("file:"))


def newest_dead_letters(log: Log, topic: str, limit: int = DEAD_LETTERS_MAX) -> list[dict[str, Any]]:
    """The last `limit` events that failed, oldest first."""
    # Half of Kafka's offsets may be marks of transactions.
    start = max(0, log.end(topic, 0) - limit * (1 if log.offset_span == 1 else 2 * log.offset_span))
    frames = [codec.decode(record) for record in log.read(topic, 0, start)]
    events = [raw for frame in frames for raw in frame[codec.JSON].to_list()]
    return [orjson.loads(raw) for raw in events[-limit:]]


def _warn(result: PipelineResult) -> None:
    """In a notebook nobody looks into a dead-letter topic that is not known to have anything in it."""
    if result.dead_letters:
        last = result.dead_letters[-1]
        logger.warning(
            "pipeline '%s': %s events failed, the last in %s: %s (see result.dead_letters)",
            result.pipeline,
            result.total("dead_lettered"),
            last["transform"],
            last["error"],
        )


def result_of(pipeline: str, snapshot: Snapshot) -> PipelineResult:
    counters: dict[str, dict[str, float]] = {}
    for stage in sorted({task.stage for task in snapshot.tasks}):
        sums = counters.setdefault(stage, {})
        for state in stage_tasks(snapshot, stage):
            for name, value in state.counters.items():
                if not is_users(name):
                    sums[name] = sums.get(name, 0) + value
    return PipelineResult(pipeline, counters, numbers=numbers(task.counters for task in snapshot.tasks.values()))
