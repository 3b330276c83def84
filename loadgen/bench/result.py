"""What measured runs are, as data, and what is made of several: medians and ratios. No I/O."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import median_high
from typing import Any

OURS = "streamflow"
"""The system that the others are compared with."""


@dataclass(frozen=True)
class Run:
    """One system on one work, once.

    `seconds`: wall time of the whole process tree. `seconds_inner`: of the work alone, without start-up, as the
    process itself measured it; StreamFlow's lasts from the moment when the first of its worker processes has joined
    until the last row is in the table, and so leaves out the start of one Python process with its imports, as those of
    others leave out the start of a JVM or of an engine. `cpu_seconds`: user and system, children included.
    `peak_bytes`: the highest sum of resident memory over the tree's processes. `verified`: the answer equals the
    reference. `extra`: what only this work measures.
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
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def events_per_s(self) -> float:
        """Start-up included."""
        return self.events / self.seconds

    @property
    def events_per_s_inner(self) -> float:
        return self.events / self.seconds_inner

    @property
    def point(self) -> str:
        """What is varied in a work that measures one thing at several sizes, and its value; else empty."""
        return str(self.extra.get("point", ""))

    def as_dict(self) -> dict[str, Any]:
        """The fields and both rates, `extra` among them."""
        rates = {"events_per_s": self.events_per_s, "events_per_s_inner": self.events_per_s_inner}
        return {name: getattr(self, name) for name in _FIELDS} | rates | dict(self.extra)

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Run":
        """From `as_dict`. KeyError if a field is missing."""
        extra = {name: value for name, value in entry.items() if name not in (*_FIELDS, *_RATES)}
        return cls(**{name: entry[name] for name in _FIELDS}, extra=extra)


_FIELDS = tuple(each.name for each in fields(Run) if each.name != "extra")
_RATES = ("events_per_s", "events_per_s_inner")


@dataclass(frozen=True)
class Median:
    """The run of a system on a work whose inner time is the median one. `ratio`: how many times faster StreamFlow was,
    the median over rounds of the two rates of a round; None where there is nothing to compare, or one is not
    verified."""

    run: Run
    ratio: float | None


def medians(runs: Iterable[Run]) -> list[Median]:
    """One for each (work, system, cores, events, point), in order of first appearance.

    An even number has no middle run: the slower one is taken.
    """
    groups: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.work, run.system, run.cores, run.events, run.point), []).append(run)
    found = []
    for (work, _, *shape), group in groups.items():
        ratio = _ratio(groups.get((work, OURS, *shape), ()), group)
        found.append(Median(sorted(group, key=lambda run: run.seconds_inner)[len(group) // 2], ratio))
    return found


def _ratio(ours: Sequence[Run], others: Sequence[Run]) -> float | None:
    """Rounds are interleaved, so the nth runs of two systems met the same phase of the machine."""
    pairs = list(zip(ours, others, strict=False))
    if not pairs or not all(run.verified for pair in pairs for run in pair):
        return None
    return median_high(our.events_per_s_inner / other.events_per_s_inner for our, other in pairs)
