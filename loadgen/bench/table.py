"""Tables for people, of what was measured."""

from collections.abc import Sequence

from rich.table import Table

from loadgen.bench.profile import Share
from loadgen.bench.result import OURS, Median, Run
from loadgen.bench.works import WORKS, compared

HIDDEN = "—"
"""Instead of a figure of a run whose answer is wrong, or where nothing can be compared."""


def tables(found: Sequence[Median]) -> list[Table]:
    """What was compared, and what StreamFlow did alone: one table of each, if there is any."""
    beside = {*compared(), *(name for name, work in WORKS.items() if len(work.systems) > 1)}
    both = [median for median in found if median.run.work in beside]
    single = [median.run for median in found if median.run.work not in beside]
    return ([rates(both)] if both else []) + ([alone(single)] if single else [])


def rates(found: Sequence[Median]) -> Table:
    """A line for each system on each work, with how many times StreamFlow was faster."""
    table = _table(["work", "system"], ["k events/s", "with start-up", "CPU s", "peak MB", f"{OURS} ×", "verified"])
    for median in found:
        run = median.run
        ratio = HIDDEN if median.ratio is None else f"{median.ratio:.2f}"
        figures = [_rate(run.events_per_s_inner), _rate(run.events_per_s), *_costs(run), ratio]
        table.add_row(run.work, run.system, *_verified(run, figures))
    return table


def alone(runs: Sequence[Run]) -> Table:
    """A line for each work and point; `relative`: its rate to that of the first point. CPU time, which other
    work on the machine changes less, per event too."""
    table = _table(["work", "at", "more"], ["k events/s", "relative", "CPU µs each", "CPU s", "peak MB", "verified"])
    first: dict[str, float] = {}
    for run in runs:
        rate = run.events_per_s_inner
        relative = f"{rate / first.setdefault(run.work, rate):.2f}" if run.point else HIDDEN
        shown = [_rate(rate), relative, f"{run.cpu_seconds / run.events * 1e6:.2f}"]
        figures = [*(shown if WORKS[run.work].rated else [HIDDEN] * len(shown)), *_costs(run)]
        table.add_row(run.work, run.point, _more(run) if run.verified else HIDDEN, *_verified(run, figures))
    return table


def _table(left: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(*left)
    for name in right:
        table.add_column(name, justify="right")
    return table


def _more(run: Run) -> str:
    """What only this work measures; its point has a column."""
    facts = ((name, value) for name, value in run.extra.items() if name != "point" and name != WORKS[run.work].varied)
    return "\n".join(f"{name} {_figure(value)}" for name, value in facts)


def _verified(run: Run, figures: Sequence[str]) -> list[str]:
    return [*figures, "yes"] if run.verified else [HIDDEN] * len(figures) + ["NO"]


def _costs(run: Run) -> list[str]:
    return [f"{run.cpu_seconds:.2f}", f"{run.peak_bytes / 1e6:,.0f}"]


def _rate(events_per_s: float) -> str:
    return f"{events_per_s / 1e3:,.0f}"


def _figure(value: object) -> str:
    if isinstance(value, float) and not value.is_integer():
        return f"{value:,.4g}"
    return f"{value:,.0f}" if isinstance(value, (int, float)) else str(value)


def shares(work: str, found: Sequence[Share], seconds: float, events: int) -> Table:
    """Where the time of a profiled run went."""
    table = _table([f"{work}, one worker"], ["ns per event", "share"])
    for share in found:
        table.add_row(share.kind, f"{share.ns_per_event:,.0f}", f"{share.ns_per_event * events / 1e7 / seconds:.0f} %")
    return table
