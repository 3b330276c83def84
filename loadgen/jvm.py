"""What programs on the JVM share: finding Java and Maven, and installing into a folder once."""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from streamflow.base.errors import NotFoundError, StreamFlowError

_STAMP = "installed"
_LOG_LINES = 15


def once(home: Path, recipe: str, install: Callable[[Path], None]) -> None:
    """Run `install` on an empty `home`, unless that was done with the same `recipe`: text that changes when what is
    installed does."""
    stamp = home / _STAMP
    if stamp.exists() and stamp.read_text() == recipe:
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    install(home)
    stamp.write_text(recipe)


def program(name: str, package: str) -> str:
    """Where it is. NotFoundError that names the Debian package to install."""
    path = shutil.which(name)
    if path is None:
        raise NotFoundError(f"program '{name}' is not on the path. Install it, on Debian with `apt install {package}`")
    return path


def installed(command: Sequence[str], folder: Path) -> None:
    """Run it in `folder`. StreamFlowError with its last output if it fails."""
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-_LOG_LINES:])
        raise StreamFlowError(
            f"'{' '.join(command)}' failed with exit code {done.returncode}. Is the package registry reachable? "
            f"Its last output:\n{tail}"
        )
