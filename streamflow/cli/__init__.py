"""The command line: reads arguments, calls the layers below, prints. No decision is made here."""

from streamflow.cli.main import main

__all__ = ["main"]
