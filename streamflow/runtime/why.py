"""Why a window of a key has given what it has, or nothing yet: its state, what holds the watermark back, which input
rows came and what became of them, which panes fired. Read from the log alone: the pipeline's code is not needed.

    found = why(log, "visits", "/a", "2026-07-04T12:00")     # key as it is printed; an instant in the window
    found.state, found.holder, found.history.panes

Rows and panes are known where the pipeline ran with `explain_panes`, as long as `Settings.explain_retention_s` says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Literal

import orjson
import polars as pl

from streamflow.base.errors import DataError, NotFoundError
from streamflow.model.history import History, histories_of
from streamflow.model.keys import key_text
from streamflow.model.time import EVENT_MAX_US, MAX_US, Duration, Timestamp, timestamp_us
from streamflow.model.window import GLOBAL_WINDOW, FixedWindows, IntervalWindow
from streamflow.runtime.holders import Holder, SourcePartition, holder_of, source_partitions
from streamflow.runtime.outline import Outline, StageOutline, WindowsOutline, read_outline
from streamflow.runtime.progress import stage_tasks
from streamflow.topics import codec
from streamflow.topics.protocol import Log

State = Literal["open", "fired", "gone"]
NEAR_MAX = 5
"""Keys or windows that are named where there is no such one."""

_READ_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class Why:
    """`watermark_us`: what the window goes by: of the task that has the key, or if that is not known, the earliest of
    the step's tasks. `window`: None if it can't be told without a history which one is meant. `gone_us`: the watermark
    at which it is gone. `state`: open until the watermark passes its end, then fired, and gone when its lateness has
    passed, too. `history`: None if none was kept. `sources`: all partitions that the step's events come from;
    `holder`: what the watermark goes by, None if everything has ended; `labels`: of the steps, by the topic that each
    reads: rows without an offset are results of such a step."""

    pipeline: str
    step: str
    key: str
    window: IntervalWindow | None
    windows: WindowsOutline
    watermark_us: int
    sources: list[SourcePartition]
    holder: Holder | None
    history: History | None
    labels: Mapping[str, str]

    @property
    def gone_us(self) -> int | None:
        return None if self.window is None else min(self.window.end_us + self.windows.lateness_us, MAX_US)

    @property
    def state(self) -> State | None:
        if self.window is None or self.gone_us is None:
            return None
        if self.watermark_us < min(self.window.end_us, MAX_US):
            return "open"
        return "fired" if self.watermark_us < self.gone_us else "gone"


def why(log: Log, pipeline: str, key: str, window: str, *, step: str | None = None) -> Why:
    """`key`: as `key_text` writes it, or any JSON of a composite one. `window`: 'global', 'start/end', or a start or
    any other instant in it, ISO 8601, without zone UTC. `step`: the label of a grouping, where there are several.

    NotFoundError, with what is near, for a pipeline, step, key or window that there is not. DataError if `window` can't
    be read, or means several."""
    outline = read_outline(log, pipeline)
    if not outline:
        raise NotFoundError(f"pipeline '{pipeline}' has left no outline here. Run it once with this version.")
    stage = _grouping(outline, pipeline, step)
    assert stage.windows is not None
    wanted, key = _wanted(window), _normal(key)
    snapshot = log.snapshot(pipeline, counters=False)
    states = stage_tasks(snapshot, stage.name)
    partition, history = None, None
    if stage.panes in {info.name for info in log.topics()}:
        partition, history = _history(log, stage, key, wanted)
    of_key = [state for state in states if partition in (None, state.task.partition)]
    return Why(
        pipeline,
        stage.label,
        key,
        _assumed(stage.windows, wanted) if history is None else history.window,
        stage.windows,
        min(state.watermark_us for state in of_key or states),
        source_partitions(outline, snapshot, stage.name),
        holder_of(outline, snapshot, stage.name),
        history,
        {each.topic: each.label for each in outline.values()},
    )


def _grouping(outline: Outline, pipeline: str, step: str | None) -> StageOutline:
    groupings = {stage.label: stage for stage in outline.values() if stage.windows is not None}
    labels = ", ".join(f"'{label}'" for label in groupings)
    if not groupings:
        raise NotFoundError(f"pipeline '{pipeline}' groups nothing, so it has no windows to explain.")
    if step is None and len(groupings) > 1:
        raise NotFoundError(f"pipeline '{pipeline}' groups in several steps: {labels}. Name one with `--step`.")
    if step is None:
        return next(iter(groupings.values()))
    found = [stage for stage in groupings.values() if step in (stage.label, stage.name)]
    if not found:
        raise NotFoundError(f"pipeline '{pipeline}' has no grouping '{step}'. There are: {labels}.")
    return found[0]


def _history(log: Log, stage: StageOutline, key: str, wanted: "_Wanted") -> tuple[int, History]:
    """Of the window that is meant, and the partition that has it."""
    windows = stage.windows
    assert windows is not None
    assert stage.panes is not None
    keys: set[str] = set()
    for partition in range(log.topic(stage.panes).config.partitions):
        told = []
        for frame in _frames(log, stage.panes, partition):
            keys.update(frame["key"].unique())
            told.append(frame.filter(key=key))
        if not any(frame.height for frame in told):
            continue
        entries = pl.concat(told)
        rules = (windows.merging, windows.accumulates, windows.lateness_us)
        histories = histories_of(entries, merging=rules[0], accumulates=rules[1], lateness_us=rules[2])
        return partition, _meant(histories, wanted, key)
    raise NotFoundError(
        f"step '{stage.label}' has no event of key '{key}' in the history that is kept. {_similar(key, keys)}"
    )


def _frames(log: Log, topic: str, partition: int) -> Iterator[pl.DataFrame]:
    """All entries there are, in order, with never more than a piece of them in memory."""
    offset = 0
    while records := log.read(topic, partition, offset, max_bytes=_READ_BYTES):
        yield from map(codec.decode, records)
        offset = records[-1].end


def _similar(key: str, keys: set[str]) -> str:
    if not keys:
        return "That is empty so far."
    near = get_close_matches(key, keys, NEAR_MAX, cutoff=0.4) or sorted(keys)[:NEAR_MAX]
    return f"{'Similar keys' if near else 'Keys'} there: {', '.join(map(repr, near))}."


def _meant(histories: list[History], wanted: "_Wanted", key: str) -> History:
    """The one among those of the key; NotFoundError with the nearest, DataError if there are several."""
    exact = [each for each in histories if wanted.is_exactly(each.window)]
    inside = exact or [each for each in histories if wanted.lies_in(each.window)]
    if len(inside) == 1 or exact:
        # Of sessions that were gone there may be several with the same start: the newest is the one that may be open.
        return inside[-1]
    if inside:
        several = f"{wanted.text} lies in {len(inside)} windows of key '{key}'"
        raise DataError(f"{several}: {_shown(inside[:NEAR_MAX])}. Name one of them.")
    nearest = sorted(histories, key=lambda each: wanted.distance_us(each.window))[:NEAR_MAX]
    raise NotFoundError(f"key '{key}' has no window at {wanted.text}. The nearest are: {_shown(nearest)}.")


def _shown(histories: list[History]) -> str:
    return ", ".join(window_text(each.window) for each in histories)


def window_text(window: IntervalWindow) -> str:
    """As it can be typed: 'global', or start/end in ISO 8601 (UTC)."""
    if window == GLOBAL_WINDOW:
        return "global"
    return f"{instant_text(window.start_us)}/{instant_text(window.end_us)}"


def instant_text(time_us: int) -> str:
    try:
        return Timestamp(micros=time_us).as_datetime().isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{time_us} µs"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What was typed for a window: both bounds, or an instant (then `end_us` is None)."""

    text: str
    start_us: int
    end_us: int | None

    def is_exactly(self, window: IntervalWindow) -> bool:
        if self.end_us is None:
            return window.start_us == self.start_us
        return (window.start_us, window.end_us) == (self.start_us, self.end_us)

    def lies_in(self, window: IntervalWindow) -> bool:
        return self.end_us is None and window.start_us <= self.start_us < window.end_us

    def distance_us(self, window: IntervalWindow) -> int:
        return abs(window.start_us - self.start_us)


