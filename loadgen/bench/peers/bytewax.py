"""Bytewax in columns: hand-written batches, msgspec and Polars; see `programs/bytewax_columns.py`."""

from pathlib import Path

from loadgen.bench.peers import venv

WORKS = ("W1-json", "W2-json")
REQUIREMENTS = ("bytewax==0.21.1", "msgspec==0.22.0", "polars==2.1.0")
PROCESSES_MAX = 2
"""As many as the program has buckets; see there."""


def prepare(home: Path) -> None:
    venv.installed(home, REQUIREMENTS)


def command(home: Path, job: Path, cores: int) -> list[str]:
    """A process for each core, up to `PROCESSES_MAX`."""
    python, program = str(venv.interpreter(home)), str(venv.PROGRAMS / "bytewax_columns.py")
    processes = min(cores, PROCESSES_MAX)
    if processes == 1:
        return [python, program, str(job)]
    return [python, str(venv.PROGRAMS / "bytewax_cluster.py"), str(processes), program, str(job)]
