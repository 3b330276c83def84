"""Triggers that count look at what comes together, in a TestPipeline, and at each element elsewhere."""

from typing import Any

import pytest

import streamflow as sf
from streamflow.testing.test_pipeline import TestPipeline
from streamflow.testing.util import assert_that, equal_to
from streamflow.transforms.trigger import AfterCount, AfterWatermark, Always, Repeatedly, TriggerFn

ACCUMULATING, DISCARDING = sf.AccumulationMode.ACCUMULATING, sf.AccumulationMode.DISCARDING
TIMES = [1, 2, 3, 4, 5, 11, 12]

CASES: dict[str, tuple[Any, TriggerFn, sf.AccumulationMode, list[list[int]], list[list[int]]]] = {
    "count": (
        sf.FixedWindows(10),
        Repeatedly(AfterCount(3)),
        DISCARDING,
        [[1, 2, 3, 4, 5], [11, 12]],
        [[1, 2, 3], [4, 5], [11, 12]],
    ),
    "early": (
        sf.FixedWindows(10),
        AfterWatermark(early=AfterCount(4)),
        ACCUMULATING,
        [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [11, 12]],
        [[1, 2, 3, 4], [1, 2, 3, 4, 5], [11, 12]],
    ),
    "always": (
        sf.FixedWindows(10),
        Always(),
        DISCARDING,
        [[1, 2, 3, 4, 5], [11, 12]],
        [[time] for time in TIMES],
    ),
    "sessions": (
        sf.Sessions(3),
        Repeatedly(AfterCount(2)),
        DISCARDING,
        [[1, 2, 3, 4, 5], [11, 12]],
        [[1, 2], [3, 4], [5], [11, 12]],
    ),
    "finishing": (sf.FixedWindows(10), AfterCount(3), DISCARDING, [[1, 2, 3, 4, 5], [11, 12]], [[1, 2, 3], [11, 12]]),
}


@pytest.mark.parametrize(
    ("by_bundle", "said"),
    [(True, "nowhere"), *((wish, said) for wish in (True, False) for said in ("as an argument", "in the settings"))],
)
@pytest.mark.parametrize(("windows", "trigger", "mode", "bundled", "single"), CASES.values(), ids=CASES)
def test_panes_of_what_comes_together(
    windows: Any,
    trigger: TriggerFn,
    mode: sf.AccumulationMode,
    bundled: list[list[int]],
    single: list[list[int]],
    by_bundle: bool,
    said: str,
) -> None:
    wish: dict[str, Any] = {"triggers_by_bundle": by_bundle}
    in_settings = sf.Settings(allow_unsafe_triggers=True, **(wish if said == "in the settings" else {}))
    with TestPipeline(settings=in_settings, **(wish if said == "as an argument" else {})) as p:
        timed = p | sf.Create([sf.TimestampedValue(("k", time), time) for time in TIMES])
        grouped = timed | sf.WindowInto(windows, trigger=trigger, accumulation_mode=mode) | sf.GroupByKey()
        panes = grouped | sf.MapTuple(lambda _, values: sorted(values))
        assert_that(panes, equal_to(bundled if by_bundle else single))
