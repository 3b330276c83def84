"""One supervisor per pipeline and folder, by a file lock that ends with its process."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from streamflow.base.errors import ConflictError
from streamflow.runtime import hints

LOCK_TRIES = 5
LOCK_RETRY_S = 0.05
"""Who only asks whether there is a supervisor holds the lock for an instant."""


@contextmanager
def supervising(data: Path, pipeline: str) -> Iterator[None]:
    """ConflictError if another process does."""
    with _lock_file(data, pipeline).open("a+") as lock:
        for _ in range(LOCK_TRIES):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(LOCK_RETRY_S)
            else:
                yield
                return
    raise ConflictError(
        f"pipeline '{pipeline}' in '{data}' is already supervised. Change its workers with "
        f"{hints.command(f'scale {pipeline} N', data)}, or stop it with {hints.command(f'stop {pipeline}', data)}."
    )


def is_supervised(data: Path, pipeline: str) -> bool:
    """A supervisor of that pipeline is at work on that folder."""
    try:
        with _lock_file(data, pipeline).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _lock_file(data: Path, pipeline: str) -> Path:
    return data / f"{pipeline}.supervisor.lock"
