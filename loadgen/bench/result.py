"""What one measured run is, as data. No I/O."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
    """One system on one work, once.

    `seconds`: wall time of the whole process tree; `seconds_inner`: of the work alone, without start-up, as the
    process itself measured it. `cpu_seconds`: user and system, children included. `peak_bytes`: the highest sum of
    resident memory over the tree's processes. `verified`: the answer equals the reference.
    """

    work: str
    system: str
    cores: int
    events: int
    seconds: float
    seconds_inner: float
    cpu_seconds: float
    peak_bytes: int
    verified: bool

    @property
    def events_per_s(self) -> float:
        """Start-up included."""
        return self.events / self.seconds

    @property
    def events_per_s_inner(self) -> float:
        return self.events / self.seconds_inner

    def as_dict(self) -> dict[str, Any]:
        """The fields and both rates."""
        rates = {"events_per_s": self.events_per_s, "events_per_s_inner": self.events_per_s_inner}
        return asdict(self) | rates


def medians(runs: Iterable[Run]) -> list[Run]:
    """The run with the median wall time of each (work, system), in order of first appearance.

    An even number has no middle run: the slower one is taken.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.work, run.system), []).append(run)
    return [sorted(group, key=lambda run: run.seconds)[len(group) // 2] for group in groups.values()]
