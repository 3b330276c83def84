"""A DoFn with state and timers, as the head of its stage: elements of a key one after the other, timers in the order of
their time.

In a step the elements come first, at the watermark before it; what an element sets that is due already fires before the
next element. Then the watermark moves, and timers that it has passed fire, also those that they set. Before a window's
state goes, its timers by the clock fire for the last time, whatever the clock says, and those that they set as long as
there is less and less state of that key: what waits comes out, a timer that sets itself for ever comes to its end.
"""

import copy
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from streamflow.base.errors import DataError
from streamflow.engine.cells import Cell, cell_of, state_bytes
from streamflow.engine.combine.contract import KEY, window_bounds
from streamflow.engine.context import StepContext
from streamflow.engine.context_params import Contexts
from streamflow.engine.heads import Late
from streamflow.engine.keyed import KeyedState
from streamflow.engine.ledger import Delta
from streamflow.engine.outputs import SPECIAL, Placed, finished, placed, without_tags
from streamflow.engine.source import with_offsets
from streamflow.engine.timers import CLOCK, EVENT, EXPIRY, KINDS, Timer, Timers
from streamflow.model.batch import Batch, Elements, to_elements
from streamflow.model.panes import PANE_UNKNOWN, PaneInfo
from streamflow.model.time import MAX_US, MIN_US, DurationTypes, Timestamp, TimestampTypes, duration_us, timestamp_us
from streamflow.model.window import IntervalWindow
from streamflow.topics.protocol import Record
from streamflow.transforms.combine import LATE_EVENTS
from streamflow.transforms.elementwise import DoFn, ParDo
from streamflow.transforms.outputs import WindowedValue, iterated
from streamflow.transforms.params import ContextParam, Param, params_of
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import (
    CombiningValueStateSpec,
    StateParam,
    StateSpec,
    TimerParam,
    TimerSpec,
    get_dofn_specs,
)

OUTPUTS_MAX = 50_000
"""Outputs are handed on once there are so many."""


_NO_ELEMENT = object()


@dataclass(frozen=True, slots=True)
class Moment:
    """What a method is called for. `time_us`: what it is told as the time; `output_us`: the event time of what it
    gives; `user_key`: pickled."""

    key: bytes
    window: IntervalWindow
    time_us: int
    output_us: int
    user_key: bytes
    element: Any = None
    tag: str = ""
    pane: PaneInfo = PANE_UNKNOWN


def _key(moment: Moment) -> Any:
    return pickle.loads(moment.user_key) if moment.element is _NO_ELEMENT else moment.element[0]


def _element(moment: Moment) -> Any:
    if moment.element is _NO_ELEMENT:
        raise DataError("a timer has no element. Keep what it needs in state.")
    return moment.element


def _late_record(elements: Elements, i: int, window: IntervalWindow) -> Elements:
    key, value = elements.values[i]
    record = {"key": key, "value": value, **window_bounds(window), LATE_EVENTS: 1}
    return Elements([record], [elements.times[i]], [elements.offsets[i]])


_Offers = dict[str, Callable[[Moment], Any]]
"""By the name of a parameter what gives its value."""

_OFFERS: dict[Param, Callable[[Moment], Any]] = {
    DoFn.KeyParam: _key,
    DoFn.ElementParam: _element,
    DoFn.TimestampParam: lambda moment: Timestamp(micros=moment.time_us),
    DoFn.WindowParam: lambda moment: moment.window,
    DoFn.DynamicTimerTagParam: lambda moment: moment.tag,
    DoFn.PaneInfoParam: lambda moment: moment.pane,
    DoFn.WindowedValueParam: lambda moment: WindowedValue(
        _element(moment), Timestamp(micros=moment.time_us), [moment.window], moment.pane
    ),
}


