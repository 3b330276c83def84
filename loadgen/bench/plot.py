"""The rates as a figure: bars for the systems, in a group for each work that compares them, on a logarithmic axis.

Needs Matplotlib (extra `bench`), which is imported only here, when something is drawn.
"""

import importlib
from collections.abc import Sequence
from pathlib import Path

from loadgen.bench.result import OURS, Median
from loadgen.bench.works import compared
from streamflow.base.errors import DataError

FORMATS = (".svg", ".png")
_OURS, _OTHERS = "#0b7a75", ("#8d99ae", "#c2a878", "#6d6875", "#b5838d", "#84a59d", "#5c677d", "#d4a5a5")
"""Ours stands out; the others are told apart by tints that keep their order in print."""
_INK, _GRID = "#22272e", "#e3e6ea"
_BAR_INCHES = 0.62
"""What a bar with its figure above needs to be legible."""


def check(path: Path) -> None:
    """DataError if no figure can be drawn there: better known before the measuring than after."""
    if path.suffix not in FORMATS:
        raise DataError(f"'{path}' is no figure. Give a name that ends in {' or '.join(FORMATS)}")
    try:
        importlib.import_module("matplotlib")
    except ModuleNotFoundError as error:
        raise DataError("a figure needs Matplotlib. Install it: pip install 'streamflow[bench]'") from error


def drawn(found: Sequence[Median], path: Path) -> None:
    """Draw the verified ones of works that compare systems. DataError if there is none."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    right = [median.run for median in found if median.run.verified and median.run.work in compared()]
    if not right:
        raise DataError(f"nothing to draw: there is no verified run of {', '.join(compared())}. Measure one of these")
    works = list(dict.fromkeys(run.work for run in right))
    systems = sorted(dict.fromkeys(run.system for run in right), key=lambda name: name != OURS)
    colours = {name: _OURS if name == OURS else _OTHERS[i % len(_OTHERS)] for i, name in enumerate(systems)}
    width = max(5.0, _BAR_INCHES * (len(right) + len(works)) + 1.2)
    figure = Figure(figsize=(width, 4.2), layout="constrained")
    axes = figure.add_subplot()
    place, ticks = 0.0, []
    for work in works:
        runs = sorted((run for run in right if run.work == work), key=lambda run: systems.index(run.system))
        places = [place + i for i in range(len(runs))]
        rates = [run.events_per_s_inner for run in runs]
        bars = axes.bar(places, rates, width=0.86, color=[colours[run.system] for run in runs])
        axes.bar_label(bars, [_short(rate) for rate in rates], padding=2, fontsize=8, color=_INK)
        ticks.append((places[0] + places[-1]) / 2)
        place += len(runs) + 1
    axes.set_yscale("log")
    axes.set_xticks(ticks, works, color=_INK)
    axes.set_ylabel("events per second, start-up left out", color=_INK)
    axes.yaxis.set_major_formatter(lambda value, _: _short(value))
    axes.grid(axis="y", color=_GRID)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, colors=_INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    handles = [Patch(color=colours[name], label=name) for name in systems]
    figure.legend(handles=handles, loc="outside upper center", ncols=min(len(systems), 8), frameon=False, fontsize=9)
    low = min(run.events_per_s_inner for run in right)
    axes.set_ylim(bottom=low / 3)
    axes.margins(y=0.12)
    cores = "/".join(str(n) for n in sorted({run.cores for run in right}))
    events = "/".join(_short(n) for n in sorted({run.events for run in right}))
    figure.supxlabel(f"{events} events, {cores} cores; medians, answers verified", fontsize=8, color=_INK)
    figure.savefig(path, dpi=160)


def _short(value: float) -> str:
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"
