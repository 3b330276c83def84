"""The command `streamflow`: its groups of commands put together. What each does is in the module of its group."""

from typing import Annotated

import typer

import streamflow
from streamflow.cli import cluster, elastic, letters, look, pubsub, runs, subs, topics, why
from streamflow.cli.options import CONTEXT
from streamflow.cli.output import say

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)
app.add_typer(runs.app)
app.add_typer(elastic.app)
app.add_typer(look.app)
app.add_typer(why.app)
app.add_typer(topics.app, name="topic")
app.add_typer(elastic.autoscale, name="autoscale")
app.add_typer(subs.app, name="sub")
app.add_typer(letters.app, name="dead-letter")
app.add_typer(cluster.app, name="cluster")
app.add_typer(pubsub.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"streamflow {streamflow.__version__}")
        raise typer.Exit


@app.callback()
def streamflow_(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Streaming pipelines on elastic workers: topics, windows, tables and wide rows in one folder, no server."""


def main() -> None:
    """Entry point of the command `streamflow`."""
    app()