class SettableTimer:
    """A timer as a DoFn sees it."""

    def __init__(self, head: "StatefulHead", spec: TimerSpec, moment: Moment) -> None:
        self._head, self._spec, self._moment = head, spec, moment

    def set(self, timestamp: TimestampTypes, dynamic_timer_tag: str = "") -> None:
        """Fire at that time, in place of what was set under the same tag."""
        self._head.timers.set(self._timer(timestamp_us(timestamp), dynamic_timer_tag))

    def set_relative(self, after: DurationTypes, dynamic_timer_tag: str = "") -> None:
        """Fire so many seconds from now on: from the element's time, or from that of the clock."""
        now_us = self._moment.output_us if TimeDomain.is_event_time(self._spec.time_domain) else self._head.now_us
        self._head.timers.set(self._timer(now_us + duration_us(after), dynamic_timer_tag))

    def clear(self, dynamic_timer_tag: str = "") -> None:
        self._head.timers.clear(self._timer(0, dynamic_timer_tag))

    def _timer(self, fire_us: int, tag: str) -> Timer:
        moment, kind = self._moment, KINDS[self._spec.time_domain]
        if kind == EVENT:
            # An event-time timer fires before the state goes that it is about.
            fire_us = max(MIN_US, min(fire_us, self._head.gone_at(moment.window.end_us)))
        output_us = min(fire_us, MAX_US - 1) if kind == EVENT else moment.output_us
        name = self._spec.name
        return Timer(kind, moment.key, moment.window, name, tag, fire_us, output_us, moment.user_key)


