"""The setting of tasks: what a worker passes in. It knows of no task."""

from dataclasses import dataclass, field
from pathlib import Path

from streamflow.base.clock import Clock
from streamflow.engine.calls import Calls
from streamflow.engine.combine.pre_aggregation import PreAggregation
from streamflow.engine.context import DeadLetter
from streamflow.engine.memory import StateMemory
from streamflow.engine.plan import Plan
from streamflow.topics.protocol import Log


@dataclass(frozen=True, slots=True)
class Setting:
    """What all tasks of a worker share. `data`: the folder of the stores, if there is one. `pre_aggregations`: by
    label, what has been learnt of grouping before the shuffle; `calls`: the event loop of async functions; `failed`:
    the first bad event of this worker, if there was one."""

    plan: Plan
    log: Log
    data: Path | None
    clock: Clock
    memory: StateMemory
    pre_aggregations: dict[str, PreAggregation] = field(default_factory=dict)
    calls: Calls = field(default_factory=Calls)
    failed: list[DeadLetter] = field(default_factory=list)
