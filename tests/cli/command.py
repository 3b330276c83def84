"""Runs the installed commands as a user's shell would."""

import os
import subprocess
import sys
from pathlib import Path

BIN = Path(sys.executable).parent


def shell(line: str, folder: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """A line of shell in `folder`, with the environment's commands on the path."""
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(line, shell=True, cwd=folder, env=env, capture_output=True, text=True, timeout=timeout_s)


def ok(line: str, folder: Path) -> str:
    """Standard output of a line that must succeed."""
    done = shell(line, folder)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout
