"""Metrics that users' functions count in: named numbers among the counters of a step, so that they are part of its
commit. Each number knows by its name how two of it become one: added, the least, the greatest, or the newest."""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

PREFIX = "user\t"
_REPLACED = "gauge"
_LEAST = "min"
_GREATEST = ("max", "gauge_at")


class Number(NamedTuple):
    """One number of a metric. `part`: "counter"; "sum", "count", "min", "max" of a distribution; "gauge", "gauge_at"
    (when it was set, in µs)."""

    part: str
    step: str
    namespace: str
    name: str

    @property
    def key(self) -> str:
        return PREFIX + "\t".join(self)


@dataclass(slots=True)
class Recorder:
    """Where the functions of a step count. `step`: the label of the transform that runs."""

    counts: MutableMapping[str, float]
    now_us: int
    step: str

    def record(self, part: str, namespace: str, name: str, value: float) -> None:
        key = Number(part, self.step, namespace, name).key
        add(self.counts, key, value)


RECORDER: ContextVar[Recorder | None] = ContextVar("recorder", default=None)


@contextmanager
def recording(counts: MutableMapping[str, float], now_us: int, step: str) -> Iterator[Recorder]:
    """What functions count in here goes to `counts`."""
    recorder = Recorder(counts, now_us, step)
    token = RECORDER.set(recorder)
    try:
        yield recorder
    finally:
        RECORDER.reset(token)


def at_step(label: str) -> None:
    """From here on the functions of that transform run."""
    if (recorder := RECORDER.get()) is not None:
        recorder.step = label


def is_users(key: str) -> bool:
    return key.startswith(PREFIX)


def add(counts: MutableMapping[str, float], key: str, value: float) -> None:
    """Put a number to what there is under its key."""
    if key not in counts:
        counts[key] = value
        return
    part = key.split("\t", 2)[1] if is_users(key) else ""
    if part == _REPLACED:
        counts[key] = value
    elif part == _LEAST:
        counts[key] = min(counts[key], value)
    elif part in _GREATEST:
        counts[key] = max(counts[key], value)
    else:
        counts[key] += value


def numbers(of_tasks: Iterable[Mapping[str, float]]) -> dict[Number, float]:
    """The users' numbers among the counters of tasks, brought together: of a gauge the one that was set last."""
    counts: dict[str, float] = {}
    tasks = [{key: value for key, value in counters.items() if is_users(key)} for counters in of_tasks]
    for counters in tasks:
        for key, value in counters.items():
            number = _number(key)
            if number.part == _REPLACED:
                set_at = number._replace(part="gauge_at").key
                if counters[set_at] < max(other.get(set_at, 0) for other in tasks):
                    continue
            add(counts, key, value)
    return {_number(key): value for key, value in counts.items()}


def _number(key: str) -> Number:
    return Number(*key.removeprefix(PREFIX).split("\t"))
