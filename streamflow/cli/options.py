"""Arguments and options that several commands take, so that each is called and explained the same everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from streamflow.runtime.work import Until

CONTEXT = {"help_option_names": ["-h", "--help"]}

Data = Annotated[Path, typer.Option("--data", "-d", help="The folder that holds topics, state, tables and rows.")]
TopicsData = Annotated[
    str,
    typer.Option(
        "--data", "-d", help="The folder that holds the topics, or the address of a Kafka: kafka://host:9092."
    ),
]
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
