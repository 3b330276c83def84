"""How messages say what to type next, so that it works as it is printed. Text only: nothing is looked up or run."""

import os
import shlex
from pathlib import Path


def command(arguments: str, data: str | Path) -> str:
    """`streamflow ARGUMENTS --data FOLDER` in backticks, quoted for a shell."""
    return f"`streamflow {arguments} --data {shlex.quote(str(data))}`"


def folder_of(url: str) -> Path | None:
    """The folder of a log's url, relative where it lies below the present one; None if the log has no folder."""
    if not url.startswith("file:"):
        return None
    return shown(url.removeprefix("file:"))


def shown(path: str | Path) -> Path:
    """As short as it can be written from here: relative where it lies below the present folder."""
    full = Path(path)
    return full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full


def on_command(url: str) -> bool:
    """Whether the command line reaches the log at `url`."""
    return url.startswith("kafka:") or folder_of(url) is not None


def on_log(arguments: str, url: str, python: str) -> str:
    """The command that does it on the log at `url`; for a log without a folder, the `python` that does."""
    if url.startswith("kafka:"):
        on_cluster = arguments.startswith("reset ")
        return f"`streamflow {'cluster ' if on_cluster else ''}{arguments} {'--on' if on_cluster else '--data'} {url}`"
    folder = folder_of(url)
    return f"`{python}`" if folder is None else command(arguments, folder)


def sentence(text: object) -> str:
    """The text with a full stop, so that a hint can follow it."""
    told = str(text).rstrip()
    return told if told.endswith((".", "?", "!", ":", "…")) else f"{told}."


def count(number: int, what: str) -> str:
    """'1 event', '2,000 events'."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def os_reason(error: OSError) -> str:
    """What the system says, without its number."""
    return error.strerror or (os.strerror(error.errno) if error.errno else str(error))
