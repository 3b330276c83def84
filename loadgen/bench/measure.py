"""Runs a command in its own session and measures the whole process tree: wall time, CPU, peak memory. Linux only.

The tree is that session and all that its processes begin, as StreamFlow's supervisor does for each worker.

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
    tree is killed."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    actions = [(os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644), (os.POSIX_SPAWN_DUP2, 1, 2)]
    start_s = time.monotonic()
    with _on_cores(cores):
        pid = os.posix_spawn(command[0], list(command), dict(env), file_actions=actions, setsid=True)
    sampler = _Sampler(pid)
    timer = threading.Timer(timeout_s, sampler.tree.kill)
    sampler.start()
    timer.start()
    try:
        _, status, usage = os.wait4(pid, 0)
        seconds = time.monotonic() - start_s
    except BaseException:
        sampler.tree.kill()
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


class _Tree:
    """A session and those that its processes begin. A session is known by its leader's parent, and looked at once: a
    look at every process would cost more than all the rest."""

    def __init__(self, session: int) -> None:
        self._ours = {session: True}

    def members(self) -> list[int]:
        pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
        return [pid for pid in pids if (session := _session_of(pid)) is not None and self._is_ours(session)]

    def kill(self) -> None:
        for member in self.members():
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def _is_ours(self, session: int) -> bool:
        if session not in self._ours:
            parent = _session_of(_parent_of(session))
            self._ours[session] = parent is not None and self._ours.get(parent, False)
        return self._ours[session]


class _Sampler(threading.Thread):
    """Keeps the highest sum of resident bytes over a tree's processes, and the highest mark of any single one."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0
        self.tree = _Tree(session)
        self._done = threading.Event()

    def run(self) -> None:
        before: set[int] = set()
        while not self._done.wait(SAMPLE_EVERY_S):
            members = set(self.tree.members())
            # A process that was just forked shares all its memory with its parent, until it runs something else.
            sizes = [_resident(pid) for pid in members & before]
            before = members
            total = sum(now for now, _ in sizes)
            self.peak_bytes = max(self.peak_bytes, total, *(highest for _, highest in sizes), 0)

    def stop(self) -> None:
        self._done.set()
        self.join()


def _parent_of(pid: int) -> int:
    """-1 for a process that is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid) if pid > 0 else None
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
