"""From snapshots of a pipeline to what the autoscaler sees. Keeps the one before, and how long starts and moves took.

Stages count in events of the source: an event of a stage that takes twice the time per event counts as two. So a number
of events/s means the same everywhere, and a worker's share of all stages is one number.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from streamflow.engine.plan import Plan
from streamflow.runtime.learning import Observation, WorkerSeen
from streamflow.runtime.progress import is_drained
from streamflow.topics.protocol import Snapshot, TaskId, TaskState

START_S, PAUSE_S = 2.0, 0.5
"""How long a worker takes to start and a task to move, until some have been seen."""
SPAN_S = 1.0
"""Between two observations, at least: less would be noise."""
NEWEST = 0.5
"""Weight of the newest start or move in the average."""
BUSY_S = "step_seconds_sum"


@dataclass(frozen=True, slots=True)
class Look:
    """A snapshot with counters, when it was taken, and who owned what since the look before."""

    now_s: float
    snapshot: Snapshot

    def busy_s(self, task: TaskId) -> float:
        return self.snapshot.tasks[task].counters.get(BUSY_S, 0.0)


@dataclass(slots=True)
class Observer:
    """`notice` is told of every snapshot, `observe` of one with counters about once a second."""

    plan: Plan
    start_s: float = START_S
    pause_s: float = PAUSE_S
    _before: Look | None = field(default=None, init=False)
    _working_s: dict[str, float] = field(default_factory=dict, init=False)
    _free_s: dict[TaskId, float] = field(default_factory=dict, init=False)

    def notice(self, snapshot: Snapshot, now_s: float, spawned_s: Mapping[str, float]) -> None:
        """Who works by now and which tasks have found an owner. `spawned_s`: when this process started whom."""
        owners = {state.owner for state in snapshot.tasks.values() if state.owner is not None}
        for worker in owners - self._working_s.keys():
            self._working_s[worker] = now_s
            if worker in spawned_s:
                self.start_s += NEWEST * (now_s - spawned_s[worker] - self.start_s)
        for gone in self._working_s.keys() - snapshot.workers.keys():
            del self._working_s[gone]
        for task, state in snapshot.tasks.items():
            if state.owner is None and snapshot.workers:
                self._free_s.setdefault(task, now_s)
            elif (since_s := self._free_s.pop(task, None)) is not None and state.owner is not None:
                self.pause_s += NEWEST * (now_s - since_s - self.pause_s)

    def is_due(self, now_s: float) -> bool:
        return self._before is None or now_s >= self._before.now_s + SPAN_S

    def observe(
        self, snapshot: Snapshot, now_s: float, wanted: int, running: Sequence[str], starting_s: Iterable[float]
    ) -> Observation | None:
        """None of the first snapshot. `running`: members that do not drain; `starting_s`: when each worker under way
        was started."""
        before, self._before = self._before, Look(now_s, snapshot)
        if before is None or before.snapshot.tasks.keys() != snapshot.tasks.keys():
            return None
        span_s = now_s - before.now_s
        weights = self._weights(snapshot)
        partitions = 1 + max(task.partition for task in snapshot.tasks)
        backlog, arrivals = [0.0] * partitions, [0.0] * partitions
        processed: dict[str, float] = defaultdict(float)
        busy: dict[str, float] = defaultdict(float)
        stages: dict[str, float] = defaultdict(float)
        for task, state in snapshot.tasks.items():
            weight, was = weights[task.stage], before.snapshot.tasks[task]
            end, end_before = (look.ends[state.topic, task.partition] for look in (snapshot, before.snapshot))
            backlog[task.partition] += weight * (end - state.offset)
            arrivals[task.partition] += weight * (end - end_before) / span_s
            seconds = state.counters.get(BUSY_S, 0.0) - before.busy_s(task)
            stages[task.stage] += seconds
            if state.owner is not None and state.epoch == was.epoch:
                processed[state.owner] += weight * (state.offset - was.offset)
                busy[state.owner] += seconds
        seen = [WorkerSeen(w, processed[w], min(busy[w], span_s), self._up_s(w, now_s)) for w in running]
        return Observation(
            now_s=now_s,
            span_s=span_s,
            wanted=wanted,
            workers=tuple(seen),
            starting=tuple(max(0.0, at_s + self.start_s - now_s) for at_s in starting_s),
            arrivals=tuple(arrivals),
            backlog=tuple(backlog),
            owners=_owners(snapshot, weights, running, partitions),
            age_s=0.0,
            paused=_ownerless(snapshot) if running else 0.0,
            start_s=self.start_s,
            pause_s=self.pause_s,
            idle=is_drained(self.plan, snapshot),
            bottleneck=self._bottleneck(stages),
        )

    def _up_s(self, worker: str, now_s: float) -> float:
        return now_s - self._working_s.get(worker, now_s)

    def _weights(self, snapshot: Snapshot) -> dict[str, float]:
        """What an event of each stage is worth, in events of the sources."""
        busy: dict[str, float] = defaultdict(float)
        events: dict[str, float] = defaultdict(float)
        for task, state in snapshot.tasks.items():
            busy[task.stage] += state.counters.get(BUSY_S, 0.0)
            events[task.stage] += state.offset
        sources = [stage.name for stage in self.plan.stages if not stage.upstream]
        usual = sum(busy[name] for name in sources) / max(1.0, sum(events[name] for name in sources))
        if usual <= 0:
            return {stage.name: float(not stage.upstream) for stage in self.plan.stages}
        return {stage.name: busy[stage.name] / max(1.0, events[stage.name]) / usual for stage in self.plan.stages}

    def _bottleneck(self, seconds: Mapping[str, float]) -> str:
        name = max(seconds, key=lambda stage: seconds[stage])
        return f"sink {name}" if self.plan.stage(name).kind == "sink" else f"stage {name}"


def heaviest(snapshot: Snapshot, stages: Iterable[str]) -> TaskState | None:
    """The task of these stages with the longest backlog; None if there is none at all."""
    names = set(stages)
    tasks = [state for task, state in snapshot.tasks.items() if task.stage in names]
    waiting = {i: snapshot.ends[s.topic, s.task.partition] - s.offset for i, s in enumerate(tasks)}
    most = max(waiting, key=lambda i: waiting[i], default=None)
    return None if most is None or not waiting[most] else tasks[most]


def _owners(
    snapshot: Snapshot, weights: Mapping[str, float], running: Sequence[str], partitions: int
) -> tuple[int, ...]:
    """Of each partition's dearest task."""
    index = {worker: i for i, worker in enumerate(running)}
    found: dict[int, tuple[float, int]] = {}
    for task, state in snapshot.tasks.items():
        owner = index.get(state.owner or "", -1)
        if task.partition not in found or weights[task.stage] > found[task.partition][0]:
            found[task.partition] = weights[task.stage], owner
    return tuple(found[p][1] if p in found else -1 for p in range(partitions))


def _ownerless(snapshot: Snapshot) -> float:
    return sum(state.owner is None for state in snapshot.tasks.values()) / max(1, len(snapshot.tasks))
