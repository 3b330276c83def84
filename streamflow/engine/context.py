"""What one step gathers while it computes: outputs, dead letters, counts. Nothing of it exists until the step is
committed."""

import traceback
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import orjson
import polars as pl

from streamflow.base.errors import AssertionFailedError
from streamflow.engine.history import PaneRecorder
from streamflow.model.batch import OnBad
from streamflow.topics import codec

TRACEBACK_FRAMES_MAX = 20
TRACEBACK_ERRORS_MAX = 5
"""Of a dead letter's traceback: the innermost frames of each error, and the errors that led to the last one."""
TEXT_CHARS_MAX = 100_000
"""Of each text in a dead letter that is not the input as it was."""

_Place = tuple[tuple[CodeType, int], ...]
"""Where an error was raised: the code and line of each frame."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that could not go on: what it was, why, where in the pipeline, and at which source offset. `trace`: the
    lines of the traceback; stacks are shared with other letters."""

    value: Any
    offset: int
    error: Exception
    transform: str
    trace: tuple[str, ...] = ()

    def to_json(self, topic: str, partition: int, place: Mapping[str, int | str] | None = None) -> bytes:
        """`place`: what is known of where it came from besides its offset, or in place of it."""
        letter = {
            "error": _text(_said(self.error)),
            "transform": self.transform,
            "topic": topic,
            "partition": partition,
            "offset": self.offset,
            "input": self.value,
            "traceback": _text("".join(self.trace)),
            **(place or {}),
        }
        try:
            event = orjson.dumps(letter, default=_readable, option=orjson.OPT_NON_STR_KEYS)
        except TypeError:
            event = orjson.dumps(letter | {"input": _text(safe_repr(self.value))})
        if len(event) > codec.EVENT_BYTES_MAX:
            event = orjson.dumps(letter | {"input": _text(safe_repr(self.value))})
        return event


@dataclass(slots=True)
class StepContext:
    """`frames`: (topic, partition) → frames to append as envelopes; `events`: the same for JSON events, with their
    times; `now_us`: the wall time of the step, the same all through it; `panes`: takes the history of a grouping's
    panes, where it is kept."""

    now_us: int = 0
    panes: PaneRecorder | None = None
    frames: dict[tuple[str, int], list[pl.DataFrame]] = field(default_factory=lambda: defaultdict(list))
    events: dict[tuple[str, int], list[tuple[bytes, int]]] = field(default_factory=lambda: defaultdict(list))
    dead: list[DeadLetter] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    _stacks: dict[_Place, str] = field(default_factory=dict)

    def rows_waiting(self) -> int:
        """Outputs that are not encoded yet."""
        of_frames = sum(frame.height for frames in self.frames.values() for frame in frames)
        return of_frames + sum(map(len, self.events.values()))

    def on_bad(self, transform: str) -> OnBad:
        """For the events that fail in a transform. A failed assertion is no bad event, and ends the step."""

        def bad(value: Any, offset: int, error: Exception) -> None:
            if isinstance(error, AssertionFailedError):
                raise error
            # One error may stand for all events of a batch.
            last = self.dead[-1] if self.dead else None
            trace = last.trace if last is not None and last.error is error else self._trace(error)
            self.dead.append(DeadLetter(value, offset, error, transform, trace))

        return bad

    def _trace(self, error: Exception) -> tuple[str, ...]:
        """The error and what it came from, as Python prints them. Then their frames are let go: a batch may hold
        thousands of bad events, and formatting a stack costs more than the event itself."""
        lines: list[str] = []
        each: BaseException | None = error
        while each is not None and len(lines) < 3 * TRACEBACK_ERRORS_MAX:
            place = tuple((frame.f_code, line) for frame, line in traceback.walk_tb(each.__traceback__))
            if place and place not in self._stacks:
                self._stacks[place] = "".join(traceback.format_tb(each.__traceback__)[-TRACEBACK_FRAMES_MAX:])
            lines = [self._stacks.get(place, ""), f"{_said(each)}\n", *lines]
            each.__traceback__ = None
            each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
            if each is not None:
                lines = ["\nfrom which came:\n", *lines]
        return tuple(lines)


def _readable(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", errors="backslashreplace")
    if isinstance(value, (set, frozenset)):
        return list(value)
    return _text(safe_repr(value))


def _said(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception as another:
        return f"{type(error).__name__} whose text raises {type(another).__name__}"


def safe_repr(value: Any) -> str:
    """A value that can't be shown must not keep the good events of its batch from going on."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


def _text(value: str) -> str:
    """Cut to a bound, and without what UTF-8 can't write."""
    return value[:TEXT_CHARS_MAX].encode("utf-8", errors="backslashreplace").decode()
