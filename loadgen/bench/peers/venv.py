"""Virtual environments of the peers in Python: what they depend on is kept apart from what StreamFlow does."""

import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from streamflow.base.errors import StreamFlowError

PROGRAMS = Path(__file__).parent / "programs"
"""Scripts that a peer's interpreter runs; never imported here."""


def installed(home: Path, requirements: Sequence[str]) -> None:
    """Leave a virtual environment with exactly `requirements` under `home`; quick where it is there.

    StreamFlowError if pip can't install them.
    """
    wanted, stamp = "\n".join(requirements), _folder(home) / "requirements.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.rmtree(_folder(home), ignore_errors=True)
    venv.create(_folder(home), with_pip=True)
    pip = [str(interpreter(home)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, *requirements], capture_output=True, text=True, check=False)
    if done.returncode:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise StreamFlowError(
            f"pip can't install {', '.join(map(repr, requirements))} under '{home}': {done.stderr.strip()[-500:]}\n"
            f"Is a package index reachable, and does it have them for Python {version}? Else leave this system out"
        )
    stamp.write_text(wanted)


def interpreter(home: Path) -> Path:
    """The Python that runs a peer's programs."""
    return _folder(home) / "bin" / "python"


def _folder(home: Path) -> Path:
    return home.absolute() / "venv"
