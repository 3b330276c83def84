"""Traces of our own for the scoreboard's simulator: random compositions, so that nothing is tuned to a known few."""

import math
from collections.abc import Callable
from typing import Any

COUNT = 24
SEED = 100


def own_traces(scenario: Any, random: Callable[[int], Any], count: int = COUNT) -> list[Any]:
    """`scenario`: the simulator's class of one; `random`: a seeded numpy generator. Steps, ramps, waves and spikes on a
    base load, other sizes, speeds, delays and objectives, skew, noise, stragglers, contention, crashes."""
    return [_trace(scenario, random(SEED + number), f"own{number}") for number in range(count)]


def _trace(scenario: Any, g: Any, name: str) -> Any:
    partitions, rate = int(g.choice([8, 12, 16, 24, 32, 40, 48])), float(g.choice([50, 100, 200, 400]))
    settings: dict[str, Any] = {"P": partitions, "mu": rate}
    embedded = g.random() < 0.3
    if embedded:
        settings |= {"dt": 0.25, "tau": 1, "D": float(g.uniform(1, 3)), "R": float(g.uniform(0.3, 1.5))}
        settings |= {"slo": float(g.choice([3, 5, 10])), "T": 900.0, "session": 2}
    else:
        settings |= {"D": float(g.uniform(15, 100)), "R": float(g.uniform(3, 25)), "tau": float(g.choice([5, 10]))}
        settings |= {"slo": float(g.choice([20, 30, 60, 120])), "T": float(g.choice([3600, 5400]))}
    most, whole_s = 0.7 * partitions * rate, settings["T"]
    base = g.uniform(0.08, 0.3) * most
    parts = [_part(g, most, whole_s) for _ in range(int(g.integers(1, 4)))]
    if g.random() < 0.3:
        skew = g.uniform(0.2, 0.5)
        settings["w"] = [(p + 1.0) ** -skew for p in range(partitions)]
    settings |= {"noise": float(g.choice([0.03, 0.08, 0.15])), "het": float(g.choice([0.03, 0.05, 0.15]))}
    settings["jit"] = float(g.choice([0.05, 0.1, 0.25]))
    settings |= {"alpha": 0.01} if g.random() < 0.2 else {}
    settings |= {"busy_bias": 0.85} if g.random() < 0.2 else {}
    settings |= {"crashes": ((float(g.uniform(0.2, 0.8) * whole_s), 2),)} if g.random() < 0.2 else {}
    settings |= {"eager": False} if g.random() < 0.2 else {}
    settings |= {"warm": 40} if g.random() < 0.15 and not embedded else {}

    def load(at_s: float) -> float:
        return min(most, base + sum(part(at_s) for part in parts))

    return scenario(name, load, n0=max(1, math.ceil(base / rate / 0.7)), **settings)


def _part(g: Any, most: float, whole_s: float) -> Callable[[float], float]:
    kind = g.choice(["step", "ramp", "wave", "spike", "flat"])
    height, begin_s, long_s = g.uniform(0.1, 0.5) * most, g.uniform(0.05, 0.6) * whole_s, g.uniform(0.1, 0.4) * whole_s
    period_s = whole_s * g.uniform(0.1, 1.0)
    if kind == "step":
        return lambda at_s: height if begin_s <= at_s < begin_s + long_s else 0.0
    if kind == "spike":
        return lambda at_s: height if begin_s <= at_s < begin_s + long_s / 8 else 0.0
    if kind == "ramp":
        return lambda at_s: height * min(1.0, max(0.0, (at_s - begin_s) / long_s))
    if kind == "wave":
        return lambda at_s: height / 2 * (1 + math.sin(2 * math.pi * at_s / period_s))
    return lambda at_s: 0.0
