"""What one step gathers while it computes: outputs, dead letters, counts. Nothing of it exists until the step is
committed."""

import traceback
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import orjson
import polars as pl

from streamflow.model.batch import OnBad

TRACEBACK_LINES_MAX = 20


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that could not go on: what it was, why, where in the pipeline, and at which source offset."""

    value: Any
    offset: int
    error: Exception
    transform: str

    def to_json(self, topic: str, partition: int) -> bytes:
        trace = traceback.format_exception(self.error)
        return orjson.dumps(
            {
                "error": f"{type(self.error).__name__}: {self.error}",
                "transform": self.transform,
                "topic": topic,
                "partition": partition,
                "offset": self.offset,
                "input": self.value,
                "traceback": "".join(trace[-TRACEBACK_LINES_MAX:]),
            },
            default=_readable,
            option=orjson.OPT_NON_STR_KEYS,
        )


@dataclass(slots=True)
class StepContext:
    """`frames`: (topic, partition) → frames to append as envelopes; `events`: the same for JSON events, with their
    times."""

    frames: dict[tuple[str, int], list[pl.DataFrame]] = field(default_factory=lambda: defaultdict(list))
    events: dict[tuple[str, int], list[tuple[bytes, int]]] = field(default_factory=lambda: defaultdict(list))
    dead: list[DeadLetter] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def on_bad(self, transform: str) -> OnBad:
        def bad(value: Any, offset: int, error: Exception) -> None:
            self.dead.append(DeadLetter(value, offset, error, transform))

        return bad


def _readable(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", errors="backslashreplace")
    if isinstance(value, (set, frozenset)):
        return list(value)
    return repr(value)
