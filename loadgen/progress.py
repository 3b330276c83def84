"""What a run shows while it goes, on stderr: a bar on a terminal, elsewhere a plain line now and then."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from loadgen.report import Tally
from streamflow.base.clock import Clock

LINE_EVERY_S = 5.0

Show = Callable[[Tally], None]


@contextmanager
def shown(console: Console, total: int, position: int, clock: Clock) -> Iterator[Show]:
    """A function to call after each batch. `total`: where the run ends; `position`: where it begins."""
    if console.is_terminal:
        with _bar(console) as bar:
            task = bar.add_task("publish", total=total, completed=position, rate="")
            start_s = clock.monotonic_s()

            def advance(tally: Tally) -> None:
                bar.update(task, completed=tally.position, rate=_rate(tally, clock.monotonic_s() - start_s))

            yield advance
    else:
        yield _lines(console, total, clock)


def _bar(console: Console) -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def _lines(console: Console, total: int, clock: Clock) -> Show:
    start_s = line_s = clock.monotonic_s()

    def advance(tally: Tally) -> None:
        nonlocal line_s
        now_s = clock.monotonic_s()
        if now_s - line_s >= LINE_EVERY_S:
            line_s = now_s
            console.print(f"{tally.position:,} of {total:,} events, {_rate(tally, now_s - start_s)}", highlight=False)

    return advance


def _rate(tally: Tally, seconds: float) -> str:
    return f"{tally.events / max(seconds, 1e-9):,.0f} events/s"
