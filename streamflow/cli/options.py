"""Arguments and options that several commands take, so that each is called and explained the same everywhere."""

import math
from pathlib import Path
from typing import Annotated

import typer

from streamflow.runtime.work import Until

_UNITS = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(text: str | float) -> float:
    """`5`, `5s`, `500ms` or `2m`; BadParameter for what is no time above 0."""
    digits = str(text).rstrip("msh")
    try:
        value = float(digits) * _UNITS[str(text)[len(digits) :] or "s"]
    except (ValueError, KeyError):
        value = math.nan
    if not 0 < value < math.inf:
        raise typer.BadParameter(f"{text} is not a number of seconds above 0. Write 5, 5s, 500ms or 2m.")
    return value


CONTEXT = {"help_option_names": ["-h", "--help"]}

Data = Annotated[Path, typer.Option("--data", "-d", help="The folder that holds topics, state, tables and rows.")]
TopicsData = Annotated[
    str,
    typer.Option(
        "--data", "-d", help="The folder that holds the topics, or the address of a Kafka: kafka://host:9092."
    ),
]
_LATENCY = typer.Option(
    parser=seconds, metavar="TIME", help="How old the oldest waiting event may get; the autoscaler's objective."
)
Latency = Annotated[float, _LATENCY]
LatencyIfGiven = Annotated[float | None, _LATENCY]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Topic = Annotated[str, typer.Argument(help="The topic's name.")]
Subscription = Annotated[str, typer.Argument(help="The subscription's name.")]
FilterOption = Annotated[
    str | None,
    typer.Option(
        "--filter",
        help='Only messages whose attributes match, in the language of subscriptions: `attributes.type = "view"`.',
    ),
]
Target = Annotated[str, typer.Argument(help="The pipeline: package.module[:name] or path/file.py[:name].")]
Name = Annotated[str, typer.Argument(help="The pipeline's name.")]
UntilOption = Annotated[
    Until,
    typer.Option(
        help="Return when all that has been published is through (drained), or when, besides, every topic it reads "
        "has been ended (finished); stopped: only when told to."
    ),
]
ExplainPanes = Annotated[
    bool,
    typer.Option(
        "--explain-panes",
        help="Keep the history of panes for `streamflow why`: which events each window took, which were late or "
        "dropped.",
    ),
]
