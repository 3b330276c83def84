"""Triggers that are made of others: each keeps the states of its parts, and decides whose turn it is. Pure."""

from abc import abstractmethod
from collections.abc import Callable, Sequence

from streamflow.base.errors import PipelineError
from streamflow.model.trigger import DataLossReason, HasLateness, Moment, Never, State, TriggerFn, checked

_Change = Callable[[TriggerFn, State], State]


def _loss(may_finish: bool) -> DataLossReason:
    return DataLossReason.MAY_FINISH if may_finish else DataLossReason.NO_POTENTIAL_LOSS


class Repeatedly(TriggerFn):
    """Fires whenever `underlying` does, which begins anew when it has finished. Never finishes."""

    def __init__(self, underlying: TriggerFn) -> None:
        self.underlying = checked(underlying)
        self.children = (underlying,)

    def on_element(self, state: State, at: Moment) -> State:
        return False, None, (self.underlying.on_element(state[2][0], at),)

    def on_merge(self, states: Sequence[State], at: Moment) -> State:
        return False, None, (self._again(self.underlying.on_merge([state[2][0] for state in states], at)),)

    def should_fire(self, state: State, at: Moment) -> bool:
        return self.underlying.should_fire(state[2][0], at)

    def on_fire(self, state: State, at: Moment) -> State:
        return False, None, (self._again(self.underlying.on_fire(state[2][0], at)),)

    def _again(self, state: State) -> State:
        return self.underlying.fresh() if state[0] else state

    def may_lose_data(self, windowing: HasLateness) -> DataLossReason:
        return DataLossReason.NO_POTENTIAL_LOSS

    def get_continuation_trigger(self) -> TriggerFn:
        return Repeatedly(self.underlying.get_continuation_trigger())


class AfterWatermark(TriggerFn):
    """Fires once when the watermark passes the end of the window; before that whenever `early` does, after it whenever
    `late` does, each of which begins anew when it has finished. Finishes at the end of the window if there is no
    `late`."""

    def __init__(self, early: TriggerFn | None = None, late: TriggerFn | None = None) -> None:
        self.early = None if early is None else Repeatedly(early)
        self.late = None if late is None else Repeatedly(late)
        self.children = (self.early or Never(), self.late or Never())

    def on_element(self, state: State, at: Moment) -> State:
        return self._with(state, *self._phase(state, lambda child, of: child.on_element(of, at)))

    def on_merge(self, states: Sequence[State], at: Moment) -> State:
        # A window that is open before its end makes the whole so: what it holds has had no chance to fire on time.
        is_late = at.is_past and all(state[1] for state in states)
        nth = 1 if is_late else 0
        merged = [child.fresh() for child in self.children]
        merged[nth] = self.children[nth].on_merge([state[2][nth] for state in states], at)
        return is_late and self.late is None, 1 if is_late else None, tuple(merged)

    def should_fire(self, state: State, at: Moment) -> bool:
        if state[1]:
            return self.children[1].should_fire(state[2][1], at)
        return at.is_past or self.children[0].should_fire(state[2][0], at)

    def on_fire(self, state: State, at: Moment) -> State:
        if not state[1] and at.is_past:
            return self.late is None, 1, (self.children[0].fresh(), self.children[1].fresh())
        return self._with(state, *self._phase(state, lambda child, of: child.on_fire(of, at)))

    @property
    def fires_early(self) -> bool:
        return self.early is not None and self.early.fires_early

    def _phase(self, state: State, change: _Change) -> tuple[int, State]:
        """Which child has its turn, and its state after the change."""
        nth = 1 if state[1] else 0
        return nth, change(self.children[nth], state[2][nth])

    def _with(self, state: State, nth: int, changed: State) -> State:
        return state[0], state[1], tuple(changed if i == nth else child for i, child in enumerate(state[2]))

    def may_lose_data(self, windowing: HasLateness) -> DataLossReason:
        return _loss(self.late is None and windowing.allowed_lateness_us > 0)

    def get_continuation_trigger(self) -> TriggerFn:
        early = None if self.early is None else self.early.underlying.get_continuation_trigger()
        late = None if self.late is None else self.late.underlying.get_continuation_trigger()
        return AfterWatermark(early, late)

    def __repr__(self) -> str:
        parts = [f"{name}={of.underlying!r}" for name, of in (("early", self.early), ("late", self.late)) if of]
        return f"AfterWatermark({', '.join(parts)})"


