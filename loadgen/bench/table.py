"""Tables for people, of what was measured."""

from collections.abc import Sequence

from rich.table import Table

from loadgen.bench.profile import Share
from loadgen.bench.result import OURS, Median

HIDDEN = "—"
"""Instead of a figure of a run whose answer is wrong, or where nothing can be compared."""


def rates(found: Sequence[Median]) -> Table:
    """A line for each system on each work, with how many times StreamFlow was faster."""
    table = Table("work", "system", "k events/s", "with start-up", "CPU s", "peak MB", f"{OURS} ×", "verified")
    for column in table.columns[2:]:
        column.justify = "right"
    for median in found:
        run = median.run
        figures = [
            f"{run.events_per_s_inner / 1e3:,.0f}",
            f"{run.events_per_s / 1e3:,.0f}",
            f"{run.cpu_seconds:.2f}",
            f"{run.peak_bytes / 1e6:,.0f}",
            HIDDEN if median.ratio is None else f"{median.ratio:.2f}",
        ]
        shown = figures if run.verified else [HIDDEN] * len(figures)
        table.add_row(run.work, run.system, *shown, "yes" if run.verified else "NO")
    return table


def shares(work: str, found: Sequence[Share], seconds: float, events: int) -> Table:
    """Where the time of a profiled run went."""
    table = Table(f"{work}, one worker", "ns per event", "share")
    for column in table.columns[1:]:
        column.justify = "right"
    for share in found:
        table.add_row(share.kind, f"{share.ns_per_event:,.0f}", f"{share.ns_per_event * events / 1e7 / seconds:.0f} %")
    return table
