"""What both stores need from the file system: names that are safe as folders, and folders that survive a power cut."""

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from streamflow.base.errors import DataError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def check_name(kind: str, name: str) -> None:
    """DataError unless `name` is 1-200 of `[A-Za-z0-9._-]`, first a letter or digit."""
    if not _NAME.fullmatch(name):
        raise DataError(
            f"{kind} name '{name}' is not allowed. "
            "Use 1-200 letters, digits, '.', '_' or '-', starting with a letter or digit"
        )


def suggest(name: str, known: Iterable[str]) -> str:
    """The hint of a NotFoundError: the closest names, else all of them."""
    names = sorted(known)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "Did you mean " + " or ".join(f"'{n}'" for n in close) + "?"
    if names:
        shown = ", ".join(f"'{n}'" for n in names[:10])
        return f"There are: {shown}" + (", …" if len(names) > 10 else "")
    return "There are none yet"


def sync_path(path: Path) -> None:
    """fsync a file or folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Create `path` and its missing parents so that they survive a power cut."""
    missing = [p for p in (path, *path.parents) if not p.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in reversed(missing):
        sync_path(folder.parent)
