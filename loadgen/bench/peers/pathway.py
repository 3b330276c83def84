"""Pathway in streaming mode, with a thread for each core; see `programs/pathway_job.py`."""

from pathlib import Path

from loadgen.bench.peers import venv

WORKS = ("W1-json", "W2-json")
REQUIREMENTS = ("pathway==0.33.0",)


def prepare(home: Path) -> None:
    """Install Pathway under `home`. StreamFlowError if pip can't."""
    venv.installed(home, REQUIREMENTS)


def command(home: Path, job: Path, cores: int) -> list[str]:
    """Do the job of that file."""
    return [str(venv.interpreter(home)), str(venv.PROGRAMS / "pathway_job.py"), str(job)]
