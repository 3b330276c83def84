"""State and timers of a DoFn, with Apache Beam's names: what it declares, and the checks when a pipeline is built.

    class Deduplicate(DoFn):
        SEEN = ReadModifyWriteStateSpec("seen", BooleanCoder())
        FORGET = TimerSpec("forget", TimeDomain.WATERMARK)

        def process(self, element, seen=DoFn.StateParam(SEEN), forget=DoFn.TimerParam(FORGET), window=DoFn.WindowParam):
            if not seen.read():
                seen.write(True)
                forget.set(window.end)
                yield element

        @on_timer(FORGET)
        def forgotten(self, seen=DoFn.StateParam(SEEN)):
            seen.clear()

State is kept per key and window: the DoFn stands behind (key, value) pairs. It goes when the window and its allowed
lateness have passed, or, where a spec has a `ttl`, once the watermark is that far behind its last change. Changes are
part of the step's commit: an element counts once, whatever is killed; those of an element that raises do not count.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar

from streamflow.base.errors import PipelineError
from streamflow.model.coders import Coder, PickleCoder
from streamflow.model.combiner import CombineFn
from streamflow.model.time import DurationTypes, Timestamp, TimestampTypes, duration_us
from streamflow.transforms.params import Param, params_of
from streamflow.transforms.timeutil import TimeDomain

_Method = TypeVar("_Method", bound=Callable[..., Any])


class StateSpec:
    """A piece of state. `coder`: how its values are written, by default pickled; `ttl`: seconds (or Duration) of event
    time after its last change at which it is empty again, None for never."""

    def __init__(self, name: str, coder: Coder | None = None, *, ttl: DurationTypes | None = None) -> None:
        if not isinstance(name, str):
            raise PipelineError(f"the name of a state must be a text, got {name!r}.")
        if coder is not None and not isinstance(coder, Coder):
            raise PipelineError(f"the coder of state '{name}' is none: {coder!r}. Give e.g. VarIntCoder(), or nothing.")
        self.name, self.coder = name, coder or PickleCoder()
        self.ttl_us = None if ttl is None else duration_us(ttl)
        if self.ttl_us is not None and self.ttl_us <= 0:
            raise PipelineError(f"the ttl of state '{name}' must be above 0, got {ttl!r} (seconds).")

    def __repr__(self) -> str:
        ttl = "" if self.ttl_us is None else f", ttl={self.ttl_us / 1e6:g}"
        return f"{type(self).__name__}({self.name}{ttl})"


class ReadModifyWriteStateSpec(StateSpec):
    """One value: `read()` (None if there is none), `write(value)`, `clear()`."""


class BagStateSpec(StateSpec):
    """Any number of values: `add(value)`, `read()` gives them in the order in which they came, `clear()`."""


class SetStateSpec(StateSpec):
    """Values, each once: `add(value)`, `read()`, `clear()`. Values must be what keys may be."""


class CombiningValueStateSpec(StateSpec):
    """Values combined into one: `add(value)`, `read()` gives the combination, of nothing too, `clear()`. As in Apache
    Beam `CombiningValueStateSpec(name, combine_fn)` or `(name, coder of the accumulator, combine_fn)`; a coder counts
    if it is of your own: the others are for accumulators of Beam's, which differ from these."""

    def __init__(
        self, name: str, coder: Any = None, combine_fn: Any = None, *, ttl: DurationTypes | None = None
    ) -> None:
        if combine_fn is None:
            coder, combine_fn = None, coder
        if combine_fn is None:
            raise PipelineError(
                f"state '{name}' needs something to combine with, e.g. CombiningValueStateSpec(…, sum)."
            )
        super().__init__(name, coder, ttl=ttl)
        if type(self.coder).__module__ == Coder.__module__:
            self.coder = PickleCoder()
        self.combine_fn = CombineFn.of(combine_fn)


class OrderedListStateSpec(StateSpec):
    """(timestamp, value) pairs in the order of time: `add(pair)`, `read()`, `read_range(min, limit)`, `clear_range(min,
    limit)` (`limit` excluded), `clear()`."""


class MapStateSpec(StateSpec):
    """Values by key: `put(key, value)`, `get(key, default)`, `remove(key)`, `keys()`, `values()`, `entries()`,
    `clear()`. Its keys must be what keys may be."""

    def __init__(
        self,
        name: str,
        key_coder: Coder | None = None,
        value_coder: Coder | None = None,
        *,
        ttl: DurationTypes | None = None,
    ) -> None:
        super().__init__(name, value_coder, ttl=ttl)


class RuntimeState(Protocol):
    """What a method is given of its state; for type hints, as those below."""

    def clear(self) -> None: ...

    def prefetch(self) -> None: ...


class AccumulatingRuntimeState(RuntimeState, Protocol):
    def add(self, value: Any) -> None: ...

    def read(self) -> Any: ...


class BagRuntimeState(AccumulatingRuntimeState, Protocol): ...


class SetRuntimeState(AccumulatingRuntimeState, Protocol): ...


class CombiningValueRuntimeState(AccumulatingRuntimeState, Protocol): ...


class ReadModifyWriteRuntimeState(RuntimeState, Protocol):
    def read(self) -> Any: ...

    def write(self, value: Any) -> None: ...


class OrderedListRuntimeState(AccumulatingRuntimeState, Protocol):
    def read_range(
        self, min_time_stamp: TimestampTypes, limit_time_stamp: TimestampTypes
    ) -> Iterable[tuple[Timestamp, Any]]: ...

    def clear_range(self, min_time_stamp: TimestampTypes, limit_time_stamp: TimestampTypes) -> None: ...


