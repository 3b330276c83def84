"""Runs a command in its own session and measures the whole process tree: wall time, CPU, peak memory. Linux only.

Peak memory comes from /proc, not from `ru_maxrss`: that one starts at the size of the process that forked, and knows
only the largest child instead of their sum.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SAMPLE_EVERY_S = 0.05
"""Finer would cost the measured system more than a percent of a core."""


@dataclass(frozen=True)
class Usage:
    """`exit_code` is negative for a signal, as in `subprocess`."""

    exit_code: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def measure(command: Sequence[str], log: Path, env: Mapping[str, str], timeout_s: float, cores: int = 0) -> Usage:
    """Run `command` to its end with stdout and stderr in `log`, on `cores` cores (0: all). After `timeout_s` its whole
    session is killed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [(os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644), (os.POSIX_SPAWN_DUP2, 1, 2)]
    start_s = time.monotonic()
    with _on_cores(cores):
        pid = os.posix_spawn(command[0], list(command), dict(env), file_actions=actions, setsid=True)
    sampler = _Sampler(pid)
    timer = threading.Timer(timeout_s, _kill_session, (pid,))
    sampler.start()
    timer.start()
    try:
        _, status, usage = os.wait4(pid, 0)
        seconds = time.monotonic() - start_s
    except BaseException:
        _kill_session(pid)
        raise
    finally:
        timer.cancel()
        sampler.stop()
    return Usage(
        exit_code=os.waitstatus_to_exitcode(status),
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_bytes=sampler.peak_bytes,
    )


@contextmanager
def _on_cores(cores: int) -> Iterator[None]:
    """What this thread starts meanwhile inherits its cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[: cores or None])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class _Sampler(threading.Thread):
    """Keeps the highest sum of resident bytes over a session's processes, and the highest mark of any single one."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self._session = session
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(SAMPLE_EVERY_S):
            sizes = [_resident(pid) for pid in _members(self._session)]
            total = sum(now for now, _ in sizes)
            self.peak_bytes = max(self.peak_bytes, total, *(highest for _, highest in sizes), 0)

    def stop(self) -> None:
        self._done.set()
        self.join()


def _members(session: int) -> list[int]:
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in pids if _session_of(pid) == session]


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except OSError:
        return None


def _resident(pid: int) -> tuple[int, int]:
    """Bytes resident now, and at most so far; zeros for a process that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    sizes = {
        line[:5]: int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(("VmRSS", "VmHWM"))
    }
    return sizes.get("VmRSS", 0), sizes.get("VmHWM", 0)


def _kill_session(pid: int) -> None:
    for member in _members(pid):
        try:
            os.kill(member, signal.SIGKILL)
        except ProcessLookupError:
            continue
