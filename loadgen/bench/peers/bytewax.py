"""Bytewax in columns: batches by hand, with msgspec and Polars; see `programs/bytewax_columns.py`."""

from pathlib import Path

from loadgen.bench.peers import venv

WORKS = ("W1-json", "W2-json")
REQUIREMENTS = ("bytewax==0.21.1", "msgspec==0.22.0", "polars==2.1.0")
PROCESSES_MAX = 2
"""As many as `programs/bytewax_columns.py` has buckets."""


def prepare(home: Path) -> None:
    """Install Bytewax, and what the programs use with it, under `home`. StreamFlowError if pip can't."""
    venv.installed(home, REQUIREMENTS)


def command(home: Path, job: Path, cores: int) -> list[str]:
    """Do the job of that file, with a process for each core up to `PROCESSES_MAX`."""
    return processes(home, "bytewax_columns.py", job, cores)


def processes(home: Path, name: str, job: Path, cores: int) -> list[str]:
    """The command that runs the program `name` in one process, or through `programs/bytewax_cluster.py` in several."""
    python, program, count = str(venv.interpreter(home)), str(venv.PROGRAMS / name), min(cores, PROCESSES_MAX)
    if count == 1:
        return [python, program, str(job)]
    return [python, str(venv.PROGRAMS / "bytewax_cluster.py"), str(count), program, str(job)]
