"""A guard against StreamFlow becoming slower: its CPU seconds as a multiple of a plain loop's over the same events (see
`loadgen/bench/guard.py`), which other work on the machine and the machine itself change little.

To measure the constants anew, after a change that is meant to change them:

    POLARS_MAX_THREADS=1 python -m loadgen.bench.guard

three times; take the highest of each, rounded up to a tenth. Then again without the native kernel (`pip uninstall
streamflow-kernel`; `make setup` builds it again).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadgen.bench import guard
from streamflow.base.errors import StreamFlowError
from streamflow.engine import kernel

MEASURED = {"W1-json": 2.6 if kernel.streamflow_kernel is None else 1.5, "W1-envelope": 2.7}
"""The ratios as they are; of JSON with the native kernel, or without it."""
TOLERANCE = 1.5
"""More than noise makes of a minimum of several, less than a slip such as decoding twice."""
TRIES = 2
"""A first result above the bound must be confirmed."""


def measured() -> dict[str, float]:
    # A process of its own: another test may have started this one's Polars with more threads.
    command = [sys.executable, "-W", "error", "-m", "loadgen.bench.guard"]
    env = os.environ | {"POLARS_MAX_THREADS": "1"}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def test_w1_costs_no_more_than_it_did_beside_a_plain_loop() -> None:
    for _ in range(TRIES):
        found = measured()
        too_slow = {work: ratio for work, ratio in found.items() if ratio > MEASURED[work] * TOLERANCE}
        if not too_slow:
            return
    raise AssertionError(f"CPU of the plain loop's: {too_slow}, was {MEASURED}. If that is meant, see above")


@pytest.mark.parametrize("loop", ["_count_lines", "_count_frames"])
def test_who_is_fast_by_losing_events_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: str) -> None:
    honest = getattr(guard, loop)
    monkeypatch.setattr(guard, loop, lambda *given: honest(*given) + 1)
    with pytest.raises(StreamFlowError, match="StreamFlow counted"):
        guard.ratios(tmp_path, events=1_000, repeats=1)