class _Several(TriggerFn):
    def __init__(self, *triggers: TriggerFn) -> None:
        if not triggers:
            raise PipelineError(f"{type(self).__name__} needs at least one trigger.")
        self.triggers = self.children = tuple(checked(trigger) for trigger in triggers)

    def on_element(self, state: State, at: Moment) -> State:
        parts = zip(self.children, state[2], strict=True)
        return state[0], None, tuple(of if of[0] else child.on_element(of, at) for child, of in parts)

    def on_merge(self, states: Sequence[State], at: Moment) -> State:
        columns = zip(self.children, zip(*(state[2] for state in states), strict=True), strict=True)
        return self._state([child.on_merge(of, at) for child, of in columns])

    def _state(self, children: Sequence[State]) -> State:
        return self._is_finished([child[0] for child in children]), None, tuple(children)

    @abstractmethod
    def _is_finished(self, finished: Sequence[bool]) -> bool: ...

    def may_lose_data(self, windowing: HasLateness) -> DataLossReason:
        return _loss(self._is_finished([bool(child.may_lose_data(windowing)) for child in self.children]))

    def get_continuation_trigger(self) -> TriggerFn:
        return type(self)(*(child.get_continuation_trigger() for child in self.children))

    def _ready(self, state: State, at: Moment) -> list[bool]:
        parts = zip(self.children, state[2], strict=True)
        return [not of[0] and child.should_fire(of, at) for child, of in parts]


class AfterAny(_Several):
    """Fires when any of the triggers does, which empties the pane that the others count. Finishes with the first that
    does."""

    def should_fire(self, state: State, at: Moment) -> bool:
        return any(self._ready(state, at))

    def on_fire(self, state: State, at: Moment) -> State:
        parts = zip(self.children, state[2], self._ready(state, at), strict=True)
        return self._state([child.on_fire(of, at) if ready else child.fresh() for child, of, ready in parts])

    def _is_finished(self, finished: Sequence[bool]) -> bool:
        return any(finished)


class AfterAll(_Several):
    """Fires when all of the triggers would. Finishes when all have."""

    def should_fire(self, state: State, at: Moment) -> bool:
        return all(ready or of[0] for ready, of in zip(self._ready(state, at), state[2], strict=True))

    def on_fire(self, state: State, at: Moment) -> State:
        parts = zip(self.children, state[2], strict=True)
        return self._state([of if of[0] else child.on_fire(of, at) for child, of in parts])

    def _is_finished(self, finished: Sequence[bool]) -> bool:
        return all(finished)


class AfterEach(_Several):
    """The triggers one after the other, each until it finishes. Finishes with the last."""

    def on_element(self, state: State, at: Moment) -> State:
        return self._change(state, lambda child, of: child.on_element(of, at))

    def on_merge(self, states: Sequence[State], at: Moment) -> State:
        merged = list(super().on_merge(states, at)[2])
        open_ = next((i for i, of in enumerate(merged) if not of[0]), len(merged))
        later = [child.fresh() for child in self.children[open_ + 1 :]]
        return self._state([*merged[: open_ + 1], *later])

    def should_fire(self, state: State, at: Moment) -> bool:
        return next((ready for ready, of in zip(self._ready(state, at), state[2], strict=True) if not of[0]), False)

    def on_fire(self, state: State, at: Moment) -> State:
        return self._change(state, lambda child, of: child.on_fire(of, at))

    def _change(self, state: State, change: _Change) -> State:
        open_ = next((i for i, of in enumerate(state[2]) if not of[0]), None)
        parts = enumerate(zip(self.children, state[2], strict=True))
        return self._state([change(child, of) if i == open_ else of for i, (child, of) in parts])

    def _is_finished(self, finished: Sequence[bool]) -> bool:
        return all(finished)

    def get_continuation_trigger(self) -> TriggerFn:
        return Repeatedly(AfterAny(*(child.get_continuation_trigger() for child in self.children)))


class OrFinally(_Several):
    """Fires as `main` does, until `until` fires, which is the last time: `until` sees all elements, not those of a
    pane."""

    def __init__(self, main: TriggerFn, until: TriggerFn) -> None:
        super().__init__(main, until)

    def should_fire(self, state: State, at: Moment) -> bool:
        return any(self._ready(state, at))

    def on_fire(self, state: State, at: Moment) -> State:
        main, until = self.children
        if self._ready(state, at)[1]:
            return True, None, (main.fresh(), until.on_fire(state[2][1], at))
        return self._state([main.on_fire(state[2][0], at), state[2][1]])

    def _is_finished(self, finished: Sequence[bool]) -> bool:
        return any(finished)
