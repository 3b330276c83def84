"""Bytewax one event at a time, with its own windows; see `programs/bytewax_rows.py`.

No W2: Bytewax goes through all open keys as it goes on, so time grows with the square of the users (20,000 events took
3 s, 80,000 took 40 s).
"""

from pathlib import Path

from loadgen.bench.peers import bytewax

WORKS = ("W1-json",)
prepare = bytewax.prepare


def command(home: Path, job: Path, cores: int) -> list[str]:
    """Do the job of that file, with a process for each core up to two."""
    return bytewax.processes(home, "bytewax_rows.py", job, cores)