def _wanted(text: str) -> _Wanted:
    if text == "global":
        return _Wanted(text, GLOBAL_WINDOW.start_us, GLOBAL_WINDOW.end_us)
    start, slash, end = text.partition("/")
    try:
        start_us = timestamp_us(datetime.fromisoformat(start))
        end_us = timestamp_us(datetime.fromisoformat(end)) if slash else None
    except ValueError as error:
        raise DataError(
            f"'{text}' names no window. Write 'global', a time in it (2026-07-04T12:00), or its bounds "
            "(2026-07-04T12:00/2026-07-04T13:00), in UTC."
        ) from error
    return _Wanted(text, start_us, end_us)


def _assumed(windows: WindowsOutline, wanted: _Wanted) -> IntervalWindow | None:
    """The window that is meant, without a history; None if that can't be told."""
    if windows.is_global:
        return GLOBAL_WINDOW
    if wanted.end_us is not None:
        return IntervalWindow.of_us(wanted.start_us, wanted.end_us)
    if windows.fixed is None or wanted.start_us > EVENT_MAX_US:
        return None
    size, offset = (Duration(micros=micros) for micros in windows.fixed)
    return FixedWindows(size, float(offset)).at(wanted.start_us)[0]


def _normal(key: str) -> str:
    """Composite keys in the way they are kept: without blanks."""
    if not key.startswith(("[", "{")):
        return key
    try:
        return key_text(orjson.loads(key))
    except orjson.JSONDecodeError:
        return key
