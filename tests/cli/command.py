"""Runs the commands: as a user's shell would, or in this process where no real one is needed."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from click.testing import Result
from typer.testing import CliRunner

from streamflow.cli.main import app

BIN = Path(sys.executable).parent
_ENV = {"COLUMNS": "200", "NO_COLOR": "1"}
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


def shell(line: str, folder: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """A line of shell in `folder`, with the environment's commands on the path, bound by file permissions."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        line,
        shell=True,
        cwd=folder,
        env={**os.environ, **_ENV, "PATH": path},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        preexec_fn=_obey_permissions,
    )


def ok(line: str, folder: Path) -> str:
    """Standard output of a line that must succeed."""
    done = shell(line, folder)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def call(*arguments: str, typed: bytes = b"") -> Result:
    """A command in this process and its folder."""
    return CliRunner().invoke(app, arguments, input=typed, env=_ENV)


def told(*arguments: str, typed: bytes = b"") -> str:
    """Standard output of a command that must succeed."""
    done = call(*arguments, typed=typed)
    assert done.exit_code == 0, f"{arguments}\n{done.stdout}\n{done.stderr}\n{done.exception!r}"
    return done.stdout


def refused(*arguments: str, typed: bytes = b"") -> str:
    """What is said to a command that must fail, without a traceback."""
    done = call(*arguments, typed=typed)
    assert done.exit_code in (1, 2)
    assert isinstance(done.exception, SystemExit), repr(done.exception)
    return done.stderr


def _obey_permissions() -> None:
    """Root may read and write everything, unless it gives that up before the next exec."""
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
