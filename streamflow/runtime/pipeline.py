"""`Pipeline`: the graph that users build, and `run`, which executes it in this process. Many processes: `streamflow
run`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from streamflow.base.errors import PipelineError
from streamflow.base.settings import Settings
from streamflow.engine.plan import build_plan, describe
from streamflow.model.graph import Graph
from streamflow.runtime.launch import launch
from streamflow.runtime.progress import is_drained, is_finished, stage_tasks
from streamflow.runtime.worker import Stop, Worker
from streamflow.topics import connect
from streamflow.topics.protocol import Log, Snapshot

Until = Literal["finished", "drained"]


@dataclass(frozen=True)
class PipelineResult:
    """What a run has done. `counters`: stage → name → sum over its tasks, as committed."""

    pipeline: str
    counters: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def total(self, name: str) -> int:
        """Of one counter, over all stages: 'late', 'dropped', 'dead_lettered'…"""
        return int(sum(of_stage.get(name, 0) for of_stage in self.counters.values()))

    def wait_until_finish(self, duration: int | None = None) -> str:
        """As in Apache Beam; `run` has already waited."""
        return "DONE"


class Pipeline(Graph):
    """A pipeline: build it with `|`, then `run()`; or use it as a context manager, which runs it at the end.

    `name` names its state: another pipeline on the same log needs another name. `on`: where its topics are, `memory://`
    (this process, gone after), or a folder. `data`: the folder for tables and row stores; by default the log's folder.
    """

    def __init__(
        self,
        name: str = "pipeline",
        *,
        on: str | Path | Log = "memory://",
        data: str | Path | None = None,
        settings: Settings | None = None,
        runner: Any = None,
        options: Any = None,
    ) -> None:
        super().__init__(name)
        if runner is not None or options is not None:
            raise PipelineError(
                "`runner` and `options` are Apache Beam's. Here: Pipeline(on='folder'), or `streamflow run`."
            )
        self.on, self.data, self.settings = on, data, settings or Settings()

    def run(
        self,
        *,
        on: str | Path | Log | None = None,
        data: str | Path | None = None,
        until: Until = "finished",
        stop: Stop | None = None,
    ) -> PipelineResult:
        """Execute in this process and return when done.

        until='finished': every input has been ended by its publishers and all of it is through. 'drained': what has
        been published so far is through; windows that are still open stay open, and a later run goes on from there.
        PipelineError, NotFoundError or ConflictError if it can't be started; a step that keeps failing raises its
        error.
        """
        target = self.on if on is None else on
        opened = isinstance(target, (str, Path))
        log: Log = connect(target) if isinstance(target, (str, Path)) else target
        try:
            plan = launch(self, log, self.settings)
            condition = is_finished if until == "finished" else is_drained
            folder = store_folder(log.url, data if data is not None else self.data)
            Worker(plan, log, folder, stop=stop, until=lambda snapshot: condition(plan, snapshot)).run()
            return result_of(plan.pipeline, log.snapshot(plan.pipeline))
        finally:
            if opened:
                log.close()

    def explain(self) -> str:
        """The plan: stages, what each reads, runs and writes."""
        return describe(build_plan(self, self.settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.result = self.run()


def store_folder(url: str, data: str | Path | None) -> Path | None:
    """Where stores are kept: as given, else beside the log, else nowhere."""
    if data is not None:
        return Path(data)
    return None if url.startswith("memory:") else Path(url.removeprefix("file:"))


def result_of(pipeline: str, snapshot: Snapshot) -> PipelineResult:
    counters: dict[str, dict[str, float]] = {}
    for stage in sorted({task.stage for task in snapshot.tasks}):
        sums = counters.setdefault(stage, {})
        for state in stage_tasks(snapshot, stage):
            for name, value in state.counters.items():
                sums[name] = sums.get(name, 0) + value
    return PipelineResult(pipeline, counters)