class RuntimeTimer(Protocol):
    """What a method is given of its timer."""

    def set(self, timestamp: TimestampTypes, dynamic_timer_tag: str = "") -> None: ...

    def set_relative(self, after: DurationTypes, dynamic_timer_tag: str = "") -> None: ...

    def clear(self, dynamic_timer_tag: str = "") -> None: ...


BaseTimer = RuntimeTimer


class TimerSpec:
    """A timer, or a family of them told apart by `dynamic_timer_tag`. `set(timestamp)`, `set_relative(seconds)` from
    now on, `clear()`.

    It fires once: an event-time timer when the watermark has come to its timestamp, a processing-time timer when the
    worker's clock has; at the latest when its window's state goes. Processing-time timers that are set by then fire too
    as long as the calls leave less and less state, so that a buffer is emptied. What the callback gives has, for an
    event-time timer, the timer's timestamp; for a processing-time timer the time of the element that set it, which
    holds the watermark until then.
    """

    def __init__(self, name: str, time_domain: str) -> None:
        if not isinstance(name, str):
            raise PipelineError(f"the name of a timer must be a text, got {name!r}.")
        if time_domain not in (TimeDomain.WATERMARK, TimeDomain.REAL_TIME):
            raise PipelineError(
                f"timer '{name}' goes by {time_domain!r}. Choose TimeDomain.WATERMARK or TimeDomain.REAL_TIME."
            )
        self.name, self.time_domain = name, time_domain
        self.callback: str | None = None
        """The name of the method that it calls."""

    def __repr__(self) -> str:
        return f"TimerSpec({self.name}, {self.time_domain})"


def on_timer(timer_spec: TimerSpec) -> Callable[[_Method], _Method]:
    """Decorates the method that the timer calls; one method may be that of several."""
    if not isinstance(timer_spec, TimerSpec):
        raise PipelineError(f"on_timer takes a TimerSpec, not {timer_spec!r}.")

    def decorated(method: _Method) -> _Method:
        if not callable(method):
            raise PipelineError(f"on_timer decorates a method, not {method!r}.")
        if timer_spec.callback is not None:
            raise PipelineError(f"{timer_spec!r} calls '{timer_spec.callback}' already. Give the other its own timer.")
        timer_spec.callback = method.__name__
        method.__dict__["timer_specs"] = (*timers_of(method), timer_spec)
        return method

    return decorated


def timers_of(method: Callable[..., Any]) -> tuple[TimerSpec, ...]:
    """Those that call it."""
    specs: tuple[TimerSpec, ...] = getattr(method, "timer_specs", ())
    return specs


class StateParam(Param):
    """`DoFn.StateParam(spec)`: the state of the element's key and window."""

    def __init__(self, state_spec: StateSpec) -> None:
        if not isinstance(state_spec, StateSpec):
            raise PipelineError(f"DoFn.StateParam takes a StateSpec, not {state_spec!r}.")
        super().__init__(f"StateParam({state_spec.name})")
        self.spec = state_spec


class TimerParam(Param):
    """`DoFn.TimerParam(spec)`: the timer of the element's key and window."""

    def __init__(self, timer_spec: TimerSpec) -> None:
        if not isinstance(timer_spec, TimerSpec):
            raise PipelineError(f"DoFn.TimerParam takes a TimerSpec, not {timer_spec!r}.")
        super().__init__(f"TimerParam({timer_spec.name})")
        self.spec = timer_spec


def get_dofn_specs(dofn: Any) -> tuple[set[StateSpec], set[TimerSpec]]:
    """What states and timers any method of the DoFn asks for."""
    states: set[StateSpec] = set()
    timers: set[TimerSpec] = set()
    for _, method in _methods(dofn):
        for param in params_of(method).values():
            if isinstance(param, StateParam):
                states.add(param.spec)
            elif isinstance(param, TimerParam):
                timers.add(param.spec)
    return states, timers


def is_stateful_dofn(dofn: Any) -> bool:
    states, timers = get_dofn_specs(dofn)
    return bool(states or timers)


def validate_stateful_dofn(dofn: Any) -> None:
    """PipelineError if its states and timers can't work."""
    name = type(dofn).__name__
    states, timers = get_dofn_specs(dofn)
    for kind, names in (("states", [spec.name for spec in states]), ("timers", [spec.name for spec in timers])):
        if twice := sorted({each for each in names if names.count(each) > 1}):
            raise PipelineError(f"{name} has several {kind} named {twice[0]!r}. Names tell them apart: choose others.")
    for spec in sorted(timers, key=repr):
        if spec.callback is None:
            raise PipelineError(f"{name}: {spec!r} calls nothing. Decorate a method with @on_timer({spec.name}).")
        if spec not in timers_of(getattr(dofn, spec.callback, on_timer)):
            raise PipelineError(f"{name}: {spec!r} calls another '{spec.callback}'. Was it overridden?")
    for method_name, method in _methods(dofn):
        callers = timers_of(method)
        if unset := [caller for caller in callers if caller not in timers]:
            raise PipelineError(
                f"{name}.{method_name} is called by {unset[0]!r}, which nothing sets. Take DoFn.TimerParam(…) in "
                "process."
            )
        asks = [param for param in params_of(method).values() if isinstance(param, (StateParam, TimerParam))]
        if asks and not callers and method_name != "process":
            raise PipelineError(
                f"{name}.{method_name} asks for {asks[0]!r}, but has no key. Do so in process or in a timer's method."
            )
        if len({repr(param) for param in asks}) < len(asks):
            raise PipelineError(f"{name}.{method_name} asks twice for the same state or timer. Ask once.")


def _methods(dofn: Any) -> Iterator[tuple[str, Callable[..., Any]]]:
    for name in dir(type(dofn)):
        if not name.startswith("__") and callable(method := getattr(dofn, name)) and hasattr(method, "__func__"):
            yield name, method
