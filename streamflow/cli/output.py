"""How the command line speaks: tables for people, JSON for machines, errors with a hint."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import polars as pl
import typer
from rich.console import Console
from rich.table import Table

from streamflow.base.errors import StreamFlowError

console = Console()
errors = Console(stderr=True)

ROWS_SHOWN_MAX = 50


def print_json(value: Any) -> None:
    sys.stdout.write(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode() + "\n")


def print_frame(frame: pl.DataFrame, *, as_json: bool) -> None:
    """A result as a table, cut after 50 rows; with `as_json` the whole as an array of objects."""
    if as_json:
        print_json(frame.to_dicts())
        return
    print_table(frame.columns, frame.head(ROWS_SHOWN_MAX).rows())
    if frame.height > ROWS_SHOWN_MAX:
        console.print(f"… {frame.height - ROWS_SHOWN_MAX:,} more rows; --json prints all")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


@contextmanager
def told_errors() -> Iterator[None]:
    """Errors of ours end the command with their message and exit code 1, without a traceback."""
    try:
        yield
    except StreamFlowError as error:
        errors.print("[bold red]error:[/]", str(error), markup=True, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
