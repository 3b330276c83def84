"""What tasks cost: measured from the counters that they commit, for the assignment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from streamflow.topics.protocol import Snapshot, TaskId

LOOK_S = 5.0
"""Between two looks: a task's step takes up to a second, and one look should see several."""
NEWEST = 0.5
"""Weight of the newest look."""
BUSY_S = "step_seconds_sum"


@dataclass(slots=True)
class Loads:
    """Of the tasks of one pipeline, from snapshots with counters taken every LOOK_S."""

    _seconds: dict[TaskId, float] = field(default_factory=dict, init=False)
    _looked_s: float | None = field(default=None, init=False)
    _loads: dict[TaskId, float] = field(default_factory=dict, init=False)

    def is_due(self, now_s: float) -> bool:
        return self._looked_s is None or now_s >= self._looked_s + LOOK_S

    def look(self, snapshot: Snapshot, now_s: float) -> None:
        before, before_s = self._seconds, self._looked_s
        self._seconds = {task: state.counters.get(BUSY_S, 0.0) for task, state in snapshot.tasks.items()}
        self._looked_s = now_s
        if before_s is None or now_s <= before_s:
            return
        for task, seconds in self._seconds.items():
            share = max(0.0, seconds - before.get(task, 0.0)) / (now_s - before_s)
            known = self._loads.get(task)
            self._loads[task] = share if known is None else known + NEWEST * (share - known)

    def forget(self) -> None:
        """After tasks have moved: a worker that was saturated shows only now what its tasks really cost."""
        self._seconds, self._looked_s, self._loads = {}, None, {}

    def by_task(self) -> Mapping[TaskId, float]:
        """Seconds of work per second of each task; empty until it was looked at twice."""
        return self._loads
