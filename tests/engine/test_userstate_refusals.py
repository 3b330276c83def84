"""What of state and timers can't work is refused when the pipeline is built."""

from typing import Any

import pytest
from stateful_making import Buffered, Indexed, Machine, at

import streamflow as sf
from streamflow.transforms.timeutil import TimeDomain
from streamflow.transforms.userstate import (
    BagStateSpec,
    CombiningValueStateSpec,
    ReadModifyWriteStateSpec,
    SetStateSpec,
    StateSpec,
    TimerSpec,
    on_timer,
)


class Bundle(sf.DoFn):
    STATE = ReadModifyWriteStateSpec("s")

    def process(self, element: Any, state: Any = sf.DoFn.StateParam(STATE)) -> None: ...

    def start_bundle(self, state: Any = sf.DoFn.StateParam(STATE)) -> None: ...


class Twins(sf.DoFn):
    def process(
        self,
        element: Any,
        a: Any = sf.DoFn.StateParam(BagStateSpec("s")),
        b: Any = sf.DoFn.StateParam(SetStateSpec("s")),
    ) -> None: ...


class Mute(sf.DoFn):
    def process(self, element: Any, t: Any = sf.DoFn.TimerParam(TimerSpec("t", TimeDomain.WATERMARK))) -> None: ...


class Unset(sf.DoFn):
    def process(self, element: Any, s: Any = sf.DoFn.StateParam(BagStateSpec("s"))) -> None: ...

    @on_timer(TimerSpec("unset", TimeDomain.WATERMARK))
    def fire(self) -> None: ...


class TwiceUnset(sf.DoFn):
    FIRST = TimerSpec("first", TimeDomain.WATERMARK)

    def process(self, element: Any, first: Any = sf.DoFn.TimerParam(FIRST)) -> None: ...

    @on_timer(TimerSpec("second", TimeDomain.WATERMARK))
    @on_timer(FIRST)
    def fired(self) -> None: ...


class Overridden(Buffered):
    def expired(self) -> None: ...  # type: ignore[override]


def in_lambda(element: Any, state: Any = sf.DoFn.StateParam(BagStateSpec("s"))) -> list[Any]:
    return []


REFUSED: dict[str, tuple[Any, str]] = {
    "state without a key": (lambda: sf.ParDo(Bundle()), r"Bundle.start_bundle asks for DoFn.StateParam\(s\)"),
    "two states of one name": (lambda: sf.ParDo(Twins()), "Twins has several states named 's'"),
    "timer that calls nothing": (lambda: sf.ParDo(Mute()), r"Mute: TimerSpec\(t, WATERMARK\) calls nothing"),
    "timer that nothing sets": (lambda: sf.ParDo(Unset()), r"Unset.fire is called by TimerSpec\(unset, WATERMARK\)"),
    "timer that nothing sets beside one": (
        lambda: sf.ParDo(TwiceUnset()),
        r"TwiceUnset.fired is called by TimerSpec\(second, WATERMARK\), which",
    ),
    "overridden callback": (lambda: sf.ParDo(Overridden()), "calls another 'expired'. Was it overridden?"),
    "state in a function": (lambda: sf.FlatMap(in_lambda), "in_lambda asks for DoFn.StateParam"),
    "state in a function of a ParDo": (lambda: sf.ParDo(in_lambda), "in_lambda asks for DoFn.StateParam"),
    "exceptions as outputs": (lambda: sf.ParDo(Indexed()).with_exception_handling(), "Catch them in its process"),
    "state of a spec's class": (lambda: sf.DoFn.StateParam(BagStateSpec), "takes a StateSpec"),
    "timer of a state": (lambda: sf.DoFn.TimerParam(BagStateSpec("s")), "takes a TimerSpec"),
    "on_timer of a name": (lambda: on_timer("t"), "on_timer takes a TimerSpec"),  # type: ignore[arg-type]
    "two callbacks": (lambda: on_timer(Buffered.EXPIRY)(lambda: None), "calls 'expired' already"),
    "unknown time domain": (lambda: TimerSpec("t", "DAYTIME"), "goes by 'DAYTIME'"),
    "state without a name": (lambda: StateSpec(3), "must be a text, got 3"),  # type: ignore[arg-type]
    "coder that is none": (lambda: BagStateSpec("s", int), "the coder of state 's' is none"),  # type: ignore[arg-type]
    "nothing to combine with": (lambda: CombiningValueStateSpec("s"), "state 's' needs something to combine with"),
    "no time to live": (lambda: BagStateSpec("s", ttl=0), "ttl of state 's' must be above 0"),
}


@pytest.mark.parametrize(("build", "message"), REFUSED.values(), ids=REFUSED)
def test_what_can_not_work_is_refused_when_it_is_built(build: Any, message: str) -> None:
    with pytest.raises(sf.PipelineError, match=message):
        build()


def test_columns_are_refused_when_built_and_values_without_a_key_are_bad_elements() -> None:
    p = sf.Pipeline()
    rows = p | sf.ReadFromTopic("t", schema={"k": str})
    with pytest.raises(
        sf.PipelineError, match=r"kept per key, needs \(key, value\) pairs, but the input has columns. Apply Map"
    ):
        rows | sf.ParDo(Indexed())
    m = Machine(Indexed())
    assert m.step(sf.TimestampedValue(5, 0), at(1, 0), sf.TimestampedValue((object(), 1), 0)) == [("k", 1, 0)]
    assert len(m.dead) == 2
    assert "kept per key, so the DoFn needs (key, value) pairs, got 5" in m.dead[0][1]
