"""Triggers: when the window of a key gives a pane. Pure: states are values, and the time is passed in.

Names and meaning are Apache Beam's. A trigger that fires *finishes*, unless it repeats; when the whole trigger of a
window has finished the window is closed, and what still comes for it is dropped. The state of a trigger is a sequence
`(finished, own, children)` of plain values (`own`: a number or None), so that it can be stored anywhere; triggers
never change one, they give the next.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag
from typing import Any, Protocol

from streamflow.base.errors import PipelineError
from streamflow.model.time import MAX_US, DurationTypes, duration_us

State = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Moment:
    """When a trigger is asked: the end of its window, the watermark, and the processing time, all in µs."""

    end_us: int
    watermark_us: int
    now_us: int

    @property
    def is_past(self) -> bool:
        """The watermark has passed the window's end. The end of time is the end of every window."""
        return self.watermark_us >= min(self.end_us, MAX_US)


class DataLossReason(Flag):
    """Why a trigger may lose events: once it has finished, the window takes nothing more."""

    NO_POTENTIAL_LOSS = 0
    MAY_FINISH = 2


class HasLateness(Protocol):
    @property
    def allowed_lateness_us(self) -> int: ...


class TriggerFn(ABC):
    """What all triggers can do. Equal triggers have one type and equal parts."""

    children: tuple["TriggerFn", ...] = ()

    def fresh(self) -> State:
        return False, None, tuple(child.fresh() for child in self.children)

    @abstractmethod
    def on_element(self, state: State, at: Moment) -> State:
        """The state after one more element."""

    @abstractmethod
    def on_merge(self, states: Sequence[State], at: Moment) -> State:
        """The state of a window that several have become; `at` knows its end. The order of `states` means nothing."""

    @abstractmethod
    def should_fire(self, state: State, at: Moment) -> bool: ...

    @abstractmethod
    def on_fire(self, state: State, at: Moment) -> State:
        """The state after the window has given a pane; only called when `should_fire`."""

    @abstractmethod
    def may_lose_data(self, windowing: HasLateness) -> DataLossReason: ...

    @abstractmethod
    def get_continuation_trigger(self) -> "TriggerFn":
        """The trigger of a grouping behind the grouping that has this one: it hands on what comes as it comes."""

    def due_us(self, state: State, after_us: int) -> int | None:
        """The first processing time after that one at which the answer of `should_fire` may change; None if there is
        none."""
        open_ = (child.due_us(of, after_us) for child, of in zip(self.children, state[2], strict=True) if not of[0])
        return min((due for due in open_ if due is not None), default=None)

    @property
    def uses_clock(self) -> bool:
        """When it fires depends on processing time."""
        return any(child.uses_clock for child in self.children)

    @property
    def fires_early(self) -> bool:
        """It may fire before the end of the window."""
        return any(child.fires_early for child in self.children)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TriggerFn) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.children))})"


class DefaultTrigger(TriggerFn):
    """Fires when the watermark passes the end of the window, then for every late element. Never finishes."""

    def on_element(self, state: State, at: Moment) -> State:
        return state

    def on_merge(self, states: Sequence[State], at: Moment) -> State:
        return self.fresh()

    def should_fire(self, state: State, at: Moment) -> bool:
        return at.is_past

    def on_fire(self, state: State, at: Moment) -> State:
        return state

    def may_lose_data(self, windowing: HasLateness) -> DataLossReason:
        return DataLossReason.NO_POTENTIAL_LOSS

    def get_continuation_trigger(self) -> TriggerFn:
        return self


class Always(TriggerFn):
    """Fires for every element, early, on time or late. Never finishes."""

    fires_early = True

    def on_element(self, state: State, at: Moment) -> State:
        return False, 1, ()

    def on_merge(self, states: Sequence[State], at: Moment) -> State:
        return False, max((state[1] for state in states if state[1]), default=None), ()

    def should_fire(self, state: State, at: Moment) -> bool:
        return state[1] is not None

    def on_fire(self, state: State, at: Moment) -> State:
        return self.fresh()

    def may_lose_data(self, windowing: HasLateness) -> DataLossReason:
        return DataLossReason.NO_POTENTIAL_LOSS

    def get_continuation_trigger(self) -> TriggerFn:
        return self


class Never(TriggerFn):
    """Never fires: a window gives all it has when its allowed lateness has passed."""

    def on_element(self, state: State, at: Moment) -> State:
        return state

    def on_merge(self, states: Sequence[State], at: Moment) -> State:
        return self.fresh()

    def should_fire(self, state: State, at: Moment) -> bool:
        return False

    def on_fire(self, state: State, at: Moment) -> State:
        return state

    def may_lose_data(self, windowing: HasLateness) -> DataLossReason:
        return DataLossReason.NO_POTENTIAL_LOSS

    def get_continuation_trigger(self) -> TriggerFn:
        return self


class AfterCount(TriggerFn):
    """Fires once there are `count` elements in the pane; not merely because the window has ended. Of windows that
    merge the counts are added."""

    def __init__(self, count: int) -> None:
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise PipelineError(f"AfterCount takes a whole number above 0, got {count!r}.")
        self.count = count

    fires_early = True

    def on_element(self, state: State, at: Moment) -> State:
        return state[0], (state[1] or 0) + 1, ()

    def on_merge(self, states: Sequence[State], at: Moment) -> State:
        if any(state[0] for state in states):
            return True, None, ()
        return False, sum(state[1] or 0 for state in states) or None, ()

    def should_fire(self, state: State, at: Moment) -> bool:
        return (state[1] or 0) >= self.count

    def on_fire(self, state: State, at: Moment) -> State:
        return True, None, ()

    def may_lose_data(self, windowing: HasLateness) -> DataLossReason:
        return DataLossReason.MAY_FINISH

    def get_continuation_trigger(self) -> TriggerFn:
        return AfterCount(1)

    def __repr__(self) -> str:
        return f"AfterCount({self.count})"


class AfterProcessingTime(TriggerFn):
    """Fires once `delay` seconds of processing time have passed since the first element of the pane."""

    fires_early = True
    uses_clock = True

    def __init__(self, delay: DurationTypes = 0) -> None:
        self.delay_us = duration_us(delay)
        if self.delay_us < 0:
            raise PipelineError(f"the delay of AfterProcessingTime can't be negative, got {delay!r}.")

    def on_element(self, state: State, at: Moment) -> State:
        return state if state[1] is not None else (state[0], at.now_us + self.delay_us, ())

    def on_merge(self, states: Sequence[State], at: Moment) -> State:
        if all(state[0] for state in states):
            return True, None, ()
        return False, min((state[1] for state in states if state[1] is not None and not state[0]), default=None), ()

    def should_fire(self, state: State, at: Moment) -> bool:
        return state[1] is not None and at.now_us >= state[1]

    def on_fire(self, state: State, at: Moment) -> State:
        return True, None, ()

    def due_us(self, state: State, after_us: int) -> int | None:
        return None if state[1] is None or state[1] <= after_us else int(state[1])

    def may_lose_data(self, windowing: HasLateness) -> DataLossReason:
        return DataLossReason.MAY_FINISH

    def get_continuation_trigger(self) -> TriggerFn:
        return AfterProcessingTime(0)

    def __repr__(self) -> str:
        return f"AfterProcessingTime({self.delay_us / 1e6:g})"


def checked(trigger: TriggerFn) -> TriggerFn:
    if not isinstance(trigger, TriggerFn):
        raise PipelineError(f"{trigger!r} is no trigger. Use e.g. AfterWatermark() or AfterCount(100).")
    return trigger