class StatefulHead:
    """`state`: the task's; `gone_at`: the watermark at which nothing of a window with that end is needed any more."""

    time_max_us: int | None = None

    def __init__(
        self, transform: ParDo, state: KeyedState, gone_at: Callable[[int], int], label: str, late: Late | None = None
    ) -> None:
        self.fn = copy.deepcopy(transform.fn)
        self.args, self.kwargs, self.tagged, self.label = transform.args, transform.kwargs, transform.tags, label
        self.state, self.gone_at, self.timers = state, gone_at, Timers(state, gone_at)
        self.now_us, self._late = 0, late
        states, timers = get_dofn_specs(self.fn)
        self._process = self._offers(self.fn.process)
        self._callbacks = {spec.name: getattr(self.fn, spec.callback or "") for spec in timers}
        self._asks = {name: self._offers(callback) for name, callback in self._callbacks.items()}
        combining = [spec for spec in states if isinstance(spec, CombiningValueStateSpec)]
        self._combiners = {spec.name: copy.deepcopy(spec.combine_fn) for spec in combining}
        self._states = {spec.name: spec for spec in states}
        self._watermark_us = MIN_US
        self._records: Sequence[Record] = ()
        for combiner in self._combiners.values():
            combiner.setup()
        self.fn.setup()
        self._contexts = Contexts(*map(params_of, (self.fn.process, *self._callbacks.values())))

    @property
    def due_us(self) -> int | None:
        return self.timers.next_us(CLOCK)

    @property
    def hold_us(self) -> int:
        return self.timers.hold_us()

    def absorb(self, records: Sequence[Record], context: StepContext) -> None:
        self._records = records

    def fire(self, before_us: int, after_us: int, context: StepContext) -> Iterator[Batch]:
        self.now_us = context.now_us
        out = Elements(windows=[])
        with self._contexts.bundle():
            self.fn.start_bundle()
            for offset, outputs in self._calls(before_us, after_us, context):
                for value, time_us, window in outputs:
                    out.append(value, time_us, offset, window)
                if len(out) >= OUTPUTS_MAX:
                    yield self._handed_on(out, context)
                    out = Elements(windows=[])
            for value, time_us, window in finished(self.fn, windowed=True):
                out.append(value, time_us, -1, window)
        yield self._handed_on(out, context)

    def delta(self, stamp: int, watermark_us: int, context: StepContext) -> Delta:
        self.timers.tidy()
        context.counts["state_bytes_keyed"] += self.state.grown_bytes()
        return self.state.delta(stamp, watermark_us)

    def close(self) -> None:
        self.state.close()
        self._contexts.close()
        self.fn.teardown()
        for combiner in self._combiners.values():
            combiner.teardown()

    def _handed_on(self, out: Elements, context: StepContext) -> Elements:
        if self.tagged is None:
            context.counts["outputs_unread"] += without_tags(out)
        return out

    def _calls(self, before_us: int, after_us: int, context: StepContext) -> Iterator[tuple[int, list[Placed]]]:
        """Everything that the step calls, one after the other: (source offset, what it gave)."""
        records, self._records, self._watermark_us = self._records, (), before_us
        yield from self._due(context)
        for record in records:
            frame = with_offsets(record)
            elements, keys = to_elements(frame), frame[KEY].to_list()
            for i, key in enumerate(keys):
                window = elements.window(i)
                assert window is not None
                if self.gone_at(window.end_us) <= before_us:
                    context.counts["dropped"] += 1
                    if self._late is not None:
                        self._late(_late_record(elements, i, window), context)
                    continue
                yield elements.offsets[i], self._element(elements, i, key, window, context)
                yield from self._due(context)
        self._watermark_us = after_us
        yield from self._due(context)
        yield from self._closed(after_us, context)
        self.state.expire(after_us)

    def _due(self, context: StepContext) -> Iterator[tuple[int, list[Placed]]]:
        """Timers that watermark or clock have come to."""
        yield from self._passed(context)
        while (timer := self.timers.take(CLOCK, self.now_us)) is not None:
            yield -1, self._timer(timer, context)
            yield from self._passed(context)

    def _closed(self, after_us: int, context: StepContext) -> Iterator[tuple[int, list[Placed]]]:
        """Timers by the clock whose windows go."""
        before: dict[tuple[bytes, IntervalWindow], int] = {}
        while closing := self.timers.closing(after_us):
            places = {(timer.key, timer.window) for timer in closing}
            kept = {place: state_bytes(self.state.entries(*place)) for place in places}
            for timer in closing:
                place = timer.key, timer.window
                if place not in before or 0 < kept[place] < before[place]:
                    yield -1, self._timer(timer, context)
            before |= kept
            yield from self._passed(context)

    def _passed(self, context: StepContext) -> Iterator[tuple[int, list[Placed]]]:
        """Timers that the watermark has come to, and the ends of states' lives, in the order of their time."""
        while True:
            timer_us = self.timers.next_us(EVENT, self._watermark_us)
            until_us = self._watermark_us if timer_us is None else timer_us - 1
            if (expired := self.timers.take(EXPIRY, until_us)) is not None:
                self._cell(self._states[expired.name], expired.key, expired.window, expired.fire_us).clear()
            elif timer_us is not None and (timer := self.timers.take(EVENT, timer_us)) is not None:
                yield -1, self._timer(timer, context)
            else:
                return

    def _element(
        self, elements: Elements, i: int, key: bytes, window: IntervalWindow, context: StepContext
    ) -> list[Placed]:
        value, time_us = elements.values[i], elements.times[i]
        user_key = pickle.dumps(value[0], protocol=5) if self._callbacks else b""
        pane = elements.pane(i) or PANE_UNKNOWN
        moment = Moment(key, window, time_us, time_us, user_key, value, pane=pane)
        bad = partial(context.on_bad(self.label), value, elements.offsets[i])
        call = partial(self.fn.process, value, *self.args, **self.kwargs)
        return self._called(call, self._process, moment, bad)

    def _timer(self, timer: Timer, context: StepContext) -> list[Placed]:
        context.counts["timers_fired"] += 1
        moment = Moment(timer.key, timer.window, timer.fire_us, timer.output_us, timer.user_key, _NO_ELEMENT, timer.tag)
        about = {"timer": timer.name, "tag": timer.tag, "key": pickle.loads(timer.user_key), "at_us": timer.fire_us}
        bad = partial(context.on_bad(self.label), about, -1)
        return self._called(self._callbacks[timer.name], self._asks[timer.name], moment, bad)

    def _called(
        self,
        method: Callable[..., Iterable[Any] | None],
        offers: _Offers,
        moment: Moment,
        bad: Callable[[Exception], None],
    ) -> list[Placed]:
        """What the method gave; nothing, and nothing of what it changed, if it raises."""
        self.state.mark()
        results: list[Placed] = []
        try:
            for output in iterated(method(**{name: offer(moment) for name, offer in offers.items()})):
                if type(output) in SPECIAL:
                    results += placed(output, moment.output_us, moment.window)
                else:
                    results.append((output, moment.output_us, moment.window))
        except Exception as error:
            self.state.undo()
            bad(error)
            return []
        return results

    def _offers(self, method: Callable[..., Any]) -> _Offers:
        return {name: self._offer(param) for name, param in params_of(method).items()}

    def _offer(self, param: Param) -> Callable[[Moment], Any]:
        """What gives the parameter its value."""
        if isinstance(param, StateParam):
            return lambda moment: self._cell(param.spec, moment.key, moment.window, moment.output_us)
        if isinstance(param, TimerParam):
            return lambda moment: SettableTimer(self, param.spec, moment)
        if isinstance(param, ContextParam):
            return lambda moment: self._contexts.values[param]
        return _OFFERS[param]

    def _cell(self, spec: StateSpec, key: bytes, window: IntervalWindow, time_us: int) -> Cell:
        def changed() -> None:
            if spec.ttl_us is not None:
                fire_us = max(time_us, self._watermark_us) + spec.ttl_us
                self.timers.prolong(Timer(EXPIRY, key, window, spec.name, "", fire_us, fire_us, b""))

        return cell_of(self.state, key, window, spec, changed, self._combiners)
