"""How the command line speaks: tables for people, JSON for machines, errors with a hint."""

import io
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import orjson
import polars as pl
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from streamflow.base.errors import ConflictError, DataError, StreamFlowError
from streamflow.model.time import MAX_US, MIN_US, Timestamp, timestamp_us
from streamflow.runtime.hints import os_reason, sentence

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

ROWS_SHOWN_MAX = 50
_WIDTH_WITHOUT_TERMINAL = 10_000
"""What reads a pipe cuts or wraps by itself."""


def say(text: str) -> None:
    """A line as it is: brackets in names and data are no markup."""
    console.print(text, markup=False)


def say_problem(text: str) -> None:
    """The same on standard error."""
    errors.print(text, markup=False)


def print_json(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode() + "\n")


def print_frame(frame: pl.DataFrame, *, as_json: bool) -> None:
    """A result as a table, cut after 50 rows; with `as_json` the whole as an array of objects."""
    if as_json:
        print_json(frame.to_dicts())
        return
    print_table(frame.columns, frame.head(ROWS_SHOWN_MAX).rows())
    if frame.height > ROWS_SHOWN_MAX:
        say(f"… {frame.height - ROWS_SHOWN_MAX:,} more rows; --json prints all")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    table = Table(*map(escape, columns), box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    if console.is_terminal:
        console.print(table, soft_wrap=False)
        return
    whole = Console(file=io.StringIO(), width=_WIDTH_WITHOUT_TERMINAL, highlight=False)
    with whole.capture() as captured:
        whole.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def time_text(time_us: int) -> str:
    """UTC to the second, '-' for what has not begun, 'ended' for what has."""
    if time_us <= MIN_US:
        return "-"
    return "ended" if time_us >= MAX_US else iso_time(time_us)[:19].replace("T", " ")


def time_of(text: str) -> int:
    """Microseconds of ISO 8601 text, without zone UTC. DataError if it is none."""
    try:
        return timestamp_us(datetime.fromisoformat(text))
    except ValueError as error:
        raise DataError(f"'{text}' is no time. Write it as 2026-07-04T12:00:00Z.") from error


def iso_time(time_us: int) -> str:
    try:
        return Timestamp(micros=time_us).as_datetime().isoformat().replace("+00:00", "Z")
    except OverflowError:
        return f"{time_us} µs"


def confirm(question: str, *, yes: bool) -> None:
    """Ends the command if the answer is no. ConflictError where nobody can be asked, unless `yes` says it already."""
    if yes:
        return
    try:
        typer.confirm(question, abort=True, err=True)
    except typer.Abort as error:
        if sys.stdin.isatty():
            raise
        raise ConflictError(f"not done without a yes: {question} Give --yes") from error


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Ctrl-C ends the block, which is no error."""
    # Polars has set a handler that lets calls that wait go on waiting (its issue 21739).
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        yield


@contextmanager
def told_errors() -> Iterator[None]:
    """Errors of ours and of the system end the command with their message and exit code 1, without a traceback."""
    try:
        yield
    except StreamFlowError as error:
        _tell(str(error) if "\n" in str(error) else sentence(error))
        raise typer.Exit(1) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        place = f"'{error.filename}' can't be used: " if error.filename else ""
        _tell(f"{place}{os_reason(error)}. Check that you may use the folder and that its disk has room.")
        raise typer.Exit(1) from error


def _tell(message: str) -> None:
    errors.print(Text.assemble(("error:", "bold red"), " ", message))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
