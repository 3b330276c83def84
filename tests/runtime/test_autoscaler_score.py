"""The autoscaler beside its tuned peers on the scoreboard, a simulator that lies beside the project."""

import json
import sys

import autoscale_score
import pytest

PLACE = autoscale_score.scoreboard()
TRACES = {"step_x10": 1.54, "crash": 1.0, "embedded": 1.78, "low_rate": 1.53}
"""A few quick ones of different kinds, and the best peer's score; `make autoscale` runs all."""


@pytest.mark.skipif(PLACE is None, reason="the scoreboard is not beside this project")
def test_on_no_trace_the_best_tuned_peer_is_much_better(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PLACE is not None
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = autoscale_score.load(PLACE)
    known = json.loads((PLACE / "clairvoyant.json").read_text())
    for scenario in modules["traces"].DEV:
        if scenario.name in TRACES:
            ideal = {1: known[f"{scenario.name}/1"]}
            row = autoscale_score.scores(
                modules, scenario, lambda s=scenario: modules["autoscale_policy"].Policy(s), ideal
            )
            assert row[4] <= 1.15 * TRACES[scenario.name], (scenario.name, row)
