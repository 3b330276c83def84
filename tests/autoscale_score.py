"""The score table of the autoscaler beside its tuned peers: `make autoscale`.

Needs the scoreboard (a simulator, traces and peers' policies), which lies beside the project in `shared/autoscale`, and
numpy. `--own` takes our random traces instead of the scoreboard's; their clairvoyant is computed, which takes minutes.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

TESTS = Path(__file__).parent
SEEDS = (1, 2, 3)


def scoreboard() -> Path | None:
    """Its folder, if it lies beside this project or one above it."""
    places = (parent / "shared" / "autoscale" for parent in TESTS.parents)
    return next((place for place in places if (place / "sim.py").is_file()), None)


def load(place: Path) -> dict[str, Any]:
    """Its modules by name, and nothing written beside them."""
    sys.dont_write_bytecode = True
    sys.path[:0] = [str(place), str(TESTS)]
    return {name: importlib.import_module(name) for name in ("sim", "traces", "policies", "run", "autoscale_policy")}


def scores(modules: dict[str, Any], scenario: Any, policy: Callable[[], Any], ideal: dict[int, Any]) -> list[float]:
    """Means over the seeds: p99 (s), share over the objective, workers against the clairvoyant's, actions, score."""
    rows = []
    for seed, best in ideal.items():
        scenario.build(seed)
        result = modules["sim"].run(scenario, policy(), seed)
        score = modules["sim"].score(scenario, result, best)
        rows.append((result["p99"], result["viol"], result["ws"] / best["ws"], result["acts"], float(score)))
    return [fmean(column) for column in zip(*rows, strict=True)]


def contestants(modules: dict[str, Any]) -> dict[str, Callable[[Any], Any]]:
    policies = modules["policies"]
    found: dict[str, Callable[[Any], Any]] = {"StreamFlow": modules["autoscale_policy"].Policy}
    for name, (kind,) in modules["run"].PEERS.items():
        made, tuned = getattr(policies, kind), policies.TUNED[kind]
        found[name] = lambda scenario, made=made, tuned=tuned: made(scenario, **tuned)
    return found


def traces(modules: dict[str, Any], place: Path, *, own: bool) -> Iterator[tuple[Any, dict[int, Any]]]:
    """Each with the clairvoyant's result by seed."""
    if own:
        numpy, mine = importlib.import_module("numpy"), importlib.import_module("autoscale_traces")
        for scenario in mine.own_traces(modules["sim"].Sc, numpy.random.default_rng):
            yield scenario, {1: modules["sim"].clairvoyant(scenario, 1)[0]}
        return
    known = json.loads((place / "clairvoyant.json").read_text())
    for scenario in modules["traces"].DEV:
        yield scenario, {seed: known[f"{scenario.name}/{seed}"] for seed in SEEDS}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--own", action="store_true", help="our traces")
    own = parser.parse_args().own
    if (place := scoreboard()) is None:
        print("no scoreboard: put it into the folder shared/autoscale beside the project", file=sys.stderr)
        return 1
    modules = load(place)
    made = contestants(modules)
    totals: dict[str, list[list[float]]] = {name: [] for name in [*made, "clairvoyant"]}
    print("| trace |", " | ".join(totals), "|\n|---|" + "---|" * len(totals))
    for scenario, ideal in traces(modules, place, own=own):
        for name, policy in made.items():
            totals[name].append(scores(modules, scenario, partial(policy, scenario), ideal))
        best = [
            [r["p99"], r["viol"], 1.0, r["acts"], float(modules["sim"].score(scenario, r, r))] for r in ideal.values()
        ]
        totals["clairvoyant"].append([fmean(column) for column in zip(*best, strict=True)])
        print(f"| {scenario.name} |", " | ".join(f"{rows[-1][4]:.2f}" for rows in totals.values()), "|", flush=True)
    for title, column, digits in (("mean score", 4, 2), ("actions", 3, 1), ("workers", 2, 2)):
        print(
            f"| **{title}** |",
            " | ".join(f"{fmean(r[column] for r in rows):.{digits}f}" for rows in totals.values()),
            "|",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
